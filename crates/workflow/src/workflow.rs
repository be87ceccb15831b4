//! A workflow as it is written: typed, every value with its place, nothing proven yet.
//!
//! `read` fills it from the tree, `check` turns it into a [`Plan`](crate::Plan). In a workflow that
//! [`parse`](crate::parse) returned, no field is [`Field::Unreadable`].

use std::path::{Component, Path, PathBuf};

use noisegate_privacy::{Delta, Epsilon};
use serde::{Deserialize, Serialize};

use crate::artifact::ArtifactId;
use crate::name::{DataName, ExportName, SiteName, StepName, WorkflowName};
use crate::params::Param;
use crate::section::Field;
use crate::source::{Located, Source};
use crate::tree::Node;

/// A workflow file, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Workflow {
    /// The file, then each override.
    pub sources: Vec<Source>,
    /// `[workflow] name`.
    pub name: Field<WorkflowName>,
    /// `[workflow] help`.
    pub help: Field<String>,
    /// `[params]`, with the values this run takes.
    pub params: Vec<Param>,
    /// `[sites.NAME]`.
    pub sites: Vec<Site>,
    /// `[data.NAME]`.
    pub data: Vec<DataSet>,
    /// `[steps.NAME]`.
    pub steps: Vec<Step>,
    /// `[exports.NAME]`.
    pub exports: Vec<Export>,
}

/// `[sites.NAME]`
#[derive(Debug, Clone, PartialEq)]
pub struct Site {
    /// The name in the header.
    pub name: Located<SiteName>,
    /// Addresses, as `scheme://host:port`, to which steps of this site may send released artifacts.
    pub sends_to: Field<Vec<String>>,
}

/// `[data.NAME]`
#[derive(Debug, Clone, PartialEq)]
pub struct DataSet {
    /// The name in the header.
    pub name: Located<DataName>,
    /// The site that owns it.
    pub site: Field<SiteName>,
    /// Where its rows are.
    pub path: Field<FilePath>,
    /// How the file is laid out; by its ending if absent.
    pub format: Field<Format>,
    /// Whether its rows are secret.
    pub private: Field<bool>,
    /// What the privacy promise protects.
    pub unit: Field<Unit>,
    /// A public figure for the number of units.
    pub units_public: Field<u64>,
    /// The public label set.
    pub labels: Field<Labels>,
    /// The column that holds the text; `text` if absent.
    pub text_column: Field<String>,
    /// The column that holds the label; `label` if absent.
    pub label_column: Field<String>,
    /// What may ever be spent on it, over all runs.
    pub budget: Field<PrivacyPair>,
}

/// `[steps.NAME]`
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The name in the header.
    pub name: Located<StepName>,
    /// The kind of step, such as `llm:augment`.
    pub uses: Field<String>,
    /// Where it runs.
    pub site: Field<SiteName>,
    /// What it reads.
    pub reads: Vec<Read>,
    /// What it may spend; guest steps that read private data only.
    pub privacy: Field<PrivacyPair>,
    /// Its parameters.
    pub with: Vec<(Located<String>, Node)>,
}

/// `PORT = "reference"` or `PORT = ["reference", …]`
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// The input port.
    pub port: Located<String>,
    /// What is read there, in order.
    pub references: Vec<Located<ArtifactId>>,
    /// A reference could not be read, and was already reported.
    pub unreadable: bool,
}

/// `[exports.NAME]`
#[derive(Debug, Clone, PartialEq)]
pub struct Export {
    /// The name in the header.
    pub name: Located<ExportName>,
    /// What is written out.
    pub from: Field<ArtifactId>,
    /// Where to.
    pub path: Field<FilePath>,
}

/// `{ epsilon = …, delta = … }`
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PrivacyPair {
    /// More than 0.
    pub epsilon: Located<Epsilon>,
    /// Between 0 and 1.
    pub delta: Located<Delta>,
}

/// What the privacy promise protects: adding or removing one of these changes little.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// One row.
    Record,
    /// All rows with the same value in this column.
    Column(String),
}

impl Unit {
    /// As the workflow and the ledger state it: `record`, or the column.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Record => "record",
            Self::Column(column) => column,
        }
    }
}

/// A label set, public in either case: it is never read from private rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Labels {
    /// Written in the workflow.
    List(Vec<String>),
    /// A text file, one label a line; whoever runs the plan reads it.
    File(FilePath),
}

/// How a data file is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated, with a header.
    Csv,
}

impl Format {
    pub(crate) const ALL: [(&'static str, Format); 2] =
        [("jsonl", Format::Jsonl), ("csv", Format::Csv)];
}

/// A path and what it is relative to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePath {
    /// As written.
    pub text: String,
    /// What a relative path starts from.
    pub relative_to: RelativeTo,
}

/// What a relative path starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RelativeTo {
    /// Written in the workflow file: the folder that file is in.
    WorkflowFile,
    /// Given with `--set`: the folder the command runs in.
    WorkingFolder,
}

impl FilePath {
    /// Whether both name the same file, as far as the text alone can tell.
    ///
    /// Links, and paths with different starting points, are not seen through; whoever opens the
    /// files can.
    pub fn same_file(&self, other: &FilePath) -> bool {
        self.relative_to == other.relative_to && self.tidy() == other.tidy()
    }

    /// Without `.`, and without `x/..`.
    fn tidy(&self) -> PathBuf {
        let mut tidy = PathBuf::new();
        for part in Path::new(&self.text).components() {
            match part {
                Component::CurDir => {}
                Component::ParentDir if tidy.file_name().is_some() => {
                    tidy.pop();
                }
                part => tidy.push(part),
            }
        }
        tidy
    }

    /// The path to open, for a workflow file that lies in `workflow_folder`.
    pub fn resolve(&self, workflow_folder: &Path) -> PathBuf {
        match self.relative_to {
            RelativeTo::WorkflowFile => workflow_folder.join(&self.text),
            RelativeTo::WorkingFolder => PathBuf::from(&self.text),
        }
    }
}
