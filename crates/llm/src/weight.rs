//! A matrix of a decoder: as f32, or in about as few bits as its file has it.
//!
//! A model that the processor's caches hold runs fastest from f32. A larger one is read from memory
//! for every step, and there half the bits are twice the speed. [`Panels`] is what `host` computes
//! with then (decision 041):
//!
//! ```text
//! outputs  0..32        32..64      ..
//! panel 0: in 0  [32]   panel 1: in 0 [32]      one panel after another; in each, one input after
//!          in 1  [32]            in 1 [32]      another: a product reads them from end to end
//! ```
//! Numbers of 16 bits stay as they are. Those of fewer are in blocks of 32 along the inputs, as in
//! every GGUF format: in each block they lie on a grid, which is found again from the f32 that the
//! file's format stands for, so that no format need be known here.

use std::borrow::Cow;

use rayon::prelude::*;

/// Outputs of a panel.
pub(crate) const WIDTH: usize = 32;
/// Inputs that share a factor.
pub(crate) const BLOCK: usize = 32;
/// How far from the grid a number may lie and count as on it, in steps of the grid.
const ON_GRID: f32 = 1e-3;

/// How a file holds a tensor's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bits {
    /// 32 or more.
    Full,
    Bf16,
    F16,
    /// Eight or fewer, with factors for blocks of them.
    Few,
}

/// A matrix `[out, in]`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Weight {
    Full(Vec<f32>),
    Panels(Panels),
}

impl Default for Weight {
    fn default() -> Self {
        Self::Full(Vec::new())
    }
}

impl Weight {
    /// Numbers in it.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Full(numbers) => numbers.len(),
            Self::Panels(panels) => panels.inputs * panels.outputs,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All numbers, `[out, in]`.
    pub(crate) fn numbers(&self) -> Cow<'_, [f32]> {
        match self {
            Self::Full(numbers) => Cow::Borrowed(numbers),
            Self::Panels(panels) => {
                let mut numbers = Vec::with_capacity(self.len());
                (0..panels.outputs).for_each(|output| panels.row(output, &mut numbers));
                Cow::Owned(numbers)
            }
        }
    }
}

/// A matrix `[out, in]` in panels of [`WIDTH`] outputs; outputs that are missing in the last are 0.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Panels {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) store: Store,
}

/// The numbers, `[panel, in, WIDTH]`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Store {
    Bf16(Vec<u16>),
    F16(Vec<u16>),
    /// `value * scale + offset`.
    Eight {
        values: Vec<i8>,
        /// `[panel, in / BLOCK, WIDTH]`.
        scales: Vec<f32>,
        /// As `scales`; empty if all are 0.
        offsets: Vec<f32>,
    },
}

impl Panels {
    /// Packs `[out, in]` numbers that were read from `bits`; `None` if f32 serves them best.
    pub(crate) fn pack(numbers: &[f32], inputs: usize, bits: Bits) -> Option<Self> {
        let outputs = numbers.len() / inputs.max(1);
        if numbers.is_empty() {
            return None;
        }
        let sixteen = |narrow: fn(f32) -> u16| {
            let mut values = vec![0; outputs.div_ceil(WIDTH) * inputs * WIDTH];
            let panels = values.par_chunks_mut(inputs * WIDTH);
            let each = panels.zip(numbers.par_chunks(inputs * WIDTH));
            each.for_each(|(panel, rows)| {
                for (output, row) in rows.chunks_exact(inputs).enumerate() {
                    for (input, number) in row.iter().enumerate() {
                        panel[input * WIDTH + output] = narrow(*number);
                    }
                }
            });
            values
        };
        let store = match bits {
            Bits::Full => return None,
            Bits::Bf16 => Store::Bf16(sixteen(|x| half::bf16::from_f32(x).to_bits())),
            Bits::F16 => Store::F16(sixteen(|x| half::f16::from_f32(x).to_bits())),
            Bits::Few if inputs.is_multiple_of(BLOCK) => eight(numbers, inputs),
            Bits::Few => return None,
        };
        Some(Self {
            inputs,
            outputs,
            store,
        })
    }

    /// Appends the numbers of one output.
    pub(crate) fn row(&self, output: usize, to: &mut Vec<f32>) {
        let at = |input| place(output, input, self.inputs);
        let inputs = 0..self.inputs;
        match &self.store {
            Store::Bf16(values) => to.extend(inputs.map(|input| widen_bf16(values[at(input)]))),
            Store::F16(values) => to.extend(inputs.map(|input| widen_f16(values[at(input)]))),
            Store::Eight {
                values,
                scales,
                offsets,
            } => to.extend(inputs.map(|input| {
                let block = place(output, input / BLOCK, self.inputs / BLOCK);
                let offset = offsets.get(block).copied().unwrap_or(0.0);
                f32::from(values[at(input)]) * scales[block] + offset
            })),
        }
    }
}

/// Where a number lies, among panels of `inputs` rows.
fn place(output: usize, input: usize, inputs: usize) -> usize {
    (output / WIDTH * inputs + input) * WIDTH + output % WIDTH
}

#[inline(always)]
pub(crate) fn widen_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Of a finite number. Its exponent counts from 15 and not from 127, which a factor of 2^112 mends,
/// also where the number is too small to have a leading one.
#[inline(always)]
pub(crate) fn widen_f16(bits: u16) -> f32 {
    const FACTOR: f32 = f32::from_bits((127 + 112) << 23);
    let bits = u32::from(bits);
    let size = f32::from_bits((bits & 0x7fff) << 13) * FACTOR;
    f32::from_bits(size.to_bits() | (bits & 0x8000) << 16)
}

fn eight(numbers: &[f32], inputs: usize) -> Store {
    let (panels, blocks) = ((numbers.len() / inputs).div_ceil(WIDTH), inputs / BLOCK);
    let mut values = vec![0; panels * inputs * WIDTH];
    let mut scales = vec![0.0; panels * blocks * WIDTH];
    let mut offsets = scales.clone();
    let each = values
        .par_chunks_mut(inputs * WIDTH)
        .zip(scales.par_chunks_mut(blocks * WIDTH))
        .zip(offsets.par_chunks_mut(blocks * WIDTH))
        .zip(numbers.par_chunks(inputs * WIDTH));
    each.for_each(|(((values, scales), offsets), rows)| {
        for (output, row) in rows.chunks_exact(inputs).enumerate() {
            for (number, block) in row.as_chunks::<BLOCK>().0.iter().enumerate() {
                let grid = Grid::of(block);
                for (within, value) in grid.values.iter().enumerate() {
                    values[(number * BLOCK + within) * WIDTH + output] = *value;
                }
                let at = number * WIDTH + output;
                (scales[at], offsets[at]) = (grid.scale, grid.offset);
            }
        }
    });
    if offsets.iter().all(|offset| *offset == 0.0) {
        offsets.clear();
    }
    Store::Eight {
        values,
        scales,
        offsets,
    }
}

/// A block of numbers as `value * scale + offset`.
struct Grid {
    values: [i8; BLOCK],
    scale: f32,
    offset: f32,
}

impl Grid {
    /// The coarsest grid that all numbers lie on, of at most 256 points; if there is none, the finest
    /// from the least to the greatest, on which each is off by at most half a step.
    fn of(block: &[f32; BLOCK]) -> Self {
        let on = |from: f32, steps: f32| {
            let off = |x: &f32| {
                let at = (x - from) * steps;
                (at - at.round()).abs()
            };
            block.iter().all(|x| off(x) <= ON_GRID)
        };
        let made = |from: f32, steps: f32, scale: f32, first: f32| Self {
            values: block.map(|x| (((x - from) * steps).round() + first) as i8),
            scale,
            offset: from - first * scale,
        };
        let largest = block.iter().fold(0f32, |top, x| top.max(x.abs()));
        if largest == 0.0 {
            return made(0.0, 0.0, 0.0, 0.0);
        }
        // Around 0, as in the formats without an offset.
        let steps = 127.0 / largest;
        if on(0.0, steps) {
            return made(0.0, steps, largest / 127.0, 0.0);
        }
        let least = block.iter().copied().fold(f32::INFINITY, f32::min);
        let greatest = block.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let span = greatest - least;
        if span == 0.0 {
            return made(least, 0.0, 0.0, 0.0);
        }
        let points = (1..255).find(|points| on(least, *points as f32 / span));
        let points = points.unwrap_or(255) as f32;
        made(least, points / span, span / points, -128.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packed(numbers: &[f32], inputs: usize, bits: Bits) -> Vec<f32> {
        let panels = Panels::pack(numbers, inputs, bits).unwrap();
        Weight::Panels(panels).numbers().into_owned()
    }

    #[test]
    fn sixteen_bits_stay_as_they_are() {
        // Every finite number of either format, in 62 rows and some, so that a panel has gaps.
        for (bits, widen, library) in [
            (
                Bits::F16,
                widen_f16 as fn(u16) -> f32,
                (|x| half::f16::from_bits(x).to_f32()) as fn(u16) -> f32,
            ),
            (Bits::Bf16, widen_bf16, |x| {
                half::bf16::from_bits(x).to_f32()
            }),
        ] {
            let all: Vec<f32> = (0..=u16::MAX)
                .filter(|x| library(*x).is_finite())
                .inspect(|x| assert_eq!(widen(*x).to_bits(), library(*x).to_bits(), "{x:04x}"))
                .map(library)
                .collect();
            let numbers = &all[..all.len() / 1000 * 1000];
            let again = packed(numbers, 1000, bits);
            assert!(
                again
                    .iter()
                    .zip(numbers)
                    .all(|(a, b)| a.to_bits() == b.to_bits())
            );
        }
    }

    #[test]
    fn what_f32_serves_best_is_not_packed() {
        assert_eq!(Panels::pack(&[1.0; 64], 32, Bits::Full), None);
        assert_eq!(Panels::pack(&[1.0; 66], 33, Bits::Few), None);
        assert_eq!(Panels::pack(&[], 0, Bits::Few), None);
    }

    proptest! {
        #[test]
        fn a_grid_is_found_again(
            values in prop::collection::vec(0..256_i32, 3 * BLOCK),
            top in prop::sample::select(vec![3, 15, 31, 63, 255]),
            scale in 1e-4..10f32,
            offset in -20..20_i32,
        ) {
            let on_grid = |value: &i32| (value % (top + 1)) as f32 * scale + offset as f32 * scale;
            let numbers: Vec<f32> = values.iter().map(on_grid).collect();
            for (again, number) in packed(&numbers, BLOCK, Bits::Few).iter().zip(&numbers) {
                prop_assert!((again - number).abs() <= scale * 2e-3, "{again} {number}");
            }
        }

        #[test]
        fn off_every_grid_a_number_moves_by_half_a_step_of_256(
            numbers in prop::collection::vec(-3f32..3.0, 5 * BLOCK),
        ) {
            let again = packed(&numbers, BLOCK, Bits::Few);
            for (again, numbers) in again.chunks(BLOCK).zip(numbers.chunks(BLOCK)) {
                let top = numbers.iter().copied().fold(f32::MIN, f32::max);
                let bottom = numbers.iter().copied().fold(f32::MAX, f32::min);
                for (a, b) in again.iter().zip(numbers) {
                    prop_assert!((a - b).abs() <= (top - bottom) / 509.0, "{a} {b}");
                }
            }
        }

        #[test]
        fn eight_bits_around_zero_are_exact(
            mut values in prop::collection::vec(-127..=127_i32, 2 * BLOCK),
            scale in 1e-4..10f32,
        ) {
            // Whoever rounds to eight bits gives the largest number 127.
            values[3] = 127;
            values[BLOCK] = -127;
            let scale = half::f16::from_f32(scale).to_f32();
            let numbers: Vec<f32> = values.iter().map(|value| *value as f32 * scale).collect();
            let panels = Panels::pack(&numbers, BLOCK, Bits::Few).unwrap();
            let Store::Eight { offsets, .. } = &panels.store else { unreachable!() };
            prop_assert!(offsets.is_empty());
            prop_assert_eq!(Weight::Panels(panels).numbers().into_owned(), numbers);
        }
    }
}
