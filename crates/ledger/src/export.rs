//! A verified ledger as JSON, for reports and for auditors without SQLite.
//!
//! Deliberately absent: the outputs' bytes (their digests are there) and the sessions.

use serde_json::{Value, json};

use crate::verify::Verified;

impl Verified {
    /// Everything the ledger says: who signed it, its head, every account, every charge with its
    /// state, every entry with its hash.
    ///
    /// # Errors
    /// None in practice; a value that cannot be written as JSON, such as an infinite epsilon,
    /// becomes `null`.
    pub fn to_json(&self) -> Value {
        let entries: Vec<Value> = self
            .entries
            .iter()
            .map(|(entry, hash)| json!({ "hash": hash, "entry": entry }))
            .collect();
        json!({
            "format": crate::store::FORMAT,
            "ledger": self.ledger,
            "public_key": self.public_key,
            "head": self.head,
            "head_signature": self.head_signature,
            "accountant": noisegate_privacy::accountant::ACCOUNTANT_VERSION,
            "data_sets": self.data_sets,
            "charges": self.charges,
            "entries": entries,
        })
    }
}
