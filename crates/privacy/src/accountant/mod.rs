//! What a list of events costs: epsilon at a delta.
//!
//! ```text
//! events -> pair (dominating pair of each) -> rdp   \
//!                                          -> pld    > the smallest bound
//!                                          -> gaussian (exact, if all are)
//!                                          -> pure   (epsilons added up, if all are pure)
//! ```
//! Every accountant gives an upper bound, so the smallest of them is one too.
//! All events may be chosen adaptively from earlier releases, as long as their
//! parameters are fixed in advance; for adaptive parameters see [`crate::filter`].
//! Neighbours differ by one unit added or removed, and both directions are covered.
//! Deliberately absent: anything that depends on data.

mod events;
mod gaussian;
mod pair;
mod pld;
pub(crate) mod quadrature;
pub mod rdp;
#[cfg(test)]
mod test;

pub use crate::error::AccountantError;
pub use events::{Event, merged};

use crate::Delta;
use crate::noise::delta_of_draws;
use events::SCALE_MIN;
use pair::{Base, Pair, pair_of};
use serde::Serialize;

/// Names the formulas below, and how the ledger prices with them, in reports and in ledger entries;
/// raised whenever a value could change.
///
/// 2 has the bounds of 1; the ledger divides a cap's delta by another rule.
pub const ACCOUNTANT_VERSION: &str = "noisegate-accountant-2";

/// A sound bound, and how it came about.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bound {
    /// The events are (epsilon, delta)-DP: the smallest of the bounds below.
    pub epsilon: f64,
    /// By Renyi divergences; absent if none is finite.
    pub epsilon_rdp: Option<f64>,
    /// By privacy loss distributions (exact for plain Gaussians); absent if refused.
    pub epsilon_pld: Option<f64>,
    /// Which one `epsilon` is.
    pub accountant: Accountant,
    /// Why `epsilon_pld` is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pld_refused: Option<String>,
}

/// Which argument a bound rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Accountant {
    /// Renyi differential privacy.
    Rdp,
    /// Privacy loss distributions by FFT.
    Pld,
    /// Balle and Wang's exact curve.
    Gaussian,
    /// Basic composition of pure mechanisms.
    Pure,
}

/// The smallest epsilon found at which the events, together, are (epsilon, delta)-DP.
///
/// No events cost nothing. A bound may be 0 where the noise drowns everything.
///
/// # Errors
/// [`AccountantError::BadEvent`] for a number outside its range,
/// [`AccountantError::NotFinite`] if no accountant has a finite bound.
pub fn epsilon(events: &[Event], delta: Delta) -> Result<Bound, AccountantError> {
    let question = Question::new(events, delta)?;
    let (renyi, _) = rdp::epsilon(&question.events, question.delta);
    let rdp = Some(renyi.max(0.0)).filter(|epsilon| epsilon.is_finite());
    let (exact, pld, refused) = match (question.gaussian_mu(), question.pairs()) {
        (Some(mu), _) => (true, Some(gaussian::epsilon(mu, question.delta)), None),
        (None, Err(error)) => (false, None, Some(error)),
        (None, Ok(pairs)) => match pld::epsilon(&pairs, question.delta) {
            Ok(epsilon) => (false, Some(epsilon), None),
            Err(error) => (false, None, Some(error)),
        },
    };
    let best = [
        (
            if exact {
                Accountant::Gaussian
            } else {
                Accountant::Pld
            },
            pld,
        ),
        (Accountant::Rdp, rdp),
        (Accountant::Pure, question.pure_sum()),
    ];
    let (accountant, epsilon) = best
        .into_iter()
        .filter_map(|(name, epsilon)| epsilon.map(|epsilon| (name, epsilon)))
        .filter(|(_, epsilon)| epsilon.is_finite())
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .ok_or(AccountantError::NotFinite {
            delta: delta.get(),
            reason: "no accountant has a finite bound",
        })?;
    question.noise_is_covered(epsilon)?;
    Ok(Bound {
        epsilon,
        epsilon_rdp: rdp,
        epsilon_pld: pld.filter(|epsilon| epsilon.is_finite()),
        accountant,
        pld_refused: refused.map(|error| error.to_string()),
    })
}

/// The bound by Renyi divergences alone: cheaper, for searches.
///
/// # Errors
/// As [`epsilon`].
pub fn epsilon_rdp(events: &[Event], delta: Delta) -> Result<f64, AccountantError> {
    let question = Question::new(events, delta)?;
    let (epsilon, _) = rdp::epsilon(&question.events, question.delta);
    question.noise_is_covered(epsilon.max(0.0))?;
    Ok(epsilon.max(0.0))
}

/// Below this the rounding to zero of double precision could hide a whole delta.
const DELTA_MIN: f64 = 1e-100;

/// The share of delta set aside for the noise sampler's own error.
pub(crate) const NOISE_SHARE: f64 = 1e-3;

/// Checked events with everything that comes straight off delta taken off.
struct Question {
    /// Merged, without what only costs delta.
    events: Vec<Event>,
    /// What is left for the privacy losses.
    delta: f64,
    /// The part set aside for the sampler's error.
    noise_delta: f64,
    draws: f64,
}

impl Question {
    fn new(events: &[Event], delta: Delta) -> Result<Self, AccountantError> {
        if delta.get() < DELTA_MIN {
            return Err(AccountantError::NotFinite {
                delta: delta.get(),
                reason: "double precision cannot vouch for a delta below 1e-100",
            });
        }
        let (mut lost, mut draws) = (0.0, 0.0);
        for (index, event) in events.iter().enumerate() {
            event.check(index)?;
            match *event {
                Event::Approximate { delta, count, .. } => lost += delta * count as f64,
                Event::Noise { draws: n } => draws += n as f64,
                _ => {}
            }
        }
        let noise_delta = if draws > 0.0 {
            NOISE_SHARE * delta.get()
        } else {
            0.0
        };
        // The factor covers the rounding of these few operations.
        let left = (delta.get() - noise_delta - lost) * (1.0 - 1e-12);
        if left <= 0.0 {
            return Err(AccountantError::NotFinite {
                delta: delta.get(),
                reason: "the deltas of the events alone add up to more",
            });
        }
        let mut events = merged(events);
        events.retain(|event| {
            !matches!(
                event,
                Event::Noise { .. } | Event::Approximate { epsilon: 0.0, .. }
            )
        });
        Ok(Self {
            events,
            delta: left,
            noise_delta,
            draws,
        })
    }

    /// Whether the sampler's error fits what was set aside for it, at that epsilon.
    fn noise_is_covered(&self, epsilon: f64) -> Result<(), AccountantError> {
        if delta_of_draws(self.draws, epsilon) <= self.noise_delta {
            return Ok(());
        }
        Err(AccountantError::NotFinite {
            delta: self.delta,
            reason: "the noise sampler's own error over so many draws exceeds a thousandth of delta",
        })
    }

    /// mu of the one Gaussian mechanism that all events amount to, if they are all plain Gaussians.
    fn gaussian_mu(&self) -> Option<f64> {
        let mut mu_squared = 0.0;
        for event in &self.events {
            match pair_of(event) {
                Some((
                    Pair::Mixture {
                        q: 1.0,
                        base: Base::Gaussian { sigma },
                    },
                    count,
                )) => {
                    mu_squared += count as f64 / (sigma * sigma);
                }
                Some((_, 0)) => {}
                _ => return None,
            }
        }
        // Rounding of the sum, covered.
        Some((mu_squared * (1.0 + 1e-14)).sqrt())
    }

    /// The sum of the pure epsilons, if all events are pure.
    fn pure_sum(&self) -> Option<f64> {
        let mut sum = 0.0;
        for event in &self.events {
            let (pair, count) = pair_of(event)?;
            sum += if count == 0 {
                0.0
            } else {
                pair.loss_max() * count as f64
            };
        }
        Some(sum).filter(|sum| sum.is_finite())
    }

    /// The pairs to compose; all plain Gaussians become one.
    fn pairs(&self) -> Result<Vec<(Pair, u64)>, AccountantError> {
        let (mut out, mut mu_squared) = (Vec::new(), 0.0);
        for event in &self.events {
            match pair_of(event) {
                None => {
                    return Err(AccountantError::NotConverged {
                        reason: "a zCDP event has no privacy loss distribution; its Renyi bound is used",
                    });
                }
                Some((_, 0)) => {}
                Some((
                    Pair::Mixture {
                        q: 1.0,
                        base: Base::Gaussian { sigma },
                    },
                    count,
                )) => {
                    mu_squared += count as f64 / (sigma * sigma);
                }
                Some(pair) => out.push(pair),
            }
        }
        if mu_squared > 0.0 {
            let sigma = 1.0 / (mu_squared * (1.0 + 1e-14)).sqrt();
            // Many of them together may hide as little as one with hardly any noise. NaN fails, too.
            let enough = sigma >= SCALE_MIN;
            if !enough {
                return Err(AccountantError::NotConverged {
                    reason: "its Gaussian events together leave hardly any noise",
                });
            }
            out.push((
                Pair::Mixture {
                    q: 1.0,
                    base: Base::Gaussian { sigma },
                },
                1,
            ));
        }
        Ok(out)
    }
}
