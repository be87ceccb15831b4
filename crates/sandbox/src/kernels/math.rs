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

pub use crate::bindings::noisegate::client::kernels::Product;

/// Rows of a result that is computed turned: fewer are not worth it, more need too much room.
const TURNED_ROWS: std::ops::RangeInclusive<u32> = 16..=128;
/// Columns of a result that are computed at a time when it is turned; a quarter of a megabyte at most.
const TURNED_COLUMNS: u32 = 512;

/// Why a kernel refuses; becomes a trap in the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// Sizes whose product does not fit, or is not allowed.
    #[error("the kernel's sizes are too large")]
    TooLarge,
    /// Rows that overlap.
    #[error("rows of {columns} numbers lie only {stride} apart")]
    Stride {
        /// From one row to the next.
        stride: u32,
        /// Numbers of a row.
        columns: u32,
    },
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

/// How a matrix lies in memory: row after row, `ld` numbers from one to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    rows: u32,
    columns: u32,
    ld: u32,
    transposed: bool,
}

impl Stored {
    fn new((rows, columns): (u32, u32), ld: u32, transposed: bool) -> Self {
        let (rows, columns) = if transposed {
            (columns, rows)
        } else {
            (rows, columns)
        };
        Stored {
            rows,
            columns,
            ld,
            transposed,
        }
    }

    /// Numbers from the first to the last one; the arithmetic cannot overflow.
    ///
    /// # Errors
    /// [`KernelError::Stride`] if rows overlap.
    pub fn numbers(&self) -> Result<u64, KernelError> {
        if self.ld < self.columns {
            return Err(KernelError::Stride {
                stride: self.ld,
                columns: self.columns,
            });
        }
        if self.rows == 0 || self.columns == 0 {
            return Ok(0);
        }
        Ok(u64::from(self.rows - 1) * u64::from(self.ld) + u64::from(self.columns))
    }

    /// Row and column strides of the matrix as it reads.
    fn strides(&self) -> (isize, isize) {
        // With one row there is no next one. Both are at most the length of a slice.
        let ld = if self.rows > 1 { self.ld } else { self.columns } as isize;
        if self.transposed { (1, ld) } else { (ld, 1) }
    }
}

impl Product {
    /// The left side.
    pub fn a(&self) -> Stored {
        Stored::new((self.m, self.k), self.lda, self.trans_a)
    }

    /// The right side.
    pub fn b(&self) -> Stored {
        Stored::new((self.k, self.n), self.ldb, self.trans_b)
    }

    /// The result.
    pub fn c(&self) -> Stored {
        Stored::new((self.m, self.n), self.ldc, false)
    }

    /// Floating-point operations, saturating.
    pub fn flops(&self) -> u64 {
        (u64::from(self.m) * u64::from(self.k))
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
/// - `a`, `b`, `c`: as long as `product` says ([`Stored::numbers`]); what lies between the rows
///   of `c` is left alone.
///
/// # Errors
/// [`KernelError::Length`] if a slice has another length, [`KernelError::Stride`] if rows overlap.
pub fn matmul(
    product: Product,
    a: &[f32],
    b: &[f32],
    c: &mut [f32],
    accumulate: bool,
) -> Result<(), KernelError> {
    expect_len(product.a().numbers()?, a.len())?;
    expect_len(product.b().numbers()?, b.len())?;
    expect_len(product.c().numbers()?, c.len())?;
    if c.is_empty() {
        return Ok(());
    }
    let (m, k, n) = (product.m as usize, product.k as usize, product.n as usize);
    if k == 0 {
        if !accumulate {
            for row in c.chunks_mut(product.ldc as usize) {
                row[..n].fill(0.0);
            }
        }
        return Ok(());
    }
    // More columns than those rows: a block, whose columns are the rows here, is not turned again.
    let turned = TURNED_ROWS.contains(&product.m) && product.n > *TURNED_ROWS.end();
    if turned && product.trans_b && !accumulate {
        return matmul_turned(product, a, b, c);
    }
    let (a_row, a_column) = product.a().strides();
    let (b_row, b_column) = product.b().strides();
    let (c_row, c_column) = product.c().strides();
    let alpha = if accumulate { 1.0 } else { 0.0 };
    // SAFETY: the strides reach from the first to the last number of each matrix,
    // which is what `a`, `b` and `c` were found to hold above; rows of `c` do not
    // overlap, and `c` is borrowed mutably, so it overlaps neither `a` nor `b`.
    #[allow(unsafe_code, reason = "gemm takes pointers and strides")]
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            c_column,
            c_row,
            accumulate,
            a.as_ptr(),
            a_column,
            a_row,
            b.as_ptr(),
            b_column,
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

/// The same for few rows against the layout of a linear layer: `b * op(a)^T`, block by block,
/// and each block turned. So the large `b` is read as it lies; on x86-64, `gemm` would copy it
/// into another layout first.
fn matmul_turned(product: Product, a: &[f32], b: &[f32], c: &mut [f32]) -> Result<(), KernelError> {
    let (m, ldc) = (product.m as usize, product.ldc as usize);
    let mut turned = vec![0.0; (TURNED_COLUMNS.min(product.n) * product.m) as usize];
    for first in (0..product.n).step_by(TURNED_COLUMNS as usize) {
        let block = Product {
            m: TURNED_COLUMNS.min(product.n - first),
            n: product.m,
            k: product.k,
            lda: product.ldb,
            ldb: product.lda,
            ldc: product.m,
            trans_a: false,
            trans_b: !product.trans_a,
        };
        let rows = range(
            b,
            u64::from(first) * u64::from(product.ldb),
            block.a().numbers()?,
        )?;
        let turned = &mut turned[..block.m as usize * m];
        matmul(block, rows, a, turned, false)?;
        for (row, c) in c.chunks_mut(ldc).enumerate() {
            let columns = c[first as usize..].iter_mut().take(block.m as usize);
            for (value, column) in columns.zip(turned.chunks_exact(m)) {
                *value = column[row];
            }
        }
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
        lda: 32,
        ldb: 32,
        ldc: 32,
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
