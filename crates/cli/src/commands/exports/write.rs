//! Puts what a run made public where the workflow says, never over something else.
//!
//! ```text
//! artifact ─ copy ─> .NAME.half-PID, beside the place ─ moved into place, whole ─> NAME
//! ```
//! The home folder notes what it exported where: that alone may be replaced, as long as nobody has
//! changed it. Runs of one home take turns.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use noisegate_engine::store::{digest_of, files_below};
use noisegate_engine::{Artifact, Store};
use noisegate_workflow::Plan;

use crate::exit::Exit;

/// Copies what the workflow exports; `check` has proven that it is public.
///
/// # Errors
/// If a file cannot be written, or something else lies in its place by now.
pub fn all(
    plan: &Plan,
    artifacts: &BTreeMap<String, Artifact>,
    store: &Store,
    workflow_folder: &Path,
    home: &Path,
) -> Result<(), Exit> {
    for export in &plan.exports {
        let Some(artifact) = artifacts.get(&export.from.to_string()) else {
            continue;
        };
        // An outsider's name: the store gives it public artifacts only.
        let from = store
            .open(artifact, "an export")
            .map_err(|error| Exit::Refused(error.to_string()))?;
        let to = export.path.resolve(workflow_folder);
        put(&to, home, |half| copy(&from, half)).map_err(|error| {
            Exit::Failed(format!(
                "could not export `{}` to `{}`: {}",
                export.name,
                to.display(),
                told(&error)
            ))
        })?;
    }
    Ok(())
}

/// Writes a file that a person asked for to `to`.
///
/// # Errors
/// As [`all`]; and [`Exit::Wrong`] below the home folder, where ledgers are.
pub fn file(to: &Path, home: &Path, text: &str) -> Result<(), Exit> {
    let refuse = |why: String| {
        Err(Exit::Wrong(format!(
            "`{}` is not written: {why}",
            to.display()
        )))
    };
    let absolute = std::path::absolute(to).map_err(Exit::failed)?;
    let above = absolute
        .ancestors()
        .skip(1)
        .find_map(|above| above.canonicalize().ok());
    let real_home = home.canonicalize().map_err(Exit::failed)?;
    if above.is_some_and(|above| above.starts_with(real_home)) {
        return refuse(
            "it lies below the home folder, which holds ledgers and private artifacts".to_owned(),
        );
    }
    match put(to, home, |half| fs::write(half, text)) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => refuse(told(&error)),
        Err(error) => Err(Exit::Failed(format!(
            "could not write `{}`: {error}",
            to.display()
        ))),
    }
}

fn told(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AlreadyExists => {
            "something else is there; move it away or choose another path; nothing is charged again"
                .to_owned()
        }
        _ => error.to_string(),
    }
}

/// Whether `to` is, unchanged, what this home put there.
pub fn is_former_export(home: &Path, to: &Path) -> bool {
    let noted = fs::read_to_string(note(home, to));
    let link = to.symlink_metadata().is_ok_and(|file| file.is_symlink());
    !link && noted.is_ok_and(|noted| digest_of(to).is_ok_and(|found| found == noted))
}

/// Where the home folder notes that `to` was written by an export.
fn note(home: &Path, to: &Path) -> PathBuf {
    let real = to.canonicalize().unwrap_or_else(|_| to.to_owned());
    let name = noisegate_ledger::Digest::of(real.as_os_str().as_encoded_bytes());
    home.join("exports").join(name.to_string())
}

/// Has `write` make a file or a folder, and moves it to `to`.
fn put(to: &Path, home: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let notes = home.join("exports");
    fs::create_dir_all(&notes)?;
    let turn = File::create(notes.join("lock"))?;
    turn.lock()?;
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    let half = &half_of(to);
    remove(half);
    let moved = write(half).and_then(|()| into_place(half, to, home));
    moved
        .and_then(|()| fs::write(note(home, to), digest_of(to)?))
        .inspect_err(|_| remove(half))
}

/// Where an export is gathered before it is moved: a name that no other process uses.
fn half_of(to: &Path) -> PathBuf {
    let name = to.file_name().unwrap_or_default().display();
    to.with_file_name(format!(".{name}.half-{}", std::process::id()))
}

/// Moves a file or a folder to a place where nothing is, or what this home put there.
fn into_place(half: &Path, to: &Path, home: &Path) -> io::Result<()> {
    if is_former_export(home, to) {
        remove(to);
    }
    if half.is_dir() {
        // A folder takes the place of an empty one.
        return match to.symlink_metadata() {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => fs::rename(half, to),
        };
    }
    // Unlike a rename, this replaces nothing.
    match fs::hard_link(half, to) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists && !to.exists() => {
            fs::rename(half, to)
        }
        Err(error) => Err(error),
        Ok(()) => fs::remove_file(half),
    }
}

fn copy(from: &Path, half: &Path) -> io::Result<()> {
    if !from.is_dir() {
        return fs::copy(from, half).map(drop);
    }
    fs::create_dir(half)?;
    for (relative, file) in files_below(from)? {
        let target = half.join(relative);
        fs::create_dir_all(target.parent().unwrap_or(half))?;
        fs::copy(file, target)?;
    }
    Ok(())
}

fn remove(path: &Path) {
    let _ = match path.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (home, out) = (folder.path().join("home"), folder.path().join("out"));
        (folder, home, out)
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn only_what_was_exported_and_left_alone_is_replaced() {
        let (_folder, home, out) = place();
        let to = out.join("a.json");
        for text in ["1", "2"] {
            put(&to, &home, |half| fs::write(half, text)).unwrap();
            assert_eq!(fs::read_to_string(&to).unwrap(), text);
        }
        fs::write(&to, "mine").unwrap();
        let error = put(&to, &home, |half| fs::write(half, "3")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&to).unwrap(), "mine");
        assert_eq!(names(&out), ["a.json"]);
    }

    #[test]
    fn exports_to_one_path_at_once_leave_one_of_them_whole() {
        let (folder, home, out) = place();
        let model = |number: usize| {
            let model = folder.path().join(format!("model-{number}"));
            fs::create_dir(&model).unwrap();
            for file in 0..20 {
                fs::write(
                    model.join(file.to_string()),
                    number.to_string().repeat(9000),
                )
                .unwrap();
            }
            model
        };
        let models: Vec<PathBuf> = (0..4).map(model).collect();
        let to = &out.join("model");
        std::thread::scope(|scope| {
            for model in &models {
                let home = &home;
                scope.spawn(move || put(to, home, |half| copy(model, half)).unwrap());
            }
        });
        let found = digest_of(to).unwrap();
        assert!(
            models
                .iter()
                .any(|model| digest_of(model).unwrap() == found)
        );
        assert!(is_former_export(&home, to));
        assert_eq!(names(&out), ["model"]);
    }

    #[test]
    fn what_a_killed_run_left_behind_stops_nobody() {
        let (_folder, home, out) = place();
        let to = out.join("model");
        fs::create_dir_all(half_of(&to).join("old")).unwrap();
        let write = |half: &Path| {
            fs::create_dir(half)?;
            fs::write(half.join("new"), "x")
        };
        put(&to, &home, write).unwrap();
        assert_eq!(names(&to), ["new"]);
    }

    #[test]
    fn a_page_never_lands_in_the_home_folder_or_on_a_file() {
        let (_folder, home, out) = place();
        let ledger = home.join("sites/clinic/ledger.db");
        fs::create_dir_all(ledger.parent().unwrap()).unwrap();
        fs::write(&ledger, "ledger").unwrap();
        for path in [&ledger, &home.join("new.html")] {
            let Err(Exit::Wrong(why)) = file(path, &home, "page") else {
                panic!("{}", path.display());
            };
            assert!(why.contains("home folder"), "{why}");
        }
        assert_eq!(fs::read_to_string(&ledger).unwrap(), "ledger");
        fs::create_dir(&out).unwrap();
        let mine = out.join("mine.jsonl");
        fs::write(&mine, "rows").unwrap();
        let Err(Exit::Wrong(why)) = file(&mine, &home, "page") else {
            panic!("replaced");
        };
        assert!(why.contains("something else is there"), "{why}");
        file(&out.join("page.html"), &home, "page").unwrap();
        file(&out.join("page.html"), &home, "again").unwrap();
        assert_eq!(names(&out), ["mine.jsonl", "page.html"]);
    }
}
