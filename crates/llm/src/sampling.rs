//! Chooses the next token from logits: temperature, top-k, top-p, from a seeded stream.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use crate::error::{Error, Result};

/// How tokens are drawn.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// Divides the logits; 0 always takes the most likely token.
    pub temperature: f64,
    /// Only this many most likely tokens may be drawn.
    #[serde(default)]
    pub top_k: Option<usize>,
    /// Only the most likely tokens that together reach this probability may be drawn.
    #[serde(default)]
    pub top_p: Option<f64>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: None,
            top_p: Some(0.95),
        }
    }
}

impl Sampling {
    /// Always the most likely token.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            top_k: None,
            top_p: None,
        }
    }

    /// Refuses values that mean nothing.
    ///
    /// # Errors
    /// [`Error::Option`] naming the value.
    pub fn validate(&self) -> Result<()> {
        let refuse = |option, value: String, remedy| {
            Err(Error::Option {
                option,
                value,
                remedy,
            })
        };
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return refuse(
                "temperature",
                self.temperature.to_string(),
                "it must be 0 or more",
            );
        }
        if self.top_k == Some(0) {
            return refuse("top_k", "0".to_owned(), "it must be at least 1, or absent");
        }
        if let Some(top_p) = self.top_p
            && !(top_p > 0.0 && top_p <= 1.0)
        {
            return refuse(
                "top_p",
                top_p.to_string(),
                "it must be above 0 and at most 1",
            );
        }
        Ok(())
    }

    /// Draws one token; tokens in `never` are passed over.
    ///
    /// Exactly one number is taken from `rng`, whatever the options, so that a sequence's stream
    /// depends on its length alone.
    pub(crate) fn draw(&self, logits: &[f32], never: &[u32], rng: &mut ChaCha8Rng) -> u32 {
        let uniform = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let allowed = |id: &u32| !never.contains(id);
        let likelier = |a: &u32, b: &u32| {
            logits[*b as usize]
                .total_cmp(&logits[*a as usize])
                .then(a.cmp(b))
        };
        let mut ids: Vec<u32> = (0..logits.len() as u32).filter(allowed).collect();
        if self.temperature == 0.0 {
            return ids.into_iter().min_by(likelier).unwrap_or(0);
        }
        if let Some(k) = self.top_k
            && k < ids.len()
        {
            ids.select_nth_unstable_by(k - 1, likelier);
            ids.truncate(k);
        }
        ids.sort_unstable_by(likelier);
        let top = ids
            .first()
            .map_or(0.0, |id| f64::from(logits[*id as usize]));
        let weight = |id: &u32| ((f64::from(logits[*id as usize]) - top) / self.temperature).exp();
        let weights: Vec<f64> = ids.iter().map(weight).collect();
        let mut kept = weights.iter().sum::<f64>();
        if let Some(top_p) = self.top_p {
            let (mut sum, enough) = (0.0, kept * top_p);
            let reached = |w: &f64| {
                sum += w;
                sum >= enough
            };
            let count = weights
                .iter()
                .position(reached)
                .map_or(ids.len(), |i| i + 1);
            ids.truncate(count);
            kept = weights[..count].iter().sum();
        }
        let mut left = uniform * kept;
        for (id, weight) in ids.iter().zip(&weights) {
            left -= weight;
            if left < 0.0 {
                return *id;
            }
        }
        ids.last().copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    fn share(sampling: Sampling, logits: &[f32], token: u32) -> f64 {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let hits = (0..20_000)
            .filter(|_| sampling.draw(logits, &[], &mut rng) == token)
            .count();
        hits as f64 / 20_000.0
    }

    #[test]
    fn tokens_are_drawn_with_their_softmax_probability() {
        let logits = [1.0f32.ln(), 2.0f32.ln(), 5.0f32.ln()];
        let plain = Sampling {
            temperature: 1.0,
            top_k: None,
            top_p: None,
        };
        // Four standard deviations of 20,000 draws.
        for (token, probability) in [(0, 0.125), (1, 0.25), (2, 0.625)] {
            assert!((share(plain, &logits, token) - probability).abs() < 0.014);
        }
        let cold = Sampling {
            temperature: 0.5,
            ..plain
        };
        assert!((share(cold, &logits, 2) - 25.0 / 30.0).abs() < 0.014);
    }

    #[test]
    fn top_k_and_top_p_cut_the_tail() {
        let logits = [1.0f32.ln(), 2.0f32.ln(), 5.0f32.ln()];
        let two = Sampling {
            temperature: 1.0,
            top_k: Some(2),
            top_p: None,
        };
        assert_eq!(share(two, &logits, 0), 0.0);
        assert!((share(two, &logits, 1) - 2.0 / 7.0).abs() < 0.014);
        let most = Sampling {
            temperature: 1.0,
            top_k: None,
            top_p: Some(0.6),
        };
        assert_eq!(share(most, &logits, 2), 1.0);
    }

    #[test]
    fn greedy_takes_the_first_of_equals_and_passes_over_the_forbidden() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        assert_eq!(Sampling::greedy().draw(&[0.0, 3.0, 3.0], &[], &mut rng), 1);
        assert_eq!(Sampling::greedy().draw(&[0.0, 3.0, 3.0], &[1], &mut rng), 2);
    }

    #[test]
    fn senseless_options_are_refused() {
        for sampling in [
            Sampling {
                temperature: -1.0,
                ..Sampling::default()
            },
            Sampling {
                temperature: f64::NAN,
                ..Sampling::default()
            },
            Sampling {
                top_k: Some(0),
                ..Sampling::default()
            },
            Sampling {
                top_p: Some(1.5),
                ..Sampling::default()
            },
        ] {
            assert!(sampling.validate().is_err());
        }
    }
}
