//! The SQLite file: three small tables, opened so that a commit means it is on disk.
//!
//! ```text
//! entries(number, body, signature)    the chain
//! head(id = 1, body, signature)       where it ends, signed
//! outputs(digest, bytes)              what was sealed, content-addressed
//! ```
//!
//! SQLite waits for another process by itself, except where two could wait for each other, as they
//! could while one of them makes the file: then it turns one away at once. So opening is tried again
//! and again (`patience.rs`).
//!
//! Deliberately absent: meaning. This file moves bytes; `book.rs` knows what they say.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior};

use crate::Digest;
use crate::entry::SignedBytes;
use crate::error::{Error, Result};
use crate::patience::Patience;

/// The format this program reads and writes.
pub(crate) const FORMAT: i64 = 2;
/// `NgLd`: marks the file as a ledger in SQLite's header.
const APPLICATION_ID: i64 = 0x4e67_4c64;

const SCHEMA: [&str; 3] = [
    "CREATE TABLE entries (number INTEGER PRIMARY KEY, body BLOB NOT NULL, signature BLOB NOT NULL)",
    "CREATE TABLE head (id INTEGER PRIMARY KEY, body BLOB NOT NULL, signature BLOB NOT NULL)",
    "CREATE TABLE outputs (digest BLOB PRIMARY KEY, bytes BLOB NOT NULL)",
];

/// An open ledger file.
#[derive(Debug)]
pub(crate) struct Store {
    pub connection: Connection,
    pub path: PathBuf,
    /// For other processes.
    patience: Patience,
}

impl Store {
    /// Opens or creates the file for writing; a new one has tables but no entries.
    ///
    /// # Errors
    /// [`Error::Locked`] if other processes held it for `busy_timeout_ms`.
    pub(crate) fn open(path: &Path, busy_timeout_ms: u64) -> Result<Self> {
        let patience = Patience::of(busy_timeout_ms);
        patience.try_until_free(|| Self::try_open(path, patience))
    }

    fn try_open(path: &Path, patience: Patience) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let error = |source| Error::database(path, patience.waited_ms(), source);
        let connection = Connection::open_with_flags(path, flags).map_err(error)?;
        let mut store = Self {
            connection,
            path: path.to_owned(),
            patience,
        };
        store.configure().map_err(error)?;
        if store.is_blank()? {
            store.create()?;
        }
        store.check_format()?;
        // Only now: it writes to the file, which must be known to be ours.
        let mode: String = store
            .connection
            .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
            .map_err(error)?;
        if mode != "wal" {
            let source = rusqlite::Error::InvalidQuery;
            return Err(Error::Database {
                path: path.to_owned(),
                source,
            });
        }
        store.opened()
    }

    /// Opens an existing file without changing it.
    pub(crate) fn open_to_read(path: &Path) -> Result<Self> {
        let store = Self::open_any_to_read(path)?;
        store.check_format()?;
        store.opened()
    }

    /// Whether an existing file holds nothing at all yet: not a table, or not a row in those of a ledger.
    ///
    /// # Errors
    /// [`Error::NotALedger`] and others, if it is no ledger or cannot be read.
    pub(crate) fn holds_nothing(path: &Path) -> Result<bool> {
        let store = Self::open_any_to_read(path)?;
        if store.is_blank()? {
            return Ok(true);
        }
        store.check_format()?;
        store.is_empty()
    }

    /// Opens an existing database without changing it, whatever it is.
    fn open_any_to_read(path: &Path) -> Result<Self> {
        const BUSY_TIMEOUT_MS: u64 = 5000;
        let patience = Patience::of(BUSY_TIMEOUT_MS);
        patience.try_until_free(|| Self::try_to_read(path, patience))
    }

    fn try_to_read(path: &Path, patience: Patience) -> Result<Self> {
        if !path.exists() {
            return Err(Error::Missing {
                path: path.to_owned(),
            });
        }
        let error = |source| Error::database(path, patience.waited_ms(), source);
        let open = |uri: &str| {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
                | OpenFlags::SQLITE_OPEN_NO_MUTEX
                | OpenFlags::SQLITE_OPEN_URI;
            let store = Self {
                connection: Connection::open_with_flags(uri, flags).map_err(error)?,
                path: path.to_owned(),
                patience,
            };
            store.configure().map_err(error)?;
            store.is_blank()?; // reads, so that a file that is locked or no database is found here
            Ok(store)
        };
        let uri = file_uri(path);
        match open(&uri) {
            // A write-ahead log cannot be opened in a folder that is read-only; if there is none
            // the file is complete and may be read as it is.
            Err(Error::ReadOnly { .. }) if !beside(path, "-wal").exists() => {
                open(&format!("{uri}?immutable=1"))
            }
            opened => opened,
        }
    }

    fn configure(&self) -> rusqlite::Result<()> {
        let connection = &self.connection;
        connection.busy_timeout(self.patience.left())?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "fullfsync", true)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.pragma_update(None, "cell_size_check", true)
    }

    /// Each transaction from now on waits for others as long as the opening might have.
    fn opened(self) -> Result<Self> {
        let whole = self.connection.busy_timeout(self.patience.limit());
        whole.map_err(|source| self.error(source))?;
        Ok(self)
    }

    fn is_blank(&self) -> Result<bool> {
        let objects: i64 = self
            .connection
            .query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))
            .map_err(|source| self.error(source))?;
        Ok(objects == 0 && self.pragma("application_id")? == 0)
    }

    /// Whether its tables hold nothing at all.
    fn is_empty(&self) -> Result<bool> {
        let rows = "SELECT (SELECT count(*) FROM entries) + (SELECT count(*) FROM head)";
        let rows: i64 = self
            .connection
            .query_row(rows, [], |row| row.get(0))
            .map_err(|source| self.error(source))?;
        Ok(rows == 0)
    }

    fn create(&mut self) -> Result<()> {
        let create = |connection: &mut Connection| -> rusqlite::Result<()> {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let objects: i64 =
                transaction.query_row("SELECT count(*) FROM sqlite_master", [], |r| r.get(0))?;
            // Another process may have been faster.
            if objects == 0 {
                for table in SCHEMA {
                    transaction.execute(table, [])?;
                }
                transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
                transaction.pragma_update(None, "user_version", FORMAT)?;
                #[cfg(test)]
                crate::kill_point::pass();
            }
            transaction.commit()
        };
        create(&mut self.connection).map_err(|source| self.error(source))
    }

    fn check_format(&self) -> Result<()> {
        let path = self.path.clone();
        if self.pragma("application_id")? != APPLICATION_ID {
            return Err(Error::NotALedger { path });
        }
        let found = self.pragma("user_version")?;
        if found != FORMAT {
            return Err(Error::OtherVersion {
                path,
                found,
                supported: FORMAT,
            });
        }
        // A trigger or view slipped in could drop entries as they are written.
        let mut statement = self
            .connection
            .prepare("SELECT sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_autoindex_%' ORDER BY name")
            .map_err(|source| self.error(source))?;
        let found: Vec<String> = statement
            .query_map([], |row| {
                row.get::<_, Option<String>>(0)
                    .map(Option::unwrap_or_default)
            })
            .and_then(Iterator::collect)
            .map_err(|source| self.error(source))?;
        if found != SCHEMA {
            return Err(Error::Tampered {
                path,
                entry: 0,
                problem: "the tables are not those of a ledger".to_owned(),
            });
        }
        Ok(())
    }

    fn pragma(&self, name: &str) -> Result<i64> {
        self.connection
            .query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
            .map_err(|source| self.error(source))
    }

    pub(crate) fn error(&self, source: rusqlite::Error) -> Error {
        Error::database(&self.path, self.patience.waited_ms(), source)
    }

    /// Begins a transaction that no other writer can come between.
    pub(crate) fn begin(&mut self) -> Result<Writing<'_>> {
        let (path, patience) = (&self.path, self.patience.again());
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|source| Error::database(path, patience.waited_ms(), source))?;
        Ok(Writing {
            transaction,
            path,
            patience,
        })
    }

    /// Begins a transaction that sees one state of the file.
    pub(crate) fn begin_read(&mut self) -> Result<Writing<'_>> {
        let (path, patience) = (&self.path, self.patience.again());
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Deferred)
            .map_err(|source| Error::database(path, patience.waited_ms(), source))?;
        Ok(Writing {
            transaction,
            path,
            patience,
        })
    }
}

/// One transaction; rolled back unless committed.
pub(crate) struct Writing<'a> {
    transaction: Transaction<'a>,
    pub path: &'a Path,
    patience: Patience,
}

impl Writing<'_> {
    fn error(&self, source: rusqlite::Error) -> Error {
        Error::database(self.path, self.patience.waited_ms(), source)
    }

    /// Entries from `first` on, each with the number it is stored under.
    pub(crate) fn entries(&self, first: u64) -> Result<Vec<(i64, SignedBytes)>> {
        let read = || -> rusqlite::Result<Vec<(i64, SignedBytes)>> {
            let mut statement = self.transaction.prepare_cached(
                "SELECT number, body, signature FROM entries WHERE number >= ?1 OR number < 0 ORDER BY number",
            )?;
            let rows =
                statement.query_map([first as i64], |row| Ok((row.get(0)?, signed(row, 1)?)))?;
            rows.collect()
        };
        read().map_err(|source| self.error(source))
    }

    /// How many entries are stored.
    pub(crate) fn entry_count(&self) -> Result<i64> {
        self.transaction
            .query_row("SELECT count(*) FROM entries", [], |row| row.get(0))
            .map_err(|source| self.error(source))
    }

    /// The rows of the head table: one, in a ledger that is in order.
    pub(crate) fn heads(&self) -> Result<Vec<SignedBytes>> {
        let read = || -> rusqlite::Result<Vec<SignedBytes>> {
            let mut statement = self
                .transaction
                .prepare_cached("SELECT body, signature FROM head ORDER BY id")?;
            let rows = statement.query_map([], |row| signed(row, 0))?;
            rows.collect()
        };
        read().map_err(|source| self.error(source))
    }

    pub(crate) fn output(&self, digest: Digest) -> Result<Option<Vec<u8>>> {
        self.transaction
            .query_row(
                "SELECT bytes FROM outputs WHERE digest = ?1",
                [&digest.0[..]],
                |row| bytes(row, 0),
            )
            .optional()
            .map_err(|source| self.error(source))
    }

    /// The digests under which outputs are stored.
    pub(crate) fn output_digests(&self) -> Result<Vec<Vec<u8>>> {
        let read = || -> rusqlite::Result<Vec<Vec<u8>>> {
            let mut statement = self.transaction.prepare("SELECT digest FROM outputs")?;
            let rows = statement.query_map([], |row| bytes(row, 0))?;
            rows.collect()
        };
        read().map_err(|source| self.error(source))
    }

    /// SQLite's own check of the file's structure; the first complaint, if any.
    pub(crate) fn integrity(&self) -> Result<Option<String>> {
        let said: String = self
            .transaction
            .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
            .map_err(|source| self.error(source))?;
        Ok((said != "ok").then_some(said))
    }

    pub(crate) fn put_entry(&self, number: u64, entry: &SignedBytes) -> Result<()> {
        self.put(
            "INSERT INTO entries (number, body, signature) VALUES (?1, ?2, ?3)",
            (number as i64, &entry.body, &entry.signature),
        )
    }

    pub(crate) fn put_head(&self, head: &SignedBytes) -> Result<()> {
        self.put(
            "INSERT OR REPLACE INTO head (id, body, signature) VALUES (1, ?1, ?2)",
            (&head.body, &head.signature),
        )
    }

    pub(crate) fn put_output(&self, digest: Digest, bytes: &[u8]) -> Result<()> {
        self.put(
            "INSERT OR IGNORE INTO outputs (digest, bytes) VALUES (?1, ?2)",
            (&digest.0[..], bytes),
        )
    }

    fn put(&self, sql: &str, values: impl rusqlite::Params) -> Result<()> {
        #[cfg(test)]
        crate::kill_point::pass();
        let put = || self.transaction.prepare_cached(sql)?.execute(values);
        put().map(|_| ()).map_err(|source| self.error(source))
    }

    /// Makes everything durable: when this returns, it survives a power cut.
    pub(crate) fn commit(self) -> Result<()> {
        let (path, patience) = (self.path, self.patience);
        #[cfg(test)]
        crate::kill_point::pass();
        let committed = self.transaction.commit();
        #[cfg(test)]
        crate::kill_point::pass();
        committed.map_err(|source| Error::database(path, patience.waited_ms(), source))
    }
}

fn signed(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<SignedBytes> {
    Ok(SignedBytes {
        body: bytes(row, first)?,
        signature: bytes(row, first + 1)?,
    })
}

/// A cell's bytes, whether it is stored as a blob or as text; anything else is no bytes at all.
fn bytes(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Vec<u8>> {
    let cell = row.get_ref(column)?;
    Ok(cell.as_bytes().unwrap_or_default().to_vec())
}

/// The path of a file that SQLite keeps beside the ledger.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    path.with_file_name(name)
}

/// `file:` with everything escaped that means something in a URI.
fn file_uri(path: &Path) -> String {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                uri.push(char::from(*byte));
            }
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}
