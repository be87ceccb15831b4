//! A budget for schedules that are decided on the way.
//!
//! Noise, rate and number of steps may each depend on what was released
//! before, as long as the filter is asked first. Deliberately absent: a search
//! over orders while running; the order is fixed at the start, as the theorem
//! asks.
//!
//! # Source
//! Feldman and Zrnic, "Individual Privacy Accounting via a Renyi Filter", 2021,
//! Theorem 3.1 and section 4: stop before the divergences at one fixed order add up
//! to more than the budget, and the whole is Renyi-DP with that budget.

use crate::accountant::{Event, NOISE_SHARE, rdp};
use crate::noise::delta_of_draws;
use crate::{AccountantError, Delta, Epsilon};

/// Adds up Renyi divergences at one order and refuses what would exceed the budget.
#[derive(Debug, Clone, PartialEq)]
pub struct RdpFilter {
    epsilon: f64,
    delta: f64,
    order: f64,
    budget: f64,
    spent: f64,
    draws: f64,
}

impl RdpFilter {
    /// A filter for (epsilon, delta) at an order suited to `planned`.
    ///
    /// - `planned`: a public guess at the schedule, for choosing the order only.
    ///
    /// # Errors
    /// [`AccountantError::Unreachable`] if no order leaves any budget.
    pub fn new(epsilon: Epsilon, delta: Delta, planned: &[Event]) -> Result<Self, AccountantError> {
        for (index, event) in planned.iter().enumerate() {
            event.check(index)?;
        }
        let (_, planned_order) = rdp::epsilon(planned, delta.get());
        let wanted = if planned_order.is_finite() {
            planned_order
        } else {
            2.0
        };
        // A larger order wastes less of epsilon on the conversion; the planned one may waste all of it.
        let order = (0..60)
            .map(|doublings| 1.0 + (wanted - 1.0) * 2f64.powf(f64::from(doublings) / 4.0))
            .find(|order| Self::budget(epsilon, delta, *order) > 0.0)
            .ok_or(AccountantError::Unreachable {
                name: "Renyi order",
                epsilon: epsilon.get(),
                delta: delta.get(),
                reason: "the conversion to epsilon alone costs more; raise epsilon or delta",
            })?;
        let budget = Self::budget(epsilon, delta, order);
        Ok(Self {
            epsilon: epsilon.get(),
            delta: delta.get(),
            order,
            budget,
            spent: 0.0,
            draws: 0.0,
        })
    }

    /// The Renyi budget that converts to (epsilon, delta).
    fn budget(epsilon: Epsilon, delta: Delta, order: f64) -> f64 {
        (epsilon.get() - rdp::convert(0.0, order, delta.get() * (1.0 - NOISE_SHARE)))
            * (1.0 - 1e-12)
    }

    /// Charges the next event; call before its first private read.
    ///
    /// # Errors
    /// [`AccountantError::FilterExhausted`] if it no longer fits: nothing is
    /// charged, and a smaller event may still fit. [`AccountantError::BadEvent`]
    /// for a number out of range, or an event with a delta of its own.
    /// [`AccountantError::NotFinite`] for more draws than the sampler's error allows.
    pub fn charge(&mut self, event: &Event) -> Result<(), AccountantError> {
        event.check(0)?;
        match *event {
            Event::Approximate { delta: value, .. } if value > 0.0 => {
                let range = "zero under a Renyi filter; take it off delta beforehand";
                return Err(AccountantError::BadEvent {
                    index: 0,
                    kind: "dp",
                    name: "delta",
                    value,
                    range,
                });
            }
            Event::Noise { draws } => {
                let draws = self.draws + draws as f64;
                if delta_of_draws(draws, self.epsilon) > NOISE_SHARE * self.delta {
                    let reason = "the noise sampler's own error over so many draws exceeds a thousandth of delta";
                    return Err(AccountantError::NotFinite {
                        delta: self.delta,
                        reason,
                    });
                }
                self.draws = draws;
                return Ok(());
            }
            _ => {}
        }
        let would_spend = self.spent + rdp::renyi(event, self.order);
        // NaN fails the comparison.
        if would_spend <= self.budget {
            self.spent = would_spend;
            return Ok(());
        }
        Err(AccountantError::FilterExhausted {
            would_spend,
            budget: self.budget,
            order: self.order,
        })
    }

    /// The share of the budget that is left, from 1 down to 0.
    #[must_use]
    pub fn left(&self) -> f64 {
        1.0 - self.spent / self.budget
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accountant;

    fn filter(epsilon: f64) -> RdpFilter {
        let plan = [Event::SampledGaussian {
            q: 0.01,
            sigma: 1.0,
            steps: 1000,
        }];
        RdpFilter::new(
            Epsilon::new(epsilon).unwrap(),
            Delta::new(1e-5).unwrap(),
            &plan,
        )
        .unwrap()
    }

    #[test]
    fn a_fixed_schedule_spends_the_filter_as_renyi_accounting_says() {
        let step = Event::SampledGaussian {
            q: 0.01,
            sigma: 1.0,
            steps: 1,
        };
        let mut filter = filter(2.2);
        let mut steps = 0;
        while filter.charge(&step).is_ok() {
            steps += 1;
        }
        let epsilon = |steps| {
            let event = Event::SampledGaussian {
                q: 0.01,
                sigma: 1.0,
                steps,
            };
            accountant::epsilon_rdp(&[event], Delta::new(1e-5).unwrap()).unwrap()
        };
        assert!(epsilon(steps) <= 2.2, "the filter let too much through");
        assert!(epsilon(steps + 25) > 2.2, "the filter stopped at {steps}");
    }

    #[test]
    fn what_no_longer_fits_is_refused_and_not_charged() {
        let mut filter = filter(1.0);
        let large = Event::Gaussian {
            sigma: 0.5,
            count: 1,
        };
        let before = filter.clone();
        let message = filter.charge(&large).unwrap_err().to_string();
        assert!(message.contains("stop here"), "{message}");
        assert_eq!(filter, before);
        assert!(
            filter
                .charge(&Event::SampledGaussian {
                    q: 0.01,
                    sigma: 2.0,
                    steps: 1
                })
                .is_ok()
        );
        assert!(filter.left() < 1.0);
    }

    #[test]
    fn events_that_a_renyi_budget_cannot_hold_are_refused() {
        let mut filter = filter(1.0);
        assert!(
            filter
                .charge(&Event::Approximate {
                    epsilon: 0.1,
                    delta: 1e-9,
                    count: 1
                })
                .is_err()
        );
        assert!(
            filter
                .charge(&Event::Gaussian {
                    sigma: f64::NAN,
                    count: 1
                })
                .is_err()
        );
        assert!(filter.charge(&Event::Noise { draws: 1 << 40 }).is_ok());
    }

    #[test]
    fn a_budget_that_the_conversion_eats_up_moves_to_a_higher_order() {
        let plan = [Event::Gaussian {
            sigma: 1.0,
            count: 1,
        }];
        let small =
            RdpFilter::new(Epsilon::new(0.1).unwrap(), Delta::new(1e-9).unwrap(), &plan).unwrap();
        assert!(small.budget > 0.0);
    }
}
