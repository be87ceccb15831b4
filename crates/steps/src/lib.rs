//! The steps a workflow can name, and the plugins they use.
//!
//! ```text
//! plugins/*/plugin.toml ──plugin.rs──> Plugins ──catalog.rs──> Catalog (what `check` knows)
//!                                         │
//!                                         └────registry.rs──> Registry (what the engine runs)
//! guest.rs   `guest:NAME`                       sandbox + gate + ledger
//! outlook.rs what a plan would be charged, and whether it would be refused
//! trial.rs   a guest on a developer's sample       sandbox + gate, nothing charged
//! audit/      canaries through the same gate       noisegate-audit
//! llm/        `llm:cluster|judge|augment|pretrain`   candle, or a served model
//! slm/       `slm:train|evaluate`               ONNX Runtime
//! ```
//!
//! Every step is a thin adapter: it turns artifacts into a crate's plain structs,
//! calls it, and writes the results down. No mathematics lives here. The crates
//! behind it (`sandbox`, `llm`, `slm`, `records`, `ledger`) know nothing of each
//! other; this is where they meet.

// A test binary, whose `main` is the harness's, needs one to serve workers.
#![cfg_attr(not(test), forbid(unsafe_code))]

#[cfg(test)]
noisegate_sandbox::serve_workers_in_tests!();

pub mod audit;
pub mod catalog;
pub mod error;
pub mod guest;
mod guest_request;
pub mod guest_terms;
pub mod ledger;
pub mod llm;
pub mod machine;
pub mod outlook;
pub mod plugin;
pub mod policy;
pub mod registry;
pub mod resolve;
pub mod samples;
pub mod schedule;
pub mod slm;
mod together;
pub mod trial;
pub mod with;

pub use catalog::catalog;
pub use error::PluginError;
pub use plugin::{Plugin, Plugins};
pub use registry::{Tools, registry};
