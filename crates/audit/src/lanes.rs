//! The attacks: from released lanes to guesses.
//!
//! ```text
//! released[step][lane] ── score of each lane ── rank ── the top says "took part", the bottom "did not"
//! ```
//! A lane's true value at a step is 1 (in clip bounds) if its canary took part and was
//! sampled, else 0. Every attack and every number of guesses is chosen before
//! anything is released, and the confidence is shared among them.
//!
//! Deliberately absent: attacks on more than one lane at once. A sound gate's
//! lanes are independent, so there is nothing to gain.

use serde::{Deserialize, Serialize};

use crate::{AuditError, Game};

/// Shares of the canaries that guesses are made about: the surest alone, or nearly all.
const SHARES: [f64; 4] = [1.0 / 256.0, 1.0 / 32.0, 1.0 / 4.0, 1.0];
/// "Took part" alone is guessed about half of those who did at most.
const SHARE_MAX_TOOK_PART: f64 = 1.0 / 4.0;

/// The public parameters of the gate that is played against.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mechanism {
    /// Standard deviation of the noise, over the clip bound.
    pub noise_multiplier: f64,
    /// Chance of a canary that takes part to be in a step.
    pub sampling_rate: f64,
    /// Releases.
    pub steps: u64,
}

/// A finished game, before the guesses.
#[derive(Debug, Clone, PartialEq)]
pub struct Played {
    /// Which canaries took part: a fair coin each.
    pub took_part: Vec<bool>,
    /// Shape `[steps, lanes]`, in clip bounds: sums, not means.
    pub released: Vec<Vec<f64>>,
    /// The same from a second run of the gate without any canary.
    pub control: Vec<Vec<f64>>,
}

/// How lanes are scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attack {
    /// The likelihood ratio of the mechanism as declared: the best test there is, if it is true.
    LikelihoodRatio,
    /// The likelihood ratio of the difference from the control run: finds noise used twice.
    Control,
    /// How much a lane moves between steps: finds noise that is the same in every step.
    Spread,
}

impl Attack {
    /// The attacks that make sense for a mechanism; a function of public parameters.
    #[must_use]
    pub fn of(mechanism: &Mechanism) -> Vec<Self> {
        let mut attacks = vec![Self::LikelihoodRatio, Self::Control];
        if mechanism.steps > 1 && mechanism.sampling_rate < 1.0 {
            attacks.push(Self::Spread);
        }
        attacks
    }
}

/// How many lanes are guessed about, fixed before anything is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Guesses {
    /// "Took part", about the lanes of the highest scores.
    took_part: usize,
    /// "Did not", about the lanes of the lowest scores.
    did_not: usize,
}

impl Guesses {
    /// What is tried: both ways, and "took part" alone, which is stronger where a canary may have
    /// been in no batch.
    pub(crate) fn of(canaries: usize) -> Vec<Self> {
        let mut tried = Vec::new();
        for share in SHARES {
            let half = ((canaries as f64 * share / 2.0).floor() as usize).max(1);
            tried.push(Self {
                took_part: half,
                did_not: half,
            });
            if share <= SHARE_MAX_TOOK_PART {
                tried.push(Self {
                    took_part: 2 * half,
                    did_not: 0,
                });
            }
        }
        tried.retain(|one| one.took_part + one.did_not <= canaries);
        tried
    }
}

/// A score for each lane; more means likelier to have taken part.
pub(crate) fn scores(attack: Attack, played: &Played, mechanism: &Mechanism) -> Vec<f64> {
    let lane = |lane: usize| -> f64 {
        let released = played.released.iter().map(move |step| step[lane]);
        let control = played.control.iter().map(move |step| step[lane]);
        let sigma = mechanism.noise_multiplier;
        let ratio =
            |value: f64, sigma: f64| log_likelihood_ratio(value, sigma, mechanism.sampling_rate);
        match attack {
            Attack::LikelihoodRatio => released.map(|value| ratio(value, sigma)).sum(),
            Attack::Control => released
                .zip(control)
                .map(|(with, without)| ratio(with - without, sigma * std::f64::consts::SQRT_2))
                .sum(),
            Attack::Spread => {
                let mean = released.clone().sum::<f64>() / mechanism.steps as f64;
                released.map(|value| (value - mean).powi(2)).sum()
            }
        }
    };
    (0..played.took_part.len()).map(lane).collect()
}

/// ln of the density of q N(1, sigma^2) + (1 - q) N(0, sigma^2) over that of N(0, sigma^2).
#[must_use]
pub fn log_likelihood_ratio(value: f64, sigma: f64, q: f64) -> f64 {
    let exponent = (2.0 * value - 1.0) / (2.0 * sigma * sigma);
    if q == 1.0 {
        return exponent;
    }
    if exponent > 30.0 {
        // ln(q e^x + 1 - q), where e^x might overflow.
        return exponent + (q + (1.0 - q) * (-exponent).exp()).ln();
    }
    (q * exponent.exp_m1()).ln_1p()
}

/// Ranks the lanes and guesses about the surest.
///
/// # Errors
/// [`AuditError::BadGame`] if there are more guesses than lanes.
pub(crate) fn guess(
    scores: &[f64],
    took_part: &[bool],
    guesses: Guesses,
) -> Result<Game, AuditError> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let high = order.iter().take(guesses.took_part);
    let low = order.iter().rev().take(guesses.did_not);
    let correct = high.filter(|lane| took_part[**lane]).count()
        + low.filter(|lane| !took_part[**lane]).count();
    let made = guesses.took_part + guesses.did_not;
    Game::new(scores.len() as u64, made as u64, correct as u64)
}

impl Played {
    /// # Errors
    /// [`AuditError::Shape`] unless there is one lane for each coin and one row for each step.
    pub(crate) fn check(&self, mechanism: &Mechanism) -> Result<(), AuditError> {
        let lanes = self.took_part.len();
        for (what, rows) in [
            ("released lanes", &self.released),
            ("control lanes", &self.control),
        ] {
            let odd = rows.iter().find(|row| row.len() != lanes);
            if odd.is_some() || rows.len() as u64 != mechanism.steps {
                return Err(AuditError::Shape {
                    what,
                    expected_steps: mechanism.steps,
                    expected_lanes: lanes,
                    steps: rows.len(),
                    lanes: odd.map_or(lanes, Vec::len),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_that_of_the_two_densities() {
        let density = |x: f64, mean: f64, sigma: f64| (-((x - mean) / sigma).powi(2) / 2.0).exp();
        for (value, sigma, q) in [(0.3, 1.0, 1.0), (-2.0, 0.7, 0.1), (1.5, 2.0, 0.01)] {
            let expected = ((q * density(value, 1.0, sigma)
                + (1.0 - q) * density(value, 0.0, sigma))
                / density(value, 0.0, sigma))
            .ln();
            assert!((log_likelihood_ratio(value, sigma, q) - expected).abs() < 1e-12);
        }
        assert!((log_likelihood_ratio(1e6, 0.1, 0.5) - (1e8 - 50.0 + 0.5f64.ln())).abs() < 1e-3);
        // No jump where the formula changes.
        let (below, above) = (
            log_likelihood_ratio(30.499_999_99, 1.0, 0.01),
            log_likelihood_ratio(30.500_000_01, 1.0, 0.01),
        );
        assert!((above - below).abs() < 1e-7, "{below} {above}");
    }

    #[test]
    fn the_top_is_said_to_have_taken_part_and_the_bottom_not() {
        let scores = [0.9, -5.0, 3.0, 0.1, 0.2, -1.0];
        let took_part = [true, false, true, false, true, true];
        let game = |took: usize, did_not: usize| {
            let guesses = Guesses {
                took_part: took,
                did_not,
            };
            guess(&scores, &took_part, guesses).unwrap()
        };
        assert_eq!(game(1, 1), Game::new(6, 2, 2).unwrap());
        assert_eq!(game(2, 0), Game::new(6, 2, 2).unwrap());
        // The order is 2, 0, 4 | 3, 5, 1; lane 5 took part all the same.
        assert_eq!(game(3, 3), Game::new(6, 6, 5).unwrap());
    }

    #[test]
    fn the_numbers_of_guesses_fit_the_canaries() {
        let sizes = |canaries| -> Vec<(usize, usize)> {
            let tried = Guesses::of(canaries);
            tried
                .iter()
                .map(|one| (one.took_part, one.did_not))
                .collect()
        };
        assert_eq!(
            sizes(1024),
            [
                (2, 2),
                (4, 0),
                (16, 16),
                (32, 0),
                (128, 128),
                (256, 0),
                (512, 512)
            ]
        );
        assert_eq!(
            sizes(3),
            [(1, 1), (2, 0), (1, 1), (2, 0), (1, 1), (2, 0), (1, 1)]
        );
        assert!(sizes(1).is_empty());
    }
}
