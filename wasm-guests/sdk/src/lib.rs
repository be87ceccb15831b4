//! What a client step needs to be written in Rust.
//!
//! ```text
//!   your crate ── implements ──> ClientStep (step.rs)
//!        │                            │ export_step!(YourStep)   (guest.rs, wasm only)
//!        └── calls ──> kernels, encoder, tokenizer, safetensors, rng, maths
//! ```
//!
//! One component plays two roles in separate instances. The *public side*
//! (`start`, `next`, `absorb`, `outputs`) never sees private data. The *private
//! side* (`contribute`) runs in a fresh instance for every privacy unit.
//!
//! Start reading at [`ClientStep`]. Everything but the wasm glue also compiles
//! natively, so that a step's maths is tested with plain `cargo test`: the
//! kernels then have a native backend of the same names.
//!
//! The smallest step, which counts its units' words:
//!
//! ```
//! use noisegate_guest_sdk::{Accum, ClientStep, File, Setup, Tensor, Unit};
//!
//! struct WordCount { mean: f32 }
//!
//! impl ClientStep for WordCount {
//!     fn start(_config: &str, _inputs: Vec<File>) -> Result<(Self, Setup), String> {
//!         Ok((WordCount { mean: 0.0 }, Setup { dim: 1, queries: 1, ..Setup::default() }))
//!     }
//!     fn contribute(unit: &Unit, _setup: &[u8], _query: &[u8], _tensors: &[&Tensor], into: &Accum) {
//!         let words: usize = unit.records.iter().map(|record| record.text.split_whitespace().count()).sum();
//!         into.add(0, &[words as f32]);
//!     }
//!     fn absorb(&mut self, released: Vec<f32>) { self.mean = released[0]; }
//!     fn outputs(&mut self) -> Result<Vec<File>, String> {
//!         Ok(vec![File { name: "count.txt".into(), data: self.mean.to_string().into_bytes() }])
//!     }
//! }
//! ```
//!
//! `noisegate guest new my-step` writes a crate like this, ready to build;
//! `docs/writing-a-guest.md` goes on from there.
//!
//! Deliberately absent: noise, clipping and budgets. They are the gate's, and a
//! guest cannot reach them.

pub mod config;
pub mod encoder;
#[cfg(target_arch = "wasm32")]
pub mod guest;
pub mod kernels;
pub mod maths;
pub mod nearest;
pub mod rng;
pub mod safetensors;
pub mod step;
pub mod tokenizer;
pub mod wire;

pub use kernels::{Accum, Tensor};
pub use step::{ClientStep, File, Query, Round, Setup, TextRecord, Turn, Unit};
