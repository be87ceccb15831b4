//! Scores of parts of the rows: by a column, and by how sure the model was.

use serde::{Deserialize, Serialize};

use super::{BootstrapOptions, Counts, Interval, Prediction, Statistic, bootstrap};
use crate::{Error, Result};

/// The scores of the rows that share a value of a column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subgroup {
    /// The value they share; empty if they have none.
    pub name: String,
    /// How many rows.
    pub rows: usize,
    /// Share predicted right, and where it may lie: a small group's score says little.
    pub accuracy: Interval,
    /// Unweighted mean of F1 over the classes that occur in the group.
    pub macro_f1: f64,
}

impl Subgroup {
    /// The name as a table shows it.
    pub(crate) fn shown(&self) -> String {
        match self.name.as_str() {
            "" => "(none)".to_owned(),
            name => name.to_owned(),
        }
    }
}

/// Scores each group, the largest first. `groups` names the group of each prediction.
///
/// # Errors
/// [`Error::Pairing`] if the lists differ in length; otherwise as [`bootstrap`].
pub fn subgroups(
    predictions: &[Prediction],
    groups: &[String],
    classes: usize,
    seed: u64,
) -> Result<Vec<Subgroup>> {
    if predictions.len() != groups.len() {
        return Err(Error::Pairing {
            left: predictions.len(),
            right: groups.len(),
        });
    }
    let mut names: Vec<&String> = groups.iter().collect();
    names.sort_unstable();
    names.dedup();
    let mut scored = Vec::with_capacity(names.len());
    for name in names {
        let of_group = predictions.iter().zip(groups).filter(|(_, g)| *g == name);
        let rows: Vec<Prediction> = of_group.map(|(prediction, _)| *prediction).collect();
        let options = BootstrapOptions {
            seed,
            ..BootstrapOptions::new(Statistic::Accuracy, classes)
        };
        scored.push(Subgroup {
            name: name.clone(),
            rows: rows.len(),
            accuracy: bootstrap(&rows, &options)?,
            macro_f1: Counts::of(rows.iter(), classes).macro_f1(),
        });
    }
    scored.sort_by_key(|group| std::cmp::Reverse(group.rows));
    Ok(scored)
}

/// The rows whose confidence lies in one range.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// The range is `(low, high]`.
    pub low: f64,
    /// The range is `(low, high]`.
    pub high: f64,
    /// How many rows.
    pub rows: usize,
    /// Their mean confidence.
    pub confidence: f64,
    /// Share of them predicted right; equal to the confidence if the model knows itself.
    pub accuracy: f64,
}

/// Ten ranges of confidence, without those that no row falls into; none without confidences.
///
/// # Source
/// Guo et al., "On Calibration of Modern Neural Networks", 2017, section 2.
pub fn reliability(predictions: &[Prediction]) -> Vec<ReliabilityBin> {
    const BINS: usize = 10;
    let mut bins = [(0_usize, 0.0_f64, 0_usize); BINS];
    for prediction in predictions {
        let Some(confidence) = prediction.confidence else {
            return Vec::new();
        };
        let bin = (confidence * BINS as f64).ceil() as usize;
        let bin = &mut bins[bin.saturating_sub(1).min(BINS - 1)];
        bin.0 += 1;
        bin.1 += confidence;
        bin.2 += usize::from(prediction.truth == prediction.predicted);
    }
    let filled = bins.into_iter().enumerate().filter(|(_, bin)| bin.0 > 0);
    filled
        .map(|(index, (rows, confidence, right))| ReliabilityBin {
            low: index as f64 / BINS as f64,
            high: (index + 1) as f64 / BINS as f64,
            rows,
            confidence: confidence / rows as f64,
            accuracy: right as f64 / rows as f64,
        })
        .collect()
}
