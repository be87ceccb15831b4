//! Everything this crate can refuse.
//!
//! Whether an error occurs depends on public parameters only, never on a
//! private value: a bad contribution is a zero vector, not an error.

use thiserror::Error;

/// A parameter or a mechanism that cannot be used as asked.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum PrivacyError {
    /// A number outside its range (NaN and infinities included).
    #[error("{name} is `{value}`, but must be {range}; give a value in that range")]
    OutOfRange {
        /// Which parameter, in words.
        name: &'static str,
        /// What was given.
        value: f64,
        /// What is allowed, in words.
        range: &'static str,
    },
    /// Delta so large that releasing one unit outright would be allowed.
    #[error(
        "delta is `{delta}`, above 1/N for N = {units_public} units; give at most `{delta_max}`"
    )]
    DeltaAboveOneOverN {
        /// What was given.
        delta: f64,
        /// The public number of units.
        units_public: u64,
        /// 1/N.
        delta_max: f64,
    },
    /// An empty vector, no candidates, no bins.
    #[error("{name} is zero; give at least 1")]
    Zero {
        /// Which size, in words.
        name: &'static str,
    },
    /// A size that the integer arithmetic is not proven for.
    #[error("{name} is `{value}`, but at most `{max}` is proven to fit the integer arithmetic")]
    TooLarge {
        /// Which size, in words.
        name: &'static str,
        /// What was given.
        value: u64,
        /// The proven limit.
        max: u64,
    },
    /// A clip bound that rounds to nothing on the lattice.
    #[error(
        "a noise multiplier of `{noise_multiplier}` leaves {lattice_units} lattice units for the clip bound, outside {range}; choose a multiplier in that range"
    )]
    LatticeTooCoarse {
        /// What was given.
        noise_multiplier: f64,
        /// What is left for the clip bound.
        lattice_units: f64,
        /// What is allowed, in words.
        range: &'static str,
    },
    /// Two partial results of different mechanisms.
    #[error(
        "cannot merge partial results of two different specifications; build both from the same one"
    )]
    MergeMismatch,
    /// The operating system gave no entropy.
    #[error(
        "the operating system gave no randomness ({reason}); nothing can be released without it"
    )]
    NoEntropy {
        /// The system's words.
        reason: String,
    },
}

/// An event list whose cost cannot be stated.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum AccountantError {
    /// A number in an event outside its range.
    #[error("event {index} `{kind}`: {name} is `{value}`, but must be {range}")]
    BadEvent {
        /// Its place in the list, from 0.
        index: usize,
        /// Its first word, such as `sgd`.
        kind: &'static str,
        /// Which parameter.
        name: &'static str,
        /// What was given.
        value: f64,
        /// What is allowed, in words.
        range: &'static str,
    },
    /// A parameter of the question itself, such as delta.
    #[error(transparent)]
    Parameter(#[from] PrivacyError),
    /// No accountant has a finite, converged bound.
    #[error("no finite epsilon at delta `{delta}`: {reason}; raise delta, or add noise")]
    NotFinite {
        /// The delta asked for.
        delta: f64,
        /// What stood in the way.
        reason: &'static str,
    },
    /// The privacy loss distribution cannot be computed well enough.
    #[error("the privacy loss distribution is refused: {reason}")]
    NotConverged {
        /// What stood in the way.
        reason: &'static str,
    },
    /// A calibration target that no parameter in range meets.
    #[error("no {name} meets epsilon `{epsilon}` at delta `{delta}`: {reason}")]
    Unreachable {
        /// What was searched for.
        name: &'static str,
        /// The target.
        epsilon: f64,
        /// The target.
        delta: f64,
        /// Which end of the search was hit, and the remedy.
        reason: &'static str,
    },
    /// An adaptive schedule at the end of its budget.
    #[error(
        "the next step would spend `{would_spend}` of a Renyi budget of `{budget}` at order `{order}`; stop here"
    )]
    FilterExhausted {
        /// Spent so far plus the step.
        would_spend: f64,
        /// The whole budget.
        budget: f64,
        /// The order it is counted at.
        order: f64,
    },
}
