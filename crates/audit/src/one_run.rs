//! What (epsilon, delta)-DP allows in one run with many canaries.
//!
//! # Source
//! Steinke, Nasr and Jagielski, "Privacy Auditing with One (1) Training Run",
//! NeurIPS 2023, the theorem for (epsilon, delta)-DP: with r guesses about m canaries, f(v) the chance of
//! v or more successes in r draws of chance e^eps / (1 + e^eps),
//!
//! ```text
//! P(right guesses >= v) <= f(v) + 2 m delta max_{i >= 1} (f(v - i) - f(v)) / i
//! ```

use crate::{AuditError, Game, chance};

/// Above this nothing can be told apart from certainty with any number of canaries that fits a run.
const EPSILON_MAX: f64 = 24.0;
/// Width of the search for the first epsilon that is not refuted.
const SCAN: f64 = 1.0 / 16.0;

/// The chance, at most, of so many right guesses if the mechanism is (epsilon, delta)-DP.
///
/// # Errors
/// [`AuditError::BadGame`]; [`AuditError::OutOfRange`] for a negative or infinite epsilon or a
/// delta outside [0, 1].
pub fn p_value(game: &Game, epsilon: f64, delta: f64) -> Result<f64, AuditError> {
    game.check()?;
    if !(epsilon >= 0.0 && epsilon.is_finite()) {
        let range = "that is finite and not negative";
        return Err(AuditError::OutOfRange {
            name: "epsilon",
            value: epsilon,
            range,
        });
    }
    if !(0.0..=1.0).contains(&delta) {
        let range = "from 0 to 1";
        return Err(AuditError::OutOfRange {
            name: "delta",
            value: delta,
            range,
        });
    }
    Ok(Binomial::new(game.guesses).p_value(game, epsilon, delta))
}

/// The least epsilon that the game does not refute, at this confidence and delta.
///
/// An (epsilon, delta)-DP mechanism is overestimated with chance 1 - `confidence` at most.
///
/// # Errors
/// As [`p_value`]; [`AuditError::OutOfRange`] for a confidence outside (0, 1).
pub fn epsilon_at_least(game: &Game, delta: f64, confidence: f64) -> Result<f64, AuditError> {
    let level = 1.0 - chance("confidence", confidence)?;
    p_value(game, 0.0, delta)?;
    let binomial = Binomial::new(game.guesses);
    let refuted = |epsilon: f64| binomial.p_value(game, epsilon, delta) < level;
    // The bound of the theorem need not grow with epsilon everywhere when delta is large, so the
    // first crossing is sought from below rather than any crossing from the middle.
    let mut low = 0.0;
    if !refuted(low) {
        return Ok(0.0);
    }
    while low < EPSILON_MAX && refuted(low + SCAN) {
        low += SCAN;
    }
    let mut high = low + SCAN;
    for _ in 0..40 {
        let middle = 0.5 * (low + high);
        if refuted(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// Binomial chances for one number of draws.
struct Binomial {
    draws: usize,
    /// ln(0!), ln(1!), ...
    ln_factorials: Vec<f64>,
}

impl Binomial {
    fn new(draws: u64) -> Self {
        let draws = usize::try_from(draws).expect("canaries fit the memory of this machine");
        let mut ln_factorials = vec![0.0; draws + 1];
        for n in 1..=draws {
            ln_factorials[n] = ln_factorials[n - 1] + (n as f64).ln();
        }
        Self {
            draws,
            ln_factorials,
        }
    }

    /// The chance of exactly `successes`, each of odds e^epsilon.
    fn exactly(&self, successes: usize, epsilon: f64) -> f64 {
        let ln_choose = self.ln_factorials[self.draws]
            - self.ln_factorials[successes]
            - self.ln_factorials[self.draws - successes];
        // ln p = -ln(1 + e^-eps) and ln(1 - p) = ln p - eps.
        let ln_success = -(-epsilon).exp().ln_1p();
        (ln_choose + self.draws as f64 * ln_success - (self.draws - successes) as f64 * epsilon)
            .exp()
    }

    fn p_value(&self, game: &Game, epsilon: f64, delta: f64) -> f64 {
        let correct = game.correct as usize;
        let at_least: f64 = (correct..=self.draws)
            .map(|n| self.exactly(n, epsilon))
            .sum();
        if delta == 0.0 {
            return at_least.min(1.0);
        }
        // f(v - i) - f(v), as i grows: the chances of v - 1, v - 2, … added up. Beyond v they stay.
        let (mut below, mut steepest) = (0.0, 0.0f64);
        for i in 1..=correct {
            below += self.exactly(correct - i, epsilon);
            steepest = steepest.max(below / i as f64);
        }
        (at_least + 2.0 * game.canaries as f64 * delta * steepest).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    fn game(canaries: u64, guesses: u64, correct: u64) -> Game {
        Game::new(canaries, guesses, correct).unwrap()
    }

    /// Reference values: the theorem in exact rational arithmetic (Python's `fractions`).
    #[test]
    fn known_values_are_met() {
        for (of, epsilon, delta, expected) in [
            ((10, 10, 9), 0.5, 0.0, 6.169370186734e-02),
            ((100, 60, 50), 1.0, 0.0, 4.556330732515e-02),
            ((100, 60, 50), 1.0, 0.00001, 4.574139987331e-02),
            ((100, 100, 99), 3.25, 0.0001, 1.124829043030e-01),
            ((200, 40, 40), 2.0, 0.001, 5.959427485767e-02),
            ((50, 50, 20), 0.0, 0.01, 9.675456764638e-01),
            ((300, 300, 290), 2.5, 0.00001, 1.984870718930e-03),
        ] {
            let (canaries, guesses, correct) = of;
            let found = p_value(&game(canaries, guesses, correct), epsilon, delta).unwrap();
            assert!(
                (found / expected - 1.0).abs() < 1e-9,
                "{of:?} {epsilon} {delta}: {found} for {expected}"
            );
        }
    }

    /// Randomised response of epsilon 1 over 2000 canaries: every guess is right with chance
    /// e / (1 + e), which is all that 1-DP allows. Over 200 games the 95 % bound may exceed the truth
    /// in 10 on average, and in 26 or more with chance 1e-5; it must not lie far below either.
    #[test]
    fn the_bound_exceeds_the_truth_as_rarely_as_stated_and_comes_close() {
        let mut random = ChaCha20Rng::seed_from_u64(1);
        let truthful = 1.0 / (1.0 + (-1.0f64).exp());
        let threshold = (truthful * 2f64.powi(64)) as u64;
        let mut bounds = Vec::new();
        for _ in 0..200 {
            let correct = (0..2000).filter(|_| random.next_u64() < threshold).count() as u64;
            bounds.push(epsilon_at_least(&game(2000, 2000, correct), 0.0, 0.95).unwrap());
        }
        let above = bounds.iter().filter(|bound| **bound > 1.0).count();
        assert!(above <= 25, "{above} of 200 above the truth");
        let mean = bounds.iter().sum::<f64>() / 200.0;
        assert!((0.85..1.0).contains(&mean), "{mean}");
    }

    #[test]
    fn the_bound_approaches_the_truth_as_canaries_grow() {
        let truthful = 1.0 / (1.0 + (-2.0f64).exp());
        let bound = |canaries: u64| {
            let correct = (truthful * canaries as f64).round() as u64;
            epsilon_at_least(&game(canaries, canaries, correct), 0.0, 0.95).unwrap()
        };
        let bounds: Vec<f64> = [100, 1000, 10_000, 100_000].map(bound).to_vec();
        assert!(bounds.is_sorted(), "{bounds:?}");
        assert!(bounds[3] > 1.98 && bounds[3] < 2.0, "{bounds:?}");
    }

    #[test]
    fn delta_lowers_the_bound_and_a_huge_one_makes_it_nothing() {
        let bound = |delta| epsilon_at_least(&game(1000, 1000, 900), delta, 0.95).unwrap();
        let bounds: Vec<f64> = [0.0, 1e-6, 1e-4, 1e-3, 1.0].map(bound).to_vec();
        assert!(bounds.iter().rev().is_sorted(), "{bounds:?}");
        assert!(bounds[0] > bounds[3]);
        assert_eq!(bounds[4], 0.0);
    }

    #[test]
    fn guessing_no_better_than_a_coin_proves_nothing() {
        assert_eq!(
            epsilon_at_least(&game(1000, 1000, 500), 1e-5, 0.95).unwrap(),
            0.0
        );
        assert_eq!(
            epsilon_at_least(&game(1000, 1000, 0), 1e-5, 0.95).unwrap(),
            0.0
        );
    }

    #[test]
    fn impossible_numbers_are_refused() {
        assert!(matches!(
            Game::new(10, 11, 0),
            Err(AuditError::BadGame { .. })
        ));
        assert!(matches!(
            Game::new(10, 0, 0),
            Err(AuditError::BadGame { .. })
        ));
        assert!(matches!(
            Game::new(10, 5, 6),
            Err(AuditError::BadGame { .. })
        ));
        let good = game(10, 10, 5);
        for (epsilon, delta) in [(-1.0, 0.0), (f64::NAN, 0.0), (1.0, -1e-9), (1.0, f64::NAN)] {
            assert!(p_value(&good, epsilon, delta).is_err(), "{epsilon} {delta}");
        }
        assert!(epsilon_at_least(&good, 0.0, 1.0).is_err());
    }
}
