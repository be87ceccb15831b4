//! The normal distribution function and its inverse, to about 1e-14 relative.
//!
//! Deliberately absent: speed; an audit asks a few hundred thousand times.

use std::f64::consts::{PI, SQRT_2};

/// P(Z <= x).
pub(crate) fn cdf(x: f64) -> f64 {
    0.5 * erfc(-x / SQRT_2)
}

/// Smaller chances are taken for none.
const CHANCE_MIN: f64 = 1e-300;

/// The x with `cdf(x) == p`; infinite at 0 and 1.
pub(crate) fn quantile(p: f64) -> f64 {
    if p < CHANCE_MIN {
        return f64::NEG_INFINITY;
    }
    if p >= 1.0 {
        return f64::INFINITY;
    }
    if p > 0.5 {
        return -quantile(1.0 - p);
    }
    // Newton on ln cdf, which is concave: from the left of the root it never oversteps. The start
    // is to the left, as cdf(-s) <= exp(-s^2/2) / 2.
    let target = p.ln();
    let mut x = -(-2.0 * target).sqrt();
    for _ in 0..60 {
        let value = cdf(x);
        let step = (value.ln() - target) * value / density(x);
        x -= step;
        if step.abs() <= 1e-15 * (1.0 + x.abs()) {
            break;
        }
    }
    x
}

fn density(x: f64) -> f64 {
    (-0.5 * x * x).exp() / (2.0 * PI).sqrt()
}

/// The complementary error function: its series below 2, Laplace's continued fraction above.
///
/// # Source
/// Abramowitz and Stegun, "Handbook of Mathematical Functions", 1964, 7.1.6 and 7.1.14.
fn erfc(x: f64) -> f64 {
    if x < 0.0 {
        return 2.0 - erfc(-x);
    }
    if x < 2.0 {
        let (mut term, mut sum, mut n) = (x, x, 0.0);
        while term > 1e-17 * sum {
            n += 1.0;
            term *= 2.0 * x * x / (2.0 * n + 1.0);
            sum += term;
        }
        return 1.0 - 2.0 / PI.sqrt() * (-x * x).exp() * sum;
    }
    // 130 terms at 2, fewer further out: beyond them nothing changes.
    let terms = (30.0 + 400.0 / (x * x)) as u32;
    let fraction = (1..=terms)
        .rev()
        .fold(0.0, |below, k| 0.5 * f64::from(k) / (x + below));
    (-x * x).exp() / PI.sqrt() / (x + fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference values: Python's `statistics.NormalDist().cdf`, and mpmath's for the tails.
    #[test]
    fn known_values_are_met() {
        for (x, expected) in [
            (0.0, 0.5),
            (1.0, 0.841_344_746_068_542_9),
            (-2.5, 0.006_209_665_325_776_132),
            (-6.0, 9.865_876_450_376_98e-10),
            (-10.0, 7.619_853_024_160_527e-24),
        ] {
            assert!((cdf(x) / expected - 1.0).abs() < 1e-12, "{x}: {}", cdf(x));
        }
    }

    #[test]
    fn the_quantile_undoes_the_distribution() {
        for i in -80..=80 {
            let x = f64::from(i) / 10.0;
            let p = cdf(x);
            // Near 1, p itself cannot resolve x better.
            let tolerance = 1e-11 + 1e-15 / density(x);
            assert!((quantile(p) - x).abs() < tolerance, "{x}: {}", quantile(p));
        }
        assert_eq!(quantile(0.0), f64::NEG_INFINITY);
        assert_eq!(quantile(1.0), f64::INFINITY);
    }
}
