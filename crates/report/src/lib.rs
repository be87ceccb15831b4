//! One page about a run that an auditor can file.
//!
//! ```text
//! Sources {plan, verified ledgers, guests, digests, audits} ── gather ──> Report ──> html
//!                                                                           └─────> JSON (serde)
//! ```
//! The page is one self-contained HTML file in the order of the questions of NIST
//! SP 800-226, "Guidelines for Evaluating Differential Privacy Guarantees", 2025.
//! Start at [`gather`]; [`html`] only renders what it found.
//!
//! Deliberately absent: reading or writing files, scores, row counts, and the
//! digests of private data and private artifacts (whoever can guess the data could
//! confirm the guess). Nothing here was made from a private value without the gate.

#![forbid(unsafe_code)]

mod curve;
mod error;
mod facts;
mod flow;
mod html;
mod page;
mod plot;
mod words;

pub use curve::{Curve, Point};
pub use error::ReportError;
pub use facts::{
    Account, Charged, Gate, GuestFacts, Import, LedgerFacts, Report, SiteLedger, Sources, gather,
};
pub use flow::{Flow, flows};
pub use html::html;
