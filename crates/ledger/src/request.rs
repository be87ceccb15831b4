//! What goes into the ledger and what comes out: requests, reservations, sealed outputs.
//!
//! A [`Reservation`] and a [`Sealed`] can only come from a ledger, and neither can be copied.

use std::sync::Arc;

use noisegate_privacy::Event;

use crate::Digest;
use crate::price::Cap;

/// The largest output one charge may seal: 256 MiB.
pub const OUTPUT_BYTES_MAX: usize = 256 << 20;

/// What a step asks for before it may read private data.
///
/// Two requests that agree in data set and in all three digests are the same request, and the
/// second is served what the first released.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The data set to charge, such as `clinic.notes`.
    pub data_set: String,
    /// Digest of the private data, best of the whole file, whatever part of it is used.
    pub data: Digest,
    /// Digest of the guest's code.
    pub guest: Digest,
    /// Digest of everything else the output depends on: parameters, public inputs, labels, unit.
    pub parameters: Digest,
    /// The privacy unit that the output protects: `record`, or the column that names it.
    pub unit: String,
    /// The data set's cap as the workflow states it, registered together with the first charge;
    /// `None` if one must be registered already.
    pub cap: Option<Cap>,
    /// What the step will cost, all its releases together.
    pub events: Vec<Event>,
    /// For people: the run and the step. No part of the request's identity.
    pub note: String,
}

/// The answer to a request.
#[derive(Debug)]
pub enum Outcome {
    /// Charged: run the step, then seal.
    Charged(Reservation),
    /// The same request was sealed before: release it again, nothing is charged.
    Stored(Sealed),
}

/// A charge that has no output yet. Dropped without being sealed, it is burned.
#[derive(Debug)]
pub struct Reservation {
    pub(crate) number: u64,
    pub(crate) ledger: Digest,
    /// Gone once this is dropped: how the ledger notices a step that was given up.
    pub(crate) _alive: Arc<()>,
}

impl Reservation {
    /// The entry that reserved it.
    pub fn number(&self) -> u64 {
        self.number
    }
}

/// A charge whose output is stored.
#[derive(Debug)]
pub struct Sealed {
    pub(crate) number: u64,
    pub(crate) ledger: Digest,
}

impl Sealed {
    /// The entry that reserved it.
    pub fn number(&self) -> u64 {
        self.number
    }
}
