//! Which reservations belong to a process that still runs.
//!
//! ```text
//! ledger.db.sessions/0   locked by process A, holds A's nonce
//! ledger.db.sessions/1   not locked: its process is gone, the slot is free
//! ```
//!
//! A session is a slot file that is kept locked, and a random nonce written into it. The operating
//! system drops the lock when the process dies, however it dies, so nothing is guessed from process
//! ids or times. Slots are used again; the nonce tells the old session from the new one.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::key::random;

const SLOTS_MAX: u32 = 1024;

/// Names one session of one process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionId {
    /// Its slot.
    pub slot: u32,
    /// Random, hexadecimal.
    pub nonce: String,
}

/// A session of this process; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Session {
    pub id: SessionId,
    _locked: File,
}

/// The folder of slots beside a ledger.
pub(crate) fn folder_of(ledger: &Path) -> PathBuf {
    let mut name = ledger.file_name().unwrap_or_default().to_owned();
    name.push(".sessions");
    ledger.with_file_name(name)
}

impl Session {
    /// Takes the first free slot.
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let nonce = hex::encode(random::<16>()?);
        let error = |path: &Path, source| Error::File {
            path: path.to_owned(),
            source,
        };
        fs::create_dir_all(folder).map_err(|source| error(folder, source))?;
        for slot in 0..SLOTS_MAX {
            let path = folder.join(slot.to_string());
            let mut file = open_slot(&path).map_err(|source| error(&path, source))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(source)) => return Err(error(&path, source)),
            }
            let written = file
                .set_len(0)
                .and_then(|()| file.write_all(nonce.as_bytes()));
            written.map_err(|source| error(&path, source))?;
            return Ok(Self {
                id: SessionId { slot, nonce },
                _locked: file,
            });
        }
        let source = io::Error::other("every session slot is taken");
        Err(error(folder, source))
    }
}

/// Whether the session's process still runs. Call it only under the ledger's write lock.
pub(crate) fn is_alive(folder: &Path, id: &SessionId) -> Result<bool> {
    let path = folder.join(id.slot.to_string());
    let error = |source| Error::File {
        path: path.clone(),
        source,
    };
    let mut file = match OpenOptions::new().read(true).write(true).open(&path) {
        Ok(file) => file,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(error(source)),
    };
    match file.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::Error(source)) => Err(error(source)),
        Err(TryLockError::WouldBlock) => {
            let mut nonce = Vec::new();
            file.rewind().map_err(error)?;
            file.read_to_end(&mut nonce).map_err(error)?;
            Ok(nonce == id.nonce.as_bytes())
        }
    }
}

fn open_slot(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_lives_until_it_is_dropped_and_its_slot_is_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let first = Session::start(folder.path()).unwrap();
        let second = Session::start(folder.path()).unwrap();
        let (first_id, second_id) = (first.id.clone(), second.id.clone());
        assert_ne!(first_id.slot, second_id.slot);
        assert!(is_alive(folder.path(), &first_id).unwrap());
        drop(first);
        assert!(!is_alive(folder.path(), &first_id).unwrap());
        let third = Session::start(folder.path()).unwrap();
        assert_eq!(third.id.slot, first_id.slot);
        assert!(
            !is_alive(folder.path(), &first_id).unwrap(),
            "the slot has another nonce"
        );
        assert!(is_alive(folder.path(), &third.id).unwrap());
        assert!(is_alive(folder.path(), &second_id).unwrap());
    }

    #[test]
    fn a_session_whose_slot_is_gone_is_dead() {
        let folder = tempfile::tempdir().unwrap();
        let id = SessionId {
            slot: 9,
            nonce: "x".to_owned(),
        };
        assert!(!is_alive(folder.path(), &id).unwrap());
    }
}
