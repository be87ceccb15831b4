//! One transaction: the file is locked, the book is up to date, entries may be appended.
//!
//! Everything that decides about a charge is here; `ledger.rs` is what others see of it.
//! Deliberately absent: retries. What fails is rolled back and said.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Weak;

use ed25519_dalek::SigningKey;
use noisegate_privacy::{AccountantError, accountant};

use crate::Digest;
use crate::book::{Book, State};
use crate::entry::{Action, Entry};
use crate::error::{Error, Result};
use crate::key::{self, PublicKey};
use crate::price::{self, Cap, Made};
use crate::request::Request;
use crate::session::{self, Session};
use crate::store::Writing;
use crate::verify::follow;

/// The right to write: the file is locked and the book is up to date.
pub(crate) struct Pen<'a> {
    pub writing: Writing<'a>,
    pub book: &'a mut Book,
    pub key: &'a SigningKey,
    pub public_key: PublicKey,
    pub time_ms: u64,
    pub session: Option<&'a Session>,
    pub mine: &'a mut HashMap<u64, Weak<()>>,
    pub folder: &'a Path,
}

impl Pen<'_> {
    /// Acts on an up-to-date book and commits, or rolls everything back.
    pub(crate) fn transact<T>(mut self, act: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.catch_up()?;
        let value = act(&mut self)?;
        self.writing.commit()?;
        Ok(value)
    }

    /// Takes in what other processes wrote; begins the chain if there is none.
    fn catch_up(&mut self) -> Result<()> {
        let blank = self.book.head.count == 0
            && self.writing.heads()?.is_empty()
            && self.writing.entries(0)?.is_empty();
        if blank {
            return self.append(Action::Created {
                ledger: Digest(key::random()?),
                public_key: self.public_key,
            });
        }
        follow(&self.writing, self.book, &self.public_key).map(|_| ())
    }

    pub(crate) fn append(&mut self, action: Action) -> Result<()> {
        let entry = Entry {
            number: self.book.head.count,
            time_ms: self.time_ms,
            previous: self.book.head.hash,
            action,
        };
        let signed = entry.sign(self.key);
        // Taken in as it will be read back: a figure may change in its last digit when printed.
        let stored = Entry::open(&signed, &self.public_key);
        let applied = stored.and_then(|stored| self.book.apply(&stored, Entry::hash(&signed.body)));
        applied.map_err(|problem| Error::Rule {
            entry: entry.number,
            problem,
        })?;
        self.writing.put_entry(entry.number, &signed)?;
        self.writing.put_head(&self.book.head.sign(self.key))
    }

    /// - `unit`: what the cap is for; what is recorded already, if that is not said.
    pub(crate) fn append_cap(
        &mut self,
        data_set: &str,
        cap: Cap,
        unit: Option<&str>,
        reason: &str,
    ) -> Result<()> {
        let known = self.book.units.get(data_set).cloned();
        self.append(Action::Cap {
            data_set: data_set.to_owned(),
            cap,
            unit: unit.map(str::to_owned).or(known),
            reason: reason.to_owned(),
        })
    }

    /// Burns every open reservation whose process, or whose step in this process, is gone.
    pub(crate) fn burn_abandoned(&mut self) -> Result<()> {
        let mut gone = Vec::new();
        for charge in self.book.open() {
            let mine = self
                .session
                .is_some_and(|session| session.id == charge.session);
            let alive = match mine {
                true => self
                    .mine
                    .get(&charge.reservation)
                    .is_some_and(|a| a.strong_count() > 0),
                false => session::is_alive(self.folder, &charge.session)?,
            };
            if !alive {
                gone.push((charge.reservation, mine));
            }
        }
        for (reservation, mine) in gone {
            let reason = match mine {
                true => "the step ended without an output",
                false => "the process ended without an output",
            };
            self.append(Action::Burned {
                reservation,
                reason: reason.to_owned(),
            })?;
        }
        let book = &*self.book;
        self.mine.retain(|number, _| {
            book.charges
                .get(number)
                .is_some_and(|charge| charge.state == State::Reserved)
        });
        Ok(())
    }

    /// The charge that sealed the same request before, if any.
    pub(crate) fn stored(&self, request: &Request) -> Result<Option<u64>> {
        let Request {
            data_set,
            data,
            guest,
            parameters,
            ..
        } = request;
        match self.book.current(data_set, *data, *guest, *parameters) {
            None => Ok(None),
            Some(charge) if charge.state == State::Reserved => Err(Error::InProgress {
                data_set: data_set.clone(),
                reservation: charge.reservation,
            }),
            Some(charge) => Ok(Some(charge.reservation)),
        }
    }

    /// Refuses a request that states another cap, or protects another unit, than is registered.
    pub(crate) fn check_terms(&self, request: &Request) -> Result<()> {
        let data_set = &request.data_set;
        if let (Some(registered), Some(asked)) = (self.book.cap(data_set), request.cap)
            && !registered.same_as(asked)
        {
            return Err(Error::OtherCap {
                data_set: data_set.clone(),
                registered: *registered,
                asked,
            });
        }
        match self.book.units.get(data_set) {
            Some(registered) if *registered != request.unit => Err(Error::OtherUnit {
                data_set: data_set.clone(),
                registered: registered.clone(),
                asked: request.unit.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Charges a new request if it fits under the cap, which the first one registers.
    pub(crate) fn charge(&mut self, request: &Request) -> Result<u64> {
        let data_set = &request.data_set;
        if self.book.cap(data_set).is_none()
            && let Some(cap) = request.cap
        {
            self.append_cap(data_set, cap, Some(&request.unit), "first use")?;
        }
        let caps = self.book.caps.get(data_set).ok_or_else(|| Error::NoCap {
            data_set: data_set.clone(),
        })?;
        if let Some(known) = self.book.name_of(request.data)
            && known != data_set
        {
            return Err(Error::SecondName {
                data: request.data,
                known: known.to_owned(),
                asked: data_set.clone(),
            });
        }
        let before = self.book.charges_of(data_set);
        let mut all = before.clone();
        all.push(Made::now(&request.events));
        let mut together = f64::NAN;
        for cap in caps {
            let price = |charges: &[Made<'_>]| {
                price::guaranteed(charges, *cap).map_err(|source| unpriced(data_set, source))
            };
            together = price(&all)?;
            // Written so that a price that is not a number is refused.
            let fits = together <= cap.epsilon.get();
            if !fits {
                let alone = accountant::epsilon(&request.events, cap.delta);
                return Err(Error::OverCap {
                    data_set: data_set.clone(),
                    spent: price(&before)?,
                    asked: alone.map_err(|source| unpriced(data_set, source))?.epsilon,
                    together,
                    cap: *cap,
                    fits: price::largest_that_fits(&before, &request.events, caps, cap.delta),
                });
            }
        }
        let session = self.session.ok_or(Error::Rule {
            entry: self.book.head.count,
            problem: "there is no session".to_owned(),
        })?;
        let number = self.book.head.count;
        self.append(Action::Reserved {
            data_set: data_set.clone(),
            data: request.data,
            guest: request.guest,
            parameters: request.parameters,
            unit: Some(request.unit.clone()),
            events: request.events.clone(),
            together,
            accountant: accountant::ACCOUNTANT_VERSION.to_owned(),
            session: session.id.clone(),
            note: request.note.clone(),
        })?;
        Ok(number)
    }

    /// State and output of a charge of this ledger.
    pub(crate) fn find(
        &self,
        number: u64,
        ledger: Digest,
        verb: &str,
    ) -> Result<(State, Option<Digest>)> {
        match self.book.charges.get(&number) {
            Some(charge) if self.book.ledger == Some(ledger) => Ok((charge.state, charge.output)),
            _ => Err(Error::Rule {
                entry: number,
                problem: format!("a reservation of another ledger cannot be {verb} here"),
            }),
        }
    }
}

pub(crate) fn wrong_state(
    reservation: u64,
    state: State,
    expected: &'static str,
    verb: &'static str,
) -> Error {
    Error::WrongState {
        reservation,
        state: state.word(),
        expected,
        verb,
    }
}

pub(crate) fn unpriced(data_set: &str, source: AccountantError) -> Error {
    Error::Unpriced {
        data_set: data_set.to_owned(),
        source,
    }
}
