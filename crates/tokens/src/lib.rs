//! A `tokenizer.json` of a stranger's model, read within bounds.
//!
//! ```text
//! bytes ── growth.rs: how long can it make a text? ── the library's reader ── what is dropped ── a probe ──> Tokenizer
//! ```
//!
//! The library takes what a file says at its word: steps that multiply a text until the memory is
//! gone, parts on which it panics, tokens left to chance. Start at [`read`]; whoever shows texts to
//! a tokenizer does so within [`guarded`].
//!
//! Deliberately absent: files, and what the tokens are for.

#![deny(unsafe_code)]

mod growth;

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokenizers::Tokenizer;
use tokenizers::models::ModelWrapper;

/// Something of every kind, which no tokenizer may panic on.
const PROBE: &str = "Let's try 12 na\u{ef}ve, \u{4f60}\u{597d} <x>\t\u{1F600}\n\n  ";

/// Reads the bytes of a `tokenizer.json`, without padding, truncation and dropout.
///
/// # Errors
/// In words, what is wrong with it: it is none, it could make a text very long, or the library
/// panics on it.
pub fn read(bytes: &[u8]) -> Result<Tokenizer, String> {
    growth::refuse(bytes)?;
    let mut tokenizer = guarded(|| Tokenizer::from_bytes(bytes))?;
    // Files may carry padding or truncation, which would silently change lengths, and dropout,
    // by which a text has other tokens each time.
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(|e| e.to_string())?;
    if let ModelWrapper::BPE(bpe) = tokenizer.get_model()
        && bpe.dropout.is_some()
    {
        let mut bpe = bpe.clone();
        bpe.dropout = None;
        tokenizer.with_model(bpe);
    }
    guarded(|| {
        if let Ok(encoding) = tokenizer.encode_fast(PROBE, true) {
            let _ = tokenizer.decode(encoding.get_ids(), false);
        }
        Ok(())
    })?;
    Ok(tokenizer)
}

/// Does something with a tokenizer: the library panics where a file's parts do not fit each other
/// or a text.
///
/// # Errors
/// The library's own words, or that it panicked.
pub fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    // What it was at work on is dropped, and tokenizers are only read.
    catch_unwind(AssertUnwindSafe(work))
        .map_err(|_| "the tokenizers library cannot work with it".to_owned())?
        .map_err(|e| e.to_string())
}
