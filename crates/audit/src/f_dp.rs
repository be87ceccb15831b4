//! What a trade-off function allows in one run with many canaries.
//!
//! # Source
//! Mahloujifar, Melis and Chaudhuri, "Auditing f-Differential Privacy in One
//! Run", 2024, the recursion of Algorithm 3; in tail form, as follows.
//!
//! # Why
//! Let F(x) = 1 - f(x), C the number of right guesses, m canaries, r guesses,
//! t_j = P(C >= j). Fix canary i and the other coins. "The guess about i is right
//! and C >= j" is an event of the release under coin s, and "the guess about i is
//! wrong and C >= j - 1" is the same event under the other coin. So the former's
//! chance is at most F of the latter's; F is concave, hence this also holds for
//! the averages over coins and canaries:
//!
//! ```text
//! E[C; C >= j] / m  <=  F( E[r - C; C >= j - 1] / m )
//! ```
//! With G_j the sum of t_i over i > j, E[C; C >= j] = j t_j + G_j and
//! E[r - C; C >= j] = (r - j) t_j - G_j, so
//!
//! ```text
//! t_(j-1)  >=  (G_(j-1) + m F^-1( (j t_j + G_j) / m )) / (r - j + 1)
//! ```
//! The right side grows with t_j and G_j. If P(C >= c) were at least p, then t_c
//! would be too, and going down from c gives lower bounds on all t_j; if one
//! exceeds 1, it was not.
//!
//! A trade-off function lets a mechanism be bolder on a rare event, and a bound at
//! confidence 1 - p cannot exclude an event of chance p. So with a share s of
//! the canaries guessed at an accuracy a, mu tends to Phi^-1(p s a) - Phi^-1(p s (1 - a))
//! as canaries grow, below the truth; surer guesses about fewer canaries come closer.

use crate::{AuditError, Game, Tradeoff, chance};

/// No mechanism worth the name is so far from private.
const MU_MAX: f64 = 64.0;

/// Whether so many right guesses can have chance `level` or more.
///
/// If not, the trade-off function is refuted with a false alarm of at most `level`.
///
/// # Errors
/// [`AuditError::BadGame`]; [`AuditError::OutOfRange`] for a level outside (0, 1).
pub fn allows(tradeoff: &Tradeoff, game: &Game, level: f64) -> Result<bool, AuditError> {
    game.check()?;
    chance("level", level)?;
    let (canaries, guesses) = (game.canaries as f64, game.guesses as f64);
    // tail: t_(j+1); above: G_(j+1), the sum of the tails beyond it.
    let (mut tail, mut above) = (level, 0.0);
    for j in (0..game.correct).rev() {
        let j = j as f64;
        let right = ((j + 1.0) * tail + above) / canaries;
        above += tail;
        tail = tail.max((above + canaries * tradeoff.least(right)) / (guesses - j));
        if tail > 1.0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The least mu for which mu-Gaussian differential privacy is not refuted, at this confidence.
///
/// # Errors
/// As [`allows`]; [`AuditError::OutOfRange`] for a confidence outside (0, 1).
pub fn gaussian_mu_at_least(game: &Game, confidence: f64) -> Result<f64, AuditError> {
    let level = 1.0 - chance("confidence", confidence)?;
    let refuted = |mu: f64| allows(&Tradeoff::Gaussian { mu }, game, level).map(|allowed| !allowed);
    if !refuted(0.0)? {
        return Ok(0.0);
    }
    let (mut low, mut high) = (0.0, MU_MAX);
    for _ in 0..30 {
        let middle = 0.5 * (low + high);
        if refuted(middle)? {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::normal;
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    fn game(canaries: u64, correct: u64) -> Game {
        Game::new(canaries, canaries, correct).unwrap()
    }

    /// One canary, by hand: t_1 = p must satisfy t_0 = p + F^-1(p) <= 1, so p <= (the accuracy).
    #[test]
    fn one_canary_is_guessed_as_well_as_the_trade_off_function_says() {
        for mu in [0.0, 0.5, 1.0, 3.0] {
            let accuracy = normal::cdf(mu / 2.0);
            let tradeoff = Tradeoff::Gaussian { mu };
            assert!(allows(&tradeoff, &game(1, 1), accuracy - 1e-9).unwrap());
            assert!(!allows(&tradeoff, &game(1, 1), accuracy + 1e-9).unwrap());
        }
    }

    /// Many independent lanes of N(0, 1) against N(mu, 1): the best guesser is right with chance
    /// Phi(mu/2) about each, so no number of right guesses may be called rarer than it is.
    #[test]
    fn what_the_best_guesser_can_do_is_never_called_impossible() {
        let (mu, canaries) = (1.0, 60u64);
        let accuracy = normal::cdf(mu / 2.0);
        let mut at_least = 0.0;
        let mut exactly = accuracy.powi(60);
        for correct in (1..=canaries).rev() {
            at_least += exactly;
            exactly *=
                correct as f64 / (canaries - correct + 1) as f64 * (1.0 - accuracy) / accuracy;
            if at_least < 1.0 - 1e-9 {
                let tradeoff = Tradeoff::Gaussian { mu };
                assert!(
                    allows(&tradeoff, &game(canaries, correct), at_least).unwrap(),
                    "{correct} right guesses have chance {at_least}"
                );
            }
        }
    }

    /// The bound at 95 % may exceed the truth in 10 games of 200 on average; in 26 with chance 1e-5.
    #[test]
    fn the_bound_exceeds_the_truth_as_rarely_as_stated_and_comes_close() {
        let mut random = ChaCha20Rng::seed_from_u64(2);
        let threshold = (normal::cdf(0.5) * 2f64.powi(64)) as u64;
        let mut bounds = Vec::new();
        for _ in 0..200 {
            let correct = (0..500).filter(|_| random.next_u64() < threshold).count() as u64;
            bounds.push(gaussian_mu_at_least(&game(500, correct), 0.95).unwrap());
        }
        let above = bounds.iter().filter(|bound| **bound > 1.0).count();
        assert!(above <= 25, "{above} of 200 above the truth");
        let mean = bounds.iter().sum::<f64>() / 200.0;
        // The limit for accuracy Phi(1/2) is 0.34.
        assert!((0.3..0.36).contains(&mean), "{mean}");
    }

    #[test]
    fn the_bound_tends_to_its_limit_as_canaries_grow() {
        let accuracy = normal::cdf(1.0);
        let limit = normal::quantile(0.05 * accuracy) - normal::quantile(0.05 * (1.0 - accuracy));
        let bound = |canaries: u64| {
            let correct = (accuracy * canaries as f64).round() as u64;
            gaussian_mu_at_least(&game(canaries, correct), 0.95).unwrap()
        };
        let bounds: Vec<f64> = [100, 1000, 10_000].map(bound).to_vec();
        assert!(bounds.is_sorted(), "{bounds:?}");
        assert!(
            (bounds[2] / limit - 1.0).abs() < 1e-3,
            "{bounds:?} for {limit}"
        );
    }

    /// Guessing about the surest of ever more lanes of N(0, 1) against N(2, 1), at the expected
    /// numbers of right and wrong guesses.
    #[test]
    fn the_bound_approaches_the_truth_as_surer_guesses_can_be_made() {
        let bound = |canaries: f64, threshold: f64| {
            let right = (canaries / 2.0 * normal::cdf(2.0 - threshold)).floor();
            let wrong = (canaries / 2.0 * normal::cdf(-threshold)).ceil();
            let game = Game::new(canaries as u64, (right + wrong) as u64, right as u64).unwrap();
            gaussian_mu_at_least(&game, 0.95).unwrap()
        };
        let bounds = [
            bound(1e3, 2.5),
            bound(1e4, 3.5),
            bound(1e5, 4.0),
            bound(1e6, 4.5),
        ];
        assert!(bounds.is_sorted(), "{bounds:?}");
        assert!(bounds[3] > 1.4 && bounds[3] < 2.0, "{bounds:?}");
    }

    #[test]
    fn guessing_no_better_than_a_coin_proves_nothing() {
        assert_eq!(gaussian_mu_at_least(&game(1000, 500), 0.95).unwrap(), 0.0);
        assert_eq!(gaussian_mu_at_least(&game(1000, 0), 0.95).unwrap(), 0.0);
    }

    #[test]
    fn being_always_right_refutes_every_reasonable_distance() {
        assert!(gaussian_mu_at_least(&game(1000, 1000), 0.95).unwrap() > 2.0);
    }
}
