//! What the names in a plan stand for on this machine: files of data sets, label
//! sets, folders of plugins. Everything public is looked at before a run starts,
//! so that a missing file costs nothing; private rows are not read here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use noisegate_engine::{FileId, Input, StepFailure};
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
    files: Vec<(&'a PlannedData, FileId)>,
    home: Option<PathBuf>,
}

impl<'a> Secrets<'a> {
    fn of(plan: &'a Plan, workflow_folder: &Path, home: &Path) -> Self {
        let private = plan.data.iter().filter(|data| data.private);
        Self {
            files: private
                .filter_map(|data| {
                    Some((data, FileId::of(&data.path.resolve(workflow_folder)).ok()?))
                })
                .collect(),
            home: home.canonicalize().ok(),
        }
    }

    /// The private data set whose file it is.
    fn owner(&self, path: &Path) -> Option<&'a PlannedData> {
        let file = FileId::of(path).ok()?;
        let found = self.files.iter().find(|(_, private)| *private == file);
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
        let (real, home) = (real(path), self.home.as_ref()?);
        let released = home.join("store").join("public");
        let below = real.starts_with(home) && !real.starts_with(&released);
        (below || linked_below(path, home, &released)).then(|| {
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

/// Whether the file of `path` has another name, below `folder` and not below `but`; also if that
/// cannot be told.
fn linked_below(path: &Path, folder: &Path, but: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        if std::fs::metadata(path).map_or(0, |file| file.nlink()) < 2 {
            return false;
        }
    }
    let Ok(file) = FileId::of(path) else {
        return false;
    };
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            // Removed by another run in the meantime.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(_) => return true,
        };
        for entry in entries.flatten() {
            let (path, kind) = (entry.path(), entry.file_type());
            match kind {
                Ok(kind) if kind.is_dir() && path != but => folders.push(path),
                Ok(kind) if kind.is_file() && FileId::of(&path).is_ok_and(|it| it == file) => {
                    return true;
                }
                _ => {}
            }
        }
    }
    false
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
        file: FileId::of(&path).ok(),
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

#[cfg(all(test, unix))]
mod tests {
    use noisegate_workflow::{Catalog, FilePath, RelativeTo, Source, load};

    use super::*;

    #[test]
    fn a_file_that_was_replaced_after_it_was_looked_at_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["open.jsonl", "secret.jsonl"] {
            std::fs::write(
                at(name),
                format!("{{\"text\":\"{name}\",\"label\":\"a\"}}\n"),
            )
            .unwrap();
        }
        let data = PlannedData {
            name: "open".parse().unwrap(),
            site: "clinic".parse().unwrap(),
            path: FilePath {
                text: "open.jsonl".to_owned(),
                relative_to: RelativeTo::WorkflowFile,
            },
            format: None,
            private: false,
            unit: None,
            units_public: None,
            labels: Some(Labels::List(vec!["a".to_owned()])),
            text_column: "text".to_owned(),
            label_column: "label".to_owned(),
            budget: None,
        };
        let input = resolve_data(&data, folder.path()).unwrap();
        assert_eq!(read_data(&input).unwrap().len(), 1);
        std::fs::remove_file(at("open.jsonl")).unwrap();
        std::os::unix::fs::symlink(at("secret.jsonl"), at("open.jsonl")).unwrap();
        let refused = read_data(&input).unwrap_err().to_string();
        assert!(
            refused.contains("was replaced by another file"),
            "{refused}"
        );
        assert!(read_documents(&input).is_err());
    }

    #[test]
    fn a_list_of_labels_is_read_as_a_file_of_them_is() {
        let long = |bytes: usize| "x".repeat(bytes);
        for label in [
            "fine",
            "two words",
            " before",
            "after ",
            "a\ttab",
            "a\nbreak",
            &long(records::LABEL_BYTES_MAX),
            &long(records::LABEL_BYTES_MAX + 1),
        ] {
            let quoted = serde_json::json!(label);
            let text = format!(
                "[workflow]\nname = \"w\"\n[sites.s]\n[data.d]\nsite = \"s\"\npath = \"d.jsonl\"\n\
                 private = false\nlabels = [{quoted}]\n"
            );
            // Without a step it is refused in any case.
            let errors = load(Source::new("w.toml", text), &[], &Catalog::default()).unwrap_err();
            let refused = errors.list.iter().any(|it| it.code() == "unusable-text");
            assert_eq!(LabelSet::new([label]).is_err(), refused, "{label:?}");
        }
    }
}
