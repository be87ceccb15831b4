//! From floats to integers, and the L2 clip in integers.
//!
//! ```text
//! &[f32] ── units() ──> lattice integers ── Shrink ──> L2 norm <= clip_units, added to the sums
//! ```
//! The noise always has scale 2^24 lattice units, so a noise multiplier z
//! fixes the clip bound at floor(2^24 / z) units, and one unit is
//! `clip / clip_units` in natural terms. All that sensitivity rests on happens
//! after the conversion, in integers (`proof.md`); the conversion itself may
//! round and rescale as it likes. The loops have no branch on a value, which lets
//! the compiler vectorise them, for the widest instructions that the machine has:
//! the result is the same for all, as every number is computed by itself and sums
//! are exact. Deliberately absent: errors. A bad vector is the zero vector.

#[cfg(test)]
mod test;

use crate::noise::NOISE_SCALE_BITS;
use crate::{ClipBound, NoiseMultiplier, PrivacyError};
use pulp::{Arch, NullaryFnOnce};

/// No coordinate exceeds 2^30 units, so that 2^32 squares fit a `u128`, and 8 of them a `u64`.
const UNITS_MAX: i32 = 1 << 30;
/// Squares summed before they are widened.
const SQUARES: usize = 8;
/// The longest vector the arithmetic is proven for.
pub(crate) const DIMENSION_MAX: u64 = 1 << 32;
/// Fewest units that still resolve a direction; most that a rescaled vector still reaches.
const CLIP_UNITS_MIN: f64 = 256.0;
const CLIP_UNITS_MAX: f64 = 536_870_912.0;

/// Which lattice a mechanism works on; a function of public parameters only.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Lattice {
    clip_units: u64,
    units_per_natural: f64,
}

impl Lattice {
    /// # Errors
    /// [`PrivacyError::LatticeTooCoarse`] unless about 2^-5 <= z <= 2^16.
    pub(crate) fn new(clip: ClipBound, z: NoiseMultiplier) -> Result<Self, PrivacyError> {
        let clip_units = clip_units(z)?;
        Ok(Self {
            clip_units,
            units_per_natural: clip_units as f64 / clip.get(),
        })
    }

    /// The clip bound in lattice units; at most 2^24 / z.
    pub(crate) fn clip_units(&self) -> u64 {
        self.clip_units
    }

    /// One lattice unit in natural terms.
    pub(crate) fn natural_per_unit(&self) -> f64 {
        1.0 / self.units_per_natural
    }

    /// Adds the clipped contribution to `sums`, modulo 2^64.
    ///
    /// - `contribution`: shape `[sums.len()]`, natural units. Another length, a
    ///   NaN or an infinity anywhere makes it the zero vector.
    pub(crate) fn add_clipped(&self, contribution: &[f32], sums: &mut [i64]) {
        Arch::new().dispatch(AddClipped(self, contribution, sums));
    }

    #[inline(always)]
    fn add_clipped_here(&self, contribution: &[f32], sums: &mut [i64]) {
        let (largest, mut squares) = measure(contribution, self.units_per_natural);
        let scale = self.scale(largest);
        let shrink = match scale {
            Some(scale) if contribution.len() == sums.len() => {
                if scale < self.units_per_natural {
                    squares = measure(contribution, scale).1;
                }
                Shrink::new(self.clip_units, squares)
            }
            _ => Shrink::ZERO,
        };
        let scale = scale.unwrap_or(0.0);
        for (sum, value) in sums.iter_mut().zip(contribution) {
            *sum = sum.wrapping_add(shrink.apply(units(*value, scale)));
        }
    }

    /// Lattice units per natural unit for a vector with this largest magnitude, or `None` for
    /// a NaN or an infinity.
    ///
    /// A vector too large for [`UNITS_MAX`] is scaled down by a power of two
    /// first, which keeps its direction; it is clipped all the same.
    #[inline(always)]
    fn scale(&self, largest: f32) -> Option<f64> {
        let excess = (f64::from(largest) * self.units_per_natural / f64::from(UNITS_MAX))
            .log2()
            .floor()
            + 1.0;
        largest
            .is_finite()
            .then(|| self.units_per_natural * (-excess.max(0.0)).exp2())
    }
}

/// [`Lattice::add_clipped_here`], for `pulp` to compile with several sets of instructions.
struct AddClipped<'a>(&'a Lattice, &'a [f32], &'a mut [i64]);

impl NullaryFnOnce for AddClipped<'_> {
    type Output = ();

    // A closure is not always inlined, and then has the plainest instructions.
    #[inline(always)]
    fn call(self) {
        self.0.add_clipped_here(self.1, self.2);
    }
}

/// The number of lattice units in a finite float, to the nearest; at most [`UNITS_MAX`] in magnitude.
#[inline(always)]
fn units(value: f32, scale: f64) -> i32 {
    const LIMIT: f64 = UNITS_MAX as f64;
    // Adding 1.5 * 2^52 leaves a float whose last 32 bits are the integer in two's complement:
    // unlike a cast, this vectorises on every x86-64.
    const ALIGN: f64 = 6_755_399_441_055_744.0;
    ((f64::from(value) * scale).clamp(-LIMIT, LIMIT) + ALIGN).to_bits() as i32
}

/// The largest magnitude, and the squared L2 norm at that scale, exactly: of what is finite
/// and within [`UNITS_MAX`], of anything else some number.
#[inline(always)]
fn measure(contribution: &[f32], scale: f64) -> (f32, u128) {
    const MAGNITUDE: u32 = 0x7fff_ffff;
    // Of finite values neither sum can wrap: 8 squares of at most 2^60, then 2^32 of them. Loops rather than
    // `fold`, which is not always inlined. Magnitudes order like their bits, and NaN and
    // infinity come last.
    let (mut largest, mut sum) = (0i32, 0u128);
    let (chunks, rest) = contribution.as_chunks::<SQUARES>();
    for chunk in chunks {
        let mut of_chunk = 0u64;
        for value in chunk {
            largest = largest.max((value.to_bits() & MAGNITUDE) as i32);
            of_chunk = of_chunk.wrapping_add(square(*value, scale));
        }
        sum = sum.wrapping_add(of_chunk.into());
    }
    for value in rest {
        largest = largest.max((value.to_bits() & MAGNITUDE) as i32);
        sum = sum.wrapping_add(square(*value, scale).into());
    }
    (f32::from_bits(largest as u32), sum)
}

#[inline(always)]
fn square(value: f32, scale: f64) -> u64 {
    let magnitude = u64::from(units(value, scale).unsigned_abs());
    magnitude.wrapping_mul(magnitude)
}

/// floor(2^24 / z), exactly.
///
/// # Errors
/// [`PrivacyError::LatticeTooCoarse`] unless 2^8 <= floor(2^24 / z) <= 2^29.
pub(crate) fn clip_units(z: NoiseMultiplier) -> Result<u64, PrivacyError> {
    let scale = (1u64 << NOISE_SCALE_BITS) as f64;
    let mut units = (scale / z.get()).floor();
    if !(CLIP_UNITS_MIN..=CLIP_UNITS_MAX).contains(&units) {
        return Err(PrivacyError::LatticeTooCoarse {
            noise_multiplier: z.get(),
            lattice_units: units,
            range: "2^8 to 2^29 (multipliers from 2^-5 to 2^16)",
        });
    }
    // The division may have rounded up to an integer; a fused product cannot lie about the sign.
    if units.mul_add(z.get(), -scale) > 0.0 {
        units -= 1.0;
    }
    Ok(units as u64)
}

/// Multiplication by factor / 2^shift, toward zero.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Shrink {
    factor: u32,
    shift: u32,
}

impl Shrink {
    const ZERO: Self = Self {
        factor: 0,
        shift: 0,
    };
    const KEEP: Self = Self {
        factor: 1 << 31,
        shift: 31,
    };

    /// At most bound / ceil(sqrt(squares)), and at most 1; close to it by 2^-30, or by 2^-63 outright.
    fn new(bound: u64, squares: u128) -> Self {
        let floor = squares.isqrt();
        let norm = floor + u128::from(floor * floor < squares);
        if norm <= u128::from(bound) {
            return Self::KEEP;
        }
        // 2^(extra) <= norm / bound, so that the factor stays below 2^32.
        let extra = (norm / u128::from(bound)).ilog2();
        let shift = (31 + extra).min(63);
        Self {
            factor: ((u128::from(bound) << shift) / norm) as u32,
            shift,
        }
    }

    #[inline(always)]
    fn apply(self, units: i32) -> i64 {
        // Cannot wrap: 2^30 times 2^32.
        let magnitude =
            u64::from(units.unsigned_abs()).wrapping_mul(u64::from(self.factor)) >> self.shift;
        let sign = i64::from(units >> 31);
        (magnitude as i64 ^ sign).wrapping_sub(sign)
    }
}
