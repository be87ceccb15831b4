//! The kernels natively: what tests and tuning runs use instead of the host.

use std::cell::RefCell;

use super::{At, Product};

/// Read-only numbers.
#[derive(Debug, Clone)]
pub struct Tensor {
    values: Vec<f32>,
}

impl Tensor {
    /// A tensor of its own.
    pub fn new(values: &[f32]) -> Self {
        Tensor {
            values: values.to_vec(),
        }
    }

    /// How many numbers it holds.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        self.values.len() as u64
    }

    /// `values[offset .. offset + len]`.
    pub fn read(&self, offset: u64, len: u32) -> Vec<f32> {
        self.values[offset as usize..][..len as usize].to_vec()
    }
}

/// A unit's contribution: fixed length, born zero.
#[derive(Debug)]
pub struct Accum {
    values: RefCell<Vec<f32>>,
}

impl Accum {
    /// A zero vector of `dim` numbers; in the sandbox only the host can make one.
    pub fn zero(dim: usize) -> Self {
        Accum {
            values: RefCell::new(vec![0.0; dim]),
        }
    }

    /// The sum so far.
    pub fn into_values(self) -> Vec<f32> {
        self.values.into_inner()
    }

    /// Its fixed length.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        self.values.borrow().len() as u64
    }

    /// `accum[offset + i] += values[i]`.
    pub fn add(&self, offset: u64, values: &[f32]) {
        let mut all = self.values.borrow_mut();
        for (sum, value) in all[offset as usize..][..values.len()]
            .iter_mut()
            .zip(values)
        {
            *sum += value;
        }
    }
}

/// `c = op(a) * op(b) + beta * c`.
fn product_into(c: &mut [f32], beta: f32, a: &[f32], b: &[f32], p: Product) {
    assert_eq!(a.len(), p.m * p.k, "left side of a product {p:?}");
    assert!(b.len() >= p.k * p.n, "right side of a product {p:?}");
    assert_eq!(c.len(), p.m * p.n, "result of a product {p:?}");
    let (row_a, column_a) = if p.trans_a { (1, p.m) } else { (p.k, 1) };
    let (row_b, column_b) = if p.trans_b { (1, p.k) } else { (p.n, 1) };
    // SAFETY: the three lengths were asserted above against m, k, n, and the
    // strides walk exactly those `m * k`, `k * n` and `m * n` numbers.
    unsafe {
        matrixmultiply::sgemm(
            p.m,
            p.k,
            p.n,
            1.0,
            a.as_ptr(),
            row_a as isize,
            column_a as isize,
            b.as_ptr(),
            row_b as isize,
            column_b as isize,
            beta,
            c.as_mut_ptr(),
            p.n as isize,
            1,
        );
    }
}

pub(super) fn gemm(a: &[f32], b: &[f32], p: Product) -> Vec<f32> {
    assert_eq!(b.len(), p.k * p.n, "right side of a product {p:?}");
    let mut c = vec![0.0; p.m * p.n];
    product_into(&mut c, 0.0, a, b, p);
    c
}

pub(super) fn gemm_w(a: &[f32], w: At<'_>, p: Product) -> Vec<f32> {
    let mut c = vec![0.0; p.m * p.n];
    product_into(&mut c, 0.0, a, &w.tensor.values[w.offset..], p);
    c
}

pub(super) fn gemm_acc(into: &Accum, offset: usize, a: &[f32], b: &[f32], p: Product) {
    let mut all = into.values.borrow_mut();
    product_into(&mut all[offset..][..p.m * p.n], 1.0, a, b, p);
}

pub(super) fn gather(w: At<'_>, width: usize, rows: &[u32]) -> Vec<f32> {
    let table = &w.tensor.values[w.offset..];
    rows.iter()
        .flat_map(|&row| &table[row as usize * width..][..width])
        .copied()
        .collect()
}

pub(super) fn scatter_add(into: &Accum, offset: usize, width: usize, rows: &[u32], values: &[f32]) {
    for (row, value) in rows.iter().zip(values.chunks_exact(width)) {
        into.add((offset + *row as usize * width) as u64, value);
    }
}
