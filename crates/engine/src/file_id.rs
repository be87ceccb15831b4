//! Which file a path leads to.

use std::io;
use std::path::Path;
#[cfg(not(unix))]
use std::path::PathBuf;

/// A file, whatever path leads to it: links are followed, and hard links are the same file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileId {
    #[cfg(unix)]
    device_and_inode: (u64, u64),
    #[cfg(not(unix))]
    path: PathBuf,
}

impl FileId {
    /// The file that `path` leads to now.
    ///
    /// # Errors
    /// If there is none, or its folder cannot be searched.
    pub fn of(path: &Path) -> io::Result<Self> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let there = std::fs::metadata(path)?;
            let device_and_inode = (there.dev(), there.ino());
            Ok(Self { device_and_inode })
        }
        #[cfg(not(unix))]
        Ok(Self {
            path: path.canonicalize()?,
        })
    }
}
