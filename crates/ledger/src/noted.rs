//! The head as this machine saw it last, in a small file beside the ledger.
//!
//! ```text
//! ledger.db      the chain
//! ledger.begun   COUNT:HASH of its last entry; its presence says that a ledger was begun here
//! ```
//! A ledger file that was emptied, lost, or replaced by an older copy of itself is noticed, as long
//! as this file was not replaced with it. Whoever replaces both is found only with a head noted
//! elsewhere. It is written after each commit and without waiting for the disk: a crash may leave it
//! a few entries behind, never ahead.
//!
//! Deliberately absent: signatures. The chain has them; a head that it does not contain is wrong.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::entry::Head;

/// Where the head is noted.
pub(crate) fn path_of(ledger: &Path) -> PathBuf {
    ledger.with_extension("begun")
}

/// The head noted last; `None` if there is none, or none that can be read.
///
/// Read it before the ledger: entries written in between must not look like missing ones.
pub(crate) fn read(ledger: &Path) -> Option<Head> {
    let text = fs::read_to_string(path_of(ledger)).ok()?;
    let (count, hash) = text.trim().split_once(':')?;
    Some(Head {
        count: count.parse().ok()?,
        hash: hash.parse().ok()?,
    })
}

/// Notes a head, whole or not at all.
pub(crate) fn write(ledger: &Path, head: &Head) -> io::Result<()> {
    let path = path_of(ledger);
    let half = path.with_extension(format!("begun.{}", std::process::id()));
    #[cfg(test)]
    crate::kill_point::pass();
    fs::write(&half, format!("{}:{}\n", head.count, head.hash))
        .and_then(|()| {
            #[cfg(test)]
            crate::kill_point::pass();
            fs::rename(&half, &path)
        })
        .inspect_err(|_| {
            let _ = fs::remove_file(&half);
        })
}
