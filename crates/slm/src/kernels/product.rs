//! `C = op(A) op(B) + bias` of f32 matrices, multiplied as bf16 and summed as f32.
//!
//! ```text
//! A, B (f32) ──pack──> tiles of bf16 pairs, next to each other in `k` ──simd::tile──> C (f32)
//! ```
//!
//! Rounding to bf16 costs a product about 3 decimal digits; sums, weights and moments stay f32, as
//! in PyTorch's autocast. Blocks are fixed, so results do not depend on the number of threads.

use multiversion::multiversion;

use super::simd::{self, COLUMNS, ROWS};
use super::tasks::{Tasks, in_parts, shared, take};

/// Rows of `C` that a task computes: their part of A stays in the second cache.
const TASK_ROWS: usize = 128;

/// A matrix as it lies in memory, row-major.
#[derive(Clone, Copy)]
pub(super) struct Side<'m> {
    pub data: &'m [f32],
    /// Numbers a row.
    pub stride: usize,
    /// `k` runs along the rows: what lies next to each other differs in `k`.
    pub along: bool,
}

/// Sizes of a product: `C` is `[m, n]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub m: usize,
    pub n: usize,
    pub k: usize,
}

impl Size {
    fn pairs(&self) -> usize {
        self.k.div_ceil(2)
    }
}

/// Memory for packed matrices, kept between runs.
#[derive(Default)]
pub(super) struct Packed {
    a: Vec<u32>,
    b: Vec<u32>,
}

/// Computes `C`.
///
/// # Errors
/// Those of `tasks`.
pub(super) fn product(
    c: &mut [f32],
    size: Size,
    (a, b): (Side<'_>, Side<'_>),
    bias: Option<&[f32]>,
    packed: &mut Packed,
    tasks: &dyn Tasks,
) -> ort::Result<()> {
    let pairs = size.pairs();
    packed.a.resize(size.m.div_ceil(ROWS) * ROWS * pairs, 0);
    packed
        .b
        .resize(size.n.div_ceil(COLUMNS) * COLUMNS * pairs, 0);
    let panels_a = shared(&mut packed.a, ROWS * pairs * 4);
    let panels_b = shared(&mut packed.b, COLUMNS * pairs);
    tasks.run(panels_a.len() + panels_b.len(), &|task| {
        if let Some(panel) = panels_a.get(task) {
            let mut panel = take(panel);
            for (index, panel) in panel.chunks_exact_mut(ROWS * pairs).enumerate() {
                pack(panel, a, (task * 4 + index) * ROWS, (size.m, size.k), ROWS);
            }
        } else {
            let task = task - panels_a.len();
            let mut panel = take(&panels_b[task]);
            pack(&mut panel, b, task * COLUMNS, (size.n, size.k), COLUMNS);
        }
    })?;
    drop((panels_a, panels_b));
    let (packed_a, packed_b) = (&packed.a, &packed.b);
    in_parts(c, TASK_ROWS * size.n, tasks, &|task, c| {
        let first = task * TASK_ROWS * pairs;
        let last = packed_a.len().min(first + TASK_ROWS * pairs);
        block(c, size.n, &packed_a[first..last], packed_b, pairs, bias);
    })
}

/// Some rows of `C` from their packed part of A and all of B.
fn block(
    c: &mut [f32],
    n: usize,
    packed_a: &[u32],
    packed_b: &[u32],
    pairs: usize,
    bias: Option<&[f32]>,
) {
    for (at, b) in packed_b.chunks_exact(pairs * COLUMNS).enumerate() {
        let first = at * COLUMNS;
        let columns = (n - first).min(COLUMNS);
        let rows = c.chunks_mut(ROWS * n);
        for (rows, a) in rows.zip(packed_a.chunks_exact(pairs * ROWS)) {
            let tile = simd::tile(a, b);
            for (row, tile) in rows.chunks_exact_mut(n).zip(&tile) {
                let to = &mut row[first..first + columns];
                match bias {
                    None => to.copy_from_slice(&tile[..columns]),
                    Some(bias) => {
                        for ((to, x), bias) in to.iter_mut().zip(tile).zip(&bias[first..]) {
                            *to = x + bias;
                        }
                    }
                }
            }
        }
    }
}

/// Packs `width` rows (or columns) from `first` on; what lies beyond `count` is zero.
fn pack(panel: &mut [u32], side: Side<'_>, first: usize, (count, k): (usize, usize), width: usize) {
    let here = count.saturating_sub(first).min(width);
    match side.along {
        true => pack_along(
            panel,
            &side.data[first * side.stride..],
            side.stride,
            here,
            k,
            width,
        ),
        false => pack_across(panel, &side.data[first..], side.stride, here, k, width),
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq", "x86_64+avx2"))]
fn pack_along(panel: &mut [u32], data: &[f32], stride: usize, here: usize, k: usize, width: usize) {
    if here < width {
        panel.fill(0);
    }
    for row in 0..here {
        let (twos, rest) = data[row * stride..][..k].as_chunks::<2>();
        for (to, [low, high]) in panel[row..].iter_mut().step_by(width).zip(twos) {
            *to = pair(*low, *high);
        }
        if let [last] = rest {
            panel[twos.len() * width + row] = pair(*last, 0.0);
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq", "x86_64+avx2"))]
fn pack_across(
    panel: &mut [u32],
    data: &[f32],
    stride: usize,
    here: usize,
    k: usize,
    width: usize,
) {
    for (index, to) in panel.chunks_exact_mut(width).enumerate() {
        let low = &data[2 * index * stride..][..here];
        to[here..].fill(0);
        if 2 * index + 1 < k {
            let high = &data[(2 * index + 1) * stride..][..here];
            for ((to, low), high) in to.iter_mut().zip(low).zip(high) {
                *to = pair(*low, *high);
            }
        } else {
            for (to, low) in to.iter_mut().zip(low) {
                *to = pair(*low, 0.0);
            }
        }
    }
}

/// Two numbers as bf16, rounded to nearest even; the first in the lower half.
#[inline(always)]
fn pair(low: f32, high: f32) -> u32 {
    (rounded(low) >> 16) | (rounded(high) & 0xffff_0000)
}

/// A NaN of the processor's own making stays one: its upper half is not all zeros.
#[inline(always)]
fn rounded(x: f32) -> u32 {
    let bits = x.to_bits();
    bits.wrapping_add(0x7fff + ((bits >> 16) & 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    struct OneByOne;

    impl Tasks for OneByOne {
        fn run(&self, count: usize, task: &(dyn Fn(usize) + Sync)) -> ort::Result<()> {
            (0..count).for_each(task);
            Ok(())
        }
    }

    #[test]
    fn products_of_all_layouts_and_odd_sizes_are_right() {
        if !simd::bf16() {
            println!("skipped: this machine has no AVX512-BF16");
            return;
        }
        let mut stream = Stream::new(8, 0);
        for (m, n, k) in [(1, 1, 1), (13, 50, 7), (300, 96, 64), (129, 47, 33)] {
            for (a_along, b_along) in [(true, true), (true, false), (false, false), (false, true)] {
                // Numbers that bf16 holds exactly, so that only sums round.
                let mut numbers = |count: usize| -> Vec<f32> {
                    let number = |_| (stream.below(17) as f32 - 8.0) * 0.125;
                    (0..count).map(number).collect()
                };
                let (a, b, bias) = (numbers(m * k), numbers(n * k), numbers(n));
                let side = |data, rows, along| Side {
                    data,
                    stride: if along { k } else { rows },
                    along,
                };
                let sides = (side(&a, m, a_along), side(&b, n, b_along));
                let mut c = vec![f32::NAN; m * n];
                let size = Size { m, n, k };
                let mut packed = Packed::default();
                product(&mut c, size, sides, Some(&bias), &mut packed, &OneByOne).unwrap();
                for i in 0..m {
                    for j in 0..n {
                        let at = |x: &[f32], rows, along, r, p| match along {
                            true => x[r * k + p],
                            false => x[p * rows + r],
                        };
                        let sum: f32 = (0..k)
                            .map(|p| at(&a, m, a_along, i, p) * at(&b, n, b_along, j, p))
                            .sum();
                        assert_eq!(c[i * n + j], sum + bias[j], "{m} {n} {k}, {i} {j}");
                    }
                }
            }
        }
    }

    #[test]
    fn rounding_is_to_nearest_even_and_keeps_nan() {
        let high = |x: f32| f32::from_bits(pair(x, 0.0) << 16);
        for x in [0.0, 1.0, -2.5, 1e-20, 3.3e38] {
            let half = half::bf16::from_f32(x).to_f32();
            assert_eq!(high(x), half);
        }
        assert!(high(f32::NAN).is_nan());
        assert!(high(f32::INFINITY).is_infinite());
    }
}
