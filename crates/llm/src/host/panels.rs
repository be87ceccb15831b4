//! Products with a matrix in panels: its numbers are read once, in the bits that they have.
//!
//! ```text
//! few rows:   panel ─ widened on the way ─ times each row ─> [rows, 32]
//! more rows:  panels ─ widened into a tile that the cache holds ─ gemm ─> [rows, 128]
//! ```
//! Sums of a column go in the order of the inputs, whatever the number of threads.

use std::cell::Cell;

use gemm::Parallelism;
use multiversion::multiversion;
use rayon::prelude::*;

use super::matmul::{Matrix, matmul};
use crate::weight::{BLOCK, Panels, Store, WIDTH, widen_bf16, widen_f16};

/// Up to so many rows are multiplied while the numbers are widened; for more, widening once and
/// multiplying by `gemm` is faster.
const FEW_ROWS: usize = 4;
/// Panels of a tile.
const TILE_PANELS: usize = 4;
/// Columns of a tile.
const TILE_WIDTH: usize = TILE_PANELS * WIDTH;
/// Most inputs of a tile: 256 KiB, which stay in the second-level cache.
const TILE_INPUTS: usize = 512;

thread_local! {
    /// Taken while in use, so that a thread which takes up other work meanwhile gets one of its own.
    static TILE: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
    static RESULT: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// `out = x * matrix`, or `out += x * matrix` with `add`.
///
/// - `x`: `[rows, in]`; `out`: `[rows, out]`.
///
/// # Panics
/// If `x` or `out` is of another size.
pub(super) fn product(
    panels: &Panels,
    x: &[f32],
    rows: usize,
    out: &mut [f32],
    add: bool,
    threads: Parallelism,
) {
    assert_eq!(x.len(), rows * panels.inputs, "size of the left operand");
    assert_eq!(out.len(), rows * panels.outputs, "size of the result");
    if rows == 0 {
        return;
    }
    let tiles = panels.outputs.div_ceil(TILE_WIDTH);
    let mut result = RESULT.take();
    result.clear();
    result.resize(tiles * rows * TILE_WIDTH, 0.0);
    let sums = match &panels.store {
        Store::Eight { offsets, .. } if rows <= FEW_ROWS && !offsets.is_empty() => {
            x.chunks(BLOCK).map(|block| block.iter().sum()).collect()
        }
        _ => Vec::new(),
    };
    let one = |(tile, to): (usize, &mut [f32])| match rows <= FEW_ROWS {
        true => few_rows(panels, x, &sums, rows, tile, to),
        false => many_rows(panels, x, rows, tile, to),
    };
    match threads {
        Parallelism::None => result
            .chunks_exact_mut(rows * TILE_WIDTH)
            .enumerate()
            .for_each(one),
        Parallelism::Rayon(threads) => result
            .par_chunks_exact_mut(rows * TILE_WIDTH)
            .enumerate()
            .with_min_len(tiles.div_ceil(threads.max(1)))
            .for_each(one),
    }
    for (tile, from) in result.chunks_exact(rows * TILE_WIDTH).enumerate() {
        let first = tile * TILE_WIDTH;
        let width = TILE_WIDTH.min(panels.outputs - first);
        for (row, from) in from.chunks_exact(TILE_WIDTH).enumerate() {
            let to = &mut out[row * panels.outputs + first..][..width];
            match add {
                true => to.iter_mut().zip(from).for_each(|(to, from)| *to += from),
                false => to.copy_from_slice(&from[..width]),
            }
        }
    }
    RESULT.set(result);
}

/// The panels of a tile that exist.
fn of_tile(panels: &Panels, tile: usize) -> impl Iterator<Item = (usize, usize)> {
    let all = panels.outputs.div_ceil(WIDTH);
    (0..TILE_PANELS)
        .map(move |within| (within, tile * TILE_PANELS + within))
        .filter(move |(_, panel)| *panel < all)
}

fn few_rows(panels: &Panels, x: &[f32], sums: &[f32], rows: usize, tile: usize, to: &mut [f32]) {
    let inputs = panels.inputs;
    for (within, panel) in of_tile(panels, tile) {
        let numbers = panel * inputs * WIDTH..(panel + 1) * inputs * WIDTH;
        let blocks = inputs / BLOCK;
        let factors = panel * blocks * WIDTH..(panel + 1) * blocks * WIDTH;
        let first = within * WIDTH;
        match &panels.store {
            Store::Bf16(values) => bf16_rows(x, inputs, &values[numbers], &mut to[first..]),
            Store::F16(values) => f16_rows(x, inputs, &values[numbers], &mut to[first..]),
            Store::Eight {
                values,
                scales,
                offsets,
            } => {
                let (values, scales) = (&values[numbers], &scales[factors.clone()]);
                eight_rows(x, inputs, values, scales, &mut to[first..]);
                if !offsets.is_empty() {
                    add_offsets(sums, blocks, &offsets[factors], &mut to[first..]);
                }
            }
        }
    }
    debug_assert_eq!(to.len(), rows * TILE_WIDTH);
}

fn many_rows(panels: &Panels, x: &[f32], rows: usize, tile: usize, to: &mut [f32]) {
    let mut buffer = TILE.take();
    buffer.resize(TILE_INPUTS * TILE_WIDTH, 0.0);
    for first in (0..panels.inputs).step_by(TILE_INPUTS) {
        let inputs = TILE_INPUTS.min(panels.inputs - first);
        for (within, panel) in of_tile(panels, tile) {
            widen(
                panels,
                panel,
                first..first + inputs,
                &mut buffer[within * WIDTH..],
            );
        }
        let left = Matrix::rows(&x[first..], panels.inputs);
        let right = Matrix::rows(&buffer, TILE_WIDTH);
        matmul(
            left,
            right,
            (to, TILE_WIDTH),
            (rows, inputs, TILE_WIDTH),
            first > 0,
            Parallelism::None,
        );
    }
    TILE.set(buffer);
}

/// Some inputs of a panel, into rows of a tile. They begin at a multiple of [`BLOCK`].
fn widen(panels: &Panels, panel: usize, inputs: std::ops::Range<usize>, tile: &mut [f32]) {
    let row = |input: usize| (panel * panels.inputs + input) * WIDTH;
    let numbers = row(inputs.start)..row(inputs.end);
    match &panels.store {
        Store::Bf16(values) => widen_all_bf16(&values[numbers], tile),
        Store::F16(values) => widen_all_f16(&values[numbers], tile),
        Store::Eight {
            values,
            scales,
            offsets,
        } => {
            let row = |input: usize| (panel * panels.inputs + input) / BLOCK * WIDTH;
            let factors = row(inputs.start)..row(inputs.end);
            let offsets = offsets.get(factors.clone()).unwrap_or_default();
            widen_all_eight(&values[numbers], &scales[factors], offsets, tile);
        }
    }
}

/// Adds to each row of `out` what that row of `x` makes with a panel.
#[inline(always)]
fn each_row<E: Copy>(
    x: &[f32],
    inputs: usize,
    panel: &[[E; WIDTH]],
    out: &mut [f32],
    widen: impl Fn(E) -> f32,
    scale: impl Fn(usize, usize) -> f32,
) {
    for (number, block) in panel.chunks(BLOCK).enumerate() {
        for (x, out) in x.chunks_exact(inputs).zip(out.chunks_mut(TILE_WIDTH)) {
            let x = &x[number * BLOCK..][..block.len()];
            let mut sums = [0f32; WIDTH];
            for (x, numbers) in x.iter().zip(block) {
                for column in 0..WIDTH {
                    sums[column] += x * widen(numbers[column]);
                }
            }
            let out = &mut out[..WIDTH];
            for column in 0..WIDTH {
                out[column] += sums[column] * scale(number, column);
            }
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq", "x86_64+avx2"))]
fn bf16_rows(x: &[f32], inputs: usize, values: &[u16], out: &mut [f32]) {
    each_row(x, inputs, values.as_chunks().0, out, widen_bf16, |_, _| 1.0);
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq", "x86_64+avx2"))]
fn f16_rows(x: &[f32], inputs: usize, values: &[u16], out: &mut [f32]) {
    each_row(x, inputs, values.as_chunks().0, out, widen_f16, |_, _| 1.0);
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq", "x86_64+avx2"))]
fn eight_rows(x: &[f32], inputs: usize, values: &[i8], scales: &[f32], out: &mut [f32]) {
    let scales = scales.as_chunks::<WIDTH>().0;
    each_row(
        x,
        inputs,
        values.as_chunks().0,
        out,
        f32::from,
        |block, column| scales[block][column],
    );
}

/// Adds what the offsets of a panel make of the sums of each block of a row, `[rows, blocks]`.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq", "x86_64+avx2"))]
fn add_offsets(sums: &[f32], blocks: usize, offsets: &[f32], out: &mut [f32]) {
    for (sums, out) in sums.chunks_exact(blocks).zip(out.chunks_mut(TILE_WIDTH)) {
        let mut added = [0f32; WIDTH];
        for (sum, offsets) in sums.iter().zip(offsets.as_chunks::<WIDTH>().0) {
            for column in 0..WIDTH {
                added[column] += sum * offsets[column];
            }
        }
        for (out, added) in out.iter_mut().zip(added) {
            *out += added;
        }
    }
}

/// Panel rows into rows of a tile.
#[inline(always)]
fn each_widened(values: &[u16], tile: &mut [f32], widen: impl Fn(u16) -> f32) {
    let rows = values.as_chunks::<WIDTH>().0.iter();
    for (values, to) in rows.zip(tile.chunks_mut(TILE_WIDTH)) {
        for (to, value) in to.iter_mut().zip(values) {
            *to = widen(*value);
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq", "x86_64+avx2"))]
fn widen_all_bf16(values: &[u16], tile: &mut [f32]) {
    each_widened(values, tile, widen_bf16);
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq", "x86_64+avx2"))]
fn widen_all_f16(values: &[u16], tile: &mut [f32]) {
    each_widened(values, tile, widen_f16);
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq", "x86_64+avx2"))]
fn widen_all_eight(values: &[i8], scales: &[f32], offsets: &[f32], tile: &mut [f32]) {
    let blocks = values.as_chunks::<WIDTH>().0.chunks(BLOCK);
    let scales = scales.as_chunks::<WIDTH>().0;
    let offsets = offsets.as_chunks::<WIDTH>().0;
    for (number, (block, tile)) in blocks.zip(tile.chunks_mut(BLOCK * TILE_WIDTH)).enumerate() {
        let (scales, offsets) = (
            &scales[number],
            offsets.get(number).unwrap_or(&[0.0; WIDTH]),
        );
        for (values, to) in block.iter().zip(tile.chunks_mut(TILE_WIDTH)) {
            for column in 0..WIDTH {
                to[column] = f32::from(values[column]) * scales[column] + offsets[column];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weight::{Bits, Weight};

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        let value = |i: usize| ((i * 7919 + seed * 104_729) % 1009) as f32 / 504.0 - 1.0;
        (0..count).map(value).collect()
    }

    #[test]
    fn products_are_those_of_the_numbers_that_are_packed() {
        for bits in [Bits::Bf16, Bits::F16, Bits::Few] {
            // One panel with gaps, whole tiles, more inputs than a tile has.
            for (inputs, outputs) in [(32, 5), (64, 128), (1056, 300)] {
                let matrix = numbers(outputs * inputs, 1);
                let panels = Panels::pack(&matrix, inputs, bits).unwrap();
                let exact = Weight::Panels(panels.clone()).numbers().into_owned();
                for rows in [1, 3, FEW_ROWS, FEW_ROWS + 1, 17] {
                    for add in [false, true] {
                        let x = numbers(rows * inputs, 2);
                        let mut out = vec![0.5; rows * outputs];
                        let threads = [Parallelism::None, Parallelism::Rayon(2)][rows % 2];
                        product(&panels, &x, rows, &mut out, add, threads);
                        for (at, found) in out.iter().enumerate() {
                            let (row, output) = (at / outputs, at % outputs);
                            let pairs = x[row * inputs..][..inputs].iter();
                            let sum: f64 = pairs
                                .zip(&exact[output * inputs..][..inputs])
                                .map(|(a, b)| f64::from(*a) * f64::from(*b))
                                .sum();
                            let expected = sum + if add { 0.5 } else { 0.0 };
                            assert!(
                                (f64::from(*found) - expected).abs() < 2e-3,
                                "{bits:?} {inputs}x{outputs}, {rows} rows: {found} for {expected}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "size of the result")]
    fn a_result_of_another_size_is_refused() {
        let panels = Panels::pack(&[1.0; 64], 32, Bits::Few).unwrap();
        let threads = Parallelism::None;
        product(&panels, &[1.0; 32], 1, &mut [0.0; 3], false, threads);
    }
}
