//! Cross-fit mode: likelihood mode for a model too small to learn from a prompt.
//!
//! ```text
//! half A ─ adapt ─> model A ─ judges half B        half B ─ adapt ─> model B ─ judges half A
//! ```
//! No sample is judged by a model that was trained on it, so a wrong label cannot vouch for
//! itself. The samples are released data: training on them costs no privacy budget.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

use super::likelihood::Comparison;
use super::{Call, DropReason, Judged};
use crate::adapt::{AdaptOptions, adapt};
use crate::error::Result;
use crate::pretrain::shuffle;
use crate::progress::Progress;
use crate::prompts::PromptStyle;
use crate::sample::{Sample, derived_seed};

/// Options of cross-fit mode.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CrossFitOptions {
    /// How each half is read.
    pub adapt: AdaptOptions,
    /// Other labels each sample is compared with; those of its cluster come first.
    pub rivals_max: usize,
    /// A sample is dropped if a rival is better by more than this, in nats per token.
    pub margin: f64,
}

impl Default for CrossFitOptions {
    fn default() -> Self {
        Self {
            // What it reads it does not judge, so it may know that by heart.
            adapt: AdaptOptions {
                epochs_max: usize::MAX,
                ..AdaptOptions::default()
            },
            rivals_max: 7,
            margin: 0.05,
        }
    }
}

/// Samples whose text fits another label better, by the model that has read the other half.
pub(super) fn reject(
    call: &Call<'_>,
    options: &CrossFitOptions,
    judged: &mut Judged,
    progress: &mut dyn FnMut(Progress),
    cancel: &AtomicBool,
) -> Result<Vec<(usize, DropReason)>> {
    let halves = halves(call);
    let mut prompts = std::collections::BTreeMap::new();
    for label in call.labels {
        prompts.insert(
            label.as_str(),
            PromptStyle::Completion.prompt("", label, 1)?,
        );
    }
    let prompt = |label: &str, _: usize| prompts[label].clone();
    let mut rejected = Vec::new();
    for (half, other) in [(&halves[0], &halves[1]), (&halves[1], &halves[0])] {
        if half.is_empty() || other.is_empty() {
            continue;
        }
        let read: Vec<Sample> = other
            .iter()
            .map(|index| call.samples[*index].clone())
            .collect();
        let model = adapt(call.local()?, &read, &options.adapt, progress, cancel)?;
        let comparison = Comparison {
            call,
            model: &model,
            members: half,
            rivals_max: options.rivals_max,
            margin: options.margin,
            prompt: &prompt,
        };
        rejected.extend(comparison.reject(judged, progress, cancel)?);
    }
    Ok(rejected)
}

/// Splits the samples of every label evenly, in a seeded order.
fn halves(call: &Call<'_>) -> [BTreeSet<usize>; 2] {
    let mut halves = [BTreeSet::new(), BTreeSet::new()];
    for (number, label) in call.labels.iter().enumerate() {
        let alive = call.clusters.iter().flatten().copied();
        let mut members: Vec<usize> = alive
            .filter(|index| call.samples[*index].label == *label)
            .collect();
        members.sort_unstable();
        shuffle(
            &mut members,
            derived_seed(call.seed, "halves", &[number as u64]),
        );
        for (place, index) in members.into_iter().enumerate() {
            halves[(place + number) % 2].insert(index);
        }
    }
    halves
}

#[cfg(test)]
mod tests {
    use super::super::{JudgeMode, JudgeOptions, judge};
    use super::*;
    use crate::testing;

    #[test]
    fn a_wrong_label_does_not_vouch_for_itself() {
        let topics = [
            "where is my bank card number",
            "the cat sat on the mat number",
        ];
        let label = |i: usize| ["bank", "pets"][i % 2].to_owned();
        let mut samples: Vec<Sample> = (0..40)
            .map(|i| Sample::new(format!("{} {i}", topics[i % 2]), label(i)))
            .collect();
        // Two samples change sides.
        samples[4].label = label(1);
        samples[9].label = label(0);
        let clusters = [(0..40).collect::<Vec<_>>()];
        let adapt = AdaptOptions {
            batch_windows: 1,
            ..AdaptOptions::default()
        };
        let mode = CrossFitOptions {
            adapt,
            ..CrossFitOptions::default()
        };
        let options = JudgeOptions {
            mode: JudgeMode::CrossFit(mode),
            duplicate_similarity: 1.0,
            ..JudgeOptions::default()
        };
        let (model, cancel) = (testing::model(8), AtomicBool::new(false));
        let labels = [label(0), label(1)];
        let judged = judge(
            &model,
            &samples,
            &clusters,
            &labels,
            &options,
            &mut |_| (),
            &cancel,
        )
        .unwrap();
        let dropped: Vec<usize> = judged.dropped.iter().map(|(index, _)| *index).collect();
        assert!(dropped.contains(&4) && dropped.contains(&9), "{dropped:?}");
        assert!(dropped.len() <= 6, "{dropped:?}");
    }
}
