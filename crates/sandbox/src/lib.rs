//! Runs guests that nobody trusts; only noised sums leave.
//!
//! ```text
//! bytes ─Guest::load─> Guest ─Session::start─> Session ─run(units)─> Released<Vec<File>>
//!                        │                        │
//!                      audit              public side / private sides / gate
//! ```
//! A guest is a WebAssembly component of the world in `wit/client.wit`. It plays
//! two roles in separate instances: the public side asks queries and makes the
//! outputs, and never sees a unit; the private side turns one unit into one
//! fixed-length vector in an instance that lives for that unit alone. Between
//! them stands the gate, which clips, sums and adds noise.
//!
//! Start with [`gate`], then [`private_side`] and [`component`].
//!
//! Deliberately absent: this crate never reads files, never prints, never
//! charges a budget (the caller does, before [`Session::run`]), and offers a
//! guest no clock, randomness, file, network or output.

#![deny(unsafe_code)]

mod bindings;
pub mod component;
mod digest;
mod engine;
mod error;
pub mod gate;
mod host;
pub mod inspect;
pub mod kernels;
mod lanes;
mod limits;
pub mod private_side;
mod producers;
mod public_side;
mod watch;

pub use bindings::noisegate::client::types::{File, TextRecord, Unit};
pub use component::Guest;
pub use digest::Digest;
pub use error::SandboxError;
pub use gate::{Declaration, Progress, Randomness, Session};
pub use inspect::{Inspection, inspect};
pub use limits::{InstanceLimits, Limits};
pub use private_side::Rehearsal;
