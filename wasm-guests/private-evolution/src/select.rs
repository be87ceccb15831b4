//! From noisy shares to the candidates that are kept: post-processing, so free.

use noisegate_guest_sdk::rng::Rng;
use serde::Deserialize;

/// How candidates are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// The most voted, each once.
    Top,
    /// Drawn in proportion to their votes, so that some come several times.
    Resample,
}

/// What to keep of a group.
#[derive(Debug, Clone)]
pub struct Selection {
    /// How many at most.
    pub keep: usize,
    /// How.
    pub rule: Rule,
    /// Smaller shares count as none.
    pub share_min: f32,
    /// Seed of the draws.
    pub seed: u64,
}

/// Indices into `shares`, the most voted first; `stream` tells groups apart.
pub fn select(shares: &[f32], selection: &Selection, stream: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..shares.len())
        .filter(|&at| shares[at] > selection.share_min)
        .collect();
    order.sort_by(|a, b| shares[*b].total_cmp(&shares[*a]));
    if selection.rule == Rule::Top {
        order.truncate(selection.keep);
        return order;
    }
    // A share may be negative where the threshold is: that is no chance at all.
    let weights: Vec<f32> = order.iter().map(|&at| shares[at].max(0.0)).collect();
    let total: f32 = weights.iter().sum();
    if total <= 0.0 {
        return Vec::new();
    }
    let mut rng = Rng::new(selection.seed, stream);
    let mut drawn: Vec<usize> = (0..selection.keep)
        .map(|_| {
            let mut rest = rng.uniform() * total;
            let place = weights.iter().position(|weight| {
                rest -= weight;
                rest < 0.0
            });
            place.unwrap_or(0)
        })
        .collect();
    drawn.sort_unstable();
    drawn.into_iter().map(|place| order[place]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(keep: usize, rule: Rule, share_min: f32) -> Selection {
        Selection {
            keep,
            rule,
            share_min,
            seed: 3,
        }
    }

    #[test]
    fn the_most_voted_are_kept_if_they_pass_the_threshold() {
        let shares = [0.1, 0.4, -0.2, 0.3, 0.05];
        assert_eq!(select(&shares, &selection(2, Rule::Top, 0.0), 0), [1, 3]);
        assert_eq!(
            select(&shares, &selection(9, Rule::Top, 0.08), 0),
            [1, 3, 0]
        );
        assert!(select(&shares, &selection(2, Rule::Top, 1.0), 0).is_empty());
    }

    #[test]
    fn resampling_follows_the_votes() {
        let drawn = select(
            &[0.75, 0.25, -5.0],
            &selection(4000, Rule::Resample, -9.0),
            0,
        );
        let first = drawn.iter().filter(|&&at| at == 0).count();
        // Six standard errors; the seed is fixed.
        assert!((first as f64 - 3000.0).abs() < 6.0 * 27.4, "{first}");
        assert!(!drawn.contains(&2));
        assert!(select(&[-1.0, 0.0], &selection(3, Rule::Resample, -9.0), 0).is_empty());
    }
}
