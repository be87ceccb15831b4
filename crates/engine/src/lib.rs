//! Runs a [`Plan`](noisegate_workflow::Plan): what may start, where its results
//! lie, who may read them, and what happened.
//!
//! ```text
//! Plan ──> state.rs   decides: start, wait, stop        (pure, no clock, no I/O)
//!             │  ▲
//!             ▼  │ messages
//!          driver.rs  runs each step on a thread of its own
//!             │
//!             ├── store.rs    content-addressed artifacts, label checked on every open
//!             ├── events.rs   one JSON line for everything that happened
//!             ├── folder.rs   one folder for every run
//!             └── interrupt.rs  Ctrl-C
//! ```
//!
//! Start reading at [`driver::drive`]. This crate knows no step: it meets them
//! through the [`step::Step`] trait. It never prints, and it never reads private
//! data itself: a data set reaches a step as a path.

#![forbid(unsafe_code)]

pub mod driver;
pub mod error;
pub mod events;
pub mod file_id;
pub mod folder;
pub mod interrupt;
pub mod state;
pub mod step;
pub mod store;

pub use driver::{Limits, Outcome, drive};
pub use error::EngineError;
pub use events::{Event, EventLog, Observer};
pub use file_id::FileId;
pub use folder::RunFolder;
pub use interrupt::interruptible;
pub use step::{Input, Inputs, Made, Registry, Step, StepContext, StepFailure};
pub use store::{Artifact, Store};
