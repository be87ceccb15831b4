//! The numeric kernels, under the same names in the sandbox and natively.
//!
//! ```text
//!   wasm32:  imported from the host (pure, charged as fuel before computing)
//!   native:  matrixmultiply and plain loops, for tests and tuning
//! ```
//!
//! Matrices are row-major f32. A size that does not fit traps in the sandbox and
//! panics natively. Nothing here holds state beyond its handles.

#[cfg(target_arch = "wasm32")]
mod imported;
#[cfg(not(target_arch = "wasm32"))]
mod native;

#[cfg(target_arch = "wasm32")]
use imported as backend;
#[cfg(not(target_arch = "wasm32"))]
use native as backend;

pub use backend::{Accum, Tensor};

/// Sizes and storage of a product `c[m,n] = op(a)[m,k] * op(b)[k,n]`.
#[derive(Debug, Clone, Copy)]
pub struct Product {
    /// Rows of the result.
    pub m: usize,
    /// The inner length.
    pub k: usize,
    /// Columns of the result.
    pub n: usize,
    /// `a` is stored `[k,m]`.
    pub trans_a: bool,
    /// `b` is stored `[n,k]`, the layout of a linear layer.
    pub trans_b: bool,
}

impl Product {
    /// `a[m,k] * b[k,n]`, both stored as they read.
    pub fn plain(m: usize, k: usize, n: usize) -> Self {
        Product {
            m,
            k,
            n,
            trans_a: false,
            trans_b: false,
        }
    }

    /// The same with `a` stored transposed.
    pub fn with_trans_a(self) -> Self {
        Product {
            trans_a: true,
            ..self
        }
    }

    /// The same with `b` stored transposed.
    pub fn with_trans_b(self) -> Self {
        Product {
            trans_b: true,
            ..self
        }
    }
}

/// A place in a tensor.
#[derive(Clone, Copy)]
pub struct At<'a> {
    /// The tensor.
    pub tensor: &'a Tensor,
    /// Index of the first number.
    pub offset: usize,
}

/// `op(a) * op(b)`.
pub fn gemm(a: &[f32], b: &[f32], product: Product) -> Vec<f32> {
    backend::gemm(a, b, product)
}

/// `a * op(w)` with `w` on the host's side of the wall; `trans_a` is not allowed.
pub fn gemm_w(a: &[f32], w: At<'_>, product: Product) -> Vec<f32> {
    assert!(
        !product.trans_a,
        "`gemm_w` takes its left side as it is stored"
    );
    backend::gemm_w(a, w, product)
}

/// `into[offset ..][m,n] += op(a) * op(b)`.
pub fn gemm_acc(into: &Accum, offset: usize, a: &[f32], b: &[f32], product: Product) {
    backend::gemm_acc(into, offset, a, b, product);
}

/// Rows of a `[_, width]` table that starts at `w`.
pub fn gather(w: At<'_>, width: usize, rows: &[u32]) -> Vec<f32> {
    backend::gather(w, width, rows)
}

/// `into[offset + rows[i] * width ..][.. width] += values[i]`.
pub fn scatter_add(into: &Accum, offset: usize, width: usize, rows: &[u32], values: &[f32]) {
    backend::scatter_add(into, offset, width, rows, values);
}
