//! The composition itself, and epsilon read off it with every error added.

use super::super::AccountantError;
use super::super::pair::log_sum_exp;
use super::discretise::Discrete;
use super::steering::Plan;
use rustfft::FftPlanner;
use rustfft::num_complex::Complex64;

/// Relative error of a discretised mass, from quadrature and exponentials.
const MASS_ERROR: f64 = 1e-12;
/// Relative L2 error of an FFT per halving: Higham, "Accuracy and Stability of
/// Numerical Algorithms", 2002, the chapter on the FFT, with generous constants.
const FFT_ERROR: f64 = 2e-15;
/// What that may add up to over all runs, relative to delta, or the value is refused.
const RUNS_ERROR_MAX: f64 = 1e-2;
/// Epsilon may be overstated by this share through discretisation, or the value is refused.
const DISCRETISATION_MAX: f64 = 0.01;

/// Upper bounds on the composed distribution, on the window of the plan.
#[derive(Debug)]
pub(super) struct Composed {
    step: f64,
    first: i64,
    /// Mass under P at `(first + i) * step`, at most.
    mass: Vec<f64>,
    /// What to add to delta: mass left out of the pairs, or above the window.
    lost: f64,
}

impl Composed {
    pub(super) fn new(parts: &[(Discrete, u64)], plan: &Plan) -> Result<Self, AccountantError> {
        let n = plan.points;
        let transform = FftPlanner::new().plan_fft_forward(n);
        // The product, and its size with each factor raised by its error.
        let half = n / 2 + 1;
        let mut product = vec![Complex64::new(1.0, 0.0); half];
        let mut upper = vec![1.0; half];
        let mut log_moment = 0.0;
        for (part, count) in parts {
            let (mut buffer, log_norm, l2) = tilted_ring(part, plan.theta, n);
            log_moment += *count as f64 * log_norm;
            transform.process(&mut buffer);
            // A power rounds once or twice per factor, relative to its own size.
            let error = fft_error(n) * (n as f64).sqrt() * l2 + 8.0 * f64::EPSILON;
            for (k, value) in buffer[..half].iter().enumerate() {
                product[k] *= power(*value, *count);
                upper[k] *= power(Complex64::new(value.norm() + error, 0.0), *count).re;
            }
        }
        let discretisation = (log_moment - plan.log_moment) / plan.theta;
        if discretisation.is_nan() || discretisation > DISCRETISATION_MAX * plan.center {
            return Err(AccountantError::NotConverged {
                reason: "the finest grid allowed is too coarse for it",
            });
        }

        let mut buffer = vec![Complex64::default(); n];
        let (mut error, mut squares) = (0.0, 0.0);
        for k in 0..half {
            let copies = if k == 0 || 2 * k == n { 1.0 } else { 2.0 };
            let size = product[k].norm();
            error += copies * (upper[k] - size + 4.0 * f64::EPSILON * size);
            squares += copies * size * size;
            // Conjugated, so that the same forward transform inverts it: the result is real.
            buffer[k] = product[k].conj();
            buffer[(n - k) % n] = product[k];
        }
        transform.process(&mut buffer);
        // Per point: the transforms' error by the triangle inequality, the inverse's own by its L2 bound.
        let point_error = error / n as f64 + fft_error(n) * (squares / n as f64).sqrt();
        let runs: f64 = parts.iter().map(|(_, count)| *count as f64).sum();
        if runs * MASS_ERROR > RUNS_ERROR_MAX {
            return Err(AccountantError::NotConverged {
                reason: "so many runs exceed double precision",
            });
        }
        let log_weight = log_moment + runs * MASS_ERROR;
        let mass = (0..n)
            .map(|i| {
                let index = plan.first + i as i64;
                let value = buffer[index.rem_euclid(n as i64) as usize].re / n as f64;
                let log_untilt = log_weight - plan.theta * (index as f64 * plan.step);
                (value.max(0.0) + point_error) * log_untilt.exp()
            })
            .collect();
        let top = (plan.first + n as i64 - 1) as f64 * plan.step;
        let lost_in_pairs: f64 = parts
            .iter()
            .map(|(part, count)| part.lost * *count as f64)
            .sum();
        let lost = lost_in_pairs + tail_above(parts, top, plan.theta);
        Ok(Self {
            step: plan.step,
            first: plan.first,
            mass,
            lost,
        })
    }

    /// The smallest epsilon in the window with delta(epsilon) <= `delta`.
    pub(super) fn epsilon(&self, delta: f64) -> Result<f64, AccountantError> {
        let target = delta - self.lost;
        if target.is_nan() || target <= 0.5 * delta {
            return Err(AccountantError::NotConverged {
                reason: "too much of it lies outside the window",
            });
        }
        // Going down from the top: p is the mass above `loss` under P, and q under Q times e^loss.
        let (mut p, mut q) = (0.0, 0.0);
        for (i, mass) in self.mass.iter().enumerate().rev() {
            let loss = (self.first + i as i64) as f64 * self.step;
            // delta(epsilon) = p - e^(epsilon - loss) q from here to the next point, falling.
            if p - q > target {
                return finite((loss + ((p - target) / q).ln()).max(0.0));
            }
            if loss < 0.0 {
                return finite(0.0 * (p - q));
            }
            p += mass;
            q = (q + mass) * (-self.step).exp();
        }
        // delta is met at the bottom of the window already.
        finite((self.first as f64 * self.step).max(0.0) + 0.0 * (p - q))
    }
}

/// Refuses what overflowed on the way; a NaN in the sums ends up here, too.
fn finite(epsilon: f64) -> Result<f64, AccountantError> {
    if epsilon.is_finite() {
        return Ok(epsilon);
    }
    Err(AccountantError::NotConverged {
        reason: "its numbers exceed double precision",
    })
}

/// The pair's masses times e^(theta loss), normalised, wrapped onto n points: with log of the norm and the L2 norm.
fn tilted_ring(part: &Discrete, theta: f64, n: usize) -> (Vec<Complex64>, f64, f64) {
    let exponents = tilted_exponents(part, theta);
    let log_norm = log_sum_exp(&exponents);
    let mut ring = vec![Complex64::default(); n];
    for (i, exponent) in exponents.iter().enumerate() {
        let index = (part.first + i as i64).rem_euclid(n as i64) as usize;
        ring[index].re += (exponent - log_norm).exp();
    }
    let l2 = ring
        .iter()
        .map(|value| value.re * value.re)
        .sum::<f64>()
        .sqrt();
    (ring, log_norm, l2)
}

fn tilted_exponents(part: &Discrete, theta: f64) -> Vec<f64> {
    part.mass
        .iter()
        .enumerate()
        .map(|(i, mass)| mass.ln() + theta * part.loss(i))
        .collect()
}

/// P(L > top) for the composition, by the best of a few Chernoff bounds.
fn tail_above(parts: &[(Discrete, u64)], top: f64, theta: f64) -> f64 {
    [1.0, 2.0, 4.0]
        .into_iter()
        .map(|factor| {
            let tilt = factor * theta;
            let log_moment: f64 = parts
                .iter()
                .map(|(part, count)| *count as f64 * log_sum_exp(&tilted_exponents(part, tilt)))
                .sum();
            (log_moment - tilt * top).exp()
        })
        .fold(f64::INFINITY, f64::min)
}

/// z^count by squaring.
fn power(mut z: Complex64, mut count: u64) -> Complex64 {
    let mut result = Complex64::new(1.0, 0.0);
    while count > 0 {
        if count & 1 == 1 {
            result *= z;
        }
        z *= z;
        count >>= 1;
    }
    result
}

fn fft_error(n: usize) -> f64 {
    FFT_ERROR * (n as f64).log2()
}
