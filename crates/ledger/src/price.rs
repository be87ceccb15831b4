//! Does a charge fit under the cap? Pure functions over lists of events.
//!
//! Charges are composed, not added up. Which theorem may be used depends on who could have seen
//! what when a charge was chosen:
//!
//! - The **first** charge was chosen before anything was released, so its parameters are fixed in
//!   advance and the tightest accountant counts ([`accountant::epsilon`]: PLD, RDP, exact Gaussian).
//! - A **later** one may have been chosen after looking at released samples. Composition of
//!   mechanisms whose *parameters* depend on earlier outputs needs a privacy filter. Two are sound:
//!   Renyi divergences added up at one order, and plain sums of epsilons and deltas. Taking the
//!   smaller of both at each step would not be covered by either theorem (nor would the best of
//!   many orders), so the filter and its order are settled by the cap and the first charge: the
//!   one under which that charge could be repeated most often.
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
        [first, ..] => Filter::suited(first, cap)?.epsilon(charges, cap),
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
    Sums,
}

impl Filter {
    /// The filter under which `first` could be repeated most often within the cap.
    fn suited(first: &[Event], cap: Cap) -> Result<Self, AccountantError> {
        let delta = renyi_delta(cap);
        let repeats = |order: f64| {
            let budget = cap.epsilon.get() - rdp::convert(0.0, order, delta);
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
        let renyi = !loses_delta(first) && renyi_repeats >= cap.epsilon.get() / alone;
        Ok(if renyi {
            Self::Renyi { order }
        } else {
            Self::Sums
        })
    }

    fn epsilon(self, charges: &[&[Event]], cap: Cap) -> Result<f64, AccountantError> {
        match self {
            Self::Renyi { order } => {
                let delta = renyi_delta(cap);
                if charges.iter().any(|charge| loses_delta(charge)) {
                    return Ok(f64::INFINITY);
                }
                let divergence: f64 = charges.iter().map(|c| rdp::renyi_sum(c, order)).sum();
                // The factor covers the rounding of the sum.
                let epsilon = rdp::convert(divergence * (1.0 + 1e-12), order, delta);
                Ok(if noise_is_covered(charges, epsilon, cap) {
                    epsilon
                } else {
                    f64::INFINITY
                })
            }
            Self::Sums => {
                let mut left = cap.delta.get();
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

/// What the Renyi filter may use of the cap's delta.
fn renyi_delta(cap: Cap) -> f64 {
    cap.delta.get() * (1.0 - NOISE_SHARE)
}

/// Whether an event comes off delta, which a Renyi filter cannot express.
fn loses_delta(events: &[Event]) -> bool {
    own_delta(events) > 0.0
}

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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cap(epsilon: f64, delta: f64) -> Cap {
        Cap {
            epsilon: Epsilon::new(epsilon).unwrap(),
            delta: Delta::new(delta).unwrap(),
        }
    }

    const RUN: Event = Event::SampledGaussian {
        q: 0.05,
        sigma: 1.0,
        steps: 120,
    };

    #[test]
    fn the_first_charge_is_priced_by_the_tightest_accountant() {
        let cap = cap(8.0, 1e-5);
        let alone = accountant::epsilon(&[RUN], cap.delta).unwrap().epsilon;
        assert_eq!(guaranteed(&[&[RUN]], cap).unwrap(), alone);
        assert_eq!(guaranteed(&[], cap).unwrap(), 0.0);
    }

    #[test]
    fn later_charges_cost_more_than_the_fixed_schedule_and_less_than_the_sum() {
        let cap = cap(8.0, 1e-5);
        let alone = guaranteed(&[&[RUN]], cap).unwrap();
        for runs in [2_usize, 4, 8] {
            let charges = vec![&[RUN][..]; runs];
            let spent = spent(&charges, cap).unwrap();
            let fixed = spent.epsilon_if_fixed.unwrap();
            assert!(spent.epsilon >= fixed, "{runs}: {spent:?}");
            assert!(
                spent.epsilon < alone * runs as f64,
                "{runs}: {spent:?} {alone}"
            );
            assert!(spent.epsilon < fixed * 1.35, "{runs}: {spent:?}");
        }
    }

    #[test]
    fn pure_charges_of_a_size_near_the_cap_are_added_up() {
        let cap = cap(3.0, 1e-6);
        let laplace = [Event::Laplace {
            scale: 1.0,
            count: 1,
        }];
        let two = guaranteed(&[&laplace, &laplace], cap).unwrap();
        assert!(two <= 2.0 + 1e-9, "{two}");
        let many_small = [Event::Laplace {
            scale: 50.0,
            count: 1,
        }];
        let charges = vec![&many_small[..]; 300];
        assert!(
            guaranteed(&charges, cap).unwrap() < 3.0,
            "300 times 0.02 composes to less than 6"
        );
    }

    #[test]
    fn charges_that_come_off_delta_are_summed_and_run_out() {
        let cap = cap(2.0, 1e-5);
        let charge = |delta| {
            [Event::Approximate {
                epsilon: 0.5,
                delta,
                count: 1,
            }]
        };
        let (small, large) = (charge(1e-6), charge(6e-6));
        let two = guaranteed(&[&small, &small], cap).unwrap();
        assert!(two > 0.9 && two <= 1.0 + 1e-9, "{two}");
        assert_eq!(guaranteed(&[&large, &large], cap).unwrap(), f64::INFINITY);
    }

    #[test]
    fn what_is_said_to_fit_fits_and_a_tenth_more_does_not() {
        let cap = cap(6.0, 1e-5);
        let spent = [RUN];
        let request = [Event::SampledGaussian {
            q: 0.05,
            sigma: 0.6,
            steps: 120,
        }];
        let fits = largest_that_fits(&[&spent], &request, cap).unwrap();
        let request_of = |epsilon: f64| {
            // Bisection on the noise for a request of that epsilon.
            let (mut low, mut high) = (0.3_f64, 30.0_f64);
            for _ in 0..40 {
                let sigma = (low + high) / 2.0;
                let event = [Event::SampledGaussian {
                    q: 0.05,
                    sigma,
                    steps: 120,
                }];
                let bound = accountant::epsilon(&event, cap.delta).map_or(f64::MAX, |b| b.epsilon);
                if bound > epsilon {
                    low = sigma
                } else {
                    high = sigma
                }
            }
            [Event::SampledGaussian {
                q: 0.05,
                sigma: high,
                steps: 120,
            }]
        };
        let (exact, more) = (request_of(fits * 0.999), request_of(fits * 1.1));
        let price = |request: &[Event]| guaranteed(&[&spent, request], cap).unwrap();
        assert!(price(&exact) <= 6.0, "{fits} {exact:?} {}", price(&exact));
        assert!(price(&more) > 6.0, "{fits} {more:?} {}", price(&more));
        let full = [Event::Zcdp { rho: 5.0 }];
        assert_eq!(largest_that_fits(&[&full], &request, cap), None);
    }

    #[test]
    fn a_cap_of_any_size_can_be_priced() {
        let charge = [Event::Gaussian {
            sigma: 50.0,
            count: 1,
        }];
        for epsilon in [1e-3, 1.0, 1e3, 1e6] {
            let price = guaranteed(&[&charge, &charge], cap(epsilon, 1e-5)).unwrap();
            assert!(price.is_finite(), "{epsilon}");
        }
    }

    #[test]
    fn the_samplers_error_is_covered_or_the_price_is_infinite() {
        // 2^54 draws at 2^-108 each, times 1 + e^8: 1.7e-13, more than a thousandth of 1e-12.
        let cap = cap(8.0, 1e-12);
        let gaussian = Event::Gaussian {
            sigma: 10.0,
            count: 1,
        };
        let with = |draws| [gaussian, Event::Noise { draws }];
        assert!(
            guaranteed(&[&with(1 << 40), &with(1 << 40)], cap)
                .unwrap()
                .is_finite()
        );
        let most = with(1 << 53);
        assert!(!guaranteed(&[&most, &most], cap).is_ok_and(f64::is_finite));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn another_charge_never_lowers_the_price_of_two_or_more(
            sigmas in prop::collection::vec(1.0_f64..20.0, 3..6), q in 0.01_f64..1.0,
        ) {
            let cap = cap(6.0, 1e-6);
            let charges: Vec<[Event; 1]> = sigmas
                .iter()
                .map(|&sigma| [Event::SampledGaussian { q, sigma, steps: 10 }])
                .collect();
            let charges: Vec<&[Event]> = charges.iter().map(|charge| &charge[..]).collect();
            let prices: Vec<f64> =
                (2..=charges.len()).map(|n| guaranteed(&charges[..n], cap).unwrap()).collect();
            prop_assert!(prices.is_sorted(), "{:?}", prices);
        }
    }
}
