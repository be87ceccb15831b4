//! A labelled text, and the seeds derived from one.

use sha2::{Digest, Sha256};

/// A text with its label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Sample {
    /// The text.
    pub text: String,
    /// One of the declared labels.
    pub label: String,
}

impl Sample {
    /// Convenience for literals.
    pub fn new(text: impl Into<String>, label: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            label: label.into(),
        }
    }
}

/// SHA-256 of a text, in hex.
pub(crate) fn text_digest(text: &str) -> String {
    crate::model::hex(&Sha256::digest(text.as_bytes()))
}

/// A text on one line: runs of whitespace become single spaces.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A seed for one part of a task: equal inputs give equal seeds, different ones unrelated seeds.
pub(crate) fn derived_seed(seed: u64, purpose: &str, numbers: &[u64]) -> u64 {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(purpose.as_bytes());
    numbers.iter().for_each(|n| hash.update(n.to_le_bytes()));
    let digest = hash.finalize();
    u64::from_le_bytes(*digest.first_chunk().expect("a SHA-256 digest has 32 bytes"))
}
