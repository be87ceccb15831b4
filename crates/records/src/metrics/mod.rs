//! How good a classifier is: accuracy, F1, confusion, calibration, and how sure we may be of it.
//!
//! ```text
//! [Prediction { truth, predicted, confidence }] ─┬─ evaluate         ─> Evaluation (serialisable)
//!                                                ├─ bootstrap        ─> Interval
//!                                                ├─ paired_bootstrap ─> Difference of two models
//!                                                └─ report           ─> all of it, and subgroups
//! [ManyLabels]                                   ─── evaluate_many    ─> yes-or-no for each label
//! [(truth, number)]                              ─── evaluate_numbers ─> distances
//! ```
//!
//! Scores of private rows are private: nothing here lowers that.

mod bootstrap;
mod calibration;
mod groups;
mod many;
mod numbers;
mod report;

pub use bootstrap::{
    BootstrapOptions, Difference, Interval, Resampling, Statistic, bootstrap, paired_bootstrap,
};
pub use calibration::expected_calibration_error;
pub use groups::{ReliabilityBin, Subgroup, reliability, subgroups};
pub use many::{ManyLabels, ManyLabelsEvaluation, evaluate_many};
pub use numbers::{NumbersEvaluation, evaluate_numbers};
pub use report::{Beyond, Comparison, EvaluationReport, Subgroups, report};

use serde::{Deserialize, Serialize};

use crate::{Error, LabelSet, Result};

/// One row's true and predicted class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The true class, a position in the label set.
    pub truth: usize,
    /// The predicted class, a position in the label set.
    pub predicted: usize,
    /// The model's probability of its prediction, in 0..=1, if it gives one.
    pub confidence: Option<f64>,
}

/// The scores of one model on one set of rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// How many rows were scored.
    pub rows: usize,
    /// Share of rows predicted right.
    pub accuracy: f64,
    /// Unweighted mean of F1 over the classes that occur as truth or prediction.
    pub macro_f1: f64,
    /// F1 of the pooled counts; equal to accuracy when each row has one label.
    pub micro_f1: f64,
    /// Expected calibration error, if every prediction has a confidence.
    pub calibration_error: Option<f64>,
    /// One entry per label, in the label set's order.
    pub classes: Vec<ClassScore>,
    /// `confusion[truth][predicted]`, shape `[labels, labels]`, in rows.
    pub confusion: Vec<Vec<u64>>,
}

/// The scores of one class. A ratio with an empty denominator is 0, as in scikit-learn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassScore {
    /// The label.
    pub label: String,
    /// Share of rows predicted as this class that are of it.
    pub precision: f64,
    /// Share of rows of this class that are predicted as it.
    pub recall: f64,
    /// Harmonic mean of precision and recall.
    pub f1: f64,
    /// How many rows are of this class.
    pub support: u64,
}

/// Scores predictions.
///
/// # Errors
/// [`Error::Pairing`] if there are none; [`Error::Prediction`] for a class that is not in `labels`
/// or a confidence outside 0..=1.
pub fn evaluate(labels: &LabelSet, predictions: &[Prediction]) -> Result<Evaluation> {
    let classes = labels.len();
    check(predictions, classes)?;
    let mut confusion = vec![vec![0_u64; classes]; classes];
    for prediction in predictions {
        confusion[prediction.truth][prediction.predicted] += 1;
    }
    let counts = Counts::of(predictions.iter(), classes);
    let scores = labels
        .names()
        .iter()
        .enumerate()
        .map(|(class, label)| ClassScore {
            label: label.clone(),
            precision: ratio(counts.right[class], counts.predicted[class]),
            recall: ratio(counts.right[class], counts.support[class]),
            f1: counts.f1(class),
            support: counts.support[class],
        });
    Ok(Evaluation {
        rows: predictions.len(),
        accuracy: counts.accuracy(),
        macro_f1: counts.macro_f1(),
        micro_f1: counts.micro_f1(),
        calibration_error: expected_calibration_error(predictions),
        classes: scores.collect(),
        confusion,
    })
}

fn check(predictions: &[Prediction], classes: usize) -> Result<()> {
    if predictions.is_empty() {
        return Err(Error::Pairing { left: 0, right: 0 });
    }
    for (index, prediction) in predictions.iter().enumerate() {
        let problem = if prediction.truth >= classes {
            "the true class is not among the labels"
        } else if prediction.predicted >= classes {
            "the predicted class is not among the labels"
        } else if prediction
            .confidence
            .is_some_and(|c| !(0.0..=1.0).contains(&c))
        {
            "the confidence is not between 0 and 1"
        } else {
            continue;
        };
        return Err(Error::Prediction {
            index,
            problem,
            classes,
        });
    }
    Ok(())
}

/// Per-class counts, from which every score follows.
struct Counts {
    right: Vec<u64>,
    predicted: Vec<u64>,
    support: Vec<u64>,
}

impl Counts {
    fn of<'a>(predictions: impl Iterator<Item = &'a Prediction>, classes: usize) -> Self {
        let mut counts = Self {
            right: vec![0; classes],
            predicted: vec![0; classes],
            support: vec![0; classes],
        };
        for prediction in predictions {
            counts.support[prediction.truth] += 1;
            counts.predicted[prediction.predicted] += 1;
            if prediction.truth == prediction.predicted {
                counts.right[prediction.truth] += 1;
            }
        }
        counts
    }

    fn accuracy(&self) -> f64 {
        ratio(self.right.iter().sum(), self.support.iter().sum())
    }

    /// 2 TP / (2 TP + FP + FN), which is 2 TP / (predicted + support).
    fn f1(&self, class: usize) -> f64 {
        ratio(
            2 * self.right[class],
            self.predicted[class] + self.support[class],
        )
    }

    fn micro_f1(&self) -> f64 {
        let predicted: u64 = self.predicted.iter().sum();
        let support: u64 = self.support.iter().sum();
        ratio(2 * self.right.iter().sum::<u64>(), predicted + support)
    }

    fn macro_f1(&self) -> f64 {
        let occurring: Vec<f64> = (0..self.right.len())
            .filter(|&class| self.predicted[class] + self.support[class] > 0)
            .map(|class| self.f1(class))
            .collect();
        occurring.iter().sum::<f64>() / occurring.len().max(1) as f64
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

#[cfg(test)]
mod tests;
