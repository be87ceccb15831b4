//! Attacks on the gate, and what their success proves.
//!
//! ```text
//! coins ─ which canaries take part ─> the gate (not here) ─ released lanes ─┐
//!                                                                          ▼
//!            lanes.rs   scores, guesses ──> Game {canaries, guesses, correct}
//!                                               │
//!                     one_run.rs  (epsilon, delta)-DP allows so many right guesses?
//!                     f_dp.rs     a trade-off function allows it?
//!                                               │
//!            findings.rs    lower bounds on epsilon, and a verdict on the claim
//! ```
//! A canary is a made-up unit whose only contribution lies in a lane of its own
//! and reaches the clip bound. Whoever guesses from the release which canaries
//! took part, and is right more often than the claim allows, has refuted the
//! claim. The reverse does not hold: an audit certifies nothing. Start at
//! [`findings`].
//!
//! Deliberately absent: the gate, randomness, files, private data. The attacks
//! know all public parameters and nothing else.

#![forbid(unsafe_code)]

mod error;
mod f_dp;
mod findings;
mod lanes;
mod normal;
mod one_run;
mod tradeoff;

pub use error::AuditError;
pub use f_dp::{allows, gaussian_mu_at_least};
pub use findings::{Claim, Evidence, Findings, Method, Verdict, findings};
pub use lanes::{Attack, Mechanism, Played, log_likelihood_ratio};
pub use one_run::{epsilon_at_least, p_value};
pub use tradeoff::Tradeoff;

use serde::{Deserialize, Serialize};

/// How a guessing game ended.
///
/// Each canary took part or not by a fair coin of its own. The guesser saw the
/// release, named the canaries it is sure about (how many was fixed beforehand)
/// and said of each whether it took part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Game {
    /// Canaries that a coin was flipped for.
    pub canaries: u64,
    /// Canaries that a guess was made about.
    pub guesses: u64,
    /// Guesses that were right.
    pub correct: u64,
}

impl Game {
    /// A game whose numbers fit together.
    ///
    /// # Errors
    /// [`AuditError::BadGame`] unless 1 <= guesses <= canaries and correct <= guesses.
    pub fn new(canaries: u64, guesses: u64, correct: u64) -> Result<Self, AuditError> {
        let game = Self {
            canaries,
            guesses,
            correct,
        };
        game.check()?;
        Ok(game)
    }

    fn check(&self) -> Result<(), AuditError> {
        let fits =
            self.guesses >= 1 && self.guesses <= self.canaries && self.correct <= self.guesses;
        fits.then_some(()).ok_or(AuditError::BadGame {
            canaries: self.canaries,
            guesses: self.guesses,
            correct: self.correct,
        })
    }
}

/// A chance strictly between 0 and 1.
fn chance(name: &'static str, value: f64) -> Result<f64, AuditError> {
    if value > 0.0 && value < 1.0 {
        return Ok(value);
    }
    Err(AuditError::OutOfRange {
        name,
        value,
        range: "above 0 and below 1",
    })
}
