//! The state of a ledger as a fold over its entries: `book.apply(entry)`, and nothing else.
//!
//! Pure: no files, no clock, no keys. An entry that does not follow from the ones before is refused
//! here, so a ledger that verifies also obeys every rule below, whoever wrote it.

use std::collections::{BTreeMap, HashMap};

use noisegate_privacy::Event;
use serde::Serialize;

use crate::entry::{Action, Entry, Head, NO_PREVIOUS};
use crate::key::PublicKey;
use crate::price::{self, Cap, Made};
use crate::{Digest, SessionId};

/// How far a charge has come. There is no way back and no way around.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// Charged; private data may be read, nothing is out.
    Reserved,
    /// The output is stored, but was not handed out.
    Sealed,
    /// The output was handed out.
    Released,
    /// The process ended without an output; the charge stays.
    Burned,
}

impl State {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Sealed => "sealed",
            Self::Released => "released",
            Self::Burned => "burned",
        }
    }
}

/// One reservation and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Charge {
    /// The entry that reserved it.
    pub reservation: u64,
    /// The data set charged.
    pub data_set: String,
    /// Digest of the private data.
    pub data: Digest,
    /// Digest of the guest's code.
    pub guest: Digest,
    /// Digest of the parameters.
    pub parameters: Digest,
    /// The privacy unit it protects, if that is recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// What it costs.
    pub events: Vec<Event>,
    /// How far it has come.
    pub state: State,
    /// Digest of the output, once sealed.
    pub output: Option<Digest>,
    /// For people: the run and the step.
    pub note: String,
    /// The accountant that priced it.
    #[serde(skip)]
    pub(crate) accountant: String,
    /// The process that works, or worked, on it.
    #[serde(skip)]
    pub(crate) session: SessionId,
}

/// What makes two requests the same.
type Identity = (String, Digest, Digest, Digest);

impl Charge {
    fn identity(&self) -> Identity {
        (
            self.data_set.clone(),
            self.data,
            self.guest,
            self.parameters,
        )
    }
}

/// Everything the entries so far amount to.
#[derive(Debug, Clone)]
pub(crate) struct Book {
    pub head: Head,
    pub public_key: Option<PublicKey>,
    pub ledger: Option<Digest>,
    /// The caps in force on each data set, the one set last at the end.
    pub caps: BTreeMap<String, Vec<Cap>>,
    /// The privacy unit that the caps on a data set are for, where it is recorded.
    pub units: BTreeMap<String, String>,
    pub charges: BTreeMap<u64, Charge>,
    /// The charge that each request was last given; burned ones are forgotten.
    current: HashMap<Identity, u64>,
    /// The data set under which each data digest was first charged.
    names: HashMap<Digest, String>,
}

impl Default for Book {
    fn default() -> Self {
        Self {
            head: Head {
                count: 0,
                hash: NO_PREVIOUS,
            },
            public_key: None,
            ledger: None,
            caps: BTreeMap::new(),
            units: BTreeMap::new(),
            charges: BTreeMap::new(),
            current: HashMap::new(),
            names: HashMap::new(),
        }
    }
}

impl Book {
    /// Takes in the next entry; `hash` is that of its stored bytes.
    ///
    /// # Errors
    /// What is wrong with it; then the book must not be used any more.
    pub(crate) fn apply(&mut self, entry: &Entry, hash: Digest) -> Result<(), String> {
        if entry.number != self.head.count {
            return Err(format!("it says it is entry {}", entry.number));
        }
        if entry.previous != self.head.hash {
            return Err("it does not follow the entry before it".to_owned());
        }
        self.act(entry.number, &entry.action)?;
        self.head = Head {
            count: entry.number + 1,
            hash,
        };
        Ok(())
    }

    fn act(&mut self, number: u64, action: &Action) -> Result<(), String> {
        match action {
            Action::Created { ledger, public_key } => {
                if number != 0 {
                    return Err("the ledger is created a second time".to_owned());
                }
                self.ledger = Some(*ledger);
                self.public_key = Some(*public_key);
            }
            _ if number == 0 => return Err("the first entry does not create the ledger".to_owned()),
            Action::Cap {
                data_set,
                cap,
                unit,
                ..
            } => {
                if let Some(unit) = unit {
                    self.same_unit(data_set, Some(unit))?;
                    self.units.insert(data_set.clone(), unit.clone());
                }
                price::put_in_force(self.caps.entry(data_set.clone()).or_default(), *cap);
            }
            Action::Reserved {
                data_set,
                data,
                guest,
                parameters,
                unit,
                events,
                accountant,
                session,
                note,
                ..
            } => {
                let charge = Charge {
                    reservation: number,
                    data_set: data_set.clone(),
                    data: *data,
                    guest: *guest,
                    parameters: *parameters,
                    unit: unit.clone(),
                    events: events.clone(),
                    state: State::Reserved,
                    output: None,
                    note: note.clone(),
                    accountant: accountant.clone(),
                    session: session.clone(),
                };
                self.reserve(charge)?;
            }
            Action::Sealed {
                reservation,
                output,
                ..
            } => {
                let charge = self.advance(*reservation, State::Reserved, State::Sealed)?;
                charge.output = Some(*output);
            }
            Action::Released { reservation } => {
                self.advance(*reservation, State::Sealed, State::Released)?;
            }
            Action::Burned { reservation, .. } => {
                let identity = self
                    .advance(*reservation, State::Reserved, State::Burned)?
                    .identity();
                self.current.remove(&identity);
            }
        }
        Ok(())
    }

    fn reserve(&mut self, charge: Charge) -> Result<(), String> {
        if !self.caps.contains_key(&charge.data_set) {
            return Err("it charges a data set without a cap".to_owned());
        }
        if charge.events.is_empty() {
            return Err("it charges nothing".to_owned());
        }
        self.settle_unit(&charge)?;
        let name = self
            .names
            .entry(charge.data)
            .or_insert_with(|| charge.data_set.clone());
        if *name != charge.data_set {
            return Err("it charges known data under a second name".to_owned());
        }
        let identity = charge.identity();
        if let Some(open) = self.current.get(&identity) {
            return Err(format!(
                "it repeats the request of entry {open}, which is not burned"
            ));
        }
        self.current.insert(identity, charge.reservation);
        self.charges.insert(charge.reservation, charge);
        Ok(())
    }

    /// A cap that was registered without a unit is for the unit of its first charge. If that one's
    /// is not recorded, none of a later one is taken for it.
    fn settle_unit(&mut self, charge: &Charge) -> Result<(), String> {
        let data_set = &charge.data_set;
        self.same_unit(data_set, charge.unit.as_ref())?;
        let known = self.units.contains_key(data_set)
            || self.charges.values().any(|one| one.data_set == *data_set);
        if let (false, Some(unit)) = (known, &charge.unit) {
            self.units.insert(data_set.clone(), unit.clone());
        }
        Ok(())
    }

    /// What is recorded stays: a cap is for one unit (decision 085).
    fn same_unit(&self, data_set: &str, unit: Option<&String>) -> Result<(), String> {
        match self.units.get(data_set) {
            Some(known) if unit != Some(known) => Err(format!(
                "it is for unit `{}`, the cap of data set `{data_set}` is for `{known}`",
                unit.map_or("not recorded", String::as_str)
            )),
            _ => Ok(()),
        }
    }

    fn advance(&mut self, reservation: u64, from: State, to: State) -> Result<&mut Charge, String> {
        let charge = self
            .charges
            .get_mut(&reservation)
            .ok_or_else(|| format!("it speaks of entry {reservation}, which is no reservation"))?;
        if charge.state != from {
            return Err(format!(
                "it makes entry {reservation} {}, which is {} and not {}",
                to.word(),
                charge.state.word(),
                from.word()
            ));
        }
        charge.state = to;
        Ok(charge)
    }

    /// The charge that a request was given before, unless that was burned.
    pub(crate) fn current(
        &self,
        data_set: &str,
        data: Digest,
        guest: Digest,
        parameters: Digest,
    ) -> Option<&Charge> {
        let identity = (data_set.to_owned(), data, guest, parameters);
        self.charges.get(self.current.get(&identity)?)
    }

    /// The name under which these data were charged first.
    pub(crate) fn name_of(&self, data: Digest) -> Option<&str> {
        self.names.get(&data).map(String::as_str)
    }

    /// The cap of a data set, set last.
    pub(crate) fn cap(&self, data_set: &str) -> Option<&Cap> {
        self.caps.get(data_set)?.last()
    }

    /// Every charge of a data set, oldest first, whatever became of it.
    pub(crate) fn charges_of(&self, data_set: &str) -> Vec<Made<'_>> {
        made(self.charges.values(), data_set)
    }

    /// Charges that have no output yet.
    pub(crate) fn open(&self) -> impl Iterator<Item = &Charge> {
        self.charges
            .values()
            .filter(|charge| charge.state == State::Reserved)
    }
}

/// Those of these charges that are of a data set, in their order.
pub(crate) fn made<'a>(charges: impl Iterator<Item = &'a Charge>, data_set: &str) -> Vec<Made<'a>> {
    let of_it = charges.filter(|charge| charge.data_set == data_set);
    let made = of_it.map(|charge| Made::by(&charge.accountant, &charge.events));
    made.collect()
}
