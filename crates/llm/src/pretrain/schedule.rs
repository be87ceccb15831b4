//! How far a run has come, and how fast it learns there.

/// When a run ends: whichever is reached first.
///
/// A run bounded by tokens alone depends on its seed only; one bounded by seconds ends on time
/// on any machine.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Budget {
    /// Training tokens, counting repeats.
    pub tokens_max: Option<u64>,
    /// Seconds of training, summed over resumed parts.
    pub seconds_max: Option<f64>,
}

impl Budget {
    /// Share of the budget used, from 0 to 1.
    pub fn used(&self, tokens: u64, seconds: f64) -> f64 {
        let share = |value: f64, limit: Option<f64>| limit.map_or(0.0, |limit| value / limit);
        let by_tokens = share(tokens as f64, self.tokens_max.map(|t| t as f64));
        by_tokens.max(share(seconds, self.seconds_max)).min(1.0)
    }
}

/// Warm-up, plateau, linear decay to zero: an early checkpoint is usable, a finished run better.
///
/// The shape of Hu et al., "MiniCPM", 2024 (warm-up, stable, decay).
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Schedule {
    /// Steps over which the learning rate rises.
    pub warmup_steps: u64,
    /// Share of the budget at which the decay begins, from 0 to 1.
    pub decay_from: f64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            warmup_steps: 100,
            decay_from: 0.4,
        }
    }
}

impl Schedule {
    /// Factor on the peak learning rates, from 0 to 1.
    pub fn rate(&self, step: u64, used: f64) -> f64 {
        let rise = (step + 1) as f64 / self.warmup_steps.max(1) as f64;
        let fall = (1.0 - used) / (1.0 - self.decay_from).max(1e-9);
        rise.min(fall).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_stays_and_falls_to_zero() {
        let schedule = Schedule {
            warmup_steps: 10,
            decay_from: 0.5,
        };
        assert!((schedule.rate(0, 0.0) - 0.1).abs() < 1e-12);
        assert_eq!(schedule.rate(50, 0.3), 1.0);
        assert!((schedule.rate(500, 0.75) - 0.5).abs() < 1e-12);
        assert_eq!(schedule.rate(900, 1.0), 0.0);
    }

    #[test]
    fn the_first_limit_reached_ends_a_run() {
        let budget = Budget {
            tokens_max: Some(100),
            seconds_max: Some(10.0),
        };
        assert_eq!(budget.used(50, 1.0), 0.5);
        assert_eq!(budget.used(50, 9.0), 0.9);
        assert_eq!(budget.used(500, 0.0), 1.0);
    }
}
