//! Operators of our own for a processor: the passes that stock ONNX Runtime would make in many.
//!
//! ```text
//! graph::lower ──(domain `noisegate`)──> nodes ──> ops.rs: shapes ── tasks.rs: threads ──> slices of f32
//!                                                                     ├─ gradients.rs  one pass each
//!                                                                     └─ product.rs    bf16 products
//! ```
//!
//! A graph for a file, for serving or for a card never holds them: it is plain ONNX. Results do not
//! depend on the number of threads.
//!
//! Deliberately absent: knowledge of graphs and of weights. `simd.rs` alone holds `unsafe` code.

mod gradients;
mod ops;
mod product;
pub(crate) mod simd;
mod tasks;

pub(crate) use ops::{DOMAIN, domain};

/// Can this machine multiply bf16 numbers (AVX512-BF16)?
#[must_use]
pub fn bf16_products() -> bool {
    simd::bf16()
}
