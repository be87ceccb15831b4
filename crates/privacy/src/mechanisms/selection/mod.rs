//! Selection: the best of some public candidates, by permute-and-flip.
//!
//! Candidates are tried in random order; one whose score is g behind the best
//! is taken with probability exp(-epsilon g / score_max), drawn exactly in
//! integers. Never worse than the exponential mechanism at the same epsilon
//! (`proof.md`). Deliberately absent: floating point beyond reading epsilon,
//! and the winning score (ask [`super::votes`] for it, at a price).

mod bernoulli;
#[cfg(test)]
mod test;

use crate::accountant::Event;
use crate::{Epsilon, NoiseSource, PrivacyError, Released};
use bernoulli::{exp_minus, uniform_below};
use serde::{Deserialize, Serialize};

/// The public parameters of a selection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelectionSpec {
    /// How many candidates there are.
    pub candidates: usize,
    /// Each unit gives each candidate 0 to this many points.
    pub score_max: u32,
    /// Pure privacy budget, 2^-20 to 1024; used rounded down to a multiple of 2^-20.
    pub epsilon: Epsilon,
}

/// Fractional bits of epsilon.
const EPSILON_BITS: u32 = 20;

impl SelectionSpec {
    /// What one selection costs.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        vec![Event::Approximate {
            epsilon: self.epsilon.get(),
            delta: 0.0,
            count: 1,
        }]
    }

    /// floor(epsilon 2^20).
    fn epsilon_units(&self) -> u128 {
        (self.epsilon.get() * f64::from(1u32 << EPSILON_BITS)) as u128
    }
}

/// Scores that nobody has seen yet.
pub struct Selection {
    spec: SelectionSpec,
    /// 2^64 units at 2^32 points each do not overflow these.
    scores: Vec<u128>,
}

impl Selection {
    /// All candidates at zero.
    ///
    /// # Errors
    /// No candidates, `score_max` zero, or epsilon outside 2^-20 to 1024.
    pub fn new(spec: &SelectionSpec) -> Result<Self, PrivacyError> {
        for (name, value) in [
            ("the number of candidates", spec.candidates),
            ("`score_max`", spec.score_max as usize),
        ] {
            if value == 0 {
                return Err(PrivacyError::Zero { name });
            }
        }
        if !(1..=1024u128 << EPSILON_BITS).contains(&spec.epsilon_units()) {
            let range = "between 2^-20 and 1024 for a selection";
            return Err(PrivacyError::OutOfRange {
                name: "epsilon",
                value: spec.epsilon.get(),
                range,
            });
        }
        Ok(Self {
            spec: spec.clone(),
            scores: vec![0; spec.candidates],
        })
    }

    /// Adds one unit's points, shape `[candidates]`, each cut to `score_max`. A
    /// wrong length gives no points at all, silently.
    pub fn add(&mut self, points: &[u32]) {
        if points.len() != self.scores.len() {
            return;
        }
        for (score, given) in self.scores.iter_mut().zip(points) {
            *score += u128::from(*given.min(&self.spec.score_max));
        }
    }

    /// Adds the points of another partial selection of the same specification.
    ///
    /// # Errors
    /// [`PrivacyError::MergeMismatch`] if the specifications differ.
    pub fn merge(&mut self, other: Self) -> Result<(), PrivacyError> {
        if self.spec != other.spec {
            return Err(PrivacyError::MergeMismatch);
        }
        for (score, more) in self.scores.iter_mut().zip(&other.scores) {
            *score += more;
        }
        Ok(())
    }

    /// Lets out the index of one candidate.
    pub fn release(self, noise: &mut NoiseSource) -> Released<usize> {
        let best = self.scores.iter().copied().max().unwrap_or(0);
        // At most 2^52; a gap times epsilon stays below 2^96 2^30.
        let denominator = u128::from(self.spec.score_max) << EPSILON_BITS;
        let mut untried: Vec<usize> = (0..self.scores.len()).collect();
        let winner = loop {
            let pick = uniform_below(noise.stream(), untried.len() as u128) as usize;
            let candidate = untried.swap_remove(pick);
            let gap = best - self.scores[candidate];
            // The best candidate's gap is 0, and exp(0) always succeeds: the loop ends there at the latest.
            if exp_minus(noise.stream(), gap * self.spec.epsilon_units(), denominator) {
                break candidate;
            }
        };
        Released::new(winner, self.spec.events())
    }
}
