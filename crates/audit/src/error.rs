//! What can be wrong with an audit's numbers.

use noisegate_privacy::AccountantError;
use thiserror::Error;

/// Why no bound can be computed.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum AuditError {
    /// Numbers of a game that cannot be.
    #[error(
        "a game of `{canaries}` canaries, `{guesses}` guesses and `{correct}` right ones cannot be; give 1 <= guesses <= canaries and correct <= guesses"
    )]
    BadGame {
        /// Canaries.
        canaries: u64,
        /// Guesses.
        guesses: u64,
        /// Right ones.
        correct: u64,
    },
    /// A number outside its range.
    #[error("the {name} `{value}` is out of range; give one {range}")]
    OutOfRange {
        /// What it is.
        name: &'static str,
        /// What was given.
        value: f64,
        /// What is allowed.
        range: &'static str,
    },
    /// Released lanes of another shape than the coins and the mechanism say.
    #[error(
        "{what}: expected shape `[{expected_steps}, {expected_lanes}]`, got `[{steps}, {lanes}]`; this is a defect of the audit's gate run"
    )]
    Shape {
        /// Which lanes.
        what: &'static str,
        /// Steps of the mechanism.
        expected_steps: u64,
        /// One for each coin.
        expected_lanes: usize,
        /// What was given.
        steps: usize,
        /// What was given.
        lanes: usize,
    },
    /// The claim has no price.
    #[error("the claimed events have no epsilon: {0}")]
    Unpriced(#[from] AccountantError),
}
