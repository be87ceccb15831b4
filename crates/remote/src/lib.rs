//! Language models behind an OpenAI-compatible address: vLLM, llama.cpp's server, TGI and others.
//!
//! ```text
//! questions ─┬─ in the journal ───────────────────────────────┬─> answers, usage
//!            └─ worker ─ client ─ HTTPS ─> server ─ journal ──┘
//!               (at most `concurrency`; each retried with backoff)
//! ```
//! Start reading at [`ask`]. An answer is written to the journal as soon as it is there, so that
//! a killed run asks only for what is missing.
//!
//! This crate never reads environment variables, prints, follows a redirect, or writes the key
//! anywhere but into the one header it is for. It knows nothing of labels: whoever calls it has
//! made sure that the prompts are public.
#![forbid(unsafe_code)]

mod backoff;
mod client;
pub mod endpoint;
pub mod error;
pub mod journal;
mod pool;
pub mod secret;
pub mod wire;

pub use endpoint::{Endpoint, Origin};
pub use error::{Error, Result, Trouble};
pub use journal::Journal;
pub use pool::{Call, Usage, ask};
pub use secret::Secret;
pub use wire::{Answer, Finish, Question};
