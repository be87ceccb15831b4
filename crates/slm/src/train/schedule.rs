//! The learning rate over time.

use super::options::Schedule;

/// The factor of the highest learning rate at step `step` (from 1) of `steps`.
///
/// It rises in a line over the first `warmup` steps, then follows `schedule` down.
pub(super) fn factor(schedule: Schedule, step: usize, steps: usize, warmup: usize) -> f32 {
    if step <= warmup {
        return step as f32 / warmup as f32;
    }
    let left =
        (steps.saturating_sub(step) + 1) as f32 / (steps.saturating_sub(warmup)).max(1) as f32;
    match schedule {
        Schedule::Constant => 1.0,
        Schedule::Linear => left.min(1.0),
        Schedule::Cosine => 0.5 * (1.0 - (std::f32::consts::PI * left.min(1.0)).cos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_then_falls_and_never_leaves_its_range() {
        for schedule in [Schedule::Constant, Schedule::Linear, Schedule::Cosine] {
            let all: Vec<f32> = (1..=100).map(|s| factor(schedule, s, 100, 10)).collect();
            assert!(all[..10].windows(2).all(|w| w[0] < w[1]));
            assert!((all[9] - 1.0).abs() < 1e-6);
            assert!(all[10..].windows(2).all(|w| w[0] >= w[1]));
            assert!(all.iter().all(|f| *f > 0.0 && *f <= 1.0));
        }
    }

    #[test]
    fn without_warm_up_it_starts_at_the_top() {
        assert_eq!(factor(Schedule::Linear, 1, 10, 0), 1.0);
        assert!((factor(Schedule::Linear, 10, 10, 0) - 0.1).abs() < 1e-6);
    }
}
