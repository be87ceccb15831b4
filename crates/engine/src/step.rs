//! The one trait through which the engine meets steps.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use noisegate_workflow::{Plan, PlannedData, PlannedStep};
use thiserror::Error;

use crate::events::Event;
use crate::file_id::FileId;

/// A kind of step, such as `slm:train`.
pub trait Step: Send + Sync {
    /// Does the work, on a thread of its own.
    ///
    /// Results are written below `context.work` and returned by port. A step looks
    /// at [`StepContext::cancelled`] often enough to stop within a second or two.
    ///
    /// # Errors
    /// A [`StepFailure`] whose text names place, problem and remedy. It must not
    /// depend on private values.
    fn run(&self, context: &StepContext<'_>) -> Result<Vec<Made>, StepFailure>;
}

/// The step kinds of this build, by their `uses` name.
pub type Registry = BTreeMap<String, Box<dyn Step>>;

/// Everything a step may know.
pub struct StepContext<'a> {
    /// The step as planned: parameters, ports, site, charge.
    pub step: &'a PlannedStep,
    /// The plan it is part of: labels, and where its inputs come from. `None`: run by hand.
    pub plan: Option<&'a Plan>,
    /// What it reads.
    pub inputs: Inputs,
    /// An empty folder of its own; gone when the step has ended.
    pub work: &'a Path,
    /// How many threads it may keep busy.
    pub cores: usize,
    /// Identifies the run, for instance in the ledger.
    pub run: &'a str,
    /// Takes events of this step.
    pub record: &'a (dyn Fn(Event) + Sync),
    /// Set when the run is to stop.
    pub cancel: &'a AtomicBool,
}

impl StepContext<'_> {
    /// Whether the step should stop now.
    pub fn cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }

    /// Reports that `done` of `total` parts are done.
    pub fn progress(&self, done: u64, total: u64, what: &str) {
        let step = self.step.name.to_string();
        (self.record)(Event::StepProgress {
            step,
            done,
            total,
            what: what.to_owned(),
        });
    }

    /// Shows text that is being made. The caller sees to it that it is made from public artifacts
    /// only, and that this is seldom called: every call is a line of the log.
    pub fn text(&self, text: impl Into<String>) {
        let step = self.step.name.to_string();
        (self.record)(Event::StepText {
            step,
            text: text.into(),
        });
    }

    /// Tells a person something.
    pub fn note(&self, note: impl Into<String>) {
        let step = self.step.name.to_string();
        (self.record)(Event::StepNote {
            step,
            note: note.into(),
        });
    }
}

/// What a step reads, by port, in the order of the workflow file.
#[derive(Debug, Clone, Default)]
pub struct Inputs(pub BTreeMap<String, Vec<Input>>);

impl Inputs {
    /// Everything that is connected to `port`.
    pub fn all(&self, port: &str) -> &[Input] {
        self.0.get(port).map_or(&[], Vec::as_slice)
    }

    /// The single input of `port`, if it is connected.
    pub fn one(&self, port: &str) -> Option<&Input> {
        self.all(port).first()
    }
}

/// One thing that a step reads.
#[derive(Debug, Clone)]
pub enum Input {
    /// A data set of the workflow; the step reads it itself.
    Data {
        /// As planned: columns, labels, unit.
        data: Box<PlannedData>,
        /// Where it lies.
        path: PathBuf,
        /// Which file that was when it was looked at first; `None` if nobody looked.
        file: Option<FileId>,
        /// Its labels, read from the workflow or the labels file.
        labels: Vec<String>,
    },
    /// The output of an earlier step, or a plugin: a file or a folder.
    Path {
        /// `step.port` or `plugin:name`.
        name: String,
        /// Where it lies.
        path: PathBuf,
        /// Of a plugin: the files whose content is pinned; nothing else in its folder
        /// may be read. Empty for an artifact, all of which was made by a step.
        pinned: Vec<String>,
        /// Whether it is private to a site.
        private: bool,
    },
}

impl Input {
    /// Whether it is private: then a step tells nothing of its content in events or errors.
    pub fn is_private(&self) -> bool {
        match self {
            Self::Data { data, .. } => data.private,
            Self::Path { private, .. } => *private,
        }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        match self {
            Self::Data { path, .. } | Self::Path { path, .. } => path,
        }
    }
}

/// One result of a step.
#[derive(Debug, Clone)]
pub struct Made {
    /// The output port.
    pub port: String,
    /// A file or folder below the step's work folder.
    pub path: PathBuf,
}

/// Why a step failed.
#[derive(Debug, Error)]
pub enum StepFailure {
    /// The step could not do its work.
    #[error("{0}")]
    Failed(String),
    /// The workflow or its inputs are wrong.
    #[error("{0}")]
    BadInput(String),
    /// The budget or a policy refused.
    #[error("{0}")]
    Refused(String),
    /// The step stopped because the run was asked to stop.
    #[error("stopped")]
    Cancelled,
}
