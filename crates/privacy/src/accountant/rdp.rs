//! Renyi differential privacy, at any real order above 1.
//!
//! Renyi divergences add up under adaptive composition (Mironov, "Renyi
//! Differential Privacy", 2017, Proposition 1), so a list of events costs the
//! sum of its parts at every order; each order then gives a sound epsilon, and
//! the smallest is reported. Deliberately absent: an optimality claim. The
//! search over orders only affects how tight the bound is.

use super::Event;
use super::pair::{Base, Pair, log_moment, log_sum_exp, pair_of};

/// Orders searched: alpha - 1 from 2^-7 to 2^17.
const LOG_ORDER_MIN: f64 = -7.0;
const LOG_ORDER_MAX: f64 = 17.0;

/// The Renyi divergence of order `alpha` between neighbours, over both directions.
///
/// Infinite where no finite bound is known. `Noise` and the delta part of
/// `Approximate` are not Renyi costs; [`super::epsilon`] takes them off delta.
#[must_use]
pub fn renyi(event: &Event, alpha: f64) -> f64 {
    let (per_run, count) = match *event {
        Event::Zcdp { rho } => (rho * alpha, 1),
        Event::Noise { .. } => (0.0, 0),
        _ => match pair_of(event) {
            Some((pair, count)) => (pair_divergence(&pair, alpha), count),
            None => (f64::INFINITY, 1),
        },
    };
    if count == 0 {
        0.0
    } else {
        per_run * count as f64
    }
}

/// The divergence of a whole list.
#[must_use]
pub fn renyi_sum(events: &[Event], alpha: f64) -> f64 {
    events.iter().map(|event| renyi(event, alpha)).sum()
}

/// Epsilon at `delta` for a divergence at one order; may be negative.
///
/// # Source
/// Canonne, Kamath and Steinke, "The Discrete Gaussian for Differential
/// Privacy", 2020, Proposition 12.
#[must_use]
pub fn convert(divergence: f64, alpha: f64, delta: f64) -> f64 {
    divergence + (-1.0 / alpha).ln_1p() - (delta.ln() + alpha.ln()) / (alpha - 1.0)
}

/// The smallest epsilon over all orders, and the order it is found at.
pub(crate) fn epsilon(events: &[Event], delta: f64) -> (f64, f64) {
    let at = |log_order: f64| {
        let alpha = 1.0 + log_order.exp2();
        (convert(renyi_sum(events, alpha), alpha, delta), alpha)
    };
    minimise(LOG_ORDER_MIN, LOG_ORDER_MAX, at)
}

/// A coarse grid, then golden sections around its best point. Any answer is sound.
pub(crate) fn minimise(low: f64, high: f64, at: impl Fn(f64) -> (f64, f64)) -> (f64, f64) {
    const GRID: usize = 25;
    const GOLDEN: f64 = 0.618_033_988_749_895;
    let step = (high - low) / (GRID - 1) as f64;
    let (mut best, mut best_x) = ((f64::INFINITY, f64::NAN), low);
    for i in 0..GRID {
        let x = low + step * i as f64;
        let value = at(x);
        if value.0 < best.0 {
            (best, best_x) = (value, x);
        }
    }
    let (mut a, mut b) = ((best_x - step).max(low), (best_x + step).min(high));
    for _ in 0..24 {
        let (x1, x2) = (b - GOLDEN * (b - a), a + GOLDEN * (b - a));
        let (v1, v2) = (at(x1), at(x2));
        if v1.0 < v2.0 {
            b = x2
        } else {
            a = x1
        }
        for value in [v1, v2] {
            if value.0 < best.0 {
                best = value;
            }
        }
    }
    best
}

/// The larger of the two directions' divergences.
fn pair_divergence(pair: &Pair, alpha: f64) -> f64 {
    /// Largest exponent across a pair's losses for which its quadrature is accurate.
    const EXPONENT_MAX: f64 = 60.0;
    if let Pair::Mixture {
        q,
        base: Base::Gaussian { sigma },
    } = *pair
    {
        return if q == 1.0 {
            alpha / (2.0 * sigma * sigma)
        } else {
            sampled_gaussian(q, sigma, alpha)
        };
    }
    // A divergence is at most the largest loss, which is also what it tends to.
    let loss_max = pair.loss_max();
    if alpha * loss_max > EXPONENT_MAX {
        return loss_max;
    }
    let samples = pair.samples(0.0);
    // E_P[e^((alpha-1) L)], and E_P[e^(-alpha L)] for Q against P.
    let forward = log_moment(&samples, alpha - 1.0);
    let backward = log_moment(&samples, -alpha);
    const SLACK: f64 = 1e-12;
    ((forward.max(backward) + SLACK) / (alpha - 1.0)).clamp(0.0, loss_max)
}

/// Renyi divergence of (1-q) N(0, sigma^2) + q N(1, sigma^2) from N(0, sigma^2),
/// which is the larger of the two directions.
///
/// # Source
/// Mironov, Talwar and Zhang, "Renyi Differential Privacy of the Sampled
/// Gaussian Mechanism", 2019, which also shows that this direction is the larger
/// one. Their series for fractional orders alternates; here the same expectation is a trapezoidal sum, whose
/// terms are positive and whose error `proof.md` bounds below 1e-15.
fn sampled_gaussian(q: f64, sigma: f64, alpha: f64) -> f64 {
    /// Standard deviations kept beyond the last mode on either side.
    const REACH: f64 = 12.0;
    const POINTS_MAX: f64 = 20_000.0;
    let unsampled = alpha / (2.0 * sigma * sigma);
    let h = 0.4 * sigma.min(1.0);
    let (low, high) = (-REACH, REACH + alpha / sigma);
    if (high - low) / h > POINTS_MAX {
        return unsampled;
    }
    let exponent = |u: f64| {
        let z = u / sigma - 0.5 / (sigma * sigma);
        alpha * log_mixture(q, z) - u * u / 2.0
    };
    let points = ((high - low) / h) as usize;
    let exponents: Vec<f64> = (0..=points).map(|i| exponent(low + h * i as f64)).collect();
    let largest = exponents.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let body = log_sum_exp(&exponents) + (h / std::f64::consts::TAU.sqrt()).ln();
    // Beyond the ends the exponent falls by at least REACH per unit, so each tail is at most its
    // end point over REACH: below e^-70 of the body. With the rounding of `points` additions and of
    // the exponents that is less than:
    let slack = f64::EPSILON * (16.0 + points as f64 + 16.0 * largest.abs());
    ((body + slack) / (alpha - 1.0)).clamp(0.0, unsampled)
}

/// log(1 - q + q e^z), for any z, without cancellation.
pub(crate) fn log_mixture(q: f64, z: f64) -> f64 {
    if q == 1.0 {
        z
    } else if z > 30.0 {
        z + q.ln() + ((1.0 - q) / q * (-z).exp()).ln_1p()
    } else if z < -1.0 && q > 0.5 {
        (1.0 - q + q * z.exp()).ln()
    } else {
        (q * z.exp_m1()).ln_1p()
    }
}
