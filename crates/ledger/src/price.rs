//! Does a charge fit under the cap? Pure functions over lists of events.
//!
//! Charges are composed, not added up. Which theorem may be used depends on who could have seen
//! what when a charge was chosen:
//!
//! - The **first** charge was chosen before anything was released, so its parameters are fixed in
//!   advance and the tightest accountant counts ([`accountant::epsilon`]: PLD, RDP, exact Gaussian).
//! - A **later** one may have been chosen after looking at released samples. Composition of
//!   mechanisms whose *parameters* depend on earlier outputs needs a privacy filter. Two kinds are
//!   sound: Renyi divergences added up at one order, and plain sums of epsilons and deltas.
//!
//! No single filter is tight from the first run to the last, and taking the best of several after
//! the fact is covered by neither theorem. So delta is divided among a few filters beforehand, and
//! a charge is accepted if *one* of them accepts it. That is sound: sort the outcomes by a filter
//! that holds for them at the end; on its share, filter j bounds P(S_j) by e^epsilon Q(S_j) +
//! delta_j, and these add up to e^epsilon Q(S) + delta. The filters and their parts of delta are
//! settled by the cap and the first charge, most going to the one under which that charge could be
//! repeated most often.
//!
//! Deliberately absent: time and storage. A burned charge counts like any other.
//!
//! # Source
//! Feldman and Zrnic, "Individual Privacy Accounting via a Renyi Filter", 2021, Theorem 4.3;
//! Rogers, Roth, Ullman and Vadhan, "Privacy Odometers and Filters", 2016, Theorem 3.1 and section
//! 5 (sums of epsilons and deltas remain valid when both are chosen on the way).

use noisegate_privacy::accountant::{self, rdp};
use noisegate_privacy::noise::NOISE_TV_PER_DRAW;
use noisegate_privacy::{AccountantError, Delta, Epsilon, Event};
use serde::{Deserialize, Serialize};

/// The most that may ever be known about one unit of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cap {
    /// Over all runs, for ever.
    pub epsilon: Epsilon,
    /// The delta at which epsilon is stated.
    pub delta: Delta,
}

impl Cap {
    /// Equal, or equal once written down and read back, which may change a figure's last digit.
    pub(crate) fn same_as(self, other: Self) -> bool {
        let written = serde_json::to_string(&other).ok();
        let read = written.and_then(|text| serde_json::from_str::<Self>(&text).ok());
        self == other || read == Some(self)
    }
}

/// What a data set's charges amount to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// Under which cap.
    pub cap: Cap,
    /// How many charges, burned ones included.
    pub charges: usize,
    /// The guarantee at the cap's delta, even if each run was chosen after seeing the ones before.
    pub epsilon: f64,
    /// What it would be if all runs had been fixed in advance; absent if the accountant refuses.
    pub epsilon_if_fixed: Option<f64>,
}

/// The share of delta set aside for the noise sampler's error, as in the accountant.
const NOISE_SHARE: f64 = 1e-3;

/// The charges of one data set are (this, `cap.delta`)-DP together, chosen on the way or not.
///
/// May be infinite.
///
/// # Errors
/// [`AccountantError`] if a charge cannot be priced at all.
pub(crate) fn guaranteed(charges: &[&[Event]], cap: Cap) -> Result<f64, AccountantError> {
    match charges {
        [] => Ok(0.0),
        [first] => Ok(accountant::epsilon(first, cap.delta)?.epsilon),
        [first, ..] => {
            let mut best = f64::INFINITY;
            for part in parts(first, cap)? {
                best = best.min(part.epsilon(charges)?);
            }
            let covered = noise_is_covered(charges, best, cap);
            Ok(if covered { best } else { f64::INFINITY })
        }
    }
}

/// [`Spent`] of these charges.
pub(crate) fn spent(charges: &[&[Event]], cap: Cap) -> Result<Spent, AccountantError> {
    let all: Vec<Event> = charges.concat();
    Ok(Spent {
        cap,
        charges: charges.len(),
        epsilon: guaranteed(charges, cap)?,
        epsilon_if_fixed: accountant::epsilon(&all, cap.delta)
            .ok()
            .map(|bound| bound.epsilon),
    })
}

/// The epsilon, alone, of the largest request like this one that would still fit: the same steps
/// with more noise. `None` if none does, however noisy.
pub(crate) fn largest_that_fits(charges: &[&[Event]], request: &[Event], cap: Cap) -> Option<f64> {
    let fits = |noisier: &[Event]| {
        let mut all = charges.to_vec();
        all.push(noisier);
        guaranteed(&all, cap).is_ok_and(|epsilon| epsilon <= cap.epsilon.get())
    };
    let with_noise = |log2: f64| -> Vec<Event> {
        request
            .iter()
            .map(|event| noisier(event, log2.exp2()))
            .collect()
    };
    let (mut low, mut high) = (0.0, 10.0);
    if !fits(&with_noise(high)) {
        return None;
    }
    for _ in 0..10 {
        let middle = (low + high) / 2.0;
        if fits(&with_noise(middle)) {
            high = middle;
        } else {
            low = middle;
        }
    }
    let alone = accountant::epsilon(&with_noise(high), cap.delta).ok()?;
    Some(alone.epsilon)
}

/// The same event with `factor` times the noise.
fn noisier(event: &Event, factor: f64) -> Event {
    let mut event = *event;
    match &mut event {
        Event::SampledGaussian { sigma, .. } | Event::Gaussian { sigma, .. } => *sigma *= factor,
        Event::Laplace { scale, .. } | Event::SampledLaplace { scale, .. } => *scale *= factor,
        Event::DiscreteLaplace { parameter, .. } => *parameter /= factor,
        Event::Zcdp { rho } => *rho /= factor * factor,
        Event::Approximate { epsilon, .. } => *epsilon /= factor,
        Event::Noise { .. } => {}
    }
    event
}

/// A way to add charges up that stays sound when they are chosen on the way.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Filter {
    /// Renyi divergences at one order.
    Renyi { order: f64 },
    /// Epsilons and deltas, each charge being given half of the delta that is left.
    Sums {
        /// With more charges it refuses: it asks the accountant about each of them.
        charges_max: usize,
    },
}

/// A filter and the part of delta that it may use.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Part {
    filter: Filter,
    delta: f64,
}

/// How the cap's delta is divided, given what was charged first.
fn parts(first: &[Event], cap: Cap) -> Result<Vec<Part>, AccountantError> {
    // The last factor covers the rounding of the shares.
    let whole = cap.delta.get() * (1.0 - NOISE_SHARE) * (1.0 - 1e-12);
    let repeats = |order: f64| {
        let budget = cap.epsilon.get() - rdp::convert(0.0, order, whole);
        budget / rdp::renyi_sum(first, order)
    };
    // Orders from 1.06 to 1025; a finer grid gains less than 1 %.
    let (order, renyi_repeats) = (-16..=40)
        .map(|quarter| 1.0 + 2f64.powf(f64::from(quarter) / 4.0))
        .map(|order| (order, repeats(order)))
        .filter(|(_, repeats)| repeats.is_finite())
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .unwrap_or((2.0, 0.0));
    let alone = accountant::epsilon(first, cap.delta)?.epsilon;
    let renyi_first = own_delta(first) == 0.0 && renyi_repeats >= cap.epsilon.get() / alone;
    // Larger orders are tight while little is spent.
    let renyi = |times: f64| Filter::Renyi {
        order: 1.0 + (order - 1.0) * times,
    };
    let sums = |charges_max| Filter::Sums { charges_max };
    // The shares of each row add up to 1.
    let shares = if renyi_first {
        [
            (renyi(1.0), 0.8),
            (renyi(2.0), 0.06),
            (renyi(4.0), 0.04),
            (renyi(16.0), 0.03),
            (renyi(64.0), 0.02),
            (sums(8), 0.05),
        ]
    } else {
        [
            (sums(usize::MAX), 0.8),
            (renyi(1.0), 0.08),
            (renyi(2.0), 0.04),
            (renyi(4.0), 0.04),
            (renyi(16.0), 0.02),
            (renyi(64.0), 0.02),
        ]
    };
    let part = |(filter, share)| Part {
        filter,
        delta: whole * share,
    };
    Ok(shares.map(part).to_vec())
}

impl Part {
    /// The epsilon of these charges under this filter; infinite where it cannot express them.
    fn epsilon(self, charges: &[&[Event]]) -> Result<f64, AccountantError> {
        match self.filter {
            Filter::Renyi { order } => {
                if charges.iter().any(|charge| own_delta(charge) > 0.0) {
                    return Ok(f64::INFINITY);
                }
                let divergence: f64 = charges.iter().map(|c| rdp::renyi_sum(c, order)).sum();
                // The factor covers the rounding of the sum.
                Ok(rdp::convert(divergence * (1.0 + 1e-12), order, self.delta).max(0.0))
            }
            Filter::Sums { charges_max } if charges.len() > charges_max => Ok(f64::INFINITY),
            Filter::Sums { .. } => {
                let mut left = self.delta;
                let mut sum = 0.0;
                for charge in charges {
                    let own = own_delta(charge);
                    let given = own + (left - own) / 2.0;
                    let Ok(delta) = Delta::new(given) else {
                        return Ok(f64::INFINITY);
                    };
                    left -= given;
                    if left <= 0.0 {
                        return Ok(f64::INFINITY);
                    }
                    match accountant::epsilon(charge, delta) {
                        Ok(bound) => sum += bound.epsilon,
                        Err(AccountantError::NotFinite { .. }) => return Ok(f64::INFINITY),
                        Err(error) => return Err(error),
                    }
                }
                Ok(sum * (1.0 + 1e-12))
            }
        }
    }
}

/// What events take off delta by themselves, which a Renyi filter cannot express.
fn own_delta(events: &[Event]) -> f64 {
    let of = |event: &Event| match *event {
        Event::Approximate { delta, count, .. } => delta * count as f64,
        _ => 0.0,
    };
    events.iter().map(of).sum()
}

/// Whether the share of delta set aside covers the sampler's total-variation error, which
/// (epsilon, delta)-DP turns into a delta of `(1 + e^epsilon)` times as much.
fn noise_is_covered(charges: &[&[Event]], epsilon: f64, cap: Cap) -> bool {
    let draws: f64 = charges
        .iter()
        .flat_map(|charge| charge.iter())
        .map(|event| match *event {
            Event::Noise { draws } => draws as f64,
            _ => 0.0,
        })
        .sum();
    let lost = draws * NOISE_TV_PER_DRAW * (1.0 + epsilon.exp());
    draws == 0.0 || lost <= NOISE_SHARE * cap.delta.get()
}

#[cfg(test)]
mod tests;
