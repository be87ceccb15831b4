//! Lower bounds on epsilon from a game, and a verdict on the claim.
//!
//! Every attack with every number of guesses is a test of its own; the false
//! alarm is shared equally among them, so the stated one holds for all together.
//! Deliberately absent: a verdict that a claim holds. There is none.

use noisegate_privacy::{Delta, Event, accountant};
use serde::{Deserialize, Serialize};

use crate::lanes::{Guesses, guess, scores};
use crate::{
    Attack, AuditError, Game, Mechanism, Played, Tradeoff, allows, chance, epsilon_at_least,
    gaussian_mu_at_least, p_value,
};

/// A claim is called refuted only where a true one would be in one audit of a thousand.
pub const REFUTED_FALSE_ALARM: f64 = 1e-3;
/// The claimed curve is asked for at these deltas, and at the claim's own.
const DELTAS: [f64; 24] = [
    1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2,
    0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.75, 0.9,
];

/// What is claimed of a mechanism.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// Epsilon at `delta`, by the accountant.
    pub epsilon: f64,
    /// The delta at which the claim is stated.
    pub delta: f64,
    /// More points (epsilon, delta) of the same mechanism.
    pub curve: Vec<(f64, f64)>,
}

impl Claim {
    /// What the accountant says of these events.
    ///
    /// # Errors
    /// [`AuditError::Unpriced`] if it has no finite bound at `delta`.
    pub fn of(events: &[Event], delta: Delta) -> Result<Self, AuditError> {
        let epsilon = accountant::epsilon(events, delta)?.epsilon;
        let mut curve = vec![(epsilon, delta.get())];
        for other in DELTAS {
            // A point without a finite bound claims nothing there.
            if let Ok(other) = Delta::new(other)
                && let Ok(bound) = accountant::epsilon(events, other)
            {
                curve.push((bound.epsilon, other.get()));
            }
        }
        Ok(Self {
            epsilon,
            delta: delta.get(),
            curve,
        })
    }
}

/// Which theorem a bound rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Steinke, Nasr and Jagielski, 2023: sound for every mechanism.
    OneRun,
    /// Mahloujifar, Melis and Chaudhuri, 2024, for Gaussian trade-off functions: the mechanism is
    /// taken for a Gaussian one, which it is where every unit is in every step.
    Gaussian,
}

/// The best attack by one method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// The theorem.
    pub method: Method,
    /// Epsilon is at least this, at the claim's delta and the audit's confidence.
    pub epsilon_at_least: f64,
    /// The most that could have been shown with so many canaries, had every guess been right.
    pub epsilon_provable: f64,
    /// The attack.
    pub attack: Attack,
    /// How its game ended.
    pub game: Game,
}

/// What an audit says about a claim. It can refute, not certify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// No test contradicts the claim. That proves nothing.
    NotRefuted,
    /// A test contradicts it at the audit's confidence, as happens to true claims too.
    Doubtful,
    /// A test contradicts it with a false alarm of [`REFUTED_FALSE_ALARM`] at most.
    Refuted,
}

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Findings {
    /// Claimed epsilon.
    pub claimed_epsilon: f64,
    /// Delta of the claim and of the bounds.
    pub delta: f64,
    /// Confidence of all bounds of a method together.
    pub confidence: f64,
    /// One for each method.
    pub evidence: Vec<Evidence>,
    /// On the claim, by the one-run bound and by the claim's whole curve.
    pub verdict: Verdict,
}

/// Attacks the released lanes and weighs the claim.
///
/// # Errors
/// [`AuditError::Shape`] for lanes that do not fit; [`AuditError::OutOfRange`] for a confidence
/// outside (0, 1); [`AuditError::BadGame`] for fewer than two canaries.
pub fn findings(
    played: &Played,
    mechanism: &Mechanism,
    claim: &Claim,
    confidence: f64,
) -> Result<Findings, AuditError> {
    played.check(mechanism)?;
    chance("confidence", confidence)?;
    let games = Games::play(played, mechanism)?;
    let verdict = if games.refute(claim, REFUTED_FALSE_ALARM)? {
        Verdict::Refuted
    } else if games.refute(claim, 1.0 - confidence)? {
        Verdict::Doubtful
    } else {
        Verdict::NotRefuted
    };
    Ok(Findings {
        claimed_epsilon: claim.epsilon,
        delta: claim.delta,
        confidence,
        evidence: vec![
            games.one_run(claim.delta, confidence)?,
            games.gaussian(claim.delta, confidence)?,
        ],
        verdict,
    })
}

/// Every attack's game at every number of guesses.
struct Games(Vec<(Attack, Game)>);

impl Games {
    fn play(played: &Played, mechanism: &Mechanism) -> Result<Self, AuditError> {
        let tried = Guesses::of(played.took_part.len());
        let mut games = Vec::new();
        for attack in Attack::of(mechanism) {
            let scores = scores(attack, played, mechanism);
            for &guesses in &tried {
                games.push((attack, guess(&scores, &played.took_part, guesses)?));
            }
        }
        if games.is_empty() {
            return Err(AuditError::BadGame {
                canaries: played.took_part.len() as u64,
                guesses: 0,
                correct: 0,
            });
        }
        Ok(Self(games))
    }

    /// Whether any test contradicts the claim, with this false alarm for all of them together.
    fn refute(&self, claim: &Claim, false_alarm: f64) -> Result<bool, AuditError> {
        // Two tests of each game.
        let level = false_alarm / (2 * self.0.len()) as f64;
        let curve = Tradeoff::Curve(claim.curve.clone());
        for (_, game) in &self.0 {
            let rare = p_value(game, claim.epsilon, claim.delta)? < level;
            if rare || !allows(&curve, game, level)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The confidence of each bound, for all to hold together.
    fn shared(&self, confidence: f64) -> f64 {
        1.0 - (1.0 - confidence) / self.0.len() as f64
    }

    fn one_run(&self, delta: f64, confidence: f64) -> Result<Evidence, AuditError> {
        let confidence = self.shared(confidence);
        let beats = |game: &Game, known| Ok(p_value(game, known, delta)? < 1.0 - confidence);
        let bound = |game: &Game| epsilon_at_least(game, delta, confidence);
        let (epsilon_at_least, (attack, game)) = self.best(beats, bound)?;
        Ok(Evidence {
            method: Method::OneRun,
            epsilon_at_least,
            epsilon_provable: self.all_right().best(beats, bound)?.0,
            attack,
            game,
        })
    }

    fn gaussian(&self, delta: f64, confidence: f64) -> Result<Evidence, AuditError> {
        let confidence = self.shared(confidence);
        let beats = |game: &Game, mu| {
            allows(&Tradeoff::Gaussian { mu }, game, 1.0 - confidence).map(|allowed| !allowed)
        };
        let bound = |game: &Game| gaussian_mu_at_least(game, confidence);
        let (mu, (attack, game)) = self.best(beats, bound)?;
        let provable = self.all_right().best(beats, bound)?.0;
        Ok(Evidence {
            method: Method::Gaussian,
            epsilon_at_least: gaussian_epsilon(mu, delta)?,
            epsilon_provable: gaussian_epsilon(provable, delta)?,
            attack,
            game,
        })
    }

    /// The largest bound, and the game that gives it.
    ///
    /// - `beats`: whether a game's bound is above a known one; much cheaper than the bound.
    fn best(
        &self,
        beats: impl Fn(&Game, f64) -> Result<bool, AuditError>,
        bound: impl Fn(&Game) -> Result<f64, AuditError>,
    ) -> Result<(f64, (Attack, Game)), AuditError> {
        let mut best = (0.0, self.0[0]);
        for one in &self.0 {
            if beats(&one.1, best.0)? {
                best = (bound(&one.1)?, *one);
            }
        }
        Ok(best)
    }

    /// One attack's games with every guess right; the attack does not matter.
    fn all_right(&self) -> Self {
        let first = self.0[0].0;
        let games = self.0.iter().filter(|(attack, _)| *attack == first);
        let right = games.map(|(attack, game)| {
            let correct = game.guesses;
            (*attack, Game { correct, ..*game })
        });
        Self(right.collect())
    }
}

/// Epsilon of mu-Gaussian differential privacy.
fn gaussian_epsilon(mu: f64, delta: f64) -> Result<f64, AuditError> {
    if mu == 0.0 {
        return Ok(0.0);
    }
    let delta = Delta::new(delta).map_err(|_| AuditError::OutOfRange {
        name: "delta",
        value: delta,
        range: "above 0 and below 1",
    })?;
    let event = Event::Gaussian {
        sigma: 1.0 / mu,
        count: 1,
    };
    Ok(accountant::epsilon(&[event], delta)?.epsilon)
}
