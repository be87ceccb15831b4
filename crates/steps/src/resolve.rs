//! What the names in a plan stand for on this machine: files of data sets, label
//! sets, folders of plugins. Everything public is looked at before a run starts,
//! so that a missing file costs nothing; private rows are not read here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use noisegate_engine::{Input, StepFailure};
use noisegate_records::{self as records, Columns, Compression, FileKind, LabelSet, ReadOptions};
use noisegate_workflow::{ArtifactId, Format, Labels, Plan, PlannedData, Unit};

use crate::plugin::{Plugin, Plugins};

/// One thing that a plan needs and this machine lacks.
pub type Lack = String;

/// Resolves every data set and plugin of `plan`, or says all that is lacking.
///
/// # Errors
/// Every private file in a public place; or else every missing file, unreadable labels file and
/// plugin that may not be used, each with its remedy.
pub fn resolve(
    plan: &Plan,
    workflow_folder: &Path,
    plugins: &Plugins,
    home: &Path,
) -> Result<BTreeMap<ArtifactId, Input>, Vec<Lack>> {
    // First, because whoever reads a labels file quotes it.
    let mut lacks = private_in_public(plan, workflow_folder, home);
    if !lacks.is_empty() {
        return Err(lacks);
    }
    let secrets = Secrets::of(plan, workflow_folder, home);
    let mut resolved = BTreeMap::new();
    for data in &plan.data {
        match resolve_data(data, workflow_folder) {
            Ok(input) => {
                resolved.insert(ArtifactId::Data(data.name.clone()), input);
            }
            Err(lack) => lacks.push(lack),
        }
    }
    for artifact in &plan.artifacts {
        let ArtifactId::Plugin(name) = &artifact.id else {
            continue;
        };
        let Some(plugin) = plugins.get(name.as_str()) else {
            continue;
        };
        match secrets.check(plugin) {
            Ok(()) => {
                let input = Input::Path {
                    name: artifact.id.to_string(),
                    path: plugin.files(),
                    pinned: plugin.pinned(),
                    private: false,
                };
                resolved.insert(artifact.id.clone(), input);
            }
            Err(lack) => lacks.push(lack),
        }
    }
    for step in &plan.steps {
        let guest = step
            .uses
            .strip_prefix("guest:")
            .and_then(|name| plugins.get(name));
        if let Some(Err(lack)) = guest.map(|guest| secrets.check(guest)) {
            lacks.push(lack);
        }
    }
    if lacks.is_empty() {
        Ok(resolved)
    } else {
        Err(lacks)
    }
}

/// Every private file of a plan, and the real path of the home folder.
struct Secrets<'a> {
    files: Vec<(&'a PlannedData, Identity)>,
    home: Option<PathBuf>,
}

/// Which file it is, whatever path leads there: links followed, and hard links the same.
#[derive(Debug, PartialEq, Eq)]
enum Identity {
    #[cfg(unix)]
    There {
        device: u64,
        inode: u64,
    },
    Path(PathBuf),
}

impl Identity {
    fn of(path: &Path) -> Self {
        #[cfg(unix)]
        if let Ok(there) = std::fs::metadata(path) {
            use std::os::unix::fs::MetadataExt;
            let (device, inode) = (there.dev(), there.ino());
            return Self::There { device, inode };
        }
        Self::Path(real(path))
    }
}

impl<'a> Secrets<'a> {
    fn of(plan: &'a Plan, workflow_folder: &Path, home: &Path) -> Self {
        let private = plan.data.iter().filter(|data| data.private);
        Self {
            files: private
                .map(|data| (data, Identity::of(&data.path.resolve(workflow_folder))))
                .collect(),
            home: home.canonicalize().ok(),
        }
    }

    /// The private data set whose file it is.
    fn owner(&self, path: &Path) -> Option<&'a PlannedData> {
        let identity = Identity::of(path);
        let found = self.files.iter().find(|(_, private)| *private == identity);
        found.map(|(data, _)| *data)
    }

    /// Why a file may not be public, if it may not.
    fn forbid(&self, path: &Path) -> Option<String> {
        if let Some(data) = self.owner(path) {
            return Some(format!(
                "it is the private file of data set `{}`",
                data.name
            ));
        }
        let (path, home) = (real(path), self.home.as_ref()?);
        let released = home.join("store").join("public");
        (path.starts_with(home) && !path.starts_with(released)).then(|| {
            "it lies below the home folder, which holds ledgers and private artifacts".to_owned()
        })
    }

    /// Whether a plugin's files are as pinned, and none of them is private.
    fn check(&self, plugin: &Plugin) -> Result<(), Lack> {
        for path in plugin.real_files().map_err(|error| error.to_string())? {
            if let Some(why) = self.forbid(&path) {
                return Err(format!(
                    "plugin `{}` may not name `{}`: {why}",
                    plugin.name(),
                    path.display()
                ));
            }
        }
        plugin.verify().map_err(|error| error.to_string())
    }
}

/// Links followed, where it is there.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Public data sets and label files of a plan whose file is private: that of a private data set,
/// or one of the home folder that no gate released. Files that are not there are passed over.
///
/// `check` compares the spelling; this compares the files, through links of either kind. A copy
/// is another file.
#[must_use]
pub fn private_in_public(plan: &Plan, workflow_folder: &Path, home: &Path) -> Vec<Lack> {
    let secrets = Secrets::of(plan, workflow_folder, home);
    let mut lacks = Vec::new();
    for data in &plan.data {
        let path = data.path.resolve(workflow_folder);
        if !data.private
            && let Some(why) = secrets.forbid(&path)
        {
            lacks.push(format!(
                "data set `{}` may not be public, with the file `{}`: {why}; a private file is \
                 private everywhere",
                data.name,
                path.display()
            ));
        }
        if let Some(Labels::File(file)) = &data.labels
            && let Some(why) = secrets.forbid(&file.resolve(workflow_folder))
        {
            lacks.push(format!(
                "data set `{}` may not read its labels from `{}`: {why}; labels are public, and a \
                 private file is private everywhere",
                data.name,
                file.resolve(workflow_folder).display()
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
