//! Parameters for a target: how much noise, or how many steps.
//!
//! Both search a monotone bound and return only what that bound itself accepts,
//! so the result never exceeds its target, however the search went.
//! Deliberately absent: guesses at utility.

use crate::accountant::{self, Event};
use crate::{AccountantError, Delta, Epsilon, NoiseMultiplier, SamplingRate};

/// What a plan may spend, and how it samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// Budget.
    pub epsilon: Epsilon,
    /// At this delta.
    pub delta: Delta,
    /// Poisson sampling rate.
    pub sampling_rate: SamplingRate,
}

/// Multipliers searched.
const MULTIPLIER_MIN: f64 = 0.01;
const MULTIPLIER_MAX: f64 = 1e6;
/// Relative width at which the search for a multiplier stops.
const MULTIPLIER_TOLERANCE: f64 = 1e-4;
/// The most steps that [`steps`] looks for.
pub const STEPS_MAX: u64 = 1 << 40;

/// The smallest noise multiplier, to 0.01 %, at which `steps` releases and
/// whatever `other` events the plan has meet the target.
///
/// # Errors
/// [`AccountantError::Unreachable`] if not even the largest multiplier does.
pub fn noise_multiplier(
    target: &Target,
    steps: u64,
    other: &[Event],
) -> Result<NoiseMultiplier, AccountantError> {
    let meets = |sigma: f64, tight: bool| {
        let q = target.sampling_rate.get();
        meets_target(
            target,
            Event::SampledGaussian { q, sigma, steps },
            other,
            tight,
        )
    };
    let unreachable = AccountantError::Unreachable {
        name: "noise multiplier up to 1e6",
        epsilon: target.epsilon.get(),
        delta: target.delta.get(),
        reason: "raise epsilon or delta, take fewer steps, or drop other events",
    };
    // Renyi accounting alone brackets the answer cheaply; the tight bound lies below.
    let upper = bisect(MULTIPLIER_MIN, MULTIPLIER_MAX, 0.05, |sigma| {
        meets(sigma, false)
    })
    .ok_or(unreachable)?;
    let mut lower = upper;
    while lower > MULTIPLIER_MIN && meets(lower, true) {
        lower = (lower * 0.85).max(MULTIPLIER_MIN);
    }
    let sigma = bisect(lower, upper, MULTIPLIER_TOLERANCE, |sigma| {
        meets(sigma, true)
    })
    .unwrap_or(upper);
    Ok(NoiseMultiplier::new(sigma)?)
}

/// The most steps that meet the target at that multiplier, together with the `other` events;
/// [`STEPS_MAX`] if that many do.
///
/// # Errors
/// [`AccountantError::Unreachable`] if not even one does.
pub fn steps(
    target: &Target,
    multiplier: NoiseMultiplier,
    other: &[Event],
) -> Result<u64, AccountantError> {
    let meets = |steps: u64, tight: bool| {
        let (q, sigma) = (target.sampling_rate.get(), multiplier.get());
        meets_target(
            target,
            Event::SampledGaussian { q, sigma, steps },
            other,
            tight,
        )
    };
    if !meets(1, true) {
        return Err(AccountantError::Unreachable {
            name: "number of steps",
            epsilon: target.epsilon.get(),
            delta: target.delta.get(),
            reason: "one step exceeds it already; raise the noise multiplier or epsilon",
        });
    }
    // Doubling, then bisection: `low` always meets the target.
    let mut low = 1;
    while low < STEPS_MAX && meets(low * 2, false) {
        low *= 2;
    }
    while low < STEPS_MAX && meets(low * 2, true) {
        low *= 2;
    }
    if low >= STEPS_MAX {
        return Ok(STEPS_MAX);
    }
    let mut high = low * 2;
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if meets(middle, true) {
            low = middle
        } else {
            high = middle
        }
    }
    Ok(low)
}

/// Whether the events stay within the target; a bound that is refused does not.
fn meets_target(target: &Target, event: Event, other: &[Event], tight: bool) -> bool {
    let events: Vec<Event> = std::iter::once(event)
        .chain(other.iter().copied())
        .collect();
    let epsilon = if tight {
        accountant::epsilon(&events, target.delta).map(|bound| bound.epsilon)
    } else {
        accountant::epsilon_rdp(&events, target.delta)
    };
    epsilon.is_ok_and(|epsilon| epsilon <= target.epsilon.get())
}

/// The smallest value found that meets, geometrically bisected; `None` if `high` does not.
fn bisect(mut low: f64, mut high: f64, tolerance: f64, meets: impl Fn(f64) -> bool) -> Option<f64> {
    if !meets(high) {
        return None;
    }
    while high / low > 1.0 + tolerance {
        let middle = (low * high).sqrt();
        if meets(middle) {
            high = middle
        } else {
            low = middle
        }
    }
    Some(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(epsilon: f64, delta: f64, rate: f64) -> Target {
        Target {
            epsilon: Epsilon::new(epsilon).unwrap(),
            delta: Delta::new(delta).unwrap(),
            sampling_rate: SamplingRate::new(rate).unwrap(),
        }
    }

    fn epsilon_of(target: &Target, sigma: f64, steps: u64, other: &[Event]) -> f64 {
        let mut events = vec![Event::SampledGaussian {
            q: target.sampling_rate.get(),
            sigma,
            steps,
        }];
        events.extend(other);
        accountant::epsilon(&events, target.delta).unwrap().epsilon
    }

    #[test]
    fn a_calibrated_multiplier_never_exceeds_its_target_and_wastes_little() {
        let other = [
            Event::Gaussian {
                sigma: 20.0,
                count: 1,
            },
            Event::Noise { draws: 1 << 32 },
        ];
        for (target, steps, other) in [
            (target(1.8282384, 1e-5, 0.01), 1000, &[][..]),
            (target(8.0, 1e-5, 0.05), 120, &other),
            (target(0.1, 1e-6, 0.001), 200, &[]),
            (target(3.0, 1e-5, 1.0), 1, &[]),
        ] {
            let sigma = noise_multiplier(&target, steps, other).unwrap().get();
            let spent = epsilon_of(&target, sigma, steps, other);
            assert!(spent <= target.epsilon.get(), "{spent} of {target:?}");
            assert!(
                spent >= target.epsilon.get() * 0.998,
                "only {spent} of {target:?} at {sigma}"
            );
        }
    }

    #[test]
    fn the_multiplier_of_the_oracles_first_row_is_found_again() {
        let sigma = noise_multiplier(&target(1.8282384106, 1e-5, 0.01), 1000, &[])
            .unwrap()
            .get();
        assert!((sigma - 1.0).abs() < 1e-3, "{sigma}");
    }

    #[test]
    fn the_number_of_steps_is_the_last_that_fits() {
        let target = target(2.0, 1e-5, 0.01);
        let sigma = NoiseMultiplier::new(1.0).unwrap();
        let most = steps(&target, sigma, &[]).unwrap();
        assert!(epsilon_of(&target, 1.0, most, &[]) <= 2.0);
        assert!(
            epsilon_of(&target, 1.0, most + most / 500 + 1, &[]) > 2.0,
            "{most} steps"
        );
    }

    #[test]
    fn a_number_of_steps_beyond_the_search_is_its_end() {
        let sigma = NoiseMultiplier::new(1e9).unwrap();
        let most = steps(&target(2.0, 1e-5, 0.01), sigma, &[]).unwrap();
        assert_eq!(most, STEPS_MAX);
    }

    #[test]
    fn a_target_out_of_reach_is_refused_with_a_remedy() {
        let other = [Event::Gaussian {
            sigma: 0.5,
            count: 1,
        }];
        let message = noise_multiplier(&target(1.0, 1e-5, 0.01), 10, &other)
            .unwrap_err()
            .to_string();
        assert!(message.contains("drop other events"), "{message}");
        let sigma = NoiseMultiplier::new(0.3).unwrap();
        let message = steps(&target(0.1, 1e-5, 0.5), sigma, &[])
            .unwrap_err()
            .to_string();
        assert!(message.contains("raise the noise multiplier"), "{message}");
    }
}
