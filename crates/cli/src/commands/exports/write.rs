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
    let real_home = home.canonicalize().map_err(Exit::failed)?;
    if let Err(why) = super::real(to, Some(&real_home)) {
        return refuse(why.to_owned());
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
    let Ok(noted) = fs::read_to_string(note(home, to)) else {
        return false;
    };
    let link = to.symlink_metadata().is_ok_and(|file| file.is_symlink());
    !link && digest_of(to).is_ok_and(|found| noted.lines().any(|noted| noted == found))
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
    sweep(to);
    let half = &half_of(to, std::process::id());
    remove(half);
    write(half)
        .and_then(|()| into_place(half, to, home))
        .inspect_err(|_| remove(half))
}

/// Where an export is gathered before it is moved: a name that no other process uses.
fn half_of(to: &Path, process: u32) -> PathBuf {
    beside(to, &format!("half-{process}"))
}

fn beside(to: &Path, what: &str) -> PathBuf {
    let name = to.file_name().unwrap_or_default().display();
    to.with_file_name(format!(".{name}.{what}"))
}

/// Removes what processes that are no more have left of exports to the same path.
fn sweep(to: &Path) {
    let start = beside(to, "half-");
    let start = start.file_name().unwrap_or_default().as_encoded_bytes();
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
    let entries = fs::read_dir(parent.unwrap_or(Path::new(".")));
    for entry in entries.into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.as_encoded_bytes().strip_prefix(start);
        let process = process.and_then(|it| str::from_utf8(it).ok()?.parse::<u32>().ok());
        let gone = |process: u32| !Path::new("/proc").join(process.to_string()).exists();
        if Path::new("/proc/self").exists() && process.is_some_and(gone) {
            remove(&entry.path());
        }
    }
}

/// Moves a file or a folder to a place where nothing is, or what this home put there.
///
/// The note is made first and names both, so that a kill at any moment leaves one of them there,
/// known as this home's own.
fn into_place(half: &Path, to: &Path, home: &Path) -> io::Result<()> {
    let new = digest_of(half)?;
    let former = is_former_export(home, to);
    let old = match former {
        true => digest_of(to)?,
        false => String::new(),
    };
    if !former && to.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    fs::write(note(home, to), format!("{new}\n{old}\n"))?;
    match (half.is_dir(), former) {
        // A folder does not take the place of another.
        (true, true) => {
            let aside = &beside(to, "former");
            remove(aside);
            fs::rename(to, aside)?;
            fs::rename(half, to)?;
            remove(aside);
        }
        (true, false) => fs::rename(half, to)?,
        (false, true) => {
            if to.is_dir() {
                remove(to);
            }
            fs::rename(half, to)?;
        }
        // Unlike a rename, a link replaces nothing that another process put there meanwhile.
        (false, false) => match fs::hard_link(half, to) {
            Ok(()) => fs::remove_file(half)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
            // Not every file system has links.
            Err(_) => fs::rename(half, to)?,
        },
    }
    fs::write(note(home, to), new)
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
        // No process has that number.
        fs::create_dir_all(half_of(&to, u32::MAX).join("old")).unwrap();
        let write = |half: &Path| {
            fs::create_dir(half)?;
            fs::write(half.join("new"), "x")
        };
        put(&to, &home, write).unwrap();
        assert_eq!(names(&to), ["new"]);
        assert_eq!(names(&out), ["model"]);
        // Killed between the note and the move, an older export is still this home's own.
        let noted = fs::read_to_string(note(&home, &to)).unwrap();
        fs::write(note(&home, &to), format!("{}\n{noted}\n", "0".repeat(64))).unwrap();
        assert!(is_former_export(&home, &to));
        put(&to, &home, |half| fs::write(half, "a file now")).unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "a file now");
    }

    #[test]
    fn a_page_never_lands_in_the_home_folder_or_on_a_file() {
        let (_folder, home, out) = place();
        let ledger = home.join("sites/clinic/ledger.db");
        fs::create_dir_all(ledger.parent().unwrap()).unwrap();
        fs::write(&ledger, "ledger").unwrap();
        for path in [
            &ledger,
            &home.join("new.html"),
            &out.join("missing/../../home/new.html"),
        ] {
            let Err(Exit::Wrong(why)) = file(path, &home, "page") else {
                panic!("{}", path.display());
            };
            assert!(
                why.contains("home folder") || why.contains("climbs"),
                "{why}"
            );
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
