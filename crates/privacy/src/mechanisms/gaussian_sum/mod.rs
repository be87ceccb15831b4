//! The Gaussian sum: clip each unit, add, add noise. One step of DP-SGD.
//!
//! ```text
//! Poisson-sampled units -> add(&[f32]) -> i64 sums -> release(noise) -> Released<Vec<f32>>
//! ```
//! The result is normalised by `sampling_rate * units_public`, which is public;
//! dividing by the number of units really seen would release it. Sampling
//! itself is the caller's: call `add` for the units that
//! [`crate::PoissonSampler`] includes and for no others. Deliberately absent: a
//! way to look at the sums, or to release twice.

#[cfg(test)]
mod test;

use std::hint::black_box;
use std::iter::repeat_n;

use crate::accountant::Event;
use crate::lattice::{DIMENSION_MAX, Lattice};
use crate::{ClipBound, NoiseMultiplier, NoiseSource, PrivacyError, Released, SamplingRate};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The public parameters of a sum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GaussianSumSpec {
    /// Length of every contribution and of the result.
    pub dimension: usize,
    /// L2 norm that each unit is clipped to, in natural units.
    pub clip: ClipBound,
    /// Noise standard deviation over the clip bound.
    pub noise_multiplier: NoiseMultiplier,
    /// Probability of each unit to be included.
    pub sampling_rate: SamplingRate,
    /// A public figure for the number of units, to normalise by.
    pub units_public: u64,
}

impl GaussianSumSpec {
    /// What `steps` releases cost: known before any private byte is read.
    #[must_use]
    pub fn events(&self, steps: u64) -> Vec<Event> {
        vec![
            Event::SampledGaussian {
                q: self.sampling_rate.get(),
                sigma: self.noise_multiplier.get(),
                steps,
            },
            Event::Noise {
                draws: steps.saturating_mul(self.dimension as u64),
            },
        ]
    }
}

/// Sums of clipped contributions that nobody has seen yet.
///
/// Sums are kept modulo 2^64. They stay below 2^62 as long as there are fewer
/// than 2^30 units, and if they did wrap, the release would be a function of
/// the unwrapped one: accuracy would suffer, privacy would not (`proof.md`).
pub struct GaussianSum {
    spec: GaussianSumSpec,
    lattice: Lattice,
    sums: Zeroizing<Vec<i64>>,
}

impl GaussianSum {
    /// An empty sum.
    ///
    /// # Errors
    /// A zero or over-large size, or a noise multiplier outside 2^-5 to 2^16.
    pub fn new(spec: &GaussianSumSpec) -> Result<Self, PrivacyError> {
        for (name, value) in [
            ("the dimension", spec.dimension as u64),
            ("the number of units", spec.units_public),
        ] {
            if value == 0 {
                return Err(PrivacyError::Zero { name });
            }
        }
        let lattice = Lattice::new(spec.clip, spec.noise_multiplier)?;
        let units_max = (1 << 62) / lattice.clip_units();
        for (name, value, max) in [
            ("the dimension", spec.dimension as u64, DIMENSION_MAX),
            ("the number of units", spec.units_public, units_max),
        ] {
            if value > max {
                return Err(PrivacyError::TooLarge { name, value, max });
            }
        }
        // Written, not only promised to be zero: a page that is first read, then written, costs
        // the system twice, and every core an interruption.
        let sums = repeat_n(black_box(0), spec.dimension).collect();
        Ok(Self {
            spec: spec.clone(),
            lattice,
            sums: Zeroizing::new(sums),
        })
    }

    /// Adds one unit, clipped to the bound.
    ///
    /// - `contribution`: shape `[dimension]`, natural units. A wrong length, a
    ///   NaN or an infinity makes it the zero vector, silently.
    pub fn add(&mut self, contribution: &[f32]) {
        self.lattice.add_clipped(contribution, &mut self.sums);
    }

    /// Adds the units of another partial sum of the same specification.
    ///
    /// # Errors
    /// [`PrivacyError::MergeMismatch`] if the specifications differ.
    pub fn merge(&mut self, other: Self) -> Result<(), PrivacyError> {
        if self.spec != other.spec {
            return Err(PrivacyError::MergeMismatch);
        }
        for (sum, more) in self.sums.iter_mut().zip(other.sums.iter()) {
            *sum = sum.wrapping_add(*more);
        }
        Ok(())
    }

    /// Adds the noise and lets the result out: the estimated mean contribution
    /// per unit, shape `[dimension]`, natural units.
    pub fn release(mut self, noise: &mut NoiseSource) -> Released<Vec<f32>> {
        noise.add_to(&mut self.sums);
        let scale = self.lattice.natural_per_unit() / self.expected_units();
        let value = self
            .sums
            .iter()
            .map(|sum| (*sum as f64 * scale) as f32)
            .collect();
        Released::new(value, self.spec.events(1))
    }

    /// What the sums are divided by: the expected number of units, a public figure.
    fn expected_units(&self) -> f64 {
        self.spec.sampling_rate.get() * self.spec.units_public as f64
    }
}
