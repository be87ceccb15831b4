//! The durable privacy budget of a site: nothing private is read before its charge is on disk.
//!
//! ```text
//!            reserve ──────────> RESERVED ──seal──> SEALED ──release──> RELEASED
//!  cap check ┘ │ fsync before return  │        bytes stored         bytes handed out
//!              │                      └─ process died ──> BURNED: the charge stays
//!              └─ same data, guest and parameters as a sealed one ──> the same bytes, no charge
//! ```
//!
//! A ledger is one SQLite file: a chain of entries, each holding the hash of the one before and
//! signed with the site's ed25519 key, and the sealed outputs, addressed by their digest. Every
//! state and every figure is a fold over the entries (`book.rs`), so there is no second truth that
//! could disagree. Start at [`Ledger::reserve`]; what an auditor needs is [`verify`].
//!
//! # What tampering is found, and what is not
//!
//! Without the key, a changed, added, removed, reordered or truncated entry or output is found, and
//! the first bad place named. Who holds the key can write another history; the site guards it.
//! Putting back a whole older copy of the file gives a ledger that was valid once: nothing in the
//! file can tell. The head noted beside it does (`noted.rs`), unless it was put back too. A site that
//! must rule this out keeps [`Head`]s elsewhere (in each run's report, at an auditor, on paper) and
//! gives one to [`verify`] or [`OpenOptions::anchor`], which then refuse a ledger that does not
//! contain it.
//!
//! Deliberately absent: noise, private rows, networks, printing. The ledger sees digests, events
//! and released bytes. It must lie on a local disk: SQLite's write-ahead log and the session locks
//! rely on working file locks.

#![forbid(unsafe_code)]

mod book;
mod digest;
mod durable;
mod entry;
mod error;
mod export;
mod key;
#[cfg(test)]
mod kill_point;
mod ledger;
mod noted;
mod patience;
mod pen;
mod price;
mod recheck;
mod request;
mod session;
mod store;
mod verify;

pub use book::{Charge, State};
pub use digest::Digest;
pub use entry::{Action, Entry, Head};
pub use error::{Error, Result};
pub use key::{PublicKey, key_fits};
pub use ledger::{Ledger, OpenOptions, check_names, system_clock_ms};
pub use noted::begun;
pub use price::{Cap, Spent};
pub use request::{OUTPUT_BYTES_MAX, Outcome, Request, Reservation, Sealed};
pub use session::SessionId;
pub use verify::{DataSet, Prospect, Standing, Verified, verify};
