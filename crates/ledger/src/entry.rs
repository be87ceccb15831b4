//! One link of the chain: what happened, after which entry, signed.
//!
//! ```text
//! body = JSON { number, time_ms, previous, action }      hash = SHA-256("…entry…", body)
//! next.previous = hash                                   signature = ed25519("…entry…", hash)
//! ```
//!
//! The bytes that were signed are the bytes that are stored: nothing is ever written out anew to be
//! checked, so no change of a serialiser can break or fake a signature.

use ed25519_dalek::{Signature, Signer, SigningKey};
use noisegate_privacy::Event;
use serde::{Deserialize, Serialize};

use crate::key::PublicKey;
use crate::price::Cap;
use crate::{Digest, SessionId};

const ENTRY_DOMAIN: &[u8] = b"noisegate ledger entry 1";
const HEAD_DOMAIN: &[u8] = b"noisegate ledger head 1";

/// The `previous` of the first entry.
pub(crate) const NO_PREVIOUS: Digest = Digest([0; 32]);

/// What was recorded, and where in the chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its place, from 0.
    pub number: u64,
    /// When, by the site's clock, in milliseconds since 1970 (UTC). Proves nothing by itself.
    pub time_ms: u64,
    /// Hash of the entry before.
    pub previous: Digest,
    /// What happened.
    pub action: Action,
}

/// What an entry records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// The ledger begins; always entry 0 and only there.
    Created {
        /// Random, so that two ledgers of one site differ.
        ledger: Digest,
        /// Who signs.
        public_key: PublicKey,
    },
    /// The cap of a data set is registered or changed.
    Cap {
        /// The data set.
        data_set: String,
        /// The cap from now on.
        cap: Cap,
        /// The privacy unit that it is for, as the workflow states it: `record`, or a column. It
        /// stays what it was first; absent if it is not recorded, as in entries from before it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unit: Option<String>,
        /// Why; `first use` when a workflow registered it.
        reason: String,
    },
    /// A charge, made before any private byte is read. Its entry number names the reservation.
    Reserved {
        /// The data set charged.
        data_set: String,
        /// Digest of the private data.
        data: Digest,
        /// Digest of the guest's code.
        guest: Digest,
        /// Digest of every parameter the output depends on.
        parameters: Digest,
        /// The privacy unit that it protects; absent in entries from before it was recorded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unit: Option<String>,
        /// What it costs.
        events: Vec<Event>,
        /// Epsilon of all charges of the data set up to this one, at the delta of its cap.
        together: f64,
        /// Which accountant said so.
        accountant: String,
        /// The process that works on it.
        session: SessionId,
        /// For people: the run and the step.
        note: String,
    },
    /// The output is stored.
    Sealed {
        /// The charge it belongs to.
        reservation: u64,
        /// Digest of the output.
        output: Digest,
        /// Size of the output.
        bytes: u64,
    },
    /// The output was handed out, for the first time.
    Released {
        /// The charge it belongs to.
        reservation: u64,
    },
    /// The process ended without an output. The charge stays.
    Burned {
        /// The charge.
        reservation: u64,
        /// Why.
        reason: String,
    },
}

/// Where the chain ends: enough to notice later that entries are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// How many entries there are.
    pub count: u64,
    /// Hash of the last one.
    pub hash: Digest,
}

/// Bytes as they lie in the file, and their signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SignedBytes {
    pub body: Vec<u8>,
    pub signature: Vec<u8>,
}

impl Entry {
    pub(crate) fn sign(&self, key: &SigningKey) -> SignedBytes {
        sign(ENTRY_DOMAIN, self, key)
    }

    /// Parses an entry after its signature was found good.
    pub(crate) fn open(signed: &SignedBytes, key: &PublicKey) -> Result<Self, String> {
        open(ENTRY_DOMAIN, signed, key)
    }

    /// The hash that the next entry carries.
    pub(crate) fn hash(body: &[u8]) -> Digest {
        Digest::of_parts(&[ENTRY_DOMAIN, body])
    }
}

impl Head {
    pub(crate) fn sign(&self, key: &SigningKey) -> SignedBytes {
        sign(HEAD_DOMAIN, self, key)
    }

    pub(crate) fn open(signed: &SignedBytes, key: &PublicKey) -> Result<Self, String> {
        open(HEAD_DOMAIN, signed, key)
    }
}

fn sign(domain: &[u8], value: &impl Serialize, key: &SigningKey) -> SignedBytes {
    // Plain structs of numbers, strings and lists: nothing in them can fail to serialise.
    let body = serde_json::to_vec(value).expect("entries and heads serialise");
    let signature = key.sign(&Digest::of_parts(&[domain, &body]).0);
    SignedBytes {
        body,
        signature: signature.to_bytes().to_vec(),
    }
}

fn open<T: for<'de> Deserialize<'de>>(
    domain: &[u8],
    signed: &SignedBytes,
    key: &PublicKey,
) -> Result<T, String> {
    let signature = Signature::from_slice(&signed.signature)
        .map_err(|_| "the signature has a wrong length".to_owned())?;
    let hash = Digest::of_parts(&[domain, &signed.body]);
    // Strict: one message has exactly one signature that passes, so none can be altered unnoticed.
    key.verifying()
        .verify_strict(&hash.0, &signature)
        .map_err(|_| "the signature does not fit".to_owned())?;
    serde_json::from_slice(&signed.body).map_err(|error| format!("signed but unreadable: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_opens_only_with_its_key_and_unchanged() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let public = PublicKey::of(&key);
        let entry = Entry {
            number: 3,
            time_ms: 5,
            previous: NO_PREVIOUS,
            action: Action::Released { reservation: 2 },
        };
        let signed = entry.sign(&key);
        assert_eq!(Entry::open(&signed, &public).unwrap(), entry);
        let other = PublicKey::of(&SigningKey::from_bytes(&[8; 32]));
        assert!(Entry::open(&signed, &other).is_err());
        for bit in 0..signed.body.len() * 8 {
            let mut bad = signed.clone();
            bad.body[bit / 8] ^= 1 << (bit % 8);
            assert!(Entry::open(&bad, &public).is_err(), "body bit {bit}");
        }
        for bit in 0..512 {
            let mut bad = signed.clone();
            bad.signature[bit / 8] ^= 1 << (bit % 8);
            assert!(Entry::open(&bad, &public).is_err(), "signature bit {bit}");
        }
    }

    #[test]
    fn a_head_signature_is_no_entry_signature() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let head = Head {
            count: 1,
            hash: NO_PREVIOUS,
        };
        let signed = head.sign(&key);
        assert_eq!(Head::open(&signed, &PublicKey::of(&key)).unwrap(), head);
        let error = Entry::open(&signed, &PublicKey::of(&key)).unwrap_err();
        assert_eq!(error, "the signature does not fit");
    }
}
