//! Privacy loss distributions, composed by one exponentially tilted FFT.
//!
//! ```text
//! pairs -> choose theta, step, window (steering.rs; affects tightness only)
//!       -> discretise (pessimistic) -> tilt by e^(theta L) -> FFT -> powers -> inverse -> untilt
//!       -> delta(epsilon) with every error added -> epsilon
//! ```
//! Tilting centres the composed distribution on the losses that decide epsilon,
//! so that a delta of 1e-12 is not lost in the FFT's rounding. What wraps
//! around, is truncated or is rounded is bounded and added (`proof.md`).
//! Deliberately absent: estimates. A result whose discretisation cannot be
//! vouched for is refused.
//!
//! # Source
//! Koskela, Jälkö and Honkela, "Computing Tight Differential Privacy Guarantees
//! Using FFT", 2020; Gopi, Lee and Wutschitz, "Numerical Composition of
//! Differential Privacy", 2021; the tilt is Esscher's, 1932.

mod compose;
mod discretise;
mod steering;
#[cfg(test)]
mod test;

use super::AccountantError;
use super::pair::Pair;

/// An upper bound on epsilon for independent runs of the pairs, over both directions.
pub(crate) fn epsilon(pairs: &[(Pair, u64)], delta: f64) -> Result<f64, AccountantError> {
    if pairs.is_empty() {
        return Ok(0.0);
    }
    let removed = one_direction(pairs, delta, false)?;
    if pairs.iter().all(|(pair, _)| pair.is_symmetric()) || added_at_most(pairs, delta, removed)? {
        return Ok(removed);
    }
    Ok(removed.max(one_direction(pairs, delta, true)?))
}

/// Whether Chernoff's bound already shows that adding a unit costs no more than that.
///
/// It is evaluated at half of delta: the other half covers truncation (two
/// millionths) and quadrature (far below a factor of 2 in delta).
fn added_at_most(pairs: &[(Pair, u64)], delta: f64, epsilon: f64) -> Result<bool, AccountantError> {
    let tail = SHARE * delta / runs(pairs);
    Ok(steering::Plan::new(pairs, 0.5 * delta, tail, true)?.center <= epsilon)
}

fn runs(pairs: &[(Pair, u64)]) -> f64 {
    pairs.iter().map(|(_, count)| *count as f64).sum()
}

/// Share of delta that each of the errors below may take.
const SHARE: f64 = 1e-6;

fn one_direction(pairs: &[(Pair, u64)], delta: f64, reverse: bool) -> Result<f64, AccountantError> {
    let tail = SHARE * delta / runs(pairs);
    let plan = steering::Plan::new(pairs, delta, tail, reverse)?;
    let mut parts = Vec::with_capacity(pairs.len());
    for (pair, count) in pairs {
        let grid = discretise::Discrete::new(pair, plan.step, tail)?;
        parts.push((if reverse { grid.reversed()? } else { grid }, *count));
    }
    compose::Composed::new(&parts, &plan)?.epsilon(delta)
}
