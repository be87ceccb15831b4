//! The mechanism that a step declared, and the tally of one query under it.
//!
//! ```text
//! contribution ──add──> Tally ──merge──> Tally ──release(noise)──> Released<Vec<f32>>
//! ```
//! Whatever the mechanism, a contribution is the same vector and a release is the
//! noised sum over the public expected number of units. What differs is what one
//! unit may put in: a vector of bounded length, or a bounded number of whole marks.
//!
//! Not here: the mathematics and the proofs (`noisegate-privacy`).

use noisegate_privacy::mechanisms::votes::{Votes, VotesSpec};
use noisegate_privacy::{
    ClipBound, Event, GaussianSum, GaussianSumSpec, NoiseMultiplier, NoiseSource, Released,
    SamplingRate,
};

use crate::error::SandboxError;

/// What one unit may contribute to a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mechanism {
    /// A vector, shortened to this L2 norm in the guest's units.
    GaussianSum {
        /// The bound.
        clip: ClipBound,
    },
    /// At most this many marks, each one whole vote: a coordinate other than zero is
    /// a mark, whatever its value. More marks, a NaN or an infinity are no marks at all.
    Votes {
        /// K; the L2 sensitivity is sqrt(K) votes.
        per_unit: u32,
    },
}

impl Mechanism {
    /// L2 norm of the largest contribution, in the guest's units.
    #[must_use]
    pub fn sensitivity(&self) -> f64 {
        match self {
            Mechanism::GaussianSum { clip } => clip.get(),
            Mechanism::Votes { per_unit } => f64::from(*per_unit).sqrt(),
        }
    }
}

/// The mechanism that a step declared and the ledger charged for.
#[derive(Debug, Clone)]
pub struct Declaration {
    /// What one unit may contribute.
    pub mechanism: Mechanism,
    /// Standard deviation of the noise, over the mechanism's sensitivity.
    pub noise_multiplier: NoiseMultiplier,
    /// Chance with which each unit takes part in a query.
    pub sampling_rate: SamplingRate,
    /// A public figure for the number of units, to normalise by.
    pub units_public: u64,
    /// Queries that are charged for.
    pub steps: u32,
}

/// A declared mechanism for contributions of a known length.
#[derive(Debug, Clone)]
pub(crate) enum Spec {
    Sum(GaussianSumSpec),
    Votes { votes: VotesSpec, units_public: u64 },
}

impl Spec {
    pub(crate) fn new(declaration: &Declaration, dimension: usize) -> Self {
        let Declaration {
            noise_multiplier,
            sampling_rate,
            units_public,
            ..
        } = *declaration;
        match declaration.mechanism {
            Mechanism::GaussianSum { clip } => Spec::Sum(GaussianSumSpec {
                dimension,
                clip,
                noise_multiplier,
                sampling_rate,
                units_public,
            }),
            Mechanism::Votes { per_unit } => Spec::Votes {
                votes: VotesSpec {
                    bins: dimension,
                    bins_per_unit: per_unit,
                    noise_multiplier,
                    sampling_rate,
                },
                units_public,
            },
        }
    }

    pub(crate) fn events(&self, releases: u64) -> Vec<Event> {
        match self {
            Spec::Sum(spec) => spec.events(releases),
            Spec::Votes { votes, .. } => votes.events(releases),
        }
    }
}

/// Contributions that nobody has seen yet.
pub(crate) enum Tally {
    Sum(GaussianSum),
    Votes {
        votes: Votes,
        per_unit: usize,
        units_public: u64,
    },
}

impl Tally {
    /// An empty tally.
    ///
    /// # Errors
    /// [`SandboxError::Mechanism`] for one that the gate cannot run.
    pub(crate) fn new(spec: &Spec) -> Result<Self, SandboxError> {
        match spec {
            Spec::Sum(spec) => GaussianSum::new(spec).map(Tally::Sum).map_err(refused),
            Spec::Votes {
                units_public: 0, ..
            } => Err(refused("the number of units is zero")),
            Spec::Votes {
                votes: spec,
                units_public,
            } => Ok(Tally::Votes {
                votes: Votes::new(spec).map_err(refused)?,
                per_unit: spec.bins_per_unit as usize,
                units_public: *units_public,
            }),
        }
    }

    /// Adds one unit. A contribution that does not fit counts as zero, silently.
    pub(crate) fn add(&mut self, contribution: &[f32]) {
        match self {
            Tally::Sum(sum) => sum.add(contribution),
            Tally::Votes {
                votes, per_unit, ..
            } => {
                if contribution.iter().all(|value| value.is_finite()) {
                    votes.add(&marks(contribution, *per_unit));
                }
            }
        }
    }

    /// Adds the units of another tally of the same mechanism.
    ///
    /// # Errors
    /// [`SandboxError::Mechanism`] if it is of another.
    pub(crate) fn merge(&mut self, other: Self) -> Result<(), SandboxError> {
        match (self, other) {
            (Tally::Sum(sum), Tally::Sum(more)) => sum.merge(more).map_err(refused),
            (Tally::Votes { votes, .. }, Tally::Votes { votes: more, .. }) => {
                votes.merge(more).map_err(refused)
            }
            _ => Err(refused("the tallies to be merged differ in mechanism")),
        }
    }

    /// Adds the noise and lets the result out, per expected unit.
    pub(crate) fn release(self, noise: &mut NoiseSource) -> Released<Vec<f32>> {
        match self {
            Tally::Sum(sum) => sum.release(noise),
            Tally::Votes {
                votes,
                units_public,
                ..
            } => {
                let per_unit = 1.0 / units_public as f64;
                votes
                    .release(noise)
                    .map_with(per_unit, |counts, per_unit: f64| {
                        counts
                            .iter()
                            .map(|count| (count * per_unit) as f32)
                            .collect()
                    })
            }
        }
    }
}

/// The coordinates other than zero, one more than allowed at most.
fn marks(contribution: &[f32], per_unit: usize) -> Vec<u32> {
    let marked = (0_u32..)
        .zip(contribution)
        .filter(|(_, value)| **value != 0.0);
    marked.map(|(bin, _)| bin).take(per_unit + 1).collect()
}

fn refused(problem: impl std::fmt::Display) -> SandboxError {
    SandboxError::Mechanism {
        problem: problem.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise is one 32nd of a vote, so that rounding gives the true count.
    fn released(per_unit: u32, contributions: &[[f32; 4]]) -> Vec<f32> {
        let declaration = Declaration {
            mechanism: Mechanism::Votes { per_unit },
            noise_multiplier: NoiseMultiplier::new(1.0 / 32.0).unwrap(),
            sampling_rate: SamplingRate::ONE,
            units_public: 2,
            steps: 1,
        };
        let mut tally = Tally::new(&Spec::new(&declaration, 4)).unwrap();
        contributions.iter().for_each(|one| tally.add(one));
        let released = tally.release(&mut NoiseSource::from_seed_for_tests([3; 32]));
        released
            .value()
            .iter()
            .map(|share| (share * 2.0).round())
            .collect()
    }

    #[test]
    fn whatever_a_guest_writes_a_mark_is_one_vote() {
        let units = [
            [1.0, 0.0, 0.0, 0.0],
            [1e30, 0.0, -3.0, 0.0],
            [0.0, 1e-45, 0.0, 0.0],
        ];
        assert_eq!(released(2, &units), [2.0, 1.0, 1.0, 0.0]);
    }

    #[test]
    fn too_many_marks_a_nan_or_an_infinity_are_no_vote() {
        let units = [
            [1.0, 1.0, 0.0, 0.0],
            [1.0, f32::NAN, 0.0, 0.0],
            [0.0, 0.0, f32::INFINITY, 0.0],
            [0.0, 0.0, 0.0, 1.0],
        ];
        assert_eq!(released(1, &units), [0.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn votes_cost_what_a_sum_clipped_to_their_norm_costs() {
        let clip = ClipBound::new(3_f64.sqrt()).unwrap();
        let of = |mechanism| Declaration {
            mechanism,
            noise_multiplier: NoiseMultiplier::new(2.0).unwrap(),
            sampling_rate: SamplingRate::new(0.5).unwrap(),
            units_public: 100,
            steps: 3,
        };
        let (sum, votes) = (
            of(Mechanism::GaussianSum { clip }),
            of(Mechanism::Votes { per_unit: 3 }),
        );
        assert_eq!(Spec::new(&sum, 7).events(3), Spec::new(&votes, 7).events(3));
        assert_eq!(sum.mechanism.sensitivity(), votes.mechanism.sensitivity());
    }
}
