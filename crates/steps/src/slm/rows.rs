//! Labelled rows of an input, and what they say in the terms of a head.

use std::collections::BTreeMap;
use std::path::Path;

use noisegate_engine::{Input, StepFailure};
use noisegate_records::{self as records, Columns, LIST_SEPARATOR, LabelForm, ReadOptions};
use noisegate_slm::{Head, Target, Task};
use noisegate_workflow::Unit;
use serde::{Deserialize, Serialize};

use crate::resolve::file_kind;
use crate::samples::{self, Sample};

/// One row.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// The text.
    pub text: String,
    /// The label cell; `None` if it is empty.
    pub label: Option<String>,
    /// How probable each label is, where a classifier labelled the text softly.
    pub shares: Option<BTreeMap<String, f32>>,
    /// The privacy unit, if it was asked for and the data set declares a column of it.
    pub unit: Option<String>,
    /// The cell of the column to group by; empty if it has none.
    pub group: String,
}

/// A sample with what `slm:pseudo-label` says of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Labelled {
    /// Its text, and the most probable label.
    #[serde(flatten)]
    pub sample: Sample,
    /// The probability of each label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probabilities: Option<BTreeMap<String, f32>>,
}

impl Labelled {
    /// Whether the probabilities are some, and say the same as the label: other steps look at that
    /// alone.
    fn is_sound(&self) -> bool {
        let Some(shares) = &self.probabilities else {
            return true;
        };
        let sum: f32 = shares.values().sum();
        let own = shares.get(&self.sample.label).copied().unwrap_or(-1.0);
        // A number that is none fails every comparison.
        (sum - 1.0).abs() <= 1e-3 && shares.values().all(|share| (0.0..=own).contains(share))
    }
}

impl Row {
    /// Its label cell, and every label that it has a share of.
    pub(super) fn labels(&self) -> impl Iterator<Item = &str> {
        let shares = self.shares.iter().flat_map(BTreeMap::keys);
        self.label
            .as_deref()
            .into_iter()
            .chain(shares.map(String::as_str))
    }
}

/// What to read of a data set beside texts and labels.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct MoreColumns<'c> {
    /// The privacy unit, if the data set declares a column of it.
    pub unit: bool,
    /// The column with this name, to group by.
    pub group: Option<&'c str>,
}

/// Reads an input as rows for heads of `task`.
///
/// # Errors
/// [`StepFailure::BadInput`] with file and line; the row itself is never quoted.
pub(super) fn read(
    input: &Input,
    task: Task,
    more: MoreColumns<'_>,
) -> Result<Vec<Row>, StepFailure> {
    let (data, path) = match input {
        Input::Data { data, path, .. } => (data, path),
        Input::Path { path, .. } => return read_samples(path, more.group),
    };
    let options = ReadOptions {
        columns: Columns {
            text: data.text_column.clone(),
            label: Some(data.label_column.clone()),
            unit: match &data.unit {
                Some(Unit::Column(column)) if more.unit => Some(column.clone()),
                _ => None,
            },
            group: more.group.map(str::to_owned),
        },
        kind: data.format.map(|format| file_kind(path, format)),
        labels: match task {
            Task::SingleLabel => LabelForm::One,
            Task::MultiLabel => LabelForm::Many,
            Task::Number => LabelForm::Number,
        },
        ..ReadOptions::default()
    };
    let rows = records::read_all(path, &options)
        .map_err(|error| StepFailure::BadInput(format!("data set `{}`: {error}", data.name)))?;
    let row = |record: records::Record| Row {
        text: record.text,
        label: record.label,
        shares: None,
        unit: record.unit,
        group: record.group.unwrap_or_default(),
    };
    Ok(rows.into_iter().map(row).collect())
}

fn read_samples(path: &Path, group: Option<&str>) -> Result<Vec<Row>, StepFailure> {
    if let Some(column) = group {
        return Err(StepFailure::BadInput(format!(
            "`group_column` is `{column}`, and samples that a step made have no such column; \
             evaluate a data set, or leave `group_column` out"
        )));
    }
    let row = |(number, labelled): (usize, Labelled)| {
        if !labelled.is_sound() {
            return Err(StepFailure::BadInput(format!(
                "`{}`, sample {}: its `probabilities` must sum to 1, none below 0, and be largest \
                 at its `label`",
                path.display(),
                number + 1
            )));
        }
        let Sample { text, label, .. } = labelled.sample;
        Ok(Row {
            text,
            label: (!label.is_empty()).then_some(label),
            shares: labelled.probabilities,
            unit: None,
            group: String::new(),
        })
    };
    let rows = samples::read_lines::<Labelled>(path)?.into_iter();
    rows.enumerate().map(row).collect()
}

/// The labels of a cell that may hold several.
pub(super) fn split(cell: &str) -> impl Iterator<Item = &str> {
    let labels = cell.split(LIST_SEPARATOR).map(str::trim);
    labels.filter(|label| !label.is_empty())
}

/// What a row says to `head`; `None` for a row that is set aside.
///
/// Rows of a data set or of anything private (`declared`) whose label is not declared are set aside, and such labels of a
/// row with several are passed over: how many there are is told to nobody.
///
/// # Errors
/// [`StepFailure::BadInput`]: a released row has a label that the head lacks, or a cell is no
/// number. The cell is not quoted.
pub(super) fn target(
    row: &Row,
    head: &Head,
    declared: bool,
) -> Result<Option<Target>, StepFailure> {
    let has = |label: &str| head.labels.iter().any(|known| known == label);
    let undeclared = || {
        StepFailure::BadInput(format!(
            "a released record has a label that no data set of head `{}` declares; \
             declare the same `labels` for both",
            head.name
        ))
    };
    match head.task {
        Task::SingleLabel => match &row.label {
            Some(_) if let Some(shares) = &row.shares => {
                if !shares.keys().all(|label| has(label)) {
                    return Err(undeclared());
                }
                let shares = shares.iter().map(|(label, share)| (label.clone(), *share));
                Ok(Some(Target::Shares(shares.collect())))
            }
            Some(label) if has(label) => Ok(Some(Target::Label(label.clone()))),
            _ if declared => Ok(None),
            _ => Err(undeclared()),
        },
        Task::MultiLabel => {
            let mut labels: Vec<String> = Vec::new();
            for label in row.label.as_deref().into_iter().flat_map(split) {
                match has(label) {
                    true if labels.iter().any(|known| known == label) => {}
                    true => labels.push(label.to_owned()),
                    false if declared => {}
                    false => return Err(undeclared()),
                }
            }
            Ok(Some(Target::Labels(labels)))
        }
        Task::Number => {
            let number = row.label.as_deref().map(records::number);
            match number {
                Some(Some(number)) => Ok(Some(Target::Numbers(vec![number]))),
                None => Ok(None),
                Some(None) => Err(StepFailure::BadInput(format!(
                    "head `{}` wants numbers, and the label of a released record is none; look at \
                     `task`",
                    head.name
                ))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An f32 would take these for 100000000.
    #[test]
    fn a_number_far_from_zero_is_what_the_cell_says() {
        let head = Head::only(Task::Number, ["balance"]);
        let row = Row {
            text: "a".to_owned(),
            label: Some("100000003".to_owned()),
            shares: None,
            unit: None,
            group: String::new(),
        };
        let told = target(&row, &head, true).unwrap();
        assert_eq!(told, Some(Target::Numbers(vec![100_000_003.0])));
    }

    #[test]
    fn probabilities_that_are_none_or_gainsay_the_label_are_refused_with_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("samples.jsonl");
        let read = |probabilities: &str| {
            let whole = r#"{"text":"a","label":"x"}"#;
            let line = format!(r#"{{"text":"b","label":"x","probabilities":{probabilities}}}"#);
            std::fs::write(&path, format!("{whole}\n{line}\n")).unwrap();
            read_samples(&path, None)
        };
        for wrong in [
            "{}",
            r#"{"x":0.9}"#,
            r#"{"x":1.5,"y":-0.5}"#,
            r#"{"x":1e39,"y":0}"#,
            r#"{"x":0.4,"y":0.6}"#,
            r#"{"y":1.0}"#,
        ] {
            match read(wrong) {
                Err(StepFailure::BadInput(text)) => {
                    assert!(text.contains("sample 2: its `probabilities`"), "{text}");
                }
                other => panic!("{wrong}: {other:?}"),
            }
        }
        let rows = read(r#"{"x":0.7,"y":0.3}"#).unwrap();
        let shares = rows[1].shares.as_ref().unwrap();
        assert_eq!((rows[0].shares.is_none(), shares["y"]), (true, 0.3));
    }
}
