//! Trade-off functions: how well any test may tell two neighbours apart.
//!
//! With f the least type II error at a given type I error, an event of chance x
//! under one neighbour has at most the chance 1 - f(x) under the other. The
//! audit needs the inverse of x -> 1 - f(x).
//!
//! # Source
//! Dong, Roth and Su, "Gaussian Differential Privacy", 2022.

use crate::normal;

/// A symmetric trade-off function: it holds for both neighbours' roles.
#[derive(Debug, Clone, PartialEq)]
pub enum Tradeoff {
    /// N(0, 1) against N(mu, 1).
    Gaussian {
        /// The distance.
        mu: f64,
    },
    /// Everything that (epsilon, delta)-DP at each of these points allows together.
    ///
    /// Weaker than the mechanism's own curve between the points, so it is never
    /// refuted wrongly on that account (Dong, Roth and Su, 2022, on the trade-off function of (epsilon, delta)-DP).
    Curve(Vec<(f64, f64)>),
}

impl Tradeoff {
    /// The least chance under one neighbour of an event that has chance `y` under the other.
    pub(crate) fn least(&self, y: f64) -> f64 {
        match self {
            _ if y <= 0.0 => 0.0,
            Self::Gaussian { mu } => normal::cdf(normal::quantile(y.min(1.0)) - mu),
            Self::Curve(points) => {
                let at = |(epsilon, delta): &(f64, f64)| {
                    let small = (y - delta) * (-epsilon).exp();
                    let large = 1.0 - delta - (1.0 - y) * epsilon.exp();
                    small.max(large)
                };
                points.iter().map(at).fold(0.0, f64::max)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gaussian_lies_above_its_own_points_and_meets_them_nearly() {
        // Exact deltas of mu = 1 at these epsilons, by Balle and Wang's formula.
        let delta =
            |epsilon: f64| normal::cdf(0.5 - epsilon) - epsilon.exp() * normal::cdf(-0.5 - epsilon);
        let points = (0..400).map(|i| f64::from(i) / 50.0).map(|e| (e, delta(e)));
        let (curve, gaussian) = (
            Tradeoff::Curve(points.collect()),
            Tradeoff::Gaussian { mu: 1.0 },
        );
        for i in 1..1000 {
            let y = f64::from(i) / 1000.0;
            let (weaker, exact) = (curve.least(y), gaussian.least(y));
            assert!(weaker <= exact + 1e-14, "{y}: {weaker} above {exact}");
            assert!(exact - weaker < 1e-4, "{y}: {weaker} far below {exact}");
        }
    }

    #[test]
    fn perfect_privacy_keeps_every_chance() {
        for y in [0.0, 0.25, 1.0] {
            assert!((Tradeoff::Gaussian { mu: 0.0 }.least(y) - y).abs() < 1e-14);
            assert_eq!(Tradeoff::Curve(vec![(0.0, 0.0)]).least(y), y);
        }
    }
}
