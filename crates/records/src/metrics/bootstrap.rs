//! How far a score could move with another draw of test rows.
//!
//! Rows are resampled with replacement; the interval is the percentile one.
//! Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 13 and 16.
//!
//! Deliberately absent: variation between training runs. These intervals are about the test rows.

use serde::{Deserialize, Serialize};

use super::{Counts, Prediction, check};
use crate::random::Draws;
use crate::{Error, Result};

/// The score to bootstrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Statistic {
    /// Share of rows predicted right.
    Accuracy,
    /// Unweighted mean of F1 over the classes that occur.
    MacroF1,
}

/// How to bootstrap.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BootstrapOptions {
    /// The score.
    pub statistic: Statistic,
    /// How many labels there are.
    pub classes: usize,
    /// How many times to resample, 100 to 100,000.
    pub resamples: usize,
    /// The interval's coverage, such as 0.95; above 0 and below 1.
    pub coverage: f64,
    /// The same seed gives the same interval.
    pub seed: u64,
}

impl BootstrapOptions {
    /// 2,000 resamples, 95 % coverage, seed 0.
    pub fn new(statistic: Statistic, classes: usize) -> Self {
        Self {
            statistic,
            classes,
            resamples: 2000,
            coverage: 0.95,
            seed: 0,
        }
    }
}

/// How to resample a statistic of one's own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resampling {
    /// How many times, 100 to 100,000.
    pub resamples: usize,
    /// The interval's coverage; above 0 and below 1.
    pub coverage: f64,
    /// The same seed gives the same interval.
    pub seed: u64,
}

impl Resampling {
    /// 2,000 resamples, 95 % coverage.
    pub fn new(seed: u64) -> Self {
        Self {
            resamples: 2000,
            coverage: 0.95,
            seed,
        }
    }
}

/// A score and where it may lie.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The score on the rows as they are.
    pub score: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// By how much a second model beats a first on the same rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Score of the second minus score of the first, with its interval.
    pub gain: Interval,
    /// Share of resamples in which the second does *not* beat the first: a one-sided
    /// bootstrap p-value, never below 1 / (resamples + 1).
    pub p_value: f64,
}

/// A confidence interval for one model's score.
///
/// # Errors
/// [`Error::Pairing`] without predictions, [`Error::Prediction`], [`Error::Option`].
pub fn bootstrap(predictions: &[Prediction], options: &BootstrapOptions) -> Result<Interval> {
    check(predictions, options.classes)?;
    let score = |rows: &[usize]| options.score(predictions, rows);
    let (interval, _) = resample(predictions.len(), options, score)?;
    Ok(interval)
}

/// Compares two models that answered the same rows, resampling the rows of both together.
///
/// # Errors
/// [`Error::Pairing`] if the lists differ in length, are empty or disagree on a true class;
/// otherwise as [`bootstrap`].
pub fn paired_bootstrap(
    first: &[Prediction],
    second: &[Prediction],
    options: &BootstrapOptions,
) -> Result<Difference> {
    let same =
        first.len() == second.len() && first.iter().zip(second).all(|(a, b)| a.truth == b.truth);
    if !same {
        return Err(Error::Pairing {
            left: first.len(),
            right: second.len(),
        });
    }
    check(first, options.classes)?;
    check(second, options.classes)?;
    let gain = |rows: &[usize]| options.score(second, rows) - options.score(first, rows);
    let (interval, gains) = resample(first.len(), options, gain)?;
    let not_better = gains.iter().filter(|&&gain| gain <= 0.0).count();
    Ok(Difference {
        gain: interval,
        p_value: (not_better + 1) as f64 / (gains.len() + 1) as f64,
    })
}

impl BootstrapOptions {
    fn score(&self, predictions: &[Prediction], rows: &[usize]) -> f64 {
        let chosen = rows.iter().map(|&row| &predictions[row]);
        let counts = Counts::of(chosen, self.classes);
        match self.statistic {
            Statistic::Accuracy => counts.accuracy(),
            Statistic::MacroF1 => counts.macro_f1(),
        }
    }

    fn checked(&self) -> Result<()> {
        let refuse = |option, given: String, expected| {
            Err(Error::Option {
                option,
                given,
                expected,
            })
        };
        if !(100..=100_000).contains(&self.resamples) {
            let expected = "between 100 and 100000";
            return refuse("resamples", self.resamples.to_string(), expected);
        }
        if !(self.coverage > 0.0 && self.coverage < 1.0) {
            return refuse("coverage", self.coverage.to_string(), "above 0 and below 1");
        }
        Ok(())
    }
}

/// The interval of a statistic of chosen rows.
///
/// # Errors
/// [`Error::Option`] for a resampling out of range.
pub(super) fn interval_of(
    rows: usize,
    resampling: Resampling,
    statistic: impl Fn(&[usize]) -> f64,
) -> Result<Interval> {
    let options = BootstrapOptions {
        statistic: Statistic::Accuracy,
        classes: 0,
        resamples: resampling.resamples,
        coverage: resampling.coverage,
        seed: resampling.seed,
    };
    resample(rows, &options, statistic).map(|(interval, _)| interval)
}

/// The statistic on all rows with its percentile interval, and its sorted resampled values.
fn resample(
    rows: usize,
    options: &BootstrapOptions,
    statistic: impl Fn(&[usize]) -> f64,
) -> Result<(Interval, Vec<f64>)> {
    options.checked()?;
    let mut draws = Draws::new(options.seed);
    let all: Vec<usize> = (0..rows).collect();
    let mut chosen = all.clone();
    let mut values: Vec<f64> = (0..options.resamples)
        .map(|_| {
            chosen.iter_mut().for_each(|row| *row = draws.below(rows));
            statistic(&chosen)
        })
        .collect();
    values.sort_by(f64::total_cmp);
    let tail = (1.0 - options.coverage) / 2.0;
    let interval = Interval {
        score: statistic(&all),
        low: quantile(&values, tail),
        high: quantile(&values, 1.0 - tail),
    };
    Ok((interval, values))
}

/// Linear interpolation between order statistics.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let position = share * (sorted.len() - 1) as f64;
    let low = sorted[position.floor() as usize];
    let high = sorted[position.ceil() as usize];
    low + (high - low) * position.fract()
}
