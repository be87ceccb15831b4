//! The mechanisms: each a folder with its code, its tests and its proof.
//!
//! All follow one pattern: a public specification, an accumulator that takes
//! one unit's contribution at a time and never fails on its values, and
//! `release(self, …)`, the only way out. A unit is a record, or all records of
//! one user: whoever calls `add` once per unit chooses, and the bound holds per call.

pub mod gaussian_sum;
pub mod key_discovery;
pub mod selection;
pub mod votes;
