//! Dominating pairs: what each event looks like to the strongest adversary.
//!
//! ```text
//! P = (1-q) Q + q R   with the unit,   Q   without it;   loss L = log dP/dQ
//! ```
//! A pair (P, Q) dominates a mechanism if no test tells two neighbouring data
//! sets apart better than P from Q (Zhu, Dong and Wang, "Optimal Accounting of
//! Differential Privacy via Characteristic Function", 2022). For noise added to
//! a Poisson-sampled sum, R and Q are the noise with and without the unit.
//! Everything the accountants need from a pair is here; how they compose is not.

use super::Event;
use super::quadrature::nodes;
use super::rdp::log_mixture;
use std::f64::consts::{LN_2, TAU};

/// A dominating pair of one run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Pair {
    /// P = (1-q) Q + q R for a noise distribution.
    Mixture { q: f64, base: Base },
    /// Finitely many losses: (loss, its probability under P).
    Atoms(Vec<(f64, f64)>),
}

/// Additive noise at sensitivity 1, as a density in a coordinate u in which log dR/dQ is linear.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Base {
    Gaussian { sigma: f64 },
    Laplace { scale: f64 },
}

/// The pair and the number of runs; `None` for what only Renyi accounting knows.
pub(crate) fn pair_of(event: &Event) -> Option<(Pair, u64)> {
    let mixture = |q, base| Pair::Mixture { q, base };
    Some(match *event {
        Event::SampledGaussian { q, sigma, steps } => (mixture(q, Base::Gaussian { sigma }), steps),
        Event::Gaussian { sigma, count } => (mixture(1.0, Base::Gaussian { sigma }), count),
        Event::Laplace { scale, count } => (mixture(1.0, Base::Laplace { scale }), count),
        Event::SampledLaplace { q, scale, count } => (mixture(q, Base::Laplace { scale }), count),
        Event::DiscreteLaplace {
            parameter,
            sensitivity,
            count,
        } => (Pair::Atoms(discrete_laplace(parameter, sensitivity)), count),
        Event::Approximate { epsilon, count, .. } => {
            (Pair::Atoms(randomised_response(epsilon)), count)
        }
        Event::Zcdp { .. } | Event::Noise { .. } => return None,
    })
}

/// The worst epsilon-DP mechanism there is.
///
/// # Source
/// Kairouz, Oh and Viswanath, "The Composition Theorem for Differential Privacy", 2015.
fn randomised_response(epsilon: f64) -> Vec<(f64, f64)> {
    if epsilon == 0.0 {
        return vec![(0.0, 1.0)];
    }
    let other = 1.0 / (1.0 + epsilon.exp());
    vec![(epsilon, 1.0 - other), (-epsilon, other)]
}

/// P(x) proportional to r^|x|, r = e^-a, against itself shifted by s: losses a (s - 2x) for 0 <= x <= s.
fn discrete_laplace(parameter: f64, sensitivity: u64) -> Vec<(f64, f64)> {
    const ATOMS_MAX: u64 = 10_000;
    let s = sensitivity as f64;
    if sensitivity > ATOMS_MAX {
        return randomised_response(parameter * s);
    }
    let end = 1.0 / (1.0 + (-parameter).exp());
    let inner = -(-parameter).exp_m1() * end;
    let mut atoms = vec![
        (parameter * s, end),
        (-parameter * s, end * (-parameter * s).exp()),
    ];
    atoms.extend((1..sensitivity).map(|x| {
        let x = x as f64;
        (parameter * (s - 2.0 * x), inner * (-parameter * x).exp())
    }));
    atoms
}

impl Base {
    /// log dR/dQ at u.
    pub(crate) fn ratio(self, u: f64) -> f64 {
        match self {
            Base::Gaussian { sigma } => u / sigma - 0.5 / (sigma * sigma),
            Base::Laplace { .. } => u,
        }
    }

    /// The u at which log dR/dQ is z.
    pub(crate) fn coordinate(self, z: f64) -> f64 {
        match self {
            Base::Gaussian { sigma } => sigma * z + 0.5 / sigma,
            Base::Laplace { .. } => z,
        }
    }

    /// d/du log dR/dQ.
    pub(crate) fn slope(self) -> f64 {
        match self {
            Base::Gaussian { sigma } => 1.0 / sigma,
            Base::Laplace { .. } => 1.0,
        }
    }

    /// Log density of Q in u: the standard normal, or what Laplace noise has strictly between its two atoms.
    pub(crate) fn log_density(self, u: f64) -> f64 {
        match self {
            Base::Gaussian { .. } => -0.5 * (u * u + TAU.ln()),
            Base::Laplace { scale } => -0.5 * (u + 1.0 / scale) - 2.0 * LN_2,
        }
    }

    /// Width of a quadrature panel on which density and ratio are tame.
    pub(crate) fn panel(self) -> f64 {
        match self {
            Base::Gaussian { sigma } => 0.25 * sigma.clamp(0.1, 1.0),
            Base::Laplace { scale } => (0.5 / scale).min(0.5),
        }
    }

    /// Where log dR/dQ has atoms: (z, log probability under Q).
    pub(crate) fn atoms(self) -> Vec<(f64, f64)> {
        match self {
            Base::Gaussian { .. } => Vec::new(),
            Base::Laplace { scale } => {
                vec![(-1.0 / scale, -LN_2), (1.0 / scale, -LN_2 - 1.0 / scale)]
            }
        }
    }

    /// An interval of u outside which Q below and P above have at most `tail` each, and what they have.
    pub(crate) fn range(self, q: f64, tail: f64) -> (f64, f64, f64) {
        match self {
            Base::Laplace { scale } => (-1.0 / scale, 1.0 / scale, 0.0),
            Base::Gaussian { sigma } => {
                // P(Z > x) <= e^(-x^2/2) / 2 for x >= 0.
                let reach = |mass: f64| (2.0 * (0.5 / mass).ln()).max(0.0).sqrt();
                let (low, high) = (
                    -reach(tail),
                    (1.0 / sigma + reach(tail / (2.0 * q))).max(reach(tail / 2.0)),
                );
                (low, high, 2.0 * tail)
            }
        }
    }
}

impl Pair {
    /// The pair as finitely many (loss, log of its probability under P), by
    /// quadrature: for choosing parameters and for smooth moments, not for tails.
    pub(crate) fn samples(&self, tail: f64) -> Vec<(f64, f64)> {
        let (q, base) = match self {
            Pair::Atoms(atoms) => {
                return atoms
                    .iter()
                    .map(|(loss, mass)| (*loss, mass.ln()))
                    .collect();
            }
            Pair::Mixture { q, base } => (*q, *base),
        };
        let mut out = Vec::new();
        let mut push = |z: f64, log_q: f64| {
            let loss = log_mixture(q, z);
            out.push((loss, log_q + loss));
        };
        base.atoms()
            .into_iter()
            .for_each(|(z, log_mass)| push(z, log_mass));
        let (low, high, _) = base.range(q, tail);
        nodes(low, high, base.panel(), |u, weight| {
            push(base.ratio(u), weight.ln() + base.log_density(u))
        });
        out
    }

    /// Whether (P, Q) and (Q, P) have the same losses.
    pub(crate) fn is_symmetric(&self) -> bool {
        match self {
            Pair::Mixture { q, .. } => *q == 1.0,
            Pair::Atoms(_) => true,
        }
    }

    /// The largest loss, infinite for the Gaussian.
    pub(crate) fn loss_max(&self) -> f64 {
        match self {
            Pair::Atoms(atoms) => atoms.iter().map(|(loss, _)| loss.abs()).fold(0.0, f64::max),
            Pair::Mixture {
                q,
                base: Base::Laplace { scale },
            } => log_mixture(*q, 1.0 / scale),
            Pair::Mixture {
                base: Base::Gaussian { .. },
                ..
            } => f64::INFINITY,
        }
    }
}

/// log(sum of e^(log_mass + theta * loss)).
pub(crate) fn log_moment(samples: &[(f64, f64)], theta: f64) -> f64 {
    let terms: Vec<f64> = samples
        .iter()
        .map(|(loss, log_mass)| log_mass + theta * loss)
        .collect();
    log_sum_exp(&terms)
}

/// log(sum of e^x), without overflow.
pub(crate) fn log_sum_exp(terms: &[f64]) -> f64 {
    let largest = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !largest.is_finite() {
        return largest;
    }
    largest + terms.iter().map(|x| (x - largest).exp()).sum::<f64>().ln()
}
