//! What can go wrong while a plan runs, outside the steps themselves.

use std::path::PathBuf;

use thiserror::Error;

/// A failure of the engine's own work. A step's failure is a
/// [`StepFailure`](crate::StepFailure).
#[derive(Debug, Error)]
pub enum EngineError {
    /// The file system refused.
    #[error("could not {action} `{}`: {source}; {}", path.display(), remedy(source))]
    Io {
        /// What was tried, as a verb phrase.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A step asked for an artifact its site may not see. `check` proves that
    /// this cannot happen; the store asks again all the same.
    #[error(
        "artifact `{artifact}` is private to {owners} and may not be opened at site `{site}`; \
         put a sandbox step between them"
    )]
    Forbidden {
        /// `step.port` of the artifact.
        artifact: String,
        /// The sites it is private to.
        owners: String,
        /// The site that asked.
        site: String,
    },
    /// An artifact's bytes are not those it was stored with.
    #[error(
        "artifact `{}` does not have the content it was stored with; remove it and run again",
        path.display()
    )]
    Corrupt {
        /// The artifact in the store.
        path: PathBuf,
    },
    /// The step did not make a port it had promised.
    #[error("step `{step}` did not make its port `{port}`; this is a defect of the step `{uses}`")]
    Unmade {
        /// The step.
        step: String,
        /// The port.
        port: String,
        /// The step's kind.
        uses: String,
    },
    /// The plan names a step kind that this binary does not have.
    #[error("step `{step}` uses `{uses}`, which this build does not provide")]
    NoSuchStep {
        /// The step.
        step: String,
        /// Its kind.
        uses: String,
    },
    /// A value could not be written as JSON.
    #[error("could not write `{what}` as JSON: {source}")]
    Json {
        /// What was being written.
        what: &'static str,
        /// Why it failed.
        source: serde_json::Error,
    },
    /// The runtime could not be started.
    #[error("could not start the runtime: {0}")]
    Runtime(std::io::Error),
}

impl EngineError {
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

fn remedy(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem, StorageFull};
    match error.kind() {
        StorageFull => {
            "the disk is full: free some space and run again; nothing half-written was kept"
        }
        PermissionDenied => {
            "give this user write permission there, or choose another place with `--home`"
        }
        ReadOnlyFilesystem => "the file system is read-only: choose another place with `--home`",
        NotFound => "check that the path exists",
        _ => "nothing half-written was kept",
    }
}
