//! Poisson sampling: every unit flips its own coin.
//!
//! A unit is included iff a uniform 64-bit word is below the threshold `a`,
//! hence with probability exactly a / 2^64, independently of all others: the
//! hypothesis of every subsampling theorem in [`crate::accountant`].
//! Deliberately absent: shuffling, fixed batch sizes, skipping ahead by
//! geometric gaps (the number of coins would then depend on the outcome).

use crate::random::Stream;
use crate::{PrivacyError, SamplingRate};

/// Flips the inclusion coins. The number included is private.
#[derive(Debug)]
pub struct PoissonSampler {
    stream: Stream,
}

impl PoissonSampler {
    /// A sampler with a fresh key.
    ///
    /// # Errors
    /// [`PrivacyError::NoEntropy`] if the operating system gives none.
    pub fn from_os() -> Result<Self, PrivacyError> {
        Ok(Self {
            stream: Stream::from_os()?,
        })
    }

    /// A reproducible sampler, **for tests only**: whoever knows the seed knows the batch.
    #[doc(hidden)]
    #[must_use]
    pub fn from_seed_for_tests(seed: [u8; 32]) -> Self {
        Self {
            stream: Stream::from_seed(&seed),
        }
    }

    /// One coin; call once per unit and step.
    pub fn includes(&mut self, rate: SamplingRate) -> bool {
        rate.includes(self.stream.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 6 standard deviations: false alarm 2e-9 a rate.
    #[test]
    fn units_are_included_at_their_rate() {
        for (seed, rate) in [0.001, 0.25, 0.9].into_iter().enumerate() {
            let mut sampler = PoissonSampler::from_seed_for_tests([seed as u8; 32]);
            let sampling = SamplingRate::new(rate).unwrap();
            let n = 1_000_000;
            let included = (0..n).filter(|_| sampler.includes(sampling)).count() as f64;
            let mean = rate * n as f64;
            assert!((included - mean).abs() < 6.0 * (mean * (1.0 - rate)).sqrt());
        }
    }

    #[test]
    fn rate_one_includes_everyone() {
        let mut sampler = PoissonSampler::from_os().unwrap();
        assert!((0..1000).all(|_| sampler.includes(SamplingRate::ONE)));
    }

    /// The mutant is a shuffled fixed batch: its size never varies. Poisson batches must vary
    /// (binomial variance 90; an empirical variance below 30 over 200 batches has probability < 1e-15).
    #[test]
    fn mutant_shuffled_fixed_batches_are_told_apart_by_their_variance() {
        let variance = |sizes: &[f64]| {
            let mean = sizes.iter().sum::<f64>() / sizes.len() as f64;
            sizes.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / sizes.len() as f64
        };
        let mut sampler = PoissonSampler::from_seed_for_tests([9; 32]);
        let rate = SamplingRate::new(0.1).unwrap();
        let poisson: Vec<f64> = (0..200)
            .map(|_| (0..1000).filter(|_| sampler.includes(rate)).count() as f64)
            .collect();
        let shuffled = vec![100.0; 200];
        assert!(variance(&poisson) > 30.0);
        assert!(variance(&shuffled) <= 30.0);
    }
}
