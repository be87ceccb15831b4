//! Prices against bounds that must hold whatever the accountant's exact figures.

use super::*;
use noisegate_privacy::{SamplingRate, calibrate};
use proptest::prelude::*;

fn cap(epsilon: f64, delta: f64) -> Cap {
    Cap {
        epsilon: Epsilon::new(epsilon).unwrap(),
        delta: Delta::new(delta).unwrap(),
    }
}

fn guaranteed(charges: &[&[Event]], cap: Cap) -> Result<f64, AccountantError> {
    super::guaranteed(&made(charges), cap)
}

fn made<'a>(charges: &[&'a [Event]]) -> Vec<Made<'a>> {
    charges.iter().map(|events| Made::now(events)).collect()
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
    let quiet = [Event::SampledGaussian {
        q: 0.05,
        sigma: 2.3,
        steps: 120,
    }];
    let two = guaranteed(&[&quiet, &quiet], cap).unwrap();
    assert!(two < 2.2, "two runs of epsilon 1 far below the cap: {two}");
    for runs in [2_usize, 4, 8] {
        let charges = vec![&[RUN][..]; runs];
        let spent = spent(&made(&charges), cap).unwrap();
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
    let fits = largest_that_fits(&made(&[&spent]), &request, &[cap], cap.delta).unwrap();
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
    assert_eq!(
        largest_that_fits(&made(&[&full]), &request, &[cap], cap.delta),
        None
    );
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
    // 2^54 draws at 2^-108 each are 5.6e-17, more than a thousandth of 1e-14.
    let cap = cap(8.0, 1e-14);
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// An edge anywhere, also beyond the reach: found to the grid, and never on the wrong side.
    #[test]
    fn the_least_noise_that_fits_is_the_edge_itself(edge in -40.0_f64..40.0) {
        let fits = |log2: f64| log2 >= edge;
        match least_that_fits(fits) {
            None => prop_assert!(edge > REACH),
            Some(least) => {
                prop_assert!(fits(least));
                prop_assert!(!fits(least - GRID) || least == -REACH, "{} {}", edge, least);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// What is left is the data set's, however small or large the charge is that asks for it.
    #[test]
    fn what_is_left_does_not_depend_on_the_noise_of_the_charge_asked_about(
        spent_log2 in 0.0_f64..8.0, asked_log2 in -2.0_f64..14.0, epsilon in 0.5_f64..12.0,
    ) {
        let gaussian = |log2: f64| [Event::Gaussian { sigma: 4.0 * log2.exp2(), count: 10 }];
        let (cap, spent) = (cap(epsilon, 1e-5), gaussian(spent_log2));
        let left = |asked: &[Event]| largest_that_fits(&made(&[&spent]), asked, &[cap], cap.delta);
        let (one, other) = (left(&gaussian(asked_log2)), left(&gaussian(2.0)));
        prop_assert_eq!(one.is_some(), other.is_some());
        if let (Some(one), Some(other)) = (one, other) {
            prop_assert!((one / other - 1.0).abs() < 0.02, "{} {}", one, other);
        }
    }
}

/// After 0.05 of 10, 0.40 was said to be left, at most eight times the epsilon asked about.
#[test]
fn most_of_a_cap_is_left_after_a_small_charge() {
    let small = run_of(0.05);
    let cap = cap(10.0, 1e-5);
    let left = largest_that_fits(&made(&[&small]), &small, &[cap], cap.delta).unwrap();
    assert!(left > 7.0 && left < 10.0, "{left}");
}

/// A run of that epsilon at half of `cap(_, 1e-5)`'s delta: two of them state all of it.
fn run_of(epsilon: f64) -> [Event; 1] {
    let target = calibrate::Target {
        epsilon: Epsilon::new(epsilon).unwrap(),
        delta: Delta::new(5e-6).unwrap(),
        sampling_rate: SamplingRate::new(0.05).unwrap(),
    };
    let sigma = calibrate::noise_multiplier(&target, 120, &[]).unwrap();
    [Event::SampledGaussian {
        q: 0.05,
        sigma: sigma.get(),
        steps: 120,
    }]
}

#[test]
fn two_runs_whose_stated_budgets_add_up_to_the_cap_fit() {
    for (first, second, together) in [
        (7.0, 1.0, 8.0),
        (6.0, 2.0, 8.0),
        (4.0, 4.0, 8.0),
        (2.0, 1.0, 3.0),
        (0.9, 0.1, 1.0),
    ] {
        let (one, other) = (run_of(first), run_of(second));
        let price = guaranteed(&[&one, &other], cap(together, 1e-5)).unwrap();
        assert!(price <= together, "{first} + {second} are priced {price}");
    }
}

#[test]
fn an_account_begun_by_an_older_program_keeps_its_division() {
    let (one, other) = (run_of(7.0), run_of(1.0));
    let cap = cap(8.0, 1e-5);
    let begun_by = |accountant| {
        let charges = [Made::by(accountant, &one), Made::now(&other)];
        super::guaranteed(&charges, cap).unwrap()
    };
    let (old, new) = (
        begun_by("noisegate-accountant-1"),
        begun_by(ACCOUNTANT_VERSION),
    );
    assert!(old > 8.0 && new <= 8.0, "{old} {new}");
}

#[test]
fn the_parts_of_delta_never_exceed_the_whole() {
    let cap = cap(5.0, 1e-6);
    let laplace = [Event::Laplace {
        scale: 0.5,
        count: 1,
    }];
    for first in [&[RUN], &laplace] {
        let alone = accountant::epsilon(first, cap.delta).unwrap().epsilon;
        let sum: f64 = parts(first, alone, cap, Rule::NEWEST)
            .iter()
            .map(|part| part.delta)
            .sum();
        assert!(sum <= 1e-6 * (1.0 - NOISE_SHARE) && sum > 0.99e-6, "{sum}");
    }
}
