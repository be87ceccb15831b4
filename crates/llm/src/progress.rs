//! What a long function tells its caller while it works, and how it is asked to stop.
//!
//! This crate never prints: a caller draws its own bar from [`Progress`].

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

/// One report from a long function.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    /// What is being done, in a word or two: `pretrain`, `generate`.
    pub stage: &'static str,
    /// Units done so far.
    pub done: u64,
    /// Units in all, where known.
    pub total: Option<u64>,
    /// Figures worth a line of log: loss, tokens per second, time left.
    pub note: String,
    /// More of one of the texts being made, where that is asked for; else empty.
    pub text: String,
}

/// Returns [`Error::Cancelled`] once the caller has raised the flag.
pub(crate) fn stop_if_cancelled(cancel: &AtomicBool) -> Result<()> {
    if cancel.load(Ordering::Relaxed) {
        return Err(Error::Cancelled);
    }
    Ok(())
}
