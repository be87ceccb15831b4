//! One folder for every run, below the home folder.
//!
//! ```text
//! <home>/
//!   store/                artifacts, content-addressed
//!   runs/20260102-101500-fdkt/
//!     plan.json           what was planned
//!     events.jsonl        what happened
//!     result.json         every artifact with its label, and how the run ended
//!     lock                held as long as the run's process lives
//!     work/               scratch folders of running steps
//! ```
//!
//! The folder is private to the site: `result.json` holds the digests of private
//! artifacts, by which the store finds them, and `events.jsonl` the file and line of a
//! malformed row.
//!
//! A killed process leaves its scratch folders behind, and they may hold private
//! data: the next run sweeps those whose lock nobody holds any more.
//!
//! Deliberately absent: resuming a run.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use noisegate_workflow::Plan;
use serde::Serialize;

use crate::error::EngineError;

/// A run's folder.
#[derive(Debug)]
pub struct RunFolder {
    /// The run's name, unique below its home.
    pub name: String,
    /// The folder.
    pub path: PathBuf,
    /// Released by the system when the process ends, however it ends.
    _lock: fs::File,
}

impl RunFolder {
    /// Makes a new folder below `home`; `stamp` is the time, as text that sorts.
    ///
    /// # Errors
    /// [`EngineError::Io`] if it cannot be made.
    pub fn create(home: &Path, stamp: &str, plan: &Plan) -> Result<Self, EngineError> {
        let runs = home.join("runs");
        fs::create_dir_all(&runs).map_err(EngineError::io("create", &runs))?;
        restrict(home)?;
        sweep(&runs);
        let first = format!("{stamp}-{}", plan.workflow);
        let taken = names(&runs).map_err(EngineError::io("read", &runs))?;
        let same_time = format!("{stamp}-");
        let same_time = taken.iter().filter(|name| name.starts_with(&same_time));
        let last = same_time.map(|name| number(name)).max().unwrap_or(0);
        for attempt in last.max(1)..last.saturating_add(1000) {
            let name = match attempt {
                1 => first.clone(),
                _ => format!("{first}-{attempt}"),
            };
            if number(&name) <= last {
                continue; // it would not sort as the newest
            }
            let path = runs.join(&name);
            match fs::create_dir(&path) {
                Ok(()) => {
                    let folder = Self {
                        _lock: lock(&path).map_err(EngineError::io("lock", &path))?,
                        name,
                        path,
                    };
                    folder.write_json("plan.json", plan)?;
                    return Ok(folder);
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(EngineError::io("create", path)(error)),
            }
        }
        Err(EngineError::io("create a new run below", runs)(
            std::io::ErrorKind::AlreadyExists.into(),
        ))
    }

    /// Where the events lie.
    pub fn events(&self) -> PathBuf {
        self.path.join("events.jsonl")
    }

    /// An empty scratch folder for a step.
    ///
    /// # Errors
    /// [`EngineError::Io`] if it cannot be made.
    pub fn work_folder(&self, step: &str) -> Result<PathBuf, EngineError> {
        let path = self.path.join("work").join(step);
        if path.exists() {
            fs::remove_dir_all(&path).map_err(EngineError::io("empty", &path))?;
        }
        fs::create_dir_all(&path).map_err(EngineError::io("create", &path))?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700))
                .map_err(EngineError::io("restrict", &path))?;
        }
        Ok(path)
    }

    /// Writes `value` to `file`, whole or not at all.
    ///
    /// # Errors
    /// [`EngineError::Io`] or [`EngineError::Json`].
    pub fn write_json(
        &self,
        file: &'static str,
        value: &impl Serialize,
    ) -> Result<(), EngineError> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|source| EngineError::Json { what: file, source })?;
        let path = self.path.join(file);
        let half = self.path.join(format!("{file}.half"));
        let write = || -> std::io::Result<()> {
            let mut out = fs::File::create(&half)?;
            out.write_all(text.as_bytes())?;
            out.sync_all()?;
            fs::rename(&half, &path)
        };
        write().map_err(|error| {
            let _ = fs::remove_file(&half);
            EngineError::io("write", &path)(error)
        })
    }
}

/// The runs below `home` that really began, oldest first.
///
/// # Errors
/// [`EngineError::Io`] if the folder of runs is there but cannot be read.
pub fn begun(home: &Path) -> Result<Vec<String>, EngineError> {
    let runs = home.join("runs");
    let mut names = match names(&runs) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        names => names.map_err(EngineError::io("read", &runs))?,
    };
    names.retain(|name| runs.join(name).join("plan.json").is_file());
    names.sort_by_cached_key(|name| {
        let stamp: Vec<String> = name.split('-').take(2).map(str::to_owned).collect();
        let planned = fs::metadata(runs.join(name).join("plan.json"));
        let planned = planned.and_then(|file| file.modified()).ok();
        (stamp, number(name), planned, name.clone())
    });
    Ok(names)
}

fn names(folder: &Path) -> std::io::Result<Vec<String>> {
    fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// The number at the end of a run's name, which tells runs of one second apart.
fn number(run: &str) -> u64 {
    let last = run.rsplit('-').next().unwrap_or_default();
    last.parse().unwrap_or(1)
}

/// Only this user may look into the home folder: runs, private artifacts, ledgers.
fn restrict(home: &Path) -> Result<(), EngineError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(home, fs::Permissions::from_mode(0o700))
            .map_err(EngineError::io("restrict", home))?;
    }
    Ok(())
}

/// Opens and locks a run's lock file.
fn lock(run: &Path) -> std::io::Result<fs::File> {
    let file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(run.join("lock"))?;
    file.try_lock()?;
    Ok(file)
}

/// Removes the scratch folders of runs whose process is gone.
///
/// What cannot be removed stays for the next time: a run that starts must not fail
/// over an older one.
fn sweep(runs: &Path) {
    let Ok(entries) = fs::read_dir(runs) else {
        return;
    };
    for run in entries.flatten().map(|entry| entry.path()) {
        let work = run.join("work");
        if work.exists() && lock(&run).is_ok() {
            let _ = fs::remove_dir_all(&work);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_folders_of_dead_runs_are_swept_and_those_of_live_ones_stay() {
        let home = tempfile::tempdir().unwrap();
        for name in ["dead", "live"] {
            fs::create_dir_all(home.path().join(name).join("work/train")).unwrap();
        }
        let live = lock(&home.path().join("live")).unwrap();
        sweep(home.path());
        assert!(!home.path().join("dead/work").exists());
        assert!(home.path().join("live/work").exists());
        drop(live);
        sweep(home.path());
        assert!(!home.path().join("live/work").exists());
    }
}
