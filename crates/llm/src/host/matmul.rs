//! Matrix products on plain slices: a checked cover over the `gemm` crate.
//!
//! All matrices are row-major with a stride between rows; the right-hand side of a layer is kept
//! as `[in, out]`, the one layout that `gemm` reads without packing it first.

use gemm::Parallelism;

/// A matrix in a slice: element (i, j) is `data[i * row + j * column]`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) row: usize,
    pub(crate) column: usize,
}

impl<'a> Matrix<'a> {
    /// Rows of `row` numbers, one after another.
    pub(crate) fn rows(data: &'a [f32], row: usize) -> Self {
        Self {
            data,
            row,
            column: 1,
        }
    }

    fn holds(&self, rows: usize, columns: usize) -> bool {
        (rows - 1) * self.row + (columns - 1) * self.column < self.data.len()
    }
}

/// `out = a * b`, or `out += a * b` with `add`; `out` has rows of `out_row` numbers.
///
/// - `size`: rows of `a`, columns of `a`, columns of `b`.
///
/// # Panics
/// If a matrix is smaller than `size` says.
pub(crate) fn matmul(
    a: Matrix<'_>,
    b: Matrix<'_>,
    (out, out_row): (&mut [f32], usize),
    size: (usize, usize, usize),
    add: bool,
    threads: Parallelism,
) {
    let (m, k, n) = size;
    if m == 0 || n == 0 {
        return;
    }
    assert!(
        k > 0 && a.holds(m, k) && b.holds(k, n),
        "operands too small"
    );
    assert!(
        out_row >= n && (m - 1) * out_row + n <= out.len(),
        "result too small"
    );
    // SAFETY: the strides address m * k, k * n and m * n numbers inside the three slices (checked
    // above; every product of strides is below a slice's length, so nothing wraps), those of `out`
    // each once (`out_row >= n`), and `out` is borrowed mutably, so it overlaps neither operand.
    #[allow(unsafe_code, reason = "gemm takes pointers and strides")]
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            out_row as isize,
            add,
            a.data.as_ptr(),
            a.column as isize,
            a.row as isize,
            b.data.as_ptr(),
            b.column as isize,
            b.row as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            threads,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_the_definition_whatever_the_strides() {
        let value = |i: usize| ((i * 37 % 23) as f32 - 11.0) / 8.0;
        let a: Vec<f32> = (0..200).map(value).collect();
        let b: Vec<f32> = (0..400).map(|i| value(i + 5)).collect();
        for (m, k, n) in [(1, 5, 9), (3, 7, 1), (4, 8, 17), (9, 3, 2)] {
            let (left, right) = (
                Matrix::rows(&a, 11),
                Matrix {
                    data: &b,
                    row: 1,
                    column: 19,
                },
            );
            let mut out = vec![1.0; 9 * 20];
            matmul(
                left,
                right,
                (&mut out, 20),
                (m, k, n),
                true,
                Parallelism::None,
            );
            for i in 0..m {
                for j in 0..n {
                    let exact: f32 = (0..k).map(|l| a[i * 11 + l] * b[l + j * 19]).sum();
                    assert!((out[i * 20 + j] - 1.0 - exact).abs() < 1e-4);
                }
            }
            assert_eq!(out[n], 1.0);
        }
    }

    #[test]
    #[should_panic(expected = "result too small")]
    fn a_result_that_does_not_fit_is_refused() {
        let data = [0.0; 16];
        let (a, b) = (Matrix::rows(&data, 4), Matrix::rows(&data, 4));
        matmul(
            a,
            b,
            (&mut [0.0; 15], 4),
            (4, 4, 4),
            false,
            Parallelism::None,
        );
    }
}
