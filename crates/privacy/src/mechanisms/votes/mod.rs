//! Votes: a noisy histogram in which each unit marks at most K bins.
//!
//! K distinct marks have an L2 norm of sqrt(K), so one mark is worth
//! floor(clip_units / sqrt(K)) lattice units and the noise does the rest
//! (`proof.md`). Deliberately absent: weights, and bins that come from private
//! data (see [`super::key_discovery`] for those).

#[cfg(test)]
mod test;

use crate::accountant::Event;
use crate::lattice::{DIMENSION_MAX, clip_units};
use crate::{NoiseMultiplier, NoiseSource, PrivacyError, Released, SamplingRate};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The public parameters of a vote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VotesSpec {
    /// How many bins there are.
    pub bins: usize,
    /// How many different bins one unit may mark (K).
    pub bins_per_unit: u32,
    /// Noise standard deviation over the L2 sensitivity sqrt(K).
    pub noise_multiplier: NoiseMultiplier,
    /// Probability of each unit to be asked.
    pub sampling_rate: SamplingRate,
}

impl VotesSpec {
    /// What `releases` histograms cost.
    #[must_use]
    pub fn events(&self, releases: u64) -> Vec<Event> {
        vec![
            Event::SampledGaussian {
                q: self.sampling_rate.get(),
                sigma: self.noise_multiplier.get(),
                steps: releases,
            },
            Event::Noise {
                draws: releases.saturating_mul(self.bins as u64),
            },
        ]
    }
}

/// Lattice units of one mark: the largest w with K w^2 <= clip_units^2.
///
/// # Errors
/// [`PrivacyError::Zero`] for K = 0, [`PrivacyError::TooLarge`] if fewer than
/// 16 units are left, or the multiplier's own refusal.
pub(crate) fn mark_units(marks: u32, z: NoiseMultiplier) -> Result<i64, PrivacyError> {
    const MARK_UNITS_MIN: u64 = 16;
    if marks == 0 {
        return Err(PrivacyError::Zero {
            name: "the number of marks per unit",
        });
    }
    let clip = clip_units(z)?;
    let units = (u128::from(clip) * u128::from(clip) / u128::from(marks)).isqrt() as u64;
    if units < MARK_UNITS_MIN {
        return Err(PrivacyError::TooLarge {
            name: "the number of marks per unit",
            value: u64::from(marks),
            max: (clip / MARK_UNITS_MIN).pow(2),
        });
    }
    Ok(units as i64)
}

/// Marks that nobody has counted yet; kept modulo 2^64 (see the Gaussian sum's proof).
pub struct Votes {
    spec: VotesSpec,
    mark_units: i64,
    sums: Zeroizing<Vec<i64>>,
}

impl Votes {
    /// An empty histogram.
    ///
    /// # Errors
    /// A zero or over-large size, or a noise multiplier outside 2^-5 to 2^16.
    pub fn new(spec: &VotesSpec) -> Result<Self, PrivacyError> {
        let bins = spec.bins as u64;
        if bins == 0 {
            return Err(PrivacyError::Zero {
                name: "the number of bins",
            });
        }
        if bins > DIMENSION_MAX {
            return Err(PrivacyError::TooLarge {
                name: "the number of bins",
                value: bins,
                max: DIMENSION_MAX,
            });
        }
        let mark_units = mark_units(spec.bins_per_unit, spec.noise_multiplier)?;
        Ok(Self {
            spec: spec.clone(),
            mark_units,
            sums: Zeroizing::new(vec![0; spec.bins]),
        })
    }

    /// Adds one unit's marks. A bin named twice counts once; a bin out of range,
    /// or more than K different bins, make the whole contribution empty, silently.
    pub fn add(&mut self, bins: &[u32]) {
        let mut marked = bins.to_vec();
        marked.sort_unstable();
        marked.dedup();
        let in_range = marked
            .last()
            .is_none_or(|bin| (*bin as usize) < self.sums.len());
        if !in_range || marked.len() > self.spec.bins_per_unit as usize {
            return;
        }
        for bin in marked {
            let sum = &mut self.sums[bin as usize];
            *sum = sum.wrapping_add(self.mark_units);
        }
    }

    /// Adds the marks of another partial histogram of the same specification.
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

    /// Adds the noise and lets the result out: estimated marks per bin among all
    /// units, shape `[bins]`; each may be negative.
    pub fn release(mut self, noise: &mut NoiseSource) -> Released<Vec<f64>> {
        noise.add_to(&mut self.sums);
        let scale = 1.0 / (self.mark_units as f64 * self.spec.sampling_rate.get());
        Released::new(
            self.sums.iter().map(|sum| *sum as f64 * scale).collect(),
            self.spec.events(1),
        )
    }
}
