//! The arithmetic of the kernels: plain functions over slices.
//!
//! ```text
//! sizes (u32 from the guest) ──checked──> lengths (u64, then usize) ──compared──> slices
//! ```
//! Every function first compares the lengths of all its slices with the sizes
//! it was told, and only then computes; a mismatch is a [`KernelError`], which
//! becomes a trap. Results do not depend on threads or timing: the matrix
//! product runs on one thread.

use gemm::Parallelism;

/// Why a kernel refuses; becomes a trap in the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// Sizes whose product does not fit, or is not allowed.
    #[error("the kernel's sizes are too large")]
    TooLarge,
    /// A list whose length is not what the sizes say.
    #[error("a list has {found} numbers, but the sizes say {expected}")]
    Length {
        /// From the sizes.
        expected: u64,
        /// The list's length.
        found: u64,
    },
    /// A range that does not lie within the tensor or accumulator.
    #[error("{offset} + {len} lies beyond the end {end}")]
    Range {
        /// Where it starts.
        offset: u64,
        /// Its length.
        len: u64,
        /// The end of what is addressed.
        end: u64,
    },
    /// A handle that is not alive.
    #[error("the handle does not exist")]
    Handle,
    /// The instance's allowance of host memory is used up.
    #[error("the instance's host memory is used up")]
    Memory,
}

/// Sizes of `c[m,n] = op(a)[m,k] * op(b)[k,n]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Product {
    /// Rows of the result.
    pub m: u32,
    /// The summed dimension.
    pub k: u32,
    /// Columns of the result.
    pub n: u32,
    /// `a` is stored `[k,m]`.
    pub trans_a: bool,
    /// `b` is stored `[n,k]`.
    pub trans_b: bool,
}

impl Product {
    /// Numbers in `a`; cannot overflow.
    pub fn a_len(&self) -> u64 {
        u64::from(self.m) * u64::from(self.k)
    }

    /// Numbers in `b`; cannot overflow.
    pub fn b_len(&self) -> u64 {
        u64::from(self.k) * u64::from(self.n)
    }

    /// Numbers in `c`; cannot overflow.
    pub fn c_len(&self) -> u64 {
        u64::from(self.m) * u64::from(self.n)
    }

    /// Floating-point operations, saturating.
    pub fn flops(&self) -> u64 {
        self.a_len()
            .saturating_mul(u64::from(self.n))
            .saturating_mul(2)
    }
}

/// `values[offset .. offset + len]`, all of it checked in u64.
pub fn range(values: &[f32], offset: u64, len: u64) -> Result<&[f32], KernelError> {
    let span = span(values.len(), offset, len)?;
    Ok(&values[span])
}

/// As [`range`], to write to.
pub fn range_mut(values: &mut [f32], offset: u64, len: u64) -> Result<&mut [f32], KernelError> {
    let span = span(values.len(), offset, len)?;
    Ok(&mut values[span])
}

fn span(end: usize, offset: u64, len: u64) -> Result<std::ops::Range<usize>, KernelError> {
    let out_of_range = KernelError::Range {
        offset,
        len,
        end: end as u64,
    };
    let stop = offset.checked_add(len).ok_or(out_of_range)?;
    if stop > end as u64 {
        return Err(out_of_range);
    }
    // Both are at most `end`, which is a usize.
    Ok(offset as usize..stop as usize)
}

/// `c = op(a) * op(b)`, or `c += op(a) * op(b)` when `accumulate`.
///
/// - `a`, `b`, `c`: row-major, lengths exactly as `product` says.
///
/// # Errors
/// [`KernelError::Length`] if a slice has another length.
pub fn matmul(
    product: Product,
    a: &[f32],
    b: &[f32],
    c: &mut [f32],
    accumulate: bool,
) -> Result<(), KernelError> {
    expect_len(product.a_len(), a.len())?;
    expect_len(product.b_len(), b.len())?;
    expect_len(product.c_len(), c.len())?;
    if c.is_empty() {
        return Ok(());
    }
    if product.k == 0 {
        if !accumulate {
            c.fill(0.0);
        }
        return Ok(());
    }
    let (m, k, n) = (product.m as usize, product.k as usize, product.n as usize);
    // Strides fit an isize: each is at most the length of a slice in memory.
    let (a_row, a_col) = if product.trans_a {
        (1, m as isize)
    } else {
        (k as isize, 1)
    };
    let (b_row, b_col) = if product.trans_b {
        (1, k as isize)
    } else {
        (n as isize, 1)
    };
    let alpha = if accumulate { 1.0 } else { 0.0 };
    // SAFETY: `a`, `b` and `c` hold exactly m*k, k*n and m*n initialised
    // numbers (checked above), the strides address each of them once within
    // those bounds, and `c` is borrowed mutably, so it overlaps neither.
    #[allow(unsafe_code, reason = "gemm takes pointers and strides")]
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            n as isize,
            accumulate,
            a.as_ptr(),
            a_col,
            a_row,
            b.as_ptr(),
            b_col,
            b_row,
            alpha,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
    Ok(())
}

/// Has the matrix product look at the machine's caches now: it reads files for
/// that, which a jailed worker cannot.
pub(crate) fn warm_up() {
    let product = Product {
        m: 32,
        k: 32,
        n: 32,
        trans_a: false,
        trans_b: false,
    };
    let (a, b, mut c) = (vec![0.0; 1024], vec![0.0; 1024], vec![0.0; 1024]);
    matmul(product, &a, &b, &mut c, false).expect("the lengths are right");
}

/// `into[i] += values[i]`; the lengths must be equal.
pub fn add(into: &mut [f32], values: &[f32]) -> Result<(), KernelError> {
    expect_len(into.len() as u64, values.len())?;
    for (sum, value) in into.iter_mut().zip(values) {
        *sum += value;
    }
    Ok(())
}

/// Rows of the `[_, width]` table that starts at `offset` of `table`.
///
/// # Errors
/// [`KernelError::Range`] if any row does not lie within `table`.
pub fn gather(
    table: &[f32],
    offset: u64,
    width: u32,
    rows: &[u32],
) -> Result<Vec<f32>, KernelError> {
    let len = gathered_len(width, rows.len())?;
    let mut out = Vec::with_capacity(usize::try_from(len).map_err(|_| KernelError::TooLarge)?);
    for &row in rows {
        let start = row_start(offset, width, row)?;
        out.extend_from_slice(range(table, start, u64::from(width))?);
    }
    Ok(out)
}

/// `table[offset + rows[i] * width ..][.. width] += values[i]`.
///
/// # Errors
/// [`KernelError::Length`] if `values` is not `rows * width` long,
/// [`KernelError::Range`] if any row does not lie within `table`; rows before
/// that one are added by then (the caller's instance is about to trap).
pub fn scatter_add(
    table: &mut [f32],
    offset: u64,
    width: u32,
    rows: &[u32],
    values: &[f32],
) -> Result<(), KernelError> {
    expect_len(gathered_len(width, rows.len())?, values.len())?;
    let width_len = width as usize;
    for (i, &row) in rows.iter().enumerate() {
        let start = row_start(offset, width, row)?;
        let into = range_mut(table, start, u64::from(width))?;
        add(into, &values[i * width_len..(i + 1) * width_len])?;
    }
    Ok(())
}

/// Numbers in `rows` rows of `width`.
pub fn gathered_len(width: u32, rows: usize) -> Result<u64, KernelError> {
    u64::from(width)
        .checked_mul(rows as u64)
        .ok_or(KernelError::TooLarge)
}

fn row_start(offset: u64, width: u32, row: u32) -> Result<u64, KernelError> {
    // u32 * u32 cannot overflow a u64; adding the offset can.
    let skip = u64::from(row) * u64::from(width);
    offset.checked_add(skip).ok_or(KernelError::TooLarge)
}

fn expect_len(expected: u64, found: usize) -> Result<(), KernelError> {
    if expected == found as u64 {
        return Ok(());
    }
    Err(KernelError::Length {
        expected,
        found: found as u64,
    })
}
