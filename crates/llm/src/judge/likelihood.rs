//! Likelihood mode: a text belongs to the label under whose examples it is most likely.
//!
//! For every label two few-shot contexts are built from disjoint samples, so that no sample is
//! judged by a context that shows it. A context is computed once and shared by all texts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;

use super::{Call, DropReason, Judged};
use crate::error::Result;
use crate::model::LanguageModel;
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
    let prompt = |label: &str, index: usize| {
        let [first, second] = &contexts[label];
        let context = if first.shown.contains(&index) {
            second
        } else {
            first
        };
        context.prompt.clone()
    };
    let all: BTreeSet<usize> = call.clusters.iter().flatten().copied().collect();
    let comparison = Comparison {
        call,
        model: call.local()?,
        members: &all,
        rivals_max: options.rivals_max,
        margin: options.margin,
        prompt: &prompt,
    };
    comparison.reject(judged, progress, cancel)
}

/// A comparison of own labels with rivals.
pub(super) struct Comparison<'a> {
    pub(super) call: &'a Call<'a>,
    /// Judges; not always the model of the call.
    pub(super) model: &'a LanguageModel,
    /// Samples to judge.
    pub(super) members: &'a BTreeSet<usize>,
    pub(super) rivals_max: usize,
    pub(super) margin: f64,
    /// The prompt of a label, for a sample.
    pub(super) prompt: &'a dyn Fn(&str, usize) -> String,
}

impl Comparison<'_> {
    /// The members that are likelier after the prompt of a rival than after their own.
    pub(super) fn reject(
        &self,
        judged: &mut Judged,
        progress: &mut dyn FnMut(Progress),
        cancel: &AtomicBool,
    ) -> Result<Vec<(usize, DropReason)>> {
        let (requests, owners) = self.requests();
        judged.calls += requests.len();
        let scores = score(self.model, &requests, progress, cancel)?;
        let mut likelihoods: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
        for ((index, own), score) in owners.into_iter().zip(scores) {
            let unknown = (f64::NEG_INFINITY, f64::NEG_INFINITY);
            let (mine, best) = likelihoods.entry(index).or_insert(unknown);
            let side = if own { mine } else { best };
            *side = side.max(score.mean_log_likelihood);
        }
        let off_label = |(index, (mine, best)): (usize, (f64, f64))| {
            (best - mine > self.margin).then_some((index, DropReason::OffLabel))
        };
        Ok(likelihoods.into_iter().filter_map(off_label).collect())
    }

    /// What to score, and for each request its sample and whether it is under its own label.
    fn requests(&self) -> (Vec<ScoreRequest>, Vec<(usize, bool)>) {
        let label_of = |index: &usize| self.call.samples[*index].label.as_str();
        let mut requests = Vec::new();
        let mut owners = Vec::new();
        for cluster in self.call.clusters {
            let here: BTreeSet<&str> = cluster.iter().map(label_of).collect();
            for index in cluster.iter().filter(|index| self.members.contains(index)) {
                let own = label_of(index);
                let rivals = rivals(self.call, own, &here, *index, self.rivals_max);
                for label in std::iter::once(own).chain(rivals) {
                    requests.push(ScoreRequest {
                        prompt: (self.prompt)(label, *index),
                        continuation: format!(" {}", one_line(&self.call.samples[*index].text)),
                    });
                    owners.push((*index, label == own));
                }
            }
        }
        (requests, owners)
    }
}

/// Two contexts per label, from disjoint samples.
fn contexts<'a>(
    call: &Call<'a>,
    options: &LikelihoodOptions,
) -> Result<BTreeMap<&'a str, [FewShot; 2]>> {
    let model = call.local()?;
    let tokens_max = model.context() / 2;
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
            few_shot(model, style, call.samples, &chosen, label, 1, tokens_max)
        };
        all.insert(label.as_str(), [build(0)?, build(1)?]);
    }
    Ok(all)
}

/// Other labels to compare a sample with: those of its cluster, then by a seeded rotation.
fn rivals<'a>(
    call: &'a Call<'_>,
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
