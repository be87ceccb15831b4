//! The ledger in use: ask for a charge, store the output, hand it out.
//!
//! ```text
//! match ledger.reserve(&request)? {
//!     Outcome::Charged(reservation) => { run the step; ledger.seal(&reservation, &bytes)? }
//!     Outcome::Stored(sealed) => sealed,          // the same request as before: no charge
//! }                                               // then: ledger.release(&sealed)? -> bytes
//! ```
//!
//! Every method is one transaction: it takes the file's write lock, takes in (and verifies) what
//! other processes wrote, decides, appends, and returns only when the disk has it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use ed25519_dalek::SigningKey;

use crate::book::{Book, State};
use crate::durable::sync_folder_of;
use crate::entry::{Action, Head};
use crate::error::{Error, Result};
use crate::key::{self, PublicKey};
use crate::noted;
use crate::pen::{Pen, unpriced, wrong_state};
use crate::price::{self, Cap, Spent};
use crate::request::{OUTPUT_BYTES_MAX, Outcome, Request, Reservation, Sealed};
use crate::session::{self, Session};
use crate::store::Store;
use crate::verify::{check_anchor, data_sets, read_output};
use crate::{DataSet, Digest, Verified, verify};

const UNIT_BYTES_MAX: usize = 256;
/// As long as a path may be, since that is what a data set's name is.
const DATA_SET_BYTES_MAX: usize = 4096;
const NOTE_BYTES_MAX: usize = 1024;

/// Where a ledger lies and how it is opened.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// The ledger file; created on first use.
    pub ledger: PathBuf,
    /// The site's key file; created together with the ledger.
    pub key: PathBuf,
    /// A head noted elsewhere, which the ledger must contain.
    pub anchor: Option<Head>,
    /// How long to wait for another process, in milliseconds.
    pub busy_timeout_ms: u64,
    /// The clock: milliseconds since 1970, UTC.
    pub now_ms: fn() -> u64,
}

impl OpenOptions {
    /// No anchor, 10 s of patience, the system's clock.
    pub fn new(ledger: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            ledger: ledger.into(),
            key: key.into(),
            anchor: None,
            busy_timeout_ms: 10_000,
            now_ms: system_clock_ms,
        }
    }
}

/// The system's clock to the second, in milliseconds since 1970, UTC; 0 if it stands before that.
///
/// How long lies between a charge and its release may depend on private records, so no more is told.
pub fn system_clock_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs() * 1000)
}

/// An open ledger. One per process is enough; several processes may hold the same file.
#[derive(Debug)]
pub struct Ledger {
    store: Store,
    key: SigningKey,
    public_key: PublicKey,
    now_ms: fn() -> u64,
    book: Book,
    session: Option<Session>,
    /// Reservations of this session; gone ones were dropped without being sealed.
    mine: HashMap<u64, Weak<()>>,
}

impl Ledger {
    /// Opens a ledger and verifies its chain, or begins a new one with a new key.
    ///
    /// # Errors
    /// [`Error::KeyMissing`], [`Error::Gone`], [`Error::OtherKey`], [`Error::KeyExposed`], [`Error::Tampered`],
    /// [`Error::RolledBack`], [`Error::OtherVersion`], [`Error::NotALedger`], [`Error::Corrupt`],
    /// [`Error::ReadOnly`], [`Error::DiskFull`], [`Error::Locked`].
    pub fn open(options: &OpenOptions) -> Result<Self> {
        let begun = noted::path_of(&options.ledger);
        // One that is gone must not be begun anew: that would give every data set a second budget.
        let exists = noted::begun(&options.ledger)?;
        let key = match key::load(&options.key)? {
            Some(key) => key,
            None if exists => {
                return Err(Error::KeyMissing {
                    key: options.key.clone(),
                    ledger: options.ledger.clone(),
                });
            }
            None => key::create(&options.key)?,
        };
        // By every opening, as the process that made the key may have died at this point.
        key::publish(&options.key, &PublicKey::of(&key))?;
        let noted = noted::read_unless(&options.ledger, options.anchor.as_ref())?;
        let mut ledger = Self {
            store: Store::open(&options.ledger, options.busy_timeout_ms)?,
            public_key: PublicKey::of(&key),
            key,
            now_ms: options.now_ms,
            book: Book::default(),
            session: None,
            mine: HashMap::new(),
        };
        ledger.write(|pen| {
            if let Some(head) = &noted {
                check_anchor(&pen.writing, head, Some(&begun))?;
            }
            if let Some(anchor) = &options.anchor {
                check_anchor(&pen.writing, anchor, None)?;
            }
            pen.burn_abandoned()
        })?;
        if !begun.exists() {
            noted::write(&options.ledger, &ledger.book.head)
                .and_then(|()| sync_folder_of(&begun))
                .map_err(|source| Error::Marker {
                    marker: begun,
                    source,
                })?;
        }
        Ok(ledger)
    }

    /// Sets a data set's cap, whatever it was: a decision of the site, signed and kept.
    ///
    /// A cap below what is spent refuses every further charge. A lower cap comes on top of the one
    /// before, whose promise is kept; a higher one in epsilon or delta takes its place. Either is for
    /// the unit of the one before; one without charges gets its unit from the first.
    ///
    /// # Errors
    /// [`Error::BadText`] for an empty reason.
    pub fn set_cap(&mut self, data_set: &str, cap: Cap, reason: &str) -> Result<()> {
        check_text("name of a data set", data_set, DATA_SET_BYTES_MAX)?;
        check_text("reason", reason, NOTE_BYTES_MAX)?;
        self.write(|pen| pen.append_cap(data_set, cap, None, reason))
    }

    /// Charges a request, or finds what it was given before. Durable when this returns. The first
    /// charge of a data set registers its cap and its unit with it.
    ///
    /// # Errors
    /// [`Error::OverCap`], [`Error::OtherCap`], [`Error::OtherUnit`], [`Error::NoCap`],
    /// [`Error::SecondName`], [`Error::InProgress`], [`Error::NothingCharged`], [`Error::Unpriced`],
    /// [`Error::BadText`]; in each case nothing is charged or registered and nothing private may be
    /// read.
    pub fn reserve(&mut self, request: &Request) -> Result<Outcome> {
        check_names(&request.data_set, &request.unit)?;
        check_text("note", &request.note, NOTE_BYTES_MAX)?;
        if request.events.is_empty() {
            return Err(Error::NothingCharged {
                data_set: request.data_set.clone(),
            });
        }
        if self.session.is_none() {
            self.session = Some(Session::start(&session::folder_of(&self.store.path))?);
        }
        let (number, stored) = self.write(|pen| {
            pen.burn_abandoned()?;
            pen.check_terms(request)?;
            match pen.stored(request)? {
                Some(number) => Ok((number, true)),
                None => Ok((pen.charge(request)?, false)),
            }
        })?;
        let ledger = self.book.ledger.unwrap_or(Digest([0; 32]));
        if stored {
            return Ok(Outcome::Stored(Sealed { number, ledger }));
        }
        let alive = Arc::new(());
        self.mine.insert(number, Arc::downgrade(&alive));
        Ok(Outcome::Charged(Reservation {
            number,
            ledger,
            _alive: alive,
        }))
    }

    /// Stores the output of a charge. Durable when this returns; may be tried again if it fails.
    ///
    /// # Errors
    /// [`Error::WrongState`] if the charge is burned, [`Error::OtherOutput`] if it is sealed with
    /// other bytes, [`Error::OutputTooLarge`], [`Error::DiskFull`].
    pub fn seal(&mut self, reservation: &Reservation, output: &[u8]) -> Result<Sealed> {
        if output.len() > OUTPUT_BYTES_MAX {
            return Err(Error::OutputTooLarge {
                bytes: output.len(),
                bytes_max: OUTPUT_BYTES_MAX,
            });
        }
        let (number, ledger) = (reservation.number, reservation.ledger);
        let digest = Digest::of(output);
        self.write(|pen| match pen.find(number, ledger, "sealed")? {
            (State::Reserved, _) => {
                pen.writing.put_output(digest, output)?;
                pen.append(Action::Sealed {
                    reservation: number,
                    output: digest,
                    bytes: output.len() as u64,
                })
            }
            (State::Burned, _) => Err(wrong_state(number, State::Burned, "a reserved", "sealed")),
            (_, sealed) if sealed == Some(digest) => Ok(()),
            _ => Err(Error::OtherOutput {
                reservation: number,
            }),
        })?;
        Ok(Sealed { number, ledger })
    }

    /// Hands out a sealed output. It is marked as released, durably, before the bytes are returned.
    ///
    /// # Errors
    /// [`Error::Tampered`] if the stored bytes are not those that were sealed.
    pub fn release(&mut self, sealed: &Sealed) -> Result<Vec<u8>> {
        let number = sealed.number;
        self.write(|pen| {
            let (state, output) = pen.find(number, sealed.ledger, "released")?;
            let Some(output) = output else {
                return Err(wrong_state(number, state, "a sealed", "released"));
            };
            let bytes = read_output(&pen.writing, number, output)?;
            if state == State::Sealed {
                pen.append(Action::Released {
                    reservation: number,
                })?;
            }
            Ok(bytes)
        })
    }

    /// Gives a reservation up, saying why. The charge stays.
    ///
    /// # Errors
    /// [`Error::WrongState`] if it is sealed already; [`Error::BadText`].
    pub fn burn(&mut self, reservation: &Reservation, reason: &str) -> Result<()> {
        check_text("reason", reason, NOTE_BYTES_MAX)?;
        let number = reservation.number;
        self.write(
            |pen| match pen.find(number, reservation.ledger, "burned")? {
                (State::Reserved, _) => pen.append(Action::Burned {
                    reservation: number,
                    reason: reason.to_owned(),
                }),
                (State::Burned, _) => Ok(()),
                (state, _) => Err(wrong_state(number, state, "a reserved", "burned")),
            },
        )
    }

    /// What a data set's charges amount to; `None` if it has no cap.
    ///
    /// # Errors
    /// [`Error::Unpriced`] if the accountant refuses the charges.
    pub fn spent(&mut self, data_set: &str) -> Result<Option<Spent>> {
        self.write(|pen| {
            let Some(cap) = pen.book.cap(data_set) else {
                return Ok(None);
            };
            price::spent(&pen.book.charges_of(data_set), *cap)
                .map(Some)
                .map_err(|source| unpriced(data_set, source))
        })
    }

    /// Every data set with a cap and what was spent, by name.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub fn data_sets(&mut self) -> Result<Vec<DataSet>> {
        self.write(|pen| Ok(data_sets(pen.book)))
    }

    /// Where the chain ends: note it in a report, it anchors the ledger.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub fn head(&mut self) -> Result<Head> {
        self.write(|pen| Ok(pen.book.head))
    }

    /// The public half of the site's key.
    pub fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// Reads the whole ledger again from disk and verifies it, outputs included.
    ///
    /// # Errors
    /// As [`verify`].
    pub fn verify(&self) -> Result<Verified> {
        verify(&self.store.path, &self.public_key, None)
    }

    /// Runs one transaction on an up-to-date book.
    fn write<T>(&mut self, act: impl FnOnce(&mut Pen<'_>) -> Result<T>) -> Result<T> {
        let folder = session::folder_of(&self.store.path);
        let (path, before) = (self.store.path.clone(), self.book.head);
        let pen = Pen {
            writing: self.store.begin()?,
            book: &mut self.book,
            key: &self.key,
            public_key: self.public_key,
            time_ms: (self.now_ms)(),
            session: self.session.as_ref(),
            mine: &mut self.mine,
            folder: &folder,
        };
        let value = pen.transact(act).inspect_err(|_| {
            // What was taken in may have been rolled back: read and verify everything again.
            self.book = Book::default();
        })?;
        if self.book.head != before {
            // The chain is on disk. Without this note a replaced file is noticed later, or only
            // elsewhere: no reason to fail what was done.
            let _ = noted::write(&path, &self.book.head);
        }
        Ok(value)
    }
}

/// Whether a ledger could register a data set of that name with that privacy unit.
///
/// # Errors
/// [`Error::BadText`].
pub fn check_names(data_set: &str, unit: &str) -> Result<()> {
    check_text("name of a data set", data_set, DATA_SET_BYTES_MAX)?;
    check_text("privacy unit", unit, UNIT_BYTES_MAX)
}

fn check_text(what: &'static str, text: &str, bytes_max: usize) -> Result<()> {
    let good =
        !text.trim().is_empty() && text.len() <= bytes_max && !text.chars().any(char::is_control);
    if good {
        return Ok(());
    }
    Err(Error::BadText { what, bytes_max })
}

#[cfg(test)]
mod tests;
