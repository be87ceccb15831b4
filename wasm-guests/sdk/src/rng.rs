//! Seeded randomness for public work: sampling text, starting values.
//!
//! It protects nothing. The noise that privacy rests on is drawn by the gate.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// A stream of numbers fixed by its seed and a stream number.
#[derive(Debug, Clone)]
pub struct Rng {
    stream: ChaCha8Rng,
}

impl Rng {
    /// Stream `stream` of `seed`; different streams are independent.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        generator.set_stream(stream);
        Rng { stream: generator }
    }

    /// Uniform in `[0, 1)`, 24 bits.
    pub fn uniform(&mut self) -> f32 {
        (self.stream.next_u32() >> 8) as f32 / 16_777_216.0
    }

    /// Standard normal (Box and Muller, 1958).
    pub fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f32::consts::TAU * self.uniform()).cos()
    }

    /// An index below `bound`, which is not zero.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u64::from(self.stream.next_u32()) * bound as u64) >> 32) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_stream_fix_the_numbers() {
        let draw = |seed, stream| Rng::new(seed, stream).uniform();
        assert_eq!(draw(1, 0), draw(1, 0));
        assert_ne!(draw(1, 0), draw(1, 1));
        assert_ne!(draw(1, 0), draw(2, 0));
    }

    #[test]
    fn normals_have_mean_zero_and_variance_one() {
        let mut rng = Rng::new(7, 0);
        let draws: Vec<f32> = (0..20_000).map(|_| rng.normal()).collect();
        let mean = draws.iter().sum::<f32>() / draws.len() as f32;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / draws.len() as f32;
        // Six standard errors: a false alarm less than once in 10^8 seeds, and the seed is fixed.
        assert!(mean.abs() < 6.0 / 141.0, "mean {mean}");
        assert!((variance - 1.0).abs() < 6.0 * 0.01, "variance {variance}");
    }
}
