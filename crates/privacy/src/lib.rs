//! The trusted mathematics of noisegate: everything between a private
//! contribution and a released value, and what it costs.
//!
//! ```text
//! PoissonSampler ─ which units
//!       │
//! &[f32] per unit ─ lattice: to integers, clip ─ mechanisms: sum ─ NoiseSource ─ Released<T>
//!                                                                                  │
//!                                        accountant, calibrate, filter <── Event ──┘
//! ```
//! Start at [`mechanisms::gaussian_sum`], then [`accountant::epsilon`]. Each
//! mechanism's folder holds a `proof.md`; [`accountant`] and the noise have theirs.
//!
//! Deliberately absent: files, network, logging, clocks, environment variables, unsafe
//! code, and threads but those that share out the noise of a long vector. Randomness enters in one private module, from the
//! operating system. No error and no amount of work depends on a private value,
//! except where a proof says why that is harmless.

#![forbid(unsafe_code)]

pub mod accountant;
pub mod calibrate;
mod error;
pub mod filter;
mod lattice;
pub mod mechanisms;
pub mod noise;
mod poisson;
mod random;
mod released;
mod types;

pub use accountant::Event;
pub use error::{AccountantError, PrivacyError};
pub use mechanisms::gaussian_sum::{GaussianSum, GaussianSumSpec};
pub use noise::NoiseSource;
pub use poisson::PoissonSampler;
pub use released::Released;
pub use types::{ClipBound, Delta, Epsilon, NoiseMultiplier, SamplingRate};
