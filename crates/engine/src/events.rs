//! What happened in a run: one JSON line each in `events.jsonl`, and the same
//! to whoever watches.
//!
//! Events quote no private value and count no private rows. A step's progress text
//! comes from the step, and steps that read private data report public counts alone;
//! artifacts that are not public are told without their digest. What is not public:
//! that a step failed, and the file and line of a malformed row that its problem
//! names. So the log, like the rest of the run's folder, is private to the site.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use noisegate_workflow::Label;
use serde::{Deserialize, Serialize};

use crate::error::EngineError;
use crate::store::Artifact;

/// What an event tells of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// `step.port`.
    pub name: String,
    /// Who may see it.
    pub label: Label,
    /// SHA-256 of public content; that of private content would confirm a guess at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

impl From<&Artifact> for Told {
    fn from(artifact: &Artifact) -> Self {
        let public = artifact.label.is_public();
        Self {
            name: artifact.name.clone(),
            label: artifact.label.clone(),
            digest: public.then(|| artifact.digest.clone()),
        }
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The run began.
    RunStarted {
        /// The workflow's name.
        workflow: String,
        /// The steps, in an order in which they could run one by one.
        steps: Vec<String>,
    },
    /// A step was started.
    StepStarted {
        /// The step.
        step: String,
    },
    /// A step got further.
    StepProgress {
        /// The step.
        step: String,
        /// Parts done.
        done: u64,
        /// Parts in all.
        total: u64,
        /// What it is doing.
        what: String,
    },
    /// A privacy budget was charged.
    Charged {
        /// The step.
        step: String,
        /// The data set, as the ledger names it.
        data_set: String,
        /// Epsilon of this charge.
        epsilon: f64,
        /// Delta of this charge.
        delta: f64,
        /// What the data set has spent in all, by the ledger's accountant.
        spent_epsilon: f64,
    },
    /// The ledger had an answer to the same request: its bytes again, at no charge.
    ServedAgain {
        /// The step.
        step: String,
        /// The ledger entry that reserved the charge of that answer.
        entry: u64,
    },
    /// A step says something that a person should know.
    StepNote {
        /// The step.
        step: String,
        /// The note.
        note: String,
    },
    /// A step shows text that it is making from public artifacts: an excerpt, for a person who
    /// looks on.
    StepText {
        /// The step.
        step: String,
        /// The text.
        text: String,
    },
    /// A step ended well.
    StepFinished {
        /// The step.
        step: String,
        /// Wall-clock seconds; whole ones, rounded up, if it read private records.
        seconds: f64,
        /// What it made.
        artifacts: Vec<Told>,
    },
    /// A step failed.
    StepFailed {
        /// The step.
        step: String,
        /// Why, with the remedy.
        problem: String,
    },
    /// The run ended.
    RunFinished {
        /// Wall-clock seconds, rounded up.
        seconds: f64,
        /// `done`, `failed` or `interrupted`.
        outcome: String,
    },
}

/// Watches a run, for instance to draw progress bars.
pub trait Observer: Send + Sync {
    /// Called for each event, from the thread on which it happened.
    fn saw(&self, event: &Event);

    /// Called when the run is asked to stop a second time, or more often: a step may not have
    /// heard the first time. Whoever started the run may then end the process, as a kill would.
    fn asked_again_to_stop(&self) {}
}

/// The run's event log.
pub struct EventLog<'a> {
    file: Mutex<fs::File>,
    began: Instant,
    observer: &'a dyn Observer,
}

#[derive(Serialize)]
struct Line<'a> {
    /// Milliseconds since the run began, to the second, rounded up: from finer ones the durations of
    /// steps that read private records could be told.
    at_ms: u128,
    #[serde(flatten)]
    event: &'a Event,
}

impl<'a> EventLog<'a> {
    /// Opens `path` for appending.
    ///
    /// # Errors
    /// [`EngineError::Io`] if it cannot be opened.
    pub fn open(path: &Path, observer: &'a dyn Observer) -> Result<Self, EngineError> {
        let file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(EngineError::io("open", path))?;
        Ok(Self {
            file: Mutex::new(file),
            began: Instant::now(),
            observer,
        })
    }

    /// Writes `event` down and shows it to the observer.
    ///
    /// A log that can no longer be written (a full disk) does not stop the run:
    /// the results themselves are checked when they are stored.
    pub fn record(&self, event: &Event) {
        self.observer.saw(event);
        let line = Line {
            at_ms: 1000 * u128::from(self.seconds()),
            event,
        };
        let Ok(mut text) = serde_json::to_string(&line) else {
            return;
        };
        text.push('\n');
        if let Ok(mut file) = self.file.lock() {
            let _ = file.write_all(text.as_bytes());
        }
    }

    /// Seconds since the log was opened, rounded up.
    pub fn seconds(&self) -> u32 {
        u32::try_from(self.began.elapsed().as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
    }
}
