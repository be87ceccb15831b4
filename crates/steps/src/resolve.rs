//! What the names in a plan stand for on this machine: files of data sets, label
//! sets, folders of plugins. Everything public is looked at before a run starts,
//! so that a missing file costs nothing; private rows are not read here.

mod rows;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use noisegate_engine::{FileId, Input};
use noisegate_records::{FileKind, LabelSet};
use noisegate_workflow::{ArtifactId, Labels, Placement, Plan, PlannedData};

use crate::llm::pinned_folder;
use crate::plugin::{Plugin, Plugins};

pub use rows::{Row, RowLabels, look_at_rows, read_data, read_documents};
pub(crate) use rows::{file_kind, kind_of};

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
        let input = plugin_input(&artifact.id, plugin);
        // A guest is given the pinned files alone; what else lies there does not reach it.
        let whole = match read_by_host(plan, &artifact.id) {
            true => pinned_folder(&input)
                .map(drop)
                .map_err(|lack| lack.to_string()),
            false => Ok(()),
        };
        match secrets.check(plugin).and(whole) {
            Ok(()) => {
                resolved.insert(artifact.id.clone(), input);
            }
            Err(lack) => lacks.push(lack),
        }
    }
    lacks.extend(secrets.unfit_guests(plan, plugins));
    if lacks.is_empty() {
        Ok(resolved)
    } else {
        Err(lacks)
    }
}

fn read_by_host(plan: &Plan, id: &ArtifactId) -> bool {
    let mut hosts = plan
        .steps
        .iter()
        .filter(|step| step.placement == Placement::Host);
    hosts.any(|step| step.inputs.iter().any(|input| input.artifacts.contains(id)))
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

    /// Why a guest of the plan may not run, for each that may not.
    fn unfit_guests(&self, plan: &Plan, plugins: &Plugins) -> Vec<Lack> {
        let steps = plan.steps.iter();
        let names = steps.filter_map(|step| step.uses.strip_prefix("guest:"));
        let guests = names.filter_map(|name| plugins.get(name));
        guests.filter_map(|guest| self.check(guest).err()).collect()
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

/// What a step reads of a plugin.
pub(crate) fn plugin_input(id: &ArtifactId, plugin: &Plugin) -> Input {
    Input::Path {
        name: id.to_string(),
        path: plugin.files(),
        pinned: plugin.pinned(),
        private: false,
    }
}

/// Guests of a plan that may not run: their bytes are not the pinned ones, or they are private.
#[must_use]
pub fn unfit_guests(
    plan: &Plan,
    workflow_folder: &Path,
    plugins: &Plugins,
    home: &Path,
) -> Vec<Lack> {
    Secrets::of(plan, workflow_folder, home).unfit_guests(plan, plugins)
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

pub(crate) fn resolve_data(data: &PlannedData, workflow_folder: &Path) -> Result<Input, Lack> {
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
        Some(Labels::File(file)) if !file.resolve(workflow_folder).is_file() => {
            return Err(format!(
                "data set `{}`: there is no file of labels `{}`; mend `labels`, give another with \
                 `--set data.{}.labels=PATH`, or the labels themselves as `A,B`",
                data.name,
                file.resolve(workflow_folder).display(),
                data.name
            ));
        }
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

#[cfg(all(test, unix))]
mod tests {
    use noisegate_records as records;
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
    fn a_file_of_labels_that_is_not_there_is_called_so() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("d.jsonl"), "{}\n").unwrap();
        let text = "[workflow]\nname = \"w\"\n[sites.s]\n[data.d]\nsite = \"s\"\npath = \"d.jsonl\"\n\
                    private = false\nlabels = [\"a\", \"b\"]\n[steps.train]\nuses = \"slm:train\"\n\
                    site = \"s\"\nreads = { records = \"data.d\" }\n";
        let set = ["data.d.labels=business".parse().unwrap()];
        let catalog = crate::catalog(&Plugins::default());
        let plan = load(Source::new("w.toml", text), &set, &catalog)
            .unwrap()
            .plan;
        let home = folder.path().join("home");
        let lacks = resolve(&plan, folder.path(), &Plugins::default(), &home);
        let lacks = lacks.unwrap_err().concat();
        assert!(
            lacks.contains("there is no file of labels `business`"),
            "{lacks}"
        );
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
