//! The head as this machine saw it last, in a small file beside the ledger.
//!
//! ```text
//! ledger.db      the chain
//! ledger.begun   COUNT:HASH of its last entry; its presence says that a ledger was begun here
//! ```
//! A ledger file that was emptied, lost, or replaced by an older copy of itself is noticed, as long
//! as this file was not replaced with it. Whoever replaces both is found only with a head noted
//! elsewhere. It is written after each commit, whole or not at all: a crash may leave it a few
//! entries behind, never ahead and never empty. So one that cannot be read was changed, and is an
//! error: passing over it would pass over the check.
//!
//! Deliberately absent: signatures. The chain has them; a head that it does not contain is wrong.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::durable;
use crate::entry::Head;
use crate::error::{Error, Result};
use crate::store::Store;

/// Where the head is noted.
pub(crate) fn path_of(ledger: &Path) -> PathBuf {
    ledger.with_extension("begun")
}

/// Whether a ledger was begun here. One without a single entry was not: whoever began it died
/// before it could hold anything.
///
/// # Errors
/// [`Error::Gone`] if one was and is not there any more, or is empty: to whoever passes over it,
/// nothing would be charged yet. [`Error::File`] if it cannot be told.
pub fn begun(ledger: &Path) -> Result<bool> {
    let look = |path: &Path| {
        path.try_exists().map_err(|source| Error::File {
            path: path.to_owned(),
            source,
        })
    };
    // In this order: the ledger is written first, its note after the first entry.
    let marker = path_of(ledger);
    let was_begun = look(&marker)?;
    let exists = look(ledger)? && fs::metadata(ledger).is_ok_and(|file| file.len() > 0);
    if was_begun && !exists {
        return Err(Error::Gone {
            ledger: ledger.to_owned(),
            marker,
        });
    }
    Ok(exists && (was_begun || !Store::holds_nothing(ledger)?))
}

/// The head noted last; `None` if there is none.
///
/// Read it before the ledger: entries written in between must not look like missing ones.
///
/// # Errors
/// [`Error::NoteDamaged`] if it holds no head.
pub(crate) fn read(ledger: &Path) -> Result<Option<Head>> {
    let path = path_of(ledger);
    let text = match fs::read(&path) {
        Ok(bytes) => String::from_utf8(bytes).unwrap_or_default(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::File { path, source }),
    };
    let parse = || {
        let (count, hash) = text.trim().split_once(':')?;
        Some(Head {
            count: count.parse().ok()?,
            hash: hash.parse().ok()?,
        })
    };
    parse().map(Some).ok_or(Error::NoteDamaged { note: path })
}

/// The head noted last, unless the caller has one to hold the ledger against instead of a damaged note.
pub(crate) fn read_unless(ledger: &Path, anchor: Option<&Head>) -> Result<Option<Head>> {
    match read(ledger) {
        Err(Error::NoteDamaged { .. }) if anchor.is_some() => Ok(None),
        read => read,
    }
}

/// Notes a head, whole or not at all.
pub(crate) fn write(ledger: &Path, head: &Head) -> io::Result<()> {
    durable::replace(&path_of(ledger), &format!("{}:{}\n", head.count, head.hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_entry_was_not_begun_unless_a_note_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = folder.path().join("ledger.db");
        assert!(!begun(&ledger).unwrap());
        // As a process leaves it that dies between the tables and the first entry.
        drop(Store::open(&ledger, 1000).unwrap());
        assert!(fs::metadata(&ledger).unwrap().len() > 0);
        assert!(!begun(&ledger).unwrap());
        fs::write(path_of(&ledger), "noted").unwrap();
        assert!(
            begun(&ledger).unwrap(),
            "whoever looks into it finds the entries gone"
        );
    }
}
