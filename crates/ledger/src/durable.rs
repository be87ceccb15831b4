//! Small files that are there whole or not at all, also after a power cut.
//!
//! ```text
//! NAME.PID.N.part   written and synced      then renamed to NAME
//! ```
//! Deliberately absent: removing the `.part` that a killed process leaves behind. Nobody reads it.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Tells apart the threads of a process that write the same file.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// Puts `text` in the place of what the file holds.
///
/// When this returns, what the file holds is on disk; that it is the new text need not be.
pub(crate) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
    let mut part = path.file_name().unwrap_or_default().to_owned();
    part.push(format!(".{}.{number}.part", std::process::id()));
    let part = path.with_file_name(part);
    #[cfg(test)]
    crate::kill_point::pass();
    let write = || {
        let mut file = fs::File::create(&part)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        #[cfg(test)]
        crate::kill_point::pass();
        fs::rename(&part, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&part);
    })
}

/// Makes what was created or renamed in the file's folder durable.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_write_one_file_never_show_half_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.begun");
        let text = |number: usize| format!("{number}:{}\n", "a".repeat(5000));
        replace(&path, &text(0)).unwrap();
        std::thread::scope(|scope| {
            for thread in 1..5 {
                let path = &path;
                scope.spawn(move || (0..50).for_each(|_| replace(path, &text(thread)).unwrap()));
            }
            for _ in 0..500 {
                let seen = fs::read_to_string(&path).unwrap();
                assert!((0..5).any(|number| seen == text(number)), "{seen}");
            }
        });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
