//! One file for each group of commands.

pub mod audit;
pub mod budget;
pub mod check;
pub mod doctor;
pub mod exports;
pub mod guest;
pub mod ledger;
pub mod privacy;
pub mod report;
pub mod run;
pub mod runs;
pub mod slm;
pub mod steps;
