//! Runs guests that nobody trusts; only noised sums leave.
//!
//! ```text
//! bytes ─Guest::load─> Guest ─Session::start─> Session ─run(units)─> Released<Vec<File>>
//!                        │                        │
//!                 compiler worker      public worker / private workers / gate
//! ```
//! A guest is a WebAssembly component of the world in `wit/client.wit`. It plays
//! two roles in separate instances: the public side asks queries and makes the
//! outputs, and never sees a unit; the private side turns one unit into one
//! fixed-length vector in an instance that lives for that unit alone. Between
//! them stands the gate, which clips, sums and adds noise.
//!
//! Every guest runs in a jailed worker process, which is this program started
//! again: call [`serve_workers`] first in `main`.
//!
//! Start with [`gate`], then [`worker`], [`jail`] and [`component`].
//!
//! Deliberately absent: this crate never reads files, never prints, never
//! charges a budget (the caller does, before [`Session::run`]), and offers a
//! guest no clock, randomness, file, network or output.

#![deny(unsafe_code)]

mod bindings;
mod board;
pub mod component;
mod digest;
mod engine;
mod error;
#[doc(hidden)]
pub mod fuzzing;
pub mod gate;
mod host;
pub mod inspect;
pub mod jail;
pub mod kernels;
mod lanes;
mod limits;
mod messages;
mod process;
mod producers;
mod public_side;
mod shape;
mod tally;
mod wasi;
mod watch;
mod wire;
pub mod worker;

pub use bindings::noisegate::client::types::{File, TextRecord, Unit};
pub use component::Guest;
pub use digest::Digest;
pub use error::SandboxError;
pub use gate::{Progress, Randomness, Rehearsal, Session};
pub use inspect::{Inspection, inspect};
pub use jail::{Layer, Layers};
pub use limits::{InstanceLimits, Isolation, Limits};
pub use tally::{Declaration, Mechanism};
pub use wasi::Wasi;
pub use worker::{serve_workers, serve_workers_with};
