//! The numeric kernels, under the same names in the sandbox and natively.
//!
//! ```text
//!   wasm32:  imported from the host (pure, charged as fuel before computing)
//!   native:  the same matrix product and plain loops, for tests and tuning
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
///
/// A matrix is stored row after row, without gaps unless told otherwise. With a stride, it
/// may be some columns of a wider one: a slice that starts at its first number.
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
    /// From one stored row of `a`, of `b` and of `c` to the next, where there are gaps.
    pub strides: [Option<usize>; 3],
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
            strides: [None; 3],
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

    /// The same with these numbers from one stored row of `a` to the next.
    pub fn with_stride_a(mut self, stride: usize) -> Self {
        self.strides[0] = Some(stride);
        self
    }

    /// The same with these numbers from one stored row of `b` to the next.
    pub fn with_stride_b(mut self, stride: usize) -> Self {
        self.strides[1] = Some(stride);
        self
    }

    /// The same with these numbers from one row of `c` to the next.
    pub fn with_stride_c(mut self, stride: usize) -> Self {
        self.strides[2] = Some(stride);
        self
    }

    /// Stored rows, stored columns and stride of `a`, `b` and `c`.
    fn stored(&self) -> [(usize, usize, usize); 3] {
        let turn = |(rows, columns), turned| {
            if turned {
                (columns, rows)
            } else {
                (rows, columns)
            }
        };
        let shapes = [
            turn((self.m, self.k), self.trans_a),
            turn((self.k, self.n), self.trans_b),
            (self.m, self.n),
        ];
        std::array::from_fn(|i| {
            let (rows, columns) = shapes[i];
            (rows, columns, self.strides[i].unwrap_or(columns))
        })
    }

    /// Numbers from the first to the last of a matrix: 0 is `a`, 1 is `b`, 2 is `c`.
    fn len(&self, matrix: usize) -> usize {
        let (rows, columns, stride) = self.stored()[matrix];
        if rows == 0 || columns == 0 {
            return 0;
        }
        (rows - 1) * stride + columns
    }

    /// A list, up to the matrix' end where that is some columns of something wider.
    fn cut<'a>(&self, list: &'a [f32], matrix: usize) -> &'a [f32] {
        match self.strides[matrix] {
            Some(_) => &list[..self.len(matrix)],
            None => list,
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

/// `op(a) * op(b)`; what lies between its rows is zero.
pub fn gemm(a: &[f32], b: &[f32], product: Product) -> Vec<f32> {
    backend::gemm(product.cut(a, 0), product.cut(b, 1), product)
}

/// The same with a `b` on the host's side of the wall.
pub fn gemm_w(a: &[f32], w: At<'_>, product: Product) -> Vec<f32> {
    backend::gemm_w(product.cut(a, 0), w, product)
}

/// `into[offset ..][m,n] += op(a) * op(b)`; what lies between its rows is left alone.
pub fn gemm_acc(into: &Accum, offset: usize, a: &[f32], b: &[f32], product: Product) {
    let (a, b) = (product.cut(a, 0), product.cut(b, 1));
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
