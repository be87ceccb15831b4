//! The way out: a value that has been through a mechanism, with its charge.
//!
//! Only this crate can make a [`Released`]. A step that sends data to another
//! site takes `Released<T>`, so unreleased data does not type-check there.
//! Deliberately absent: `Deserialize` and any public constructor.

use crate::accountant::{Event, merged};
use serde::Serialize;

/// A value that is differentially private at the cost of its events.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[must_use = "a released value has been paid for"]
pub struct Released<T> {
    value: T,
    charge: Vec<Event>,
}

impl<T> Released<T> {
    pub(crate) fn new(value: T, charge: Vec<Event>) -> Self {
        Self { value, charge }
    }

    /// The value; no longer private.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// The value by itself; its charge must already be in a ledger.
    pub fn into_value(self) -> T {
        self.value
    }

    /// What it cost, in the accountant's terms.
    pub fn charge(&self) -> &[Event] {
        &self.charge
    }

    /// Post-processing: costs nothing more, so the charge stays.
    ///
    /// A plain function, not a closure: it cannot capture anything private.
    pub fn map<U>(self, f: fn(T) -> U) -> Released<U> {
        Released {
            value: f(self.value),
            charge: self.charge,
        }
    }

    /// Post-processing together with something public, such as what a public
    /// program made of released values.
    pub fn map_with<P, U>(self, public: P, f: fn(T, P) -> U) -> Released<U> {
        Released {
            value: f(self.value, public),
            charge: self.charge,
        }
    }

    /// Both values, at the cost of both.
    pub fn zip<U>(self, other: Released<U>) -> Released<(T, U)> {
        let both: Vec<Event> = self.charge.into_iter().chain(other.charge).collect();
        Released {
            value: (self.value, other.value),
            charge: merged(&both),
        }
    }
}
