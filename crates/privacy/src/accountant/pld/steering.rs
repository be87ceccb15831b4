//! Where to look: tilt, grid step and window for a composition.
//!
//! Nothing here needs to be right for the result to be sound; it decides only
//! how tight and how fast. The tilt theta is the one at which Chernoff's bound
//! on delta is best, i.e. the Renyi order minus 1.

use super::super::AccountantError;
use super::super::pair::{Pair, log_moment};
use super::super::rdp::{convert, minimise};

/// Relative error in epsilon that the discretisation aims at.
const TOLERANCE: f64 = 2e-4;
/// Largest FFT.
const POINTS_MAX: f64 = (1u64 << 21) as f64;
/// Finest grid, in steps from zero to the largest loss of one run.
const CELLS_MAX: f64 = (1u64 << 17) as f64;
const POINTS_MIN: f64 = (1u64 << 11) as f64;

/// The parameters of one composition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// Tilt.
    pub(super) theta: f64,
    /// Grid step, in loss.
    pub(super) step: f64,
    /// Grid points, even, with no prime factor above 3.
    pub(super) points: usize,
    /// First grid index of the window.
    pub(super) first: i64,
    /// Chernoff's epsilon, about where the answer lies.
    pub(super) center: f64,
    /// log E[e^(theta L)] of the composition, undiscretised.
    pub(super) log_moment: f64,
}

impl Plan {
    pub(super) fn new(
        pairs: &[(Pair, u64)],
        delta: f64,
        tail: f64,
        reverse: bool,
    ) -> Result<Self, AccountantError> {
        let parts: Vec<(Vec<(f64, f64)>, f64)> = pairs
            .iter()
            .map(|(pair, count)| {
                let mut samples = pair.samples(tail);
                if reverse {
                    samples.iter_mut().for_each(|(loss, log_mass)| {
                        (*loss, *log_mass) = (-*loss, *log_mass - *loss)
                    });
                }
                samples.retain(|(_, log_mass)| log_mass.is_finite());
                (samples, *count as f64)
            })
            .collect();
        let moment = |theta: f64| {
            parts
                .iter()
                .map(|(s, count)| count * log_moment(s, theta))
                .sum::<f64>()
        };
        let (center, theta) = minimise(-8.0, 40.0, |log_theta| {
            let theta = log_theta.exp2();
            (convert(moment(theta) / theta, theta + 1.0, delta), theta)
        });
        let log_moment = moment(theta);
        let (mean, variance) =
            parts
                .iter()
                .fold((0.0, 0.0), |(mean, variance), (samples, count)| {
                    let (m, v) = tilted(samples, theta);
                    (mean + count * m, variance + count * v)
                });
        if !(center.is_finite() && mean.is_finite() && variance.is_finite()) {
            return Err(AccountantError::NotConverged {
                reason: "no tilt has finite moments",
            });
        }
        let center = center.max(0.0);
        let deviation = variance.sqrt();
        // Wrapping from below is damped by e^(-theta width); from above by the tilted tail.
        let width = ((-delta.ln() + 14.0) / theta)
            .max(10.0 * deviation)
            .max(4.0 * (mean - center).abs());
        // The split of a cell raises log E[e^(theta L)] by theta (theta + 1) step^2 / 12 a run.
        let runs: f64 = parts.iter().map(|(_, count)| count).sum();
        let aim = center.max(deviation * 0.1).max(1e-12);
        let step = (12.0 * TOLERANCE * aim / (runs * (theta + 1.0))).sqrt();
        // Bounded losses drive theta, and so the step, to extremes that gain nothing.
        let reach = parts
            .iter()
            .flat_map(|(s, _)| s)
            .map(|(loss, _)| loss.abs())
            .fold(0.0, f64::max);
        let step = step.max(reach / CELLS_MAX);
        // The next 2^k or 3 * 2^k.
        let wanted = (width / step).clamp(POINTS_MIN, POINTS_MAX);
        let power = wanted.log2().ceil().exp2();
        let points = if wanted <= 0.75 * power {
            0.75 * power
        } else {
            power
        };
        let step = (width / points).max(reach / CELLS_MAX);
        let width = step * points;
        let first = ((center - 0.5 * width) / step).floor();
        if !(step > 0.0 && first.abs() < 2f64.powi(52)) {
            return Err(AccountantError::NotConverged {
                reason: "its losses are too small for a grid",
            });
        }
        Ok(Self {
            theta,
            step,
            points: points as usize,
            first: first as i64,
            center,
            log_moment,
        })
    }
}

/// Mean and variance of the loss under the tilted distribution.
fn tilted(samples: &[(f64, f64)], theta: f64) -> (f64, f64) {
    let norm = log_moment(samples, theta);
    let weight = |(loss, log_mass): &(f64, f64)| (log_mass + theta * loss - norm).exp();
    let mean: f64 = samples.iter().map(|s| weight(s) * s.0).sum();
    let variance: f64 = samples
        .iter()
        .map(|s| weight(s) * (s.0 - mean).powi(2))
        .sum();
    (mean, variance)
}
