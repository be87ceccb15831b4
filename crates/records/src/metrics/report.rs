//! Everything that is said about one model on one set of rows, as one JSON object.

use serde::{Deserialize, Serialize};

use super::{
    BootstrapOptions, Difference, Evaluation, Interval, Prediction, ReliabilityBin, Statistic,
    Subgroup, bootstrap, evaluate, paired_bootstrap, reliability, subgroups,
};
use crate::{LabelSet, Result};

/// An evaluation with its uncertainty, its parts, and its distance from another model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationReport {
    /// The scores.
    #[serde(flatten)]
    pub evaluation: Evaluation,
    /// 95 % interval of the accuracy.
    pub accuracy_interval: Interval,
    /// 95 % interval of macro-F1.
    pub macro_f1_interval: Interval,
    /// How right the model is when it is so sure.
    pub reliability: Vec<ReliabilityBin>,
    /// By a column of the rows, if one was named.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub subgroups: Option<Subgroups>,
    /// Against another model, if one was given.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub comparison: Option<Comparison>,
}

/// Scores by a column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subgroups {
    /// The column.
    pub column: String,
    /// Its values, the one with most rows first.
    pub groups: Vec<Subgroup>,
}

/// What a model gains over another on the same rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The other model.
    pub baseline: String,
    /// Its accuracy.
    pub baseline_accuracy: f64,
    /// Its macro-F1.
    pub baseline_macro_f1: f64,
    /// Gain of accuracy.
    pub accuracy: Difference,
    /// Gain of macro-F1.
    pub macro_f1: Difference,
}

/// What a report may say beyond scores.
#[derive(Debug, Clone, Copy, Default)]
pub struct Beyond<'b> {
    /// A column's name, and its value for each row.
    pub groups: Option<(&'b str, &'b [String])>,
    /// Another model's name, and its predictions for the same rows.
    pub baseline: Option<(&'b str, &'b [Prediction])>,
    /// Seed of the bootstrap.
    pub seed: u64,
}

/// Scores predictions and everything asked for beyond.
///
/// # Errors
/// As [`evaluate`], [`subgroups`] and [`paired_bootstrap`].
pub fn report(
    labels: &LabelSet,
    predictions: &[Prediction],
    beyond: Beyond<'_>,
) -> Result<EvaluationReport> {
    let classes = labels.len();
    let options = |statistic| BootstrapOptions {
        seed: beyond.seed,
        ..BootstrapOptions::new(statistic, classes)
    };
    let groups = match beyond.groups {
        None => None,
        Some((column, groups)) => Some(Subgroups {
            column: column.to_owned(),
            groups: subgroups(predictions, groups, classes, beyond.seed)?,
        }),
    };
    let comparison = match beyond.baseline {
        None => None,
        Some((name, baseline)) => {
            let scores = evaluate(labels, baseline)?;
            let gain = |statistic| paired_bootstrap(baseline, predictions, &options(statistic));
            Some(Comparison {
                baseline: name.to_owned(),
                baseline_accuracy: scores.accuracy,
                baseline_macro_f1: scores.macro_f1,
                accuracy: gain(Statistic::Accuracy)?,
                macro_f1: gain(Statistic::MacroF1)?,
            })
        }
    };
    Ok(EvaluationReport {
        evaluation: evaluate(labels, predictions)?,
        accuracy_interval: bootstrap(predictions, &options(Statistic::Accuracy))?,
        macro_f1_interval: bootstrap(predictions, &options(Statistic::MacroF1))?,
        reliability: reliability(predictions),
        subgroups: groups,
        comparison,
    })
}
