//! A ledger in a temporary folder, and requests to put to it.
#![allow(dead_code)] // each test file uses its own part

use std::path::PathBuf;

use noisegate_ledger::{Cap, Digest, Ledger, OpenOptions, Outcome, Request, Reservation, Sealed};
use noisegate_privacy::{Delta, Epsilon, Event};
use tempfile::TempDir;

pub const DATA_SET: &str = "clinic.notes";

/// A folder with a ledger and its key.
pub struct Site {
    pub folder: TempDir,
    pub options: OpenOptions,
}

impl Site {
    pub fn new() -> Self {
        Self::within(tempfile::tempdir().unwrap())
    }

    /// In memory where the system offers that: for tests about kills and changed bytes, which need
    /// thousands of commits and not a single power cut.
    pub fn in_memory() -> Self {
        let memory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        Self::within(memory.unwrap())
    }

    fn within(folder: TempDir) -> Self {
        let mut options = OpenOptions::new(
            folder.path().join("ledger.db"),
            folder.path().join("site.key"),
        );
        options.now_ms = || 1_700_000_000_000;
        Self { folder, options }
    }

    pub fn path(&self) -> PathBuf {
        self.options.ledger.clone()
    }

    pub fn open(&self) -> Ledger {
        Ledger::open(&self.options).unwrap()
    }

    /// Open, with a cap on [`DATA_SET`].
    pub fn open_with_cap(&self, epsilon: f64) -> Ledger {
        let mut ledger = self.open();
        if ledger.spent(DATA_SET).unwrap().is_none() {
            let registered = ledger.set_cap(DATA_SET, cap(epsilon), "before the first use");
            registered.unwrap();
        }
        ledger
    }
}

pub fn cap(epsilon: f64) -> Cap {
    Cap {
        epsilon: Epsilon::new(epsilon).unwrap(),
        delta: Delta::new(1e-5).unwrap(),
    }
}

/// A Gaussian release with noise multiplier `sigma`, told apart by `parameters`.
pub fn request(sigma: f64, parameters: &str) -> Request {
    Request {
        data_set: DATA_SET.to_owned(),
        data: Digest::of(b"data"),
        guest: Digest::of(b"guest"),
        parameters: Digest::of(parameters.as_bytes()),
        unit: "record".to_owned(),
        cap: None,
        events: vec![Event::Gaussian { sigma, count: 1 }],
        note: "run 1, step synthesise".to_owned(),
    }
}

pub fn charge(ledger: &mut Ledger, request: &Request) -> Reservation {
    match ledger.reserve(request).unwrap() {
        Outcome::Charged(reservation) => reservation,
        Outcome::Stored(sealed) => panic!("served from entry {}", sealed.number()),
    }
}

pub fn stored(ledger: &mut Ledger, request: &Request) -> Sealed {
    match ledger.reserve(request).unwrap() {
        Outcome::Stored(sealed) => sealed,
        Outcome::Charged(reservation) => panic!("charged as entry {}", reservation.number()),
    }
}

/// Charge, seal and release.
pub fn run(ledger: &mut Ledger, request: &Request, output: &[u8]) -> Vec<u8> {
    let reservation = charge(ledger, request);
    let sealed = ledger.seal(&reservation, output).unwrap();
    ledger.release(&sealed).unwrap()
}
