//! The FFT against answers found in other ways.

use super::super::pair::Base;
use super::super::quadrature::normal_density;
use super::super::rdp::log_mixture;
use super::super::{Event, gaussian};
use super::*;
use crate::Delta;
use rustfft::num_complex::Complex64;

/// The FFT path on plain Gaussians, where the exact answer is known.
#[test]
fn the_fft_agrees_with_the_exact_curve_of_the_gaussian() {
    for (sigma, count, delta) in [
        (1.0, 1, 1e-5),
        (10.0, 100, 1e-6),
        (100.0, 10_000, 1e-10),
        (0.4, 3, 1e-8),
        (0.01, 1, 1e-5),
        (0.3, 100_000, 1e-12),
        (50.0, 7, 1e-5),
    ] {
        let pair = (
            Pair::Mixture {
                q: 1.0,
                base: Base::Gaussian { sigma },
            },
            count,
        );
        let found = epsilon(&[pair], delta).unwrap();
        let exact = gaussian::epsilon((count as f64).sqrt() / sigma, delta);
        assert!(
            found >= exact * (1.0 - 1e-9) && found <= exact * 1.002,
            "sigma {sigma}: {found} against {exact}"
        );
    }
}

/// k randomised responses, exactly: delta(epsilon) is a binomial sum.
#[test]
fn the_fft_agrees_with_the_binomial_sum_of_pure_mechanisms() {
    let exact = |each: f64, k: i32, target: f64| {
        let p = each.exp() / (1.0 + each.exp());
        let delta = |epsilon: f64| {
            let mut choose = 1.0;
            let mut sum = 0.0;
            for i in 0..=k {
                let loss = each * f64::from(k - 2 * i);
                let mass = choose * p.powi(k - i) * (1.0 - p).powi(i);
                sum += mass * (-(epsilon - loss).exp_m1()).max(0.0);
                choose *= f64::from(k - i) / f64::from(i + 1);
            }
            sum
        };
        let (mut low, mut high) = (0.0, each * f64::from(k));
        for _ in 0..80 {
            let middle = 0.5 * (low + high);
            if delta(middle) > target {
                low = middle
            } else {
                high = middle
            }
        }
        high
    };
    for (each, k, target) in [(0.1, 50, 1e-6), (0.5, 20, 1e-4), (0.01, 500, 1e-8)] {
        let event = Event::Approximate {
            epsilon: each,
            delta: 0.0,
            count: k as u64,
        };
        let found = crate::accountant::epsilon(&[event], Delta::new(target).unwrap()).unwrap();
        let truth = exact(each, k, target);
        assert!(
            found.epsilon >= truth * (1.0 - 1e-9),
            "{event:?}: {found:?} below {truth}"
        );
        assert!(
            found.epsilon <= truth * 1.005,
            "{event:?}: {found:?} above {truth}"
        );
    }
}

/// Inversion of the moment generating function along a line parallel to the imaginary axis, with no
/// grid of losses at all: delta(epsilon) = 1/(2 pi i) integral of M(s)^T e^(-epsilon s) / (s (s+1)) ds.
/// (Alghamdi et al., "The Saddle-Point Accountant for Differential Privacy", 2022.)
#[test]
fn the_fft_agrees_with_the_contour_integral() {
    // q, sigma, steps, delta, theta of the line, reach along it in imaginary units.
    for (q, sigma, steps, delta, theta, reach) in [
        (0.01, 1.1, 10_000, 1e-6, 4.0, 9.0),
        (0.004, 1.1, 14_063, 1e-5, 7.5, 18.0),
        (0.01, 2.0, 10_000, 1e-12, 13.0, 18.0),
        (0.01, 100.0, 1_000_000, 1e-9, 60.0, 90.0),
        (1e-5, 2.0, 1_000_000, 1e-9, 955.0, 1700.0),
    ] {
        let base = Base::Gaussian { sigma };
        let found = epsilon(&[(Pair::Mixture { q, base }, steps)], delta).unwrap();
        let exact = contour_epsilon(q, sigma, steps as f64, delta, theta, reach);
        assert!(
            found >= exact * (1.0 - 1e-7),
            "q {q}: {found} below {exact}"
        );
        assert!(found <= exact * 1.0005, "q {q}: {found} above {exact}");
    }
}

fn contour_epsilon(q: f64, sigma: f64, steps: f64, delta: f64, theta: f64, reach: f64) -> f64 {
    const POINTS: usize = 300;
    // The loss and its probability on a uniform grid of u, far enough that what is beyond costs nothing.
    let h = 0.02;
    let points: Vec<(f64, f64)> = (-600..=(600.0 + 50.0 / sigma) as i64)
        .map(|i| {
            let u = i as f64 * h;
            let loss = log_mixture(q, u / sigma - 0.5 / (sigma * sigma));
            (loss, h * normal_density(u) * loss.exp())
        })
        // Beyond this, far out, e^(theta loss) would outgrow the probability.
        .filter(|(_, mass)| *mass > delta / steps * 1e-9)
        .collect();
    let line: Vec<(Complex64, Complex64)> = (0..=POINTS)
        .map(|k| {
            let s = Complex64::new(theta, reach * k as f64 / POINTS as f64);
            let excess: Complex64 = points
                .iter()
                .map(|(loss, mass)| ((s * loss).exp() - 1.0) * mass)
                .sum();
            (s, (excess + 1.0).ln() * steps)
        })
        .collect();
    let delta_at = |epsilon: f64| {
        let term = |(s, log_moment): &(Complex64, Complex64)| {
            ((log_moment - s * epsilon).exp() / (s * (s + 1.0))).re
        };
        let sum: f64 = line.iter().map(term).sum::<f64>() - 0.5 * term(&line[0]);
        sum * reach / POINTS as f64 / std::f64::consts::PI
    };
    let (mut low, mut high) = (0.0, 20.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        // Far below the answer the integral oscillates, but is large.
        if delta_at(middle).abs() > delta {
            low = middle
        } else {
            high = middle
        }
    }
    high
}

/// Losses beyond what e^x can hold: bounded by the Renyi value and by what one inclusion reveals, or refused.
#[test]
fn losses_beyond_the_range_of_the_exponential_are_bounded_or_refused() {
    let pairs = [
        (
            Pair::Mixture {
                q: 0.5,
                base: Base::Gaussian { sigma: 0.02 },
            },
            1,
        ),
        (
            Pair::Mixture {
                q: 1.0,
                base: Base::Laplace { scale: 0.001 },
            },
            2,
        ),
        (
            Pair::Mixture {
                q: 0.5,
                base: Base::Gaussian { sigma: 0.3 },
            },
            1_000_000,
        ),
    ];
    for (pair, least) in pairs.into_iter().zip([1250.0, 1990.0, 2_000_000.0]) {
        match epsilon(std::slice::from_ref(&pair), 1e-6) {
            Ok(found) => assert!(found > least && found.is_finite(), "{pair:?}: {found}"),
            Err(error) => assert!(
                matches!(error, AccountantError::NotConverged { .. }),
                "{pair:?}: {error}"
            ),
        }
    }
    let unending = [(
        Pair::Mixture {
            q: 0.5,
            base: Base::Gaussian { sigma: 1.0 },
        },
        1 << 53,
    )];
    assert!(matches!(
        epsilon(&unending, 1e-6),
        Err(AccountantError::NotConverged { .. })
    ));
}
