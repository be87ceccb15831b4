//! Scores where each row may have any of the labels: every label is a yes-or-no question.

use serde::{Deserialize, Serialize};

use super::bootstrap::{Resampling, interval_of};
use super::{ClassScore, Interval, ratio};
use crate::{Error, LabelSet, Result};

/// One row's true and predicted labels, one entry a label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManyLabels {
    /// Which labels it has.
    pub truth: Vec<bool>,
    /// Which labels it is said to have.
    pub predicted: Vec<bool>,
}

/// The scores of one model on one set of rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ManyLabelsEvaluation {
    /// How many rows were scored.
    pub rows: usize,
    /// Share of the yes-or-no answers that are right (one minus the Hamming loss).
    pub accuracy: f64,
    /// Share of the rows of which every answer is right.
    pub exact_match: f64,
    /// Unweighted mean of F1 over the labels that occur as truth or prediction.
    pub macro_f1: f64,
    /// F1 of the pooled counts, and where it may lie.
    pub micro_f1: Interval,
    /// One entry per label, in the label set's order.
    pub classes: Vec<ClassScore>,
}

/// Scores rows.
///
/// # Errors
/// [`Error::Pairing`] if there are none; [`Error::Prediction`] for a row with another number of
/// answers than there are labels.
pub fn evaluate_many(
    labels: &LabelSet,
    rows: &[ManyLabels],
    resampling: Resampling,
) -> Result<ManyLabelsEvaluation> {
    if rows.is_empty() {
        return Err(Error::Pairing { left: 0, right: 0 });
    }
    let classes = labels.len();
    let ragged = |row: &ManyLabels| row.truth.len() != classes || row.predicted.len() != classes;
    if let Some(index) = rows.iter().position(ragged) {
        return Err(Error::Prediction {
            index,
            problem: "the row has not one answer a label",
            classes,
        });
    }
    let scores: Vec<(ClassScore, [u64; 3])> = labels
        .names()
        .iter()
        .enumerate()
        .map(|(class, label)| class_score(rows, class, label))
        .collect();
    let occurring: Vec<f64> = scores
        .iter()
        .filter(|(_, [_, predicted, support])| predicted + support > 0)
        .map(|(score, _)| score.f1)
        .collect();
    let right = |row: &ManyLabels| {
        let answers = row.truth.iter().zip(&row.predicted);
        answers
            .filter(|(truth, predicted)| truth == predicted)
            .count() as u64
    };
    let all: u64 = rows.iter().map(right).sum();
    let exact = rows.iter().filter(|row| row.truth == row.predicted).count();
    let counts: Vec<[u64; 3]> = rows.iter().map(pooled).collect();
    let micro = |chosen: &[usize]| {
        let mut sum = [0; 3];
        for &row in chosen {
            sum.iter_mut().zip(counts[row]).for_each(|(s, c)| *s += c);
        }
        ratio(2 * sum[0], sum[1] + sum[2])
    };
    Ok(ManyLabelsEvaluation {
        rows: rows.len(),
        accuracy: ratio(all, (rows.len() * classes) as u64),
        exact_match: exact as f64 / rows.len() as f64,
        macro_f1: occurring.iter().sum::<f64>() / occurring.len().max(1) as f64,
        micro_f1: interval_of(rows.len(), resampling, micro)?,
        classes: scores.into_iter().map(|(score, _)| score).collect(),
    })
}

/// True positives, predicted and true labels of one row.
fn pooled(row: &ManyLabels) -> [u64; 3] {
    let mut counts = [0; 3];
    for (&truth, &predicted) in row.truth.iter().zip(&row.predicted) {
        counts[0] += u64::from(truth && predicted);
        counts[1] += u64::from(predicted);
        counts[2] += u64::from(truth);
    }
    counts
}

fn class_score(rows: &[ManyLabels], class: usize, label: &str) -> (ClassScore, [u64; 3]) {
    let mut counts = [0; 3];
    for row in rows {
        let (truth, predicted) = (row.truth[class], row.predicted[class]);
        counts[0] += u64::from(truth && predicted);
        counts[1] += u64::from(predicted);
        counts[2] += u64::from(truth);
    }
    let [right, predicted, support] = counts;
    let score = ClassScore {
        label: label.to_owned(),
        precision: ratio(right, predicted),
        recall: ratio(right, support),
        f1: ratio(2 * right, predicted + support),
        support,
    };
    (score, counts)
}
