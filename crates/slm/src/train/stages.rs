//! Synthetic examples first, real ones afterwards.
//!
//! The first stage learns what the language model wrote; the second starts from its weights, with
//! a warm-up and a schedule of its own, and sees real texts only, so that what is particular to
//! them has the last word.

use super::checkpoint::{CheckpointOptions, with_suffix};
use super::options::{Example, TrainOptions, TrainingData};
use super::{Hooks, Summary, run};
use crate::error::SlmError;
use crate::model::Model;
use crate::runtime::Runtime;

pub(super) fn run(
    runtime: &Runtime,
    model: Model,
    data: &TrainingData<'_>,
    options: &TrainOptions,
    hooks: Hooks<'_>,
    epochs: usize,
) -> Result<(Model, Summary), SlmError> {
    let (synthetic, real): (Vec<Example>, Vec<Example>) =
        data.examples.iter().cloned().partition(|e| e.synthetic);
    if synthetic.is_empty() || real.is_empty() {
        return Err(SlmError::Option {
            name: "released_first",
            value: epochs.to_string(),
            remedy: "it needs both released records and others; leave it out to train on one kind",
        });
    }
    let first = TrainOptions {
        epochs,
        released_first: None,
        validation_share: 0.0,
        patience: None,
        checkpoint: options.checkpoint.as_ref().map(|c| CheckpointOptions {
            path: with_suffix(&c.path, ".first"),
            every_steps: c.every_steps,
        }),
        ..options.clone()
    };
    let of = |examples| TrainingData {
        heads: data.heads,
        examples,
        validation: &[],
    };
    let Hooks { progress, cancel } = hooks;
    let stage_hooks = Hooks {
        progress: &mut *progress,
        cancel,
    };
    let (model, before) = run::run(runtime, model, &of(&synthetic), &first, stage_hooks, (1, 2))?;
    let second = TrainingData {
        validation: data.validation,
        ..of(&real)
    };
    let hooks = Hooks { progress, cancel };
    let (model, mut summary) = run::run(runtime, model, &second, options, hooks, (2, 2))?;
    summary.steps += before.steps;
    summary.examples += before.examples;
    summary.cut += before.cut;
    summary.only_unknown += before.only_unknown;
    summary.seconds += before.seconds;
    summary
        .empty_labels
        .retain(|label| before.empty_labels.contains(label));
    Ok((model, summary))
}
