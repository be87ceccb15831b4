//! Key discovery: which keys do enough units have?
//!
//! For bins that are not known in public: noise is added to the count of every
//! key present, and only keys above a threshold are released. The threshold is
//! such that keys which only one unit has stay hidden but with probability
//! `delta` (`proof.md`). Deliberately absent: sampling, and any use of the keys
//! that are not released.

#[cfg(test)]
mod test;

use super::votes::mark_units;
use crate::accountant::Event;
use crate::accountant::quadrature::normal_upper_tail;
use crate::noise::NOISE_SCALE_BITS;
use crate::{Delta, NoiseMultiplier, NoiseSource, PrivacyError, Released};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The public parameters of a discovery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyDiscoverySpec {
    /// How many different keys one unit may name (K).
    pub keys_per_unit: u32,
    /// Noise standard deviation over the L2 sensitivity sqrt(K).
    pub noise_multiplier: NoiseMultiplier,
    /// Probability with which a unit's own keys may show. Comes on top of the Gaussian's delta.
    pub delta: Delta,
}

/// More keys than memory holds: an upper bound on the draws, which are private.
const DRAWS_MAX: u64 = 1 << 40;

impl KeyDiscoverySpec {
    /// What one discovery costs.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        vec![
            Event::Gaussian {
                sigma: self.noise_multiplier.get(),
                count: 1,
            },
            Event::Approximate {
                epsilon: 0.0,
                delta: self.delta.get(),
                count: 1,
            },
            Event::Noise { draws: DRAWS_MAX },
        ]
    }

    /// A key is released from this many lattice units on: one mark plus t
    /// standard deviations, K P(Z >= t) <= delta, rounded up.
    fn threshold(&self, mark_units: i64) -> i64 {
        let share = self.delta.get() / f64::from(self.keys_per_unit);
        let (mut low, mut high) = (0.0, 40.0);
        while high - low > 1e-9 {
            let middle = 0.5 * (low + high);
            // The factor covers the quadrature's error.
            if normal_upper_tail(middle) * (1.0 + 1e-9) > share {
                low = middle
            } else {
                high = middle
            }
        }
        mark_units + (high * (1u64 << NOISE_SCALE_BITS) as f64).ceil() as i64
    }
}

/// Keys and how many units named them. Nobody has seen them yet.
pub struct KeyDiscovery {
    spec: KeyDiscoverySpec,
    mark_units: i64,
    counts: BTreeMap<String, i64>,
}

impl KeyDiscovery {
    /// An empty discovery.
    ///
    /// # Errors
    /// Zero or too many keys per unit, a noise multiplier outside 2^-5 to 2^16,
    /// or a delta below 1e-300.
    pub fn new(spec: &KeyDiscoverySpec) -> Result<Self, PrivacyError> {
        let mark_units = mark_units(spec.keys_per_unit, spec.noise_multiplier)?;
        if spec.delta.get() < 1e-300 {
            let range = "at least 1e-300 for key discovery";
            return Err(PrivacyError::OutOfRange {
                name: "delta",
                value: spec.delta.get(),
                range,
            });
        }
        Ok(Self {
            spec: spec.clone(),
            mark_units,
            counts: BTreeMap::new(),
        })
    }

    /// Adds one unit's keys. A key named twice counts once; more than K
    /// different keys make the whole contribution empty, silently.
    pub fn add(&mut self, keys: &[&str]) {
        let named: BTreeSet<&str> = keys.iter().copied().collect();
        if named.len() > self.spec.keys_per_unit as usize {
            return;
        }
        for key in named {
            let count = self.counts.entry(key.to_owned()).or_insert(0);
            *count = count.wrapping_add(self.mark_units);
        }
    }

    /// Adds noise to every count and lets out the keys above the threshold, with
    /// their estimated number of units.
    pub fn release(self, noise: &mut NoiseSource) -> Released<BTreeMap<String, f64>> {
        let threshold = self.spec.threshold(self.mark_units);
        let (keys, mut counts): (Vec<String>, Vec<i64>) = self.counts.into_iter().unzip();
        noise.add_to(&mut counts);
        let released = keys
            .into_iter()
            .zip(counts)
            .filter(|(_, count)| *count >= threshold)
            .map(|(key, count)| (key, count as f64 / self.mark_units as f64))
            .collect();
        Released::new(released, self.spec.events())
    }
}
