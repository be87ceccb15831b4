//! Scores of predicted numbers.

use serde::{Deserialize, Serialize};

use super::Interval;
use super::bootstrap::{Resampling, interval_of};
use crate::{Error, Result};

/// How close predicted numbers are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NumbersEvaluation {
    /// How many rows were scored.
    pub rows: usize,
    /// Mean distance from the truth, in its unit, and where it may lie.
    pub mean_absolute_error: Interval,
    /// Root of the mean square distance, in the truth's unit.
    pub root_mean_square_error: f64,
    /// Share of the truth's variance that is explained: 1 is perfect, 0 no better than always
    /// saying the mean, below 0 worse. `None` if all true numbers are alike.
    pub r_squared: Option<f64>,
}

/// Scores pairs of (truth, prediction).
///
/// # Errors
/// [`Error::Pairing`] if there are none; [`Error::Prediction`] for one that is not finite.
pub fn evaluate_numbers(pairs: &[(f64, f64)], resampling: Resampling) -> Result<NumbersEvaluation> {
    if pairs.is_empty() {
        return Err(Error::Pairing { left: 0, right: 0 });
    }
    let endless = |pair: &(f64, f64)| !(pair.0.is_finite() && pair.1.is_finite());
    if let Some(index) = pairs.iter().position(endless) {
        return Err(Error::Prediction {
            index,
            problem: "the number is not finite",
            classes: 1,
        });
    }
    let count = pairs.len() as f64;
    let mean = pairs.iter().map(|(truth, _)| truth).sum::<f64>() / count;
    let spread: f64 = pairs.iter().map(|(truth, _)| (truth - mean).powi(2)).sum();
    let alike = pairs.iter().all(|(truth, _)| *truth == pairs[0].0);
    let missed: f64 = pairs
        .iter()
        .map(|(truth, said)| (truth - said).powi(2))
        .sum();
    let absolute = |rows: &[usize]| {
        let errors = rows.iter().map(|&row| (pairs[row].0 - pairs[row].1).abs());
        errors.sum::<f64>() / rows.len() as f64
    };
    Ok(NumbersEvaluation {
        rows: pairs.len(),
        mean_absolute_error: interval_of(pairs.len(), resampling, absolute)?,
        root_mean_square_error: (missed / count).sqrt(),
        // Rounding may leave a spread to numbers that are alike.
        r_squared: (!alike).then(|| 1.0 - missed / spread),
    })
}
