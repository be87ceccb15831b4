//! The one place that asks the operating system for randomness.
//!
//! Two streams with separate keys: the noise ([`crate::NoiseSource`]) and the
//! sampling coins ([`crate::PoissonSampler`]) each own a [`Stream`], so a run
//! that samples more units does not shift the noise. (The noise of a long vector
//! has further streams, keyed by the noise's.) Deliberately absent:
//! saving, cloning or printing a state.

use crate::PrivacyError;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::fmt;
use zeroize::Zeroizing;

/// A ChaCha20 key stream; its key is overwritten when it is dropped.
///
/// Boxed, so that moving the owner leaves no copy of the key behind.
pub(crate) struct Stream(Box<ChaCha20Rng>);

impl Stream {
    pub(crate) fn from_os() -> Result<Self, PrivacyError> {
        let mut seed = Zeroizing::new([0u8; 32]);
        getrandom::fill(seed.as_mut()).map_err(|error| PrivacyError::NoEntropy {
            reason: error.to_string(),
        })?;
        Ok(Self::from_key(&seed))
    }

    /// A stream with this key, which is left nowhere else than there.
    pub(crate) fn from_key(key: &[u8; 32]) -> Self {
        let stream = Self::from_seed(key);
        overwrite_stack();
        stream
    }

    #[inline(never)]
    pub(crate) fn from_seed(seed: &[u8; 32]) -> Self {
        Self(Box::new(ChaCha20Rng::from_seed(*seed)))
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    pub(crate) fn word(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// The generator takes its seed by value: this puts zeros where that copy lay on the stack.
#[inline(never)]
fn overwrite_stack() {
    let mut frame = Zeroizing::new([0u8; 4096]);
    std::hint::black_box(frame.as_mut());
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Safe code cannot write volatile; `black_box` keeps the store alive.
        *self.0 = ChaCha20Rng::from_seed([0; 32]);
        std::hint::black_box(&mut self.0);
        overwrite_stack();
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Stream(secret)")
    }
}
