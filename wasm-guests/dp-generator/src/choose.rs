//! Draws the next token from a row of logits: temperature, top-k, top-p.

use noisegate_guest_sdk::maths::softmax;
use noisegate_guest_sdk::rng::Rng;

/// How to draw.
#[derive(Debug, Clone, Copy)]
pub struct Choice {
    /// Divides the logits.
    pub temperature: f32,
    /// Keeps the smallest set of tokens that reaches this probability; 1 keeps all.
    pub top_p: f32,
    /// Keeps this many tokens at most; 0 keeps all.
    pub top_k: usize,
}

/// Draws one token; `logits` is used up.
pub fn choose(choice: Choice, logits: &mut [f32], rng: &mut Rng) -> u32 {
    let cold = 1.0 / choice.temperature;
    logits.iter_mut().for_each(|logit| *logit *= cold);
    softmax(logits);
    let mut kept: Vec<(f32, u32)> = Vec::with_capacity(256);
    // Tokens rarer than this are together below 0.1 % of the mass and not worth sorting.
    let rare = if choice.top_p < 1.0 || choice.top_k > 0 {
        1e-3 / logits.len() as f32
    } else {
        0.0
    };
    kept.extend(
        logits
            .iter()
            .zip(0u32..)
            .filter(|(p, _)| **p > rare)
            .map(|(&p, token)| (p, token)),
    );
    kept.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    if choice.top_k > 0 {
        kept.truncate(choice.top_k);
    }
    let total: f32 = kept.iter().map(|(p, _)| p).sum();
    let enough = choice.top_p.min(1.0) * total;
    let mut mass = 0.0;
    let count = kept.iter().position(|(p, _)| {
        mass += p;
        mass >= enough
    });
    kept.truncate(count.map_or(kept.len(), |last| last + 1));
    let mut left = rng.uniform() * kept.iter().map(|(p, _)| p).sum::<f32>();
    for &(p, token) in &kept {
        left -= p;
        if left < 0.0 {
            return token;
        }
    }
    kept[kept.len() - 1].1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(choice: Choice) -> [usize; 4] {
        let mut rng = Rng::new(3, 0);
        let mut counts = [0; 4];
        for _ in 0..4000 {
            // Probabilities 0.5, 0.25, 0.125, 0.125.
            let mut logits = [0.5f32.ln(), 0.25f32.ln(), 0.125f32.ln(), 0.125f32.ln()];
            counts[choose(choice, &mut logits, &mut rng) as usize] += 1;
        }
        counts
    }

    #[test]
    fn tokens_are_drawn_as_often_as_they_are_likely() {
        let counts = draws(Choice {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
        });
        for (count, expected) in counts.into_iter().zip([2000.0, 1000.0, 500.0, 500.0]) {
            // Six standard deviations of a binomial count, at most 190.
            assert!((count as f64 - expected).abs() < 190.0, "{counts:?}");
        }
    }

    #[test]
    fn top_k_and_top_p_leave_the_likely_ones() {
        assert_eq!(
            draws(Choice {
                temperature: 1.0,
                top_p: 1.0,
                top_k: 1
            }),
            [4000, 0, 0, 0]
        );
        let counts = draws(Choice {
            temperature: 1.0,
            top_p: 0.7,
            top_k: 0,
        });
        assert!(counts[1] > 0 && counts[2] + counts[3] == 0, "{counts:?}");
    }
}
