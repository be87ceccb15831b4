//! Counter-based randomness: a value depends on the seed, the stream and its place, nothing else.
//!
//! So a resumed run, or one with another number of threads, sees the same shuffles and masks.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// One independent stream of a seed.
#[derive(Clone, Debug)]
pub struct Stream {
    rng: ChaCha8Rng,
}

impl Stream {
    /// Stream number `stream` of `seed`.
    #[must_use]
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self { rng }
    }

    /// Uniform in `0..n`; `n` is small against 2^64, so the modulo bias does not matter here.
    pub fn below(&mut self, n: usize) -> usize {
        (self.rng.next_u64() % n as u64) as usize
    }

    /// Uniform in `(0, 1]`.
    fn unit(&mut self) -> f32 {
        ((self.rng.next_u32() >> 8) + 1) as f32 / (1u32 << 24) as f32
    }

    /// Standard normal, cut at about 5.7 deviations.
    ///
    /// Source: Box, Muller, "A Note on the Generation of Random Normal Deviates", 1958.
    pub fn normal(&mut self) -> f32 {
        let radius = (-2.0 * self.unit().ln()).sqrt();
        radius * (2.0 * std::f32::consts::PI * self.unit()).cos()
    }

    /// A random order of `0..n`.
    ///
    /// Source: Durstenfeld, "Algorithm 235: Random permutation", 1964.
    #[must_use]
    pub fn shuffled(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for last in (1..n).rev() {
            order.swap(last, self.below(last + 1));
        }
        order
    }

    /// Fills `mask` with `1 / (1 - p)` at chance `1 - p`, else 0 (inverted dropout), with 16 random
    /// bits a value.
    pub fn dropout(&mut self, mask: &mut [f32], p: f32) {
        let threshold = (p * 65536.0).round().clamp(0.0, 65535.0) as u16;
        let kept = 65536.0 / (65536.0 - f32::from(threshold));
        let mut bytes = [0u8; 4096];
        for part in mask.chunks_mut(bytes.len() / 2) {
            self.rng.fill_bytes(&mut bytes);
            let (words, _) = bytes.as_chunks::<2>();
            for (value, word) in part.iter_mut().zip(words) {
                let keep = u16::from_le_bytes(*word) >= threshold;
                *value = f32::from(u8::from(keep)) * kept;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_keeps_the_stated_share_and_the_mean() {
        let mut mask = vec![0.0; 1 << 20];
        Stream::new(1, 2).dropout(&mut mask, 0.1);
        let kept = mask.iter().filter(|v| **v > 0.0).count() as f64 / mask.len() as f64;
        let mean = mask.iter().map(|v| f64::from(*v)).sum::<f64>() / mask.len() as f64;
        // Deviation of the share is 3e-4; five of them.
        assert!((kept - 0.9).abs() < 1.5e-3, "{kept}");
        assert!((mean - 1.0).abs() < 2e-3, "{mean}");
    }

    #[test]
    fn normal_values_have_mean_0_and_variance_1() {
        let mut stream = Stream::new(3, 0);
        let values: Vec<f64> = (0..100_000).map(|_| f64::from(stream.normal())).collect();
        let mean = values.iter().sum::<f64>() / 1e5;
        let variance = values.iter().map(|v| v * v).sum::<f64>() / 1e5;
        assert!(
            mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03,
            "{mean} {variance}"
        );
    }

    #[test]
    fn a_shuffle_is_a_permutation_and_repeats() {
        let mut order = Stream::new(9, 1).shuffled(100);
        assert_eq!(order, Stream::new(9, 1).shuffled(100));
        assert_ne!(order, Stream::new(9, 2).shuffled(100));
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }
}
