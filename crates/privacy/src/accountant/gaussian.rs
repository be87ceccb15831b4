//! Plain Gaussian mechanisms, exactly.
//!
//! Any composition of Gaussian mechanisms is one Gaussian mechanism with
//! mu^2 = sum of count/sigma^2 (Dong, Roth and Su, "Gaussian Differential
//! Privacy", 2022, on composition), whose curve Balle and Wang give in closed form
//! ("Improving the Gaussian Mechanism for Differential Privacy", 2018,
//! Theorem 8): delta = Phi(mu/2 - eps/mu) - e^eps Phi(-mu/2 - eps/mu).

use super::quadrature::{integrate, normal_density};

/// Covers the quadrature's relative error, so that the result is an upper bound.
const SLACK: f64 = 1.0 + 1e-11;

/// The smallest delta at which the mechanism is (epsilon, delta)-DP.
///
/// The difference above cancels badly, so it is evaluated as one integral of a
/// non-negative function, E[(1 - e^(eps - L))+], with L = mu^2/2 + mu Z.
pub(crate) fn delta(mu: f64, epsilon: f64) -> f64 {
    let start = epsilon / mu - mu / 2.0;
    let end = start.max(0.0) + 10.0;
    // Beyond `end`, the integrand is below the density, whose tail is below e^-50 of its value at start.
    let from = start.max(-40.0);
    // Where the loss has grown by 40 the first factor is 1 but for e^-40, however large mu is.
    let knee = (from + 40.0 / mu).min(end);
    let part = |from: f64, to: f64, width: f64| {
        integrate(from, to, width, |u| {
            -(mu * (start - u)).exp_m1() * normal_density(u)
        })
    };
    SLACK * (part(from, knee, 0.125 * (1.0 / mu).min(1.0)) + part(knee, end, 0.125))
}

/// The smallest epsilon at that delta, rounded up; 0 if none is needed.
pub(crate) fn epsilon(mu: f64, delta_target: f64) -> f64 {
    if mu == 0.0 || delta(mu, 0.0) <= delta_target {
        return 0.0;
    }
    // By Chernoff, P(L > eps) <= delta at this epsilon.
    let (mut low, mut high) = (
        0.0,
        mu * mu / 2.0 + mu * (2.0 * (1.0 / delta_target).ln()).sqrt(),
    );
    while high - low > 1e-13 * high {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            break;
        }
        if delta(mu, middle) > delta_target {
            low = middle
        } else {
            high = middle
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values from the oracle's rows h26, h28, h32, h33 (column `eps_exact`).
    #[test]
    fn known_values_are_met() {
        for (mu, delta, expected) in [
            (1.0 / 0.3, 1e-5, 19.130_767_834_361_926),
            (1.0, 1e-6, 4.886_554_117_462_159),
            (1.0, 1e-10, 6.547_924_066_864_953),
            (0.01, 1e-5, 0.027_219_419_814_571_183),
            // mpmath at 60 digits.
            (1000.0, 1e-5, 504_263.892_920_654_1),
            (20.0, 1e-10, 326.358_950_514_882_7),
        ] {
            let found = epsilon(mu, delta);
            assert!(
                (found / expected - 1.0).abs() < 1e-9,
                "mu {mu}: {found} against {expected}"
            );
        }
    }

    #[test]
    fn enough_noise_needs_no_epsilon_at_all() {
        assert_eq!(epsilon(1e-9, 1e-6), 0.0);
    }
}
