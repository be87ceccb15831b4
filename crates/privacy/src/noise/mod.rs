//! Noise: independent draws of floor(N(0, 4^24)), in integers.
//!
//! ```text
//! ChaCha20 -> 4352 candidates -> accept/reject, branch-free -> the first 4096 accepted -> added to the sums
//! ```
//! |Z| is a strip of width 1/16, drawn from an alias table, plus a uniform
//! offset; it is accepted with probability exp(-offset (strip + offset/2)), and
//! `floor` of 2^24 Z keeps 20 of the offset's 54 bits. `proof.md` shows that the
//! result is [`NOISE_TV_PER_DRAW`]-close to floor(N(0, 4^24)).
//!
//! A long vector is filled in parts of [`PART`] entries, on all cores: each part has a
//! key of its own, drawn from the source's stream, so the noise does not depend on the cores.
//!
//! Deliberately absent: floating point, a discrete Gaussian, any count of work
//! that depends on a value drawn.

mod fixed;
#[cfg(test)]
mod test;

use crate::PrivacyError;
use crate::random::Stream;
use fixed::{ALIAS, exp_negative};
use std::sync::{Mutex, PoisonError};
use std::thread;
use zeroize::{Zeroize, Zeroizing};

/// The noise's standard deviation is 2^24 lattice units.
pub const NOISE_SCALE_BITS: u32 = 24;

/// Total-variation distance of one draw from floor(N(0, 4^24)), at most.
///
/// 2^-108; the argument is in `proof.md`. [`crate::Event::Noise`] charges it.
pub const NOISE_TV_PER_DRAW: f64 = 1.0 / (1u128 << 108) as f64;

/// Outputs of a block, and the candidates drawn for them (97.6 % are accepted).
const OUTPUTS: usize = 4096;
const CANDIDATES: usize = 68 * BATCH;
/// Candidates whose randomness is drawn at once: ten 256-byte ChaCha buffers.
const BATCH: usize = 64;
const CANDIDATE_BYTES: usize = 40;

/// Entries that one key is used for, in a vector of more.
const PART: usize = 1 << 18;

/// What the sampler's error over that many draws adds to the delta of an (epsilon, delta)-DP ideal.
///
/// With total-variation distance t from the ideal on both neighbours' sides:
/// P'(S) <= P(S) + t <= e^epsilon Q(S) + delta + t <= e^epsilon Q'(S) + delta + (1 + e^epsilon) t.
pub(crate) fn delta_of_draws(draws: f64, epsilon: f64) -> f64 {
    if draws == 0.0 {
        0.0
    } else {
        draws * NOISE_TV_PER_DRAW * (1.0 + epsilon.exp())
    }
}

/// Draws the noise of every Gaussian mechanism. Its key leaves memory when it is dropped.
#[derive(Debug)]
pub struct NoiseSource {
    stream: Stream,
}

impl NoiseSource {
    /// A source with a fresh key.
    ///
    /// # Errors
    /// [`PrivacyError::NoEntropy`] if the operating system gives none.
    pub fn from_os() -> Result<Self, PrivacyError> {
        Ok(Self {
            stream: Stream::from_os()?,
        })
    }

    /// A reproducible source, **for tests only**: whoever knows the seed can subtract the noise.
    #[doc(hidden)]
    #[must_use]
    pub fn from_seed_for_tests(seed: [u8; 32]) -> Self {
        Self {
            stream: Stream::from_seed(&seed),
        }
    }

    /// The uniform bits behind the noise, for mechanisms that flip coins.
    pub(crate) fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// Fills `out` with independent draws, in lattice units.
    pub fn fill(&mut self, out: &mut [i64]) {
        out.fill(0);
        self.add_to(out);
    }

    /// Adds an independent draw to every entry, modulo 2^64.
    pub(crate) fn add_to(&mut self, sums: &mut [i64]) {
        if sums.len() <= PART {
            return self.add_part(sums);
        }
        let parts: Vec<_> = sums
            .chunks_mut(PART)
            .map(|part| (self.child(), part))
            .collect();
        let others = thread::available_parallelism().map_or(0, |cores| cores.get() - 1);
        let others = others.min(parts.len() - 1);
        let parts = Mutex::new(parts);
        let next = || parts.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let work = || {
            while let Some((mut source, part)) = next() {
                source.add_part(part);
            }
        };
        // A panic of one thread goes on in this one, so that no part is left without noise.
        thread::scope(|scope| {
            for _ in 0..others {
                // Where there is no thread to be had, the others do its work.
                let _ = thread::Builder::new().spawn_scoped(scope, work);
            }
            work();
        });
    }

    /// A source whose key is this one's next 256 bits.
    fn child(&mut self) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        self.stream.fill(key.as_mut());
        let stream = Stream::from_key(&key);
        Self { stream }
    }

    fn add_part(&mut self, sums: &mut [i64]) {
        let mut accepted = Zeroizing::new([0i64; CANDIDATES]);
        for chunk in sums.chunks_mut(OUTPUTS) {
            // A block falls short with probability < 2^-100. Whether it does is
            // independent of the values accepted, so drawing it anew is exact.
            while self.block(&mut accepted) < OUTPUTS {}
            for (sum, draw) in chunk.iter_mut().zip(accepted.iter()) {
                *sum = sum.wrapping_add(*draw);
            }
        }
    }

    /// Draws all candidates of a block; the accepted ones come first. Returns their number.
    fn block(&mut self, accepted: &mut [i64; CANDIDATES]) -> usize {
        let mut bytes = [0u8; BATCH * CANDIDATE_BYTES];
        let mut count = 0;
        for _ in 0..CANDIDATES / BATCH {
            self.stream.fill(&mut bytes);
            for random in bytes.as_chunks::<CANDIDATE_BYTES>().0 {
                let (value, accept) = candidate(random);
                // A rejected value is overwritten by the next one; `count` stays in range
                // because it grows by at most one per candidate.
                accepted[count] = value;
                count += usize::from(accept);
            }
        }
        bytes.zeroize();
        count
    }
}

/// One candidate and whether it is accepted, from 320 uniform bits.
#[inline]
fn candidate(random: &[u8; CANDIDATE_BYTES]) -> (i64, bool) {
    let word = |i: usize| {
        u64::from_le_bytes(
            *random[8 * i..]
                .first_chunk()
                .expect("five words of 8 bytes"),
        )
    };
    let double_word = |i: usize| u128::from(word(i)) | u128::from(word(i + 1)) << 64;

    // 8 bits of column, 1 of sign, 7 unused, 112 of threshold.
    let select = double_word(0);
    let column = (select & 0xff) as usize;
    let keep = (select >> 16) < ALIAS.threshold[column];
    let strip = if keep {
        column as u64
    } else {
        u64::from(ALIAS.alias[column])
    };
    let sign = -((select >> 8) as i64 & 1);

    // The midpoint of one of 2^54 cells of the strip: offset / 2^59 is in (0, 1/16).
    let offset = (word(2) >> 10) << 1 | 1;
    // offset (strip + offset/2) = offset (2 strip + offset) / 2, exactly, as y / 2^119 < 1.
    let y = u128::from(offset).wrapping_mul(u128::from((strip << 56).wrapping_add(offset)));
    let accept = double_word(3) < exp_negative(y << 9);

    let magnitude = (strip << 20 | offset >> 35) as i64;
    // floor(-x) = -floor(x) - 1 for the non-integer x: the bitwise complement.
    (magnitude ^ sign, accept)
}
