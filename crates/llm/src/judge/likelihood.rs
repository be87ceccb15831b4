//! Likelihood mode: a text belongs to the label under whose examples it is most likely.
//!
//! For every label two few-shot contexts are built from disjoint samples, so that no sample is
//! judged by a context that shows it. A context is computed once and shared by all texts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;

use super::{Call, DropReason, Judged};
use crate::error::Result;
use crate::pretrain::shuffle;
use crate::progress::Progress;
use crate::prompts::{FewShot, PromptStyle, few_shot};
use crate::sample::{derived_seed, one_line};
use crate::score::{ScoreRequest, score};

/// Options of likelihood mode.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LikelihoodOptions {
    /// Examples per context.
    pub shots: usize,
    /// Other labels each sample is compared with; those of its cluster come first.
    pub rivals_max: usize,
    /// A sample is dropped if a rival is better by more than this, in nats per token.
    pub margin: f64,
}

impl Default for LikelihoodOptions {
    fn default() -> Self {
        Self {
            shots: 2,
            rivals_max: 2,
            margin: 0.1,
        }
    }
}

/// Samples whose text fits another label better.
pub(super) fn reject(
    call: &Call<'_>,
    options: &LikelihoodOptions,
    judged: &mut Judged,
    progress: &mut dyn FnMut(Progress),
    cancel: &AtomicBool,
) -> Result<Vec<(usize, DropReason)>> {
    let contexts = contexts(call, options)?;
    let mut requests = Vec::new();
    let mut owners = Vec::new();
    for cluster in call.clusters {
        let here: BTreeSet<&str> = cluster
            .iter()
            .map(|index| call.samples[*index].label.as_str())
            .collect();
        for index in cluster {
            let own = call.samples[*index].label.as_str();
            let rivals = rivals(call, own, &here, *index, options.rivals_max);
            for label in std::iter::once(own).chain(rivals) {
                let [first, second] = &contexts[label];
                let context = if first.shown.contains(index) {
                    second
                } else {
                    first
                };
                requests.push(ScoreRequest {
                    prompt: context.prompt.clone(),
                    continuation: format!(" {}", one_line(&call.samples[*index].text)),
                });
                owners.push((*index, label == own));
            }
        }
    }
    judged.calls = requests.len();
    let scores = score(call.model, &requests, progress, cancel)?;
    let mut margins: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
    for ((index, own), score) in owners.into_iter().zip(scores) {
        let (mine, best) = margins
            .entry(index)
            .or_insert((f64::NEG_INFINITY, f64::NEG_INFINITY));
        let side = if own { mine } else { best };
        *side = side.max(score.mean_log_likelihood);
    }
    let off_label = |(index, (mine, best)): (usize, (f64, f64))| {
        (best - mine > options.margin).then_some((index, DropReason::OffLabel))
    };
    Ok(margins.into_iter().filter_map(off_label).collect())
}

/// Two contexts per label, from disjoint samples.
fn contexts<'a>(
    call: &Call<'a>,
    options: &LikelihoodOptions,
) -> Result<BTreeMap<&'a str, [FewShot; 2]>> {
    let tokens_max = call.model.context() / 2;
    let mut all = BTreeMap::new();
    for (number, label) in call.labels.iter().enumerate() {
        let alive = call.clusters.iter().flatten().copied();
        let mut members: Vec<usize> = alive
            .filter(|index| call.samples[*index].label == *label)
            .collect();
        members.sort_unstable();
        shuffle(
            &mut members,
            derived_seed(call.seed, "judge", &[number as u64]),
        );
        let build = |parity: usize| {
            let chosen: Vec<usize> = members
                .iter()
                .copied()
                .skip(parity)
                .step_by(2)
                .take(options.shots)
                .collect();
            let style = PromptStyle::Completion;
            few_shot(
                call.model,
                style,
                call.samples,
                &chosen,
                label,
                1,
                tokens_max,
            )
        };
        all.insert(label.as_str(), [build(0)?, build(1)?]);
    }
    Ok(all)
}

/// Other labels to compare a sample with: those of its cluster, then by a seeded rotation.
fn rivals<'a>(
    call: &Call<'a>,
    own: &str,
    here: &BTreeSet<&'a str>,
    index: usize,
    most: usize,
) -> Vec<&'a str> {
    let near = here.iter().copied();
    let start = derived_seed(call.seed, "rivals", &[index as u64]) % call.labels.len() as u64;
    let far = call
        .labels
        .iter()
        .map(String::as_str)
        .cycle()
        .skip(start as usize);
    let far = far
        .take(call.labels.len())
        .filter(|label| !here.contains(label));
    near.chain(far)
        .filter(|label| *label != own)
        .take(most)
        .collect()
}
