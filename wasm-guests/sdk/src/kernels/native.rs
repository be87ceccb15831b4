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

/// As in the host's kernels (`matmul_turned` in the sandbox's `kernels/math.rs`), so that a
/// comparison with native code compares the same products.
const TURNED_ROWS: std::ops::RangeInclusive<usize> = 16..=128;
const TURNED_COLUMNS: usize = 512;

/// Few rows against the layout of a linear layer, block by block, each turned.
fn turned_into(c: &mut [f32], a: &[f32], b: &[f32], p: Product) {
    let [(_, _, stride_a), (_, _, stride_b), (_, _, stride_c)] = p.stored();
    for first in (0..p.n).step_by(TURNED_COLUMNS) {
        let columns = TURNED_COLUMNS.min(p.n - first);
        let mut block = Product::plain(columns, p.k, p.m)
            .with_stride_a(stride_b)
            .with_stride_b(stride_a);
        block.trans_b = !p.trans_a;
        let mut turned = vec![0.0; columns * p.m];
        let rows = &b[first * stride_b..][..block.len(0)];
        product_into(&mut turned, false, rows, a, block);
        for (row, c) in c.chunks_mut(stride_c).enumerate() {
            for (value, column) in c[first..].iter_mut().zip(turned.chunks_exact(p.m)) {
                *value = column[row];
            }
        }
    }
}

/// `c = op(a) * op(b)`, or `c += op(a) * op(b)` when `accumulate`.
fn product_into(c: &mut [f32], accumulate: bool, a: &[f32], b: &[f32], p: Product) {
    for (i, list) in [a, b, &*c].iter().enumerate() {
        assert_eq!(list.len(), p.len(i), "matrix {i} of a product {p:?}");
    }
    assert!(
        p.stored()
            .iter()
            .all(|(_, columns, stride)| stride >= columns)
    );
    if c.is_empty() || p.k == 0 {
        return;
    }
    let turned = TURNED_ROWS.contains(&p.m) && p.n > *TURNED_ROWS.end();
    if turned && p.trans_b && !accumulate {
        return turned_into(c, a, b, p);
    }
    let steps = |i: usize, transposed: bool| {
        let stride = p.stored()[i].2 as isize;
        if transposed { (1, stride) } else { (stride, 1) }
    };
    let (row_a, column_a) = steps(0, p.trans_a);
    let (row_b, column_b) = steps(1, p.trans_b);
    let (row_c, column_c) = steps(2, false);
    // SAFETY: the three lengths were asserted above to be those from the first to the
    // last number that the strides reach.
    unsafe {
        gemm::gemm(
            p.m,
            p.n,
            p.k,
            c.as_mut_ptr(),
            column_c,
            row_c,
            accumulate,
            a.as_ptr(),
            column_a,
            row_a,
            b.as_ptr(),
            column_b,
            row_b,
            f32::from(u8::from(accumulate)),
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

pub(super) fn gemm(a: &[f32], b: &[f32], p: Product) -> Vec<f32> {
    let mut c = vec![0.0; p.len(2)];
    product_into(&mut c, false, a, b, p);
    c
}

pub(super) fn gemm_w(a: &[f32], w: At<'_>, p: Product) -> Vec<f32> {
    gemm(a, &w.tensor.values[w.offset..][..p.len(1)], p)
}

pub(super) fn gemm_acc(into: &Accum, offset: usize, a: &[f32], b: &[f32], p: Product) {
    let mut all = into.values.borrow_mut();
    product_into(&mut all[offset..][..p.len(2)], true, a, b, p);
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
