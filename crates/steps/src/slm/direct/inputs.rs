//! A person's files as the inputs of a step.

use std::path::Path;

use noisegate_engine::{Input, StepFailure};
use noisegate_records::{self as records, Columns, LabelForm, LabelSet, ReadOptions, RecordReader};
use noisegate_slm::Task;
use noisegate_workflow::{FilePath, Origin, PlannedData, PortType, ReadArtifact, RelativeTo, Unit};
use serde_json::{Map, Value};

use super::{Reading, RowsFile};
use crate::slm::{bad_input, heads, rows};
use crate::with::With;

pub(super) fn folder(name: &str, path: &Path) -> Input {
    Input::Path {
        name: name.to_owned(),
        path: path.to_owned(),
        pinned: Vec::new(),
        private: false,
    }
}

pub(super) fn input(
    file: &RowsFile,
    reading: &Reading,
    labels: &[String],
) -> Result<Input, StepFailure> {
    if file.released {
        return Ok(folder(&file.name, &file.path));
    }
    let name = file.name.strip_prefix("data.").unwrap_or(&file.name);
    let data = PlannedData {
        name: name.parse().map_err(bad_input)?,
        site: "here".parse().map_err(bad_input)?,
        path: FilePath {
            text: file.path.display().to_string(),
            relative_to: RelativeTo::WorkingFolder,
        },
        format: None,
        private: false,
        unit: reading.unit_column.clone().map(Unit::Column),
        units_public: None,
        labels: None,
        text_column: reading.text_column.clone(),
        label_column: reading.label_column.clone(),
        budget: None,
    };
    Ok(Input::Data {
        data: Box::new(data),
        path: file.path.clone(),
        file: None,
        labels: labels.to_vec(),
    })
}

/// What a step reads that trains on these files, as a workflow would say it.
#[must_use]
pub fn reads<'r>(
    files: &'r [RowsFile],
    reading: &'r Reading,
    base: Option<&Path>,
) -> Vec<ReadArtifact<'r>> {
    let records = files.iter().map(|file| ReadArtifact {
        port: "records",
        holds: PortType::Records,
        name: file.name.clone(),
        origin: match file.released {
            true => Origin::Unknown,
            false => Origin::Data {
                labels: (!reading.labels.is_empty()).then_some(reading.labels.as_slice()),
                private: false,
            },
        },
    });
    let base = base.map(|_| ReadArtifact {
        port: "base",
        holds: PortType::Encoder,
        name: "base".to_owned(),
        origin: Origin::Unknown,
    });
    records.chain(base).collect()
}

/// Refuses labels that nobody could ask for later: those given, or else those that occur.
pub(super) fn check_labels(
    files: &[RowsFile],
    inputs: &[Input],
    reading: &Reading,
    with: &Map<String, Value>,
) -> Result<(), StepFailure> {
    if !reading.labels.is_empty() {
        let set = LabelSet::new(reading.labels.iter().cloned());
        return set.map(drop).map_err(bad_input);
    }
    let names: Vec<String> = inputs.iter().map(heads::name).collect();
    let heads = heads::of_step(With(with), &names).map_err(bad_input)?;
    for head in heads {
        let own = head.inputs.iter().map(|place| &files[*place]);
        for file in own.filter(|file| !file.released) {
            check_cells(file, reading, head.task)?;
        }
    }
    Ok(())
}

fn check_cells(file: &RowsFile, reading: &Reading, task: Task) -> Result<(), StepFailure> {
    let Some(options) = cells(reading, task) else {
        return Ok(());
    };
    let mut reader = RecordReader::open(&file.path, &options).map_err(bad_input)?;
    while let Some(record) = reader.next() {
        let cell = record.map_err(bad_input)?.label.unwrap_or_default();
        let labels: Vec<&str> = match task {
            Task::MultiLabel => rows::split(&cell).collect(),
            _ if cell.is_empty() => Vec::new(),
            _ => vec![&cell],
        };
        let place = format!("`{}` line {}", file.path.display(), reader.line());
        for label in labels {
            records::check_label(&place, label).map_err(bad_input)?;
        }
    }
    Ok(())
}

/// How to read texts and labels of a head; `None` where cells hold no labels.
fn cells(reading: &Reading, task: Task) -> Option<ReadOptions> {
    let labels = match task {
        Task::SingleLabel => LabelForm::One,
        Task::MultiLabel => LabelForm::Many,
        Task::Number => return None,
    };
    Some(ReadOptions {
        columns: Columns {
            text: reading.text_column.clone(),
            label: Some(reading.label_column.clone()),
            unit: None,
            group: None,
        },
        labels,
        ..ReadOptions::default()
    })
}

/// The labels that occur: fine for a person's own file, never done in a workflow.
pub(super) fn occurring(
    file: &RowsFile,
    reading: &Reading,
    task: Task,
) -> Result<Vec<String>, StepFailure> {
    let Some(options) = cells(reading, task) else {
        return Ok(vec![reading.label_column.clone()]);
    };
    let rows = records::read_all(&file.path, &options).map_err(bad_input)?;
    let cells = rows.iter().filter_map(|row| row.label.as_deref());
    let mut labels: Vec<String> = match task {
        Task::MultiLabel => cells.flat_map(rows::split).map(str::to_owned).collect(),
        _ => cells.map(str::to_owned).collect(),
    };
    labels.sort();
    labels.dedup();
    if !labels.is_empty() {
        // As whoever uses the model will read them.
        LabelSet::new(labels.iter().cloned())
            .map_err(|error| bad_input(format!("`{}`: {error}", file.path.display())))?;
    }
    Ok(labels)
}
