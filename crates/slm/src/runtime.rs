//! The ONNX Runtime library, loaded once per process from a path the caller names.
//!
//! Nothing is looked up in the environment or in system folders: which library runs is the
//! caller's decision, and `cargo xtask setup` fetches the one that was tested.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ort::environment::Environment;
use ort::logging::LogLevel;

use crate::error::SlmError;

/// A loaded ONNX Runtime; cheap to clone.
#[derive(Clone, Debug)]
pub struct Runtime {
    environment: Environment,
    path: PathBuf,
}

impl Runtime {
    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The library that is in use.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Version, commit and flags of the library, in its own words.
    #[must_use]
    pub fn build_info(&self) -> &'static str {
        ort::info()
    }
}

static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

/// Loads the library at `path`, or hands out the one already loaded from there.
///
/// # Errors
/// [`SlmError::LibraryMissing`], [`SlmError::LibraryUnusable`] (damaged, or for another platform),
/// [`SlmError::LibraryTooOld`], [`SlmError::LibraryAlreadyLoaded`] for a second path.
pub fn load(path: &Path) -> Result<Runtime, SlmError> {
    if !path.is_file() {
        return Err(SlmError::LibraryMissing {
            path: path.to_owned(),
        });
    }
    let path = path.canonicalize().map_err(SlmError::read(path))?;
    let mut loaded = LOADED
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(runtime) = &*loaded {
        return match runtime.path == path {
            true => Ok(runtime.clone()),
            false => Err(SlmError::LibraryAlreadyLoaded {
                loaded: runtime.path.clone(),
                asked: path,
            }),
        };
    }
    let builder = ort::init_from(&path).map_err(|error| refused(&path, error))?;
    // The library's log goes nowhere: what matters comes back as an error.
    let environment = builder
        .with_name("noisegate")
        .with_telemetry(false)
        .with_logger(Arc::new(|_, _, _, _, _| {}))
        .build()
        .map_err(SlmError::runtime("start its environment"))?;
    environment.set_log_level(LogLevel::Fatal);
    let runtime = Runtime { environment, path };
    *loaded = Some(runtime.clone());
    Ok(runtime)
}

fn refused(path: &Path, error: ort::LoadDynamicError) -> SlmError {
    let path = path.to_owned();
    match error {
        ort::LoadDynamicError::BadVersion { version_str, .. } => SlmError::LibraryTooOld {
            path,
            found: version_str,
            needed: ort::MINOR_VERSION,
        },
        ort::LoadDynamicError::Dlopen { error, .. } => SlmError::LibraryUnusable {
            path,
            reason: error.to_string(),
        },
        other => SlmError::LibraryUnusable {
            path,
            reason: other.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_names_the_remedy() {
        let error = load(Path::new("/nowhere/libonnxruntime.so")).unwrap_err();
        assert!(error.to_string().contains("cargo xtask setup"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_library_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libonnxruntime.so");
        std::fs::write(&path, b"not a library").unwrap();
        let error = load(&path).unwrap_err();
        assert!(
            matches!(error, SlmError::LibraryUnusable { .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains("cargo xtask setup"), "{error}");
    }
}
