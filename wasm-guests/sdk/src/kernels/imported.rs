//! The kernels as the sandbox's host offers them.

use super::{At, Product};
use crate::guest::bindings::noisegate::client::kernels;

pub use kernels::{Accum, Tensor};

pub(super) fn gemm(a: &[f32], b: &[f32], p: Product) -> Vec<f32> {
    kernels::gemm(bits(a), bits(b), told(p))
}

pub(super) fn gemm_w(a: &[f32], w: At<'_>, p: Product) -> Vec<f32> {
    kernels::gemm_w(bits(a), w.tensor, w.offset as u64, told(p))
}

pub(super) fn gemm_acc(into: &Accum, offset: usize, a: &[f32], b: &[f32], p: Product) {
    kernels::gemm_acc(into, offset as u64, bits(a), bits(b), told(p));
}

/// Numbers as the host borrows them.
fn bits(values: &[f32]) -> &[u32] {
    // SAFETY: an f32 and a u32 have the same size and alignment, and any bits are a u32.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), values.len()) }
}

fn told(p: Product) -> kernels::Product {
    let [lda, ldb, ldc] = p.stored().map(|(_, _, stride)| stride as u32);
    kernels::Product {
        m: p.m as u32,
        k: p.k as u32,
        n: p.n as u32,
        lda,
        ldb,
        ldc,
        trans_a: p.trans_a,
        trans_b: p.trans_b,
    }
}

pub(super) fn gather(w: At<'_>, width: usize, rows: &[u32]) -> Vec<f32> {
    kernels::gather(w.tensor, w.offset as u64, width as u32, rows)
}

pub(super) fn scatter_add(into: &Accum, offset: usize, width: usize, rows: &[u32], values: &[f32]) {
    kernels::scatter_add(into, offset as u64, width as u32, rows, bits(values));
}
