//! The rows of a data set: after the charge, or for the operator who asks.

use std::path::Path;

use noisegate_engine::{FileId, Input, StepFailure};
use noisegate_records::{self as records, Columns, Compression, FileKind, LabelSet, ReadOptions};
use noisegate_workflow::{Format, PlannedData, Unit};

/// The declared format, packed as the file's extension says.
pub(crate) fn file_kind(path: &Path, format: Format) -> FileKind {
    let format = match format {
        Format::Jsonl => records::Format::Jsonl,
        Format::Csv => records::Format::Csv,
    };
    let compression = match path.extension().and_then(|extension| extension.to_str()) {
        Some("zst") => Compression::Zstd,
        Some("gz") => Compression::Gzip,
        _ => Compression::Plain,
    };
    FileKind {
        format,
        compression,
    }
}

/// The declared format, or what the name says, and how the file is packed.
pub(crate) fn kind_of(data: &PlannedData, path: &Path) -> records::Result<FileKind> {
    match data.format {
        Some(format) => Ok(file_kind(path, format)),
        None => FileKind::of_path(path),
    }
}

/// A labelled row of a data set; its label is one of the declared ones.
#[derive(Debug, Clone)]
pub struct Row {
    /// The text.
    pub text: String,
    /// The label.
    pub label: String,
    /// The unit's name, if the data set's unit is a column.
    pub unit: Option<String>,
}

/// Reads a data set's rows and drops those whose label is not declared.
///
/// How many were dropped is a private number and is told to nobody.
///
/// # Errors
/// [`StepFailure::BadInput`] with file and line; private text is never quoted.
pub fn read_data(input: &Input) -> Result<Vec<Row>, StepFailure> {
    read_declared(input).map(|(rows, _)| rows)
}

/// Whether rows of a data set have a label that is not declared, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowLabels {
    /// Every row has a declared label, or none are declared.
    NoneLeftOut,
    /// Some rows have none, and no step sees them.
    SomeLeftOut,
}

/// Reads a data set's rows as [`read_data`] does, and says what became of them. Only for the
/// operator of the site: it depends on private rows.
///
/// # Errors
/// As [`read_data`], and [`StepFailure::BadInput`] if no row has a declared label.
pub fn look_at_rows(input: &Input) -> Result<RowLabels, StepFailure> {
    let (rows, labels) = read_declared(input)?;
    if !rows.is_empty() {
        return Ok(labels);
    }
    let name = match input {
        Input::Data { data, .. } => data.name.as_str(),
        Input::Path { name, .. } => name,
    };
    Err(StepFailure::BadInput(format!(
        "data set `{name}`: no row has one of its `labels`, letter for letter, so a step would \
         see nothing and a charge buy noise alone; mend `labels` or `label_column`"
    )))
}

fn read_declared(input: &Input) -> Result<(Vec<Row>, RowLabels), StepFailure> {
    let Input::Data {
        data,
        path,
        file,
        labels,
    } = input
    else {
        return Err(StepFailure::Failed(
            "a data set was expected here".to_owned(),
        ));
    };
    let unit = match &data.unit {
        Some(Unit::Column(column)) => Some(column.clone()),
        Some(Unit::Record) | None => None,
    };
    let options = ReadOptions {
        columns: Columns {
            text: data.text_column.clone(),
            label: (!labels.is_empty()).then(|| data.label_column.clone()),
            unit,
            group: None,
        },
        kind: data.format.map(|format| file_kind(path, format)),
        ..ReadOptions::default()
    };
    let bad =
        |error: records::Error| StepFailure::BadInput(format!("data set `{}`: {error}", data.name));
    let rows = read_rows(data, path, file.as_ref(), &options)?;
    if labels.is_empty() {
        let unlabelled = |row: records::Record| Row {
            text: row.text,
            label: String::new(),
            unit: row.unit,
        };
        let rows = rows.into_iter().map(unlabelled).collect();
        return Ok((rows, RowLabels::NoneLeftOut));
    }
    let split = LabelSet::new(labels.iter().cloned())
        .map_err(bad)?
        .split(rows);
    let left_out = match split.undeclared.is_empty() {
        true => RowLabels::NoneLeftOut,
        false => RowLabels::SomeLeftOut,
    };
    let row = |(row, label): (records::Record, usize)| Row {
        text: row.text,
        label: labels[label].clone(),
        unit: row.unit,
    };
    Ok((split.declared.into_iter().map(row).collect(), left_out))
}

/// The rows of a data set, of the file that was found when the run began: a public one must not
/// have become another, private file since.
fn read_rows(
    data: &PlannedData,
    path: &Path,
    file: Option<&FileId>,
    options: &ReadOptions,
) -> Result<Vec<records::Record>, StepFailure> {
    let the_same = || match file {
        None => Ok(()),
        Some(file) if FileId::of(path).is_ok_and(|now| now == *file) => Ok(()),
        Some(_) => Err(StepFailure::Refused(format!(
            "data set `{}`: `{}` was replaced by another file after the run began; run again when \
             nobody replaces it",
            data.name,
            path.display()
        ))),
    };
    the_same()?;
    let rows = records::read_all(path, options)
        .map_err(|error| StepFailure::BadInput(format!("data set `{}`: {error}", data.name)))?;
    the_same()?;
    Ok(rows)
}

/// Reads public documents as (title, text); `label_column` names the title's column
/// where it is not left at `label`.
///
/// # Errors
/// [`StepFailure::BadInput`] with file and line.
pub fn read_documents(input: &Input) -> Result<Vec<(Option<String>, String)>, StepFailure> {
    let Input::Data {
        data, path, file, ..
    } = input
    else {
        return Err(StepFailure::Failed(
            "a data set was expected here".to_owned(),
        ));
    };
    let title = (data.label_column != "label").then(|| data.label_column.clone());
    let options = ReadOptions {
        columns: Columns {
            text: data.text_column.clone(),
            label: title,
            unit: None,
            group: None,
        },
        kind: data.format.map(|format| file_kind(path, format)),
        ..ReadOptions::default()
    };
    let rows = read_rows(data, path, file.as_ref(), &options)?;
    Ok(rows.into_iter().map(|row| (row.label, row.text)).collect())
}
