//! What the names in a plan stand for on this machine: files of data sets, label
//! sets, folders of plugins. Everything public is looked at before a run starts,
//! so that a missing file costs nothing; private rows are not read here.

use std::collections::BTreeMap;
use std::path::Path;

use noisegate_engine::{Input, StepFailure};
use noisegate_records::{self as records, Columns, Compression, FileKind, LabelSet, ReadOptions};
use noisegate_workflow::{ArtifactId, Format, Labels, Plan, PlannedData, Unit};

use crate::plugin::Plugins;

/// One thing that a plan needs and this machine lacks.
pub type Lack = String;

/// Resolves every data set and plugin of `plan`, or says all that is lacking.
///
/// # Errors
/// Every missing file, unreadable labels file and changed plugin, each with its remedy.
pub fn resolve(
    plan: &Plan,
    workflow_folder: &Path,
    plugins: &Plugins,
) -> Result<BTreeMap<ArtifactId, Input>, Vec<Lack>> {
    let mut resolved = BTreeMap::new();
    let mut lacks = Vec::new();
    for data in &plan.data {
        match resolve_data(data, workflow_folder) {
            Ok(input) => {
                resolved.insert(ArtifactId::Data(data.name.clone()), input);
            }
            Err(lack) => lacks.push(lack),
        }
    }
    lacks.extend(private_and_public(&resolved));
    for artifact in &plan.artifacts {
        let ArtifactId::Plugin(name) = &artifact.id else {
            continue;
        };
        let Some(plugin) = plugins.get(name.as_str()) else {
            continue;
        };
        match plugin.verify() {
            Ok(()) => {
                let input = Input::Path {
                    name: artifact.id.to_string(),
                    path: plugin.files(),
                    pinned: plugin.pinned(),
                };
                resolved.insert(artifact.id.clone(), input);
            }
            Err(error) => lacks.push(error.to_string()),
        }
    }
    for step in &plan.steps {
        let guest = step
            .uses
            .strip_prefix("guest:")
            .and_then(|name| plugins.get(name));
        if let Some(Err(error)) = guest.map(crate::plugin::Plugin::verify) {
            lacks.push(error.to_string());
        }
    }
    if lacks.is_empty() {
        Ok(resolved)
    } else {
        Err(lacks)
    }
}

/// Files that one data set calls private and another, or a label file, uses as public.
///
/// `check` compares the spelling; this compares the files, through links.
fn private_and_public(resolved: &BTreeMap<ArtifactId, Input>) -> Vec<Lack> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let sets: Vec<_> = resolved
        .values()
        .filter_map(|input| match input {
            Input::Data { data, path, .. } => Some((data, real(path))),
            Input::Path { .. } => None,
        })
        .collect();
    let mut lacks = Vec::new();
    for (private, path) in sets.iter().filter(|(data, _)| data.private) {
        for (public, _) in sets
            .iter()
            .filter(|(data, other)| !data.private && other == path)
        {
            lacks.push(format!(
                "data sets `{}` and `{}` are the same file `{}`, once private and once public; \
                 a private file is private everywhere",
                private.name,
                public.name,
                path.display()
            ));
        }
    }
    lacks
}

fn resolve_data(data: &PlannedData, workflow_folder: &Path) -> Result<Input, Lack> {
    let path = data.path.resolve(workflow_folder);
    if !path.is_file() {
        return Err(format!(
            "data set `{}`: there is no file `{}`; mend `path`, or give another with `--set data.{}=PATH`",
            data.name,
            path.display(),
            data.name
        ));
    }
    if data.format.is_none() {
        // A name that says no format would otherwise be found out after the charge.
        FileKind::of_path(&path).map_err(|error| format!("data set `{}`: {error}", data.name))?;
    }
    let labels = match &data.labels {
        None => Vec::new(),
        Some(Labels::List(names)) => names.clone(),
        Some(Labels::File(file)) => LabelSet::read(&file.resolve(workflow_folder))
            .map_err(|error| format!("data set `{}`: {error}", data.name))?
            .names()
            .to_vec(),
    };
    Ok(Input::Data {
        data: Box::new(data.clone()),
        path,
        labels,
    })
}

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
    let Input::Data { data, path, labels } = input else {
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
        },
        kind: data.format.map(|format| file_kind(path, format)),
        ..ReadOptions::default()
    };
    let bad =
        |error: records::Error| StepFailure::BadInput(format!("data set `{}`: {error}", data.name));
    let rows = records::read_all(path, &options).map_err(bad)?;
    if labels.is_empty() {
        let unlabelled = |row: records::Record| Row {
            text: row.text,
            label: String::new(),
            unit: row.unit,
        };
        return Ok(rows.into_iter().map(unlabelled).collect());
    }
    let declared = LabelSet::new(labels.iter().cloned())
        .map_err(bad)?
        .split(rows)
        .declared;
    Ok(declared
        .into_iter()
        .map(|(row, label)| Row {
            text: row.text,
            label: labels[label].clone(),
            unit: row.unit,
        })
        .collect())
}

/// Reads public documents as (title, text); `label_column` names the title's column
/// where it is not left at `label`.
///
/// # Errors
/// [`StepFailure::BadInput`] with file and line.
pub fn read_documents(input: &Input) -> Result<Vec<(Option<String>, String)>, StepFailure> {
    let Input::Data { data, path, .. } = input else {
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
        },
        kind: data.format.map(|format| file_kind(path, format)),
        ..ReadOptions::default()
    };
    let rows = records::read_all(path, &options)
        .map_err(|error| StepFailure::BadInput(format!("data set `{}`: {error}", data.name)))?;
    Ok(rows.into_iter().map(|row| (row.label, row.text)).collect())
}
