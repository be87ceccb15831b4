//! Everything that can go wrong with a ledger: place, problem, remedy.

use std::io;
use std::path::{Path, PathBuf};

use noisegate_privacy::AccountantError;

use crate::Digest;
use crate::price::Cap;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the ledger refuses, or cannot work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A ledger was begun here and is not there any more.
    #[error("ledger `{}` was begun before and is gone or empty; restore it from a backup. To begin a new one, with new budgets for every data set, a person must remove `{}`", ledger.display(), marker.display())]
    Gone {
        /// The ledger.
        ledger: PathBuf,
        /// What says that it was begun.
        marker: PathBuf,
    },
    /// The head noted beside a ledger cannot be read.
    #[error("`{}` holds no head, so an older copy in the ledger's place would not be noticed; hold the ledger against a head from a report with `noisegate ledger verify --head COUNT:HASH`, and if it is whole remove `{}`: the next run writes it again", note.display(), note.display())]
    NoteDamaged {
        /// The file.
        note: PathBuf,
    },
    /// The mark that a ledger was begun could not be written.
    #[error("could not write `{}`; make its folder writable", marker.display())]
    Marker {
        /// The mark.
        marker: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The charge does not fit under the cap.
    #[error("data set `{data_set}`: at the cap's delta of {:e} this run asks for epsilon {asked:.4}; with the {spent:.4} spent before that makes {together:.4}, above the cap of {}; {}, or raise the cap with `noisegate ledger set-cap`", cap.delta.get(), cap.epsilon.get(), what_fits(*fits))]
    OverCap {
        /// The data set.
        data_set: String,
        /// Epsilon of the charges so far, at the cap's delta.
        spent: f64,
        /// Epsilon of this request alone, at the cap's delta.
        asked: f64,
        /// Epsilon of both together.
        together: f64,
        /// The cap.
        cap: Cap,
        /// Epsilon, at the cap's delta, of the largest request of the same kind (more noise, same
        /// steps) that would fit.
        fits: Option<f64>,
    },
    /// The accountant cannot price a request.
    #[error(
        "data set `{data_set}`: the accountant cannot price this charge; change its sampling rate, noise or steps"
    )]
    Unpriced {
        /// The data set.
        data_set: String,
        /// What the accountant said.
        #[source]
        source: AccountantError,
    },
    /// A request without events would be a release without a charge.
    #[error(
        "data set `{data_set}`: the request lists no privacy events; a release must state what it costs"
    )]
    NothingCharged {
        /// The data set.
        data_set: String,
    },
    /// No cap was registered.
    #[error(
        "data set `{data_set}` has no cap; state `epsilon` and `delta` for its whole life first"
    )]
    NoCap {
        /// The data set.
        data_set: String,
    },
    /// Another cap than the registered one.
    #[error("data set `{data_set}`: the workflow states a cap of epsilon {} at delta {:e}, the ledger holds {} at {:e}, which counts; state that one, or change it with `noisegate ledger set-cap`", asked.epsilon.get(), asked.delta.get(), registered.epsilon.get(), registered.delta.get())]
    OtherCap {
        /// The data set.
        data_set: String,
        /// The cap in the ledger.
        registered: Cap,
        /// The cap asked for.
        asked: Cap,
    },
    /// Another privacy unit than the cap's.
    #[error(
        "data set `{data_set}`: this run protects unit `{asked}`, the cap in the ledger is for unit `{registered}`; charges for different units do not add up to one promise: state `unit = \"{registered}\"`"
    )]
    OtherUnit {
        /// The data set.
        data_set: String,
        /// The unit that the cap is for.
        registered: String,
        /// The unit asked for.
        asked: String,
    },
    /// The same data under a second name would have a second budget.
    #[error(
        "the data with digest {data} was charged as data set `{known}` before; use that name instead of `{asked}`, else the same people would be given a second budget"
    )]
    SecondName {
        /// Digest of the data.
        data: Digest,
        /// The name it has.
        known: String,
        /// The name asked for.
        asked: String,
    },
    /// The same request is being worked on.
    #[error(
        "data set `{data_set}`: the same request is open as entry {reservation} in a running process; wait until that run has ended, then its output is served again"
    )]
    InProgress {
        /// The data set.
        data_set: String,
        /// The entry.
        reservation: u64,
    },
    /// A step out of order, such as sealing a burned reservation.
    #[error(
        "entry {reservation} is {state}; only {expected} one can be {verb}; start the step again"
    )]
    WrongState {
        /// The entry.
        reservation: u64,
        /// The state it is in.
        state: &'static str,
        /// The state needed, with article.
        expected: &'static str,
        /// What was tried.
        verb: &'static str,
    },
    /// A reservation is sealed already, with other bytes.
    #[error(
        "entry {reservation} is sealed with other bytes; one charge gives one output, start the step again to be served that one"
    )]
    OtherOutput {
        /// The entry.
        reservation: u64,
    },
    /// An output above the bound.
    #[error(
        "the output has {bytes} bytes, the ledger stores at most {bytes_max}; release fewer samples"
    )]
    OutputTooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// An entry that would break a rule of the ledger: a fault of the caller.
    #[error("entry {entry} cannot be written: {problem}; start the step again")]
    Rule {
        /// The entry.
        entry: u64,
        /// The rule.
        problem: String,
    },
    /// A name or remark that cannot be stored.
    #[error("the {what} must have 1 to {bytes_max} bytes without control characters; shorten it")]
    BadText {
        /// What it is.
        what: &'static str,
        /// The bound.
        bytes_max: usize,
    },

    /// The ledger was changed by somebody without the key, or damaged.
    #[error("ledger `{}` entry {entry}: {problem}; the ledger was changed or damaged: keep this file, find out why, and restore a copy that verifies", path.display())]
    Tampered {
        /// The file.
        path: PathBuf,
        /// The first bad entry, from 0; the number of entries if the fault lies behind them.
        entry: u64,
        /// What is wrong.
        problem: String,
    },
    /// The ledger does not contain a head that was noted elsewhere.
    #[error("ledger `{}` does not contain the head noted {} ({count} entries, {hash}); an older or another file was put in its place, so charges are missing: restore the latest one", path.display(), place(noted.as_deref()))]
    RolledBack {
        /// The file.
        path: PathBuf,
        /// The file that the head is noted in; nothing for a head that was given.
        noted: Option<PathBuf>,
        /// Entries in the noted head.
        count: u64,
        /// Hash of the noted head.
        hash: Digest,
    },
    /// SQLite says the file is damaged.
    #[error("ledger `{}` is a damaged database; keep this file and restore a copy that verifies", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// Not a ledger.
    #[error("`{}` is not a noisegate ledger; check the path. If a ledger was there, restore it from a backup: a new one would not know what is spent", path.display())]
    NotALedger {
        /// The file.
        path: PathBuf,
    },
    /// A ledger of another version.
    #[error("ledger `{}` has format {found}, this program reads format {supported}; use the noisegate version that wrote it", path.display())]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// Ours.
        supported: i64,
    },
    /// No ledger where one is needed.
    #[error("ledger `{}` does not exist; check the path, a ledger begins with the first run", path.display())]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// The ledger cannot be written to.
    #[error("ledger `{}` is read-only; make the file and its folder writable for this user", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// The disk is full. The last operation did not happen.
    #[error("the disk is full while writing ledger `{}`; free some space and run again, nothing was released", path.display())]
    DiskFull {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// Another process holds the ledger.
    #[error("ledger `{}` was locked by another process for {waited_ms} ms; run again when it has finished", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
        /// How long we waited.
        waited_ms: u64,
    },
    /// Any other database failure.
    #[error("ledger `{}`: the database failed; check the disk and its permissions", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },

    /// A ledger without its key.
    #[error("the site key `{}` is missing but ledger `{}` exists; restore the key from its backup, the ledger cannot go on without it", key.display(), ledger.display())]
    KeyMissing {
        /// The key file.
        key: PathBuf,
        /// The ledger.
        ledger: PathBuf,
    },
    /// A key that did not sign this ledger.
    #[error("ledger `{}` belongs to the site key {expected}, not to {given}; use the key file of this ledger", ledger.display())]
    OtherKey {
        /// The ledger.
        ledger: PathBuf,
        /// The ledger's public key.
        expected: String,
        /// The key given.
        given: String,
    },
    /// A key file that others may read.
    #[error("the site key `{}` can be read by others (mode {mode:o}); run `chmod 600` on it, and consider it known if others could log in", path.display())]
    KeyExposed {
        /// The key file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A key file that holds no key.
    #[error("`{}` holds no site key; restore it from its backup", path.display())]
    KeyMalformed {
        /// The key file.
        path: PathBuf,
    },
    /// A file beside the ledger could not be read or written.
    #[error("cannot use `{}`; check that its folder exists, is writable and has space left", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The operating system gives no random bytes.
    #[error(
        "the operating system gives no random bytes for `{what}`; check the system's entropy source"
    )]
    NoEntropy {
        /// What they were for.
        what: &'static str,
    },
}

fn place(noted: Option<&Path>) -> String {
    noted.map_or("elsewhere".to_owned(), |file| {
        format!("in `{}`", file.display())
    })
}

fn what_fits(epsilon: Option<f64>) -> String {
    match epsilon {
        // Rounded down: what is promised to fit must fit.
        Some(epsilon) => format!(
            "with more noise a request of up to epsilon {:.4} at that delta would fit",
            (epsilon * 1e4).floor() / 1e4
        ),
        None => "no request of this kind fits any more, whatever its noise".to_owned(),
    }
}

impl Error {
    /// A database error, told apart by what a user can do about it.
    pub(crate) fn database(path: &Path, waited_ms: u64, source: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(Code::DiskFull) => Self::DiskFull { path, source },
            Some(Code::ReadOnly | Code::PermissionDenied | Code::CannotOpen) => {
                Self::ReadOnly { path, source }
            }
            Some(Code::DatabaseBusy | Code::DatabaseLocked) => Self::Locked { path, waited_ms },
            Some(Code::NotADatabase) => Self::NotALedger { path },
            Some(Code::DatabaseCorrupt) => Self::Corrupt { path, source },
            _ => Self::Database { path, source },
        }
    }
}
