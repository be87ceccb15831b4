//! One dominating pair on a grid of losses, rounded the pessimistic way.
//!
//! All of a cell's mass moves to the cell's two ends, so that its mass under P
//! and its mass under Q both stay what they were. That spreads the likelihood
//! ratio out while keeping its mean, so every hockey-stick divergence, being
//! convex in it, can only grow: the discrete pair dominates, in both
//! directions. The error is of second order in the grid step.
//!
//! # Source
//! Doroshenko, Ghazi, Kamath, Kumar and Manurangsi, "Connect the Dots: Tighter
//! Discrete Approximations of Privacy Loss Distributions", 2022; `proof.md`
//! has the argument by cells, which the code follows.

use super::super::AccountantError;
use super::super::pair::{Base, Pair};
use super::super::quadrature::nodes;

/// More cells than this are refused.
const CELLS_MAX: f64 = (1u64 << 22) as f64;

/// A pair on the grid: mass `mass[i]` under P at loss `(first + i) * step`.
///
/// Under Q the same point has `mass[i] * exp(-loss)`.
#[derive(Debug, Clone)]
pub(super) struct Discrete {
    pub(super) first: i64,
    pub(super) step: f64,
    pub(super) mass: Vec<f64>,
    /// Mass left out, at most, under P and under Q.
    pub(super) lost: f64,
}

impl Discrete {
    /// - `tail`: how much mass may be left out at either end.
    ///
    /// # Errors
    /// [`AccountantError::NotConverged`] if the grid is too fine for the pair's range.
    pub(super) fn new(pair: &Pair, step: f64, tail: f64) -> Result<Self, AccountantError> {
        match pair {
            Pair::Atoms(atoms) => {
                let (low, high) = atoms.iter().fold(
                    (f64::INFINITY, f64::NEG_INFINITY),
                    |(low, high), (loss, _)| (low.min(*loss), high.max(*loss)),
                );
                let mut grid = Self::empty(low, high, step)?;
                atoms
                    .iter()
                    .for_each(|(loss, mass)| grid.add_atom(*loss, *mass));
                Ok(grid)
            }
            Pair::Mixture { q, base } => {
                let mixture = Mixture { q: *q, base: *base };
                let (low, high, lost) = base.range(*q, tail);
                let mut grid = Self::empty(mixture.loss(low), mixture.loss(high), step)?;
                grid.lost = lost;
                for (z, log_mass) in base.atoms() {
                    let loss = mixture.loss_at_ratio(z);
                    grid.add_atom(loss, (log_mass + loss).exp());
                }
                for i in 0..grid.mass.len() - 1 {
                    let (at_low, at_high) = mixture.split(grid.first + i as i64, step, low, high);
                    grid.mass[i] += at_low;
                    grid.mass[i + 1] += at_high;
                }
                Ok(grid)
            }
        }
    }

    /// The pair (Q, P) on the negated grid: the other direction of the same pair.
    ///
    /// # Errors
    /// [`AccountantError::NotConverged`] where Q's mass cannot be told from P's, which underflows.
    pub(super) fn reversed(&self) -> Result<Self, AccountantError> {
        const LOSS_MIN: f64 = -600.0;
        if self.loss(0) < LOSS_MIN {
            return Err(AccountantError::NotConverged {
                reason: "its losses exceed double precision",
            });
        }
        let last = self.first + self.mass.len() as i64 - 1;
        let mass = self
            .mass
            .iter()
            .enumerate()
            .rev()
            .map(|(i, mass)| mass * (-self.loss(i)).exp())
            .collect();
        Ok(Self {
            first: -last,
            step: self.step,
            mass,
            lost: self.lost,
        })
    }

    pub(super) fn loss(&self, i: usize) -> f64 {
        (self.first + i as i64) as f64 * self.step
    }

    fn empty(low: f64, high: f64, step: f64) -> Result<Self, AccountantError> {
        let (first, last) = ((low / step).floor() - 1.0, (high / step).ceil() + 1.0);
        // NaN fails the comparison too.
        if !(last - first <= CELLS_MAX && first.abs() < 2f64.powi(52) && last.abs() < 2f64.powi(52))
        {
            return Err(AccountantError::NotConverged {
                reason: "its losses span too many grid cells",
            });
        }
        Ok(Self {
            first: first as i64,
            step,
            mass: vec![0.0; (last - first) as usize + 1],
            lost: 0.0,
        })
    }

    /// Splits an atom between its neighbours on the grid: share (1 - e^-(loss - low)) / (1 - e^-step) goes up.
    fn add_atom(&mut self, loss: f64, mass: f64) {
        let cell = (loss / self.step).floor();
        let within = (loss - cell * self.step).clamp(0.0, self.step);
        let up = (-within).exp_m1() / (-self.step).exp_m1();
        let i = (cell as i64 - self.first) as usize;
        self.mass[i] += mass * (1.0 - up);
        self.mass[i + 1] += mass * up;
    }
}

/// P = (1-q) Q + q R and its loss as a function of the base's coordinate.
struct Mixture {
    q: f64,
    base: Base,
}

impl Mixture {
    fn loss_at_ratio(&self, z: f64) -> f64 {
        super::super::rdp::log_mixture(self.q, z)
    }

    fn loss(&self, u: f64) -> f64 {
        self.loss_at_ratio(self.base.ratio(u))
    }

    /// What the density within the cell [index, index + 1] * step puts at its two ends, under P.
    ///
    /// With g = e^loss - (1 - q) = q e^z, the masses p, p' of the cell under P and Q and its
    /// ends l, l', the two ends get (g' p' - q r) / (e^step - 1) and (q r - g p') / (1 - e^-step),
    /// where r is its mass under R: both are integrals of non-negative functions, so nothing cancels.
    ///
    /// The factors in z are differences of rounded logarithms; what that can cost is added to both.
    fn split(&self, index: i64, step: f64, low: f64, high: f64) -> (f64, f64) {
        let (below, above) = (
            self.edge(index as f64 * step),
            self.edge((index + 1) as f64 * step),
        );
        let (from, to) = (below.u.max(low), above.u.min(high));
        if to <= from {
            return (0.0, 0.0);
        }
        let slope = self.base.slope();
        // (g' - g) / g'
        let rise = if below.log_g.is_finite() {
            -(below.log_g - above.log_g).exp_m1()
        } else {
            1.0 - below.g / above.g
        };
        let rounding = 4.0
            * f64::EPSILON
            * (1.0 + above.log_g.abs() - self.q.ln() + slope * (above.u.abs() + slope));
        let (mut at_low, mut at_high) = (0.0, 0.0);
        nodes(from, to, self.base.panel(), |u, weight| {
            let density = weight * (above.log_g + self.base.log_density(u)).exp();
            // (g' - q e^z) / g', and what is left of the rise is (q e^z - g) / g'.
            let to_go = -(slope * (u - above.u)).exp_m1();
            at_low += density * (to_go.max(0.0) + rounding);
            at_high += density * ((rise - to_go).max(0.0) + rounding);
        });
        (at_low / step.exp_m1(), -at_high / (-step).exp_m1())
    }

    /// g, its logarithm and the coordinate at a loss; the coordinate is -infinity where g <= 0.
    fn edge(&self, loss: f64) -> Edge {
        let q = self.q;
        // As in `log_mixture`: each branch where it does not cancel more than the loss itself is rounded.
        let g = if loss < -0.5 && q > 0.5 {
            loss.exp() - (1.0 - q)
        } else {
            loss.exp_m1() + q
        };
        let log_g = if q == 1.0 {
            loss
        } else if loss > 30.0 {
            loss + (-(1.0 - q) * (-loss).exp()).ln_1p()
        } else if g > 0.0 {
            g.ln()
        } else {
            return Edge {
                g,
                log_g: f64::NEG_INFINITY,
                u: f64::NEG_INFINITY,
            };
        };
        Edge {
            g,
            log_g,
            u: self.base.coordinate(log_g - q.ln()),
        }
    }
}

struct Edge {
    g: f64,
    log_g: f64,
    u: f64,
}
