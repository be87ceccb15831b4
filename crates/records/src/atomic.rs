//! A file that stands complete under its name or not at all.
//!
//! ```text
//! create ─> .name.PID-N.part ─write…─> fsync ─> rename to name ─> fsync of the folder
//!                   └── dropped before commit: removed
//! ```
//!
//! A process killed in between leaves a `.part` file behind, never a half written final one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Error, Result};

/// A file being written beside its final place; [`AtomicFile::commit`] moves it there.
#[derive(Debug)]
pub struct AtomicFile {
    file: File,
    part: PathBuf,
    path: PathBuf,
    committed: bool,
}

impl AtomicFile {
    /// Starts a file that will replace `path`.
    ///
    /// # Errors
    /// [`Error::Write`] if the folder is missing or cannot be written to.
    pub fn create(path: &Path) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = path.file_name().ok_or_else(|| {
            Error::write(
                path,
                io::Error::other("the path does not end in a file name"),
            )
        })?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut part_name = std::ffi::OsString::from(".");
        part_name.push(name);
        part_name.push(format!(".{}-{number}.part", std::process::id()));
        let part = path.with_file_name(part_name);
        // Truncates: a leftover of the same name is from a killed process whose id came round again.
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&part)
            .map_err(|source| Error::write(path, source))?;
        Ok(Self {
            file,
            part,
            path: path.to_owned(),
            committed: false,
        })
    }

    /// The final path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the content durable and moves it to its final name.
    ///
    /// # Errors
    /// [`Error::DiskFull`] or [`Error::Write`]; then nothing has changed under the final name.
    pub fn commit(mut self) -> Result<()> {
        let error = |source| Error::write(&self.path, source);
        self.file.sync_all().map_err(error)?;
        fs::rename(&self.part, &self.path).map_err(error)?;
        self.committed = true;
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|source| Error::write(&self.path, source))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing more can be done about a file that cannot be removed.
            let _ = fs::remove_file(&self.part);
        }
    }
}

/// Writes `bytes` to `path`, whole or not at all.
///
/// # Errors
/// As [`AtomicFile::create`] and [`AtomicFile::commit`].
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes)
        .map_err(|source| Error::write(path, source))?;
    file.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_committed_leaves_nothing_and_keeps_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.txt");
        write_atomic(&path, b"old").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        write_atomic(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("absent/out.txt");
        let error = write_atomic(&path, b"x").unwrap_err();
        assert!(matches!(error, Error::Write { .. }));
        assert!(error.to_string().contains("absent/out.txt"));
    }
}
