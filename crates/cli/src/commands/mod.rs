//! One file for each group of commands.

pub mod check;
pub mod doctor;
pub mod guest;
pub mod ledger;
pub mod privacy;
pub mod run;
pub mod runs;
