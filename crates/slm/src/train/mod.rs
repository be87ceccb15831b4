//! Fine-tunes an encoder, or trains a small one, for the tasks of its heads.
//!
//! ```text
//! examples ─ tokens ─ batches.rs ─> step.rs (loss, gradients by ONNX Runtime) ─> weights.rs (AdamW)
//!                          ▲                                                          │
//!                          └──────────────────────── next step ───────────────────────┘
//! ```
//!
//! The same seed, data and library give the same weights, for any number of optimizer threads.
//!
//! Deliberately absent: privacy (a trained model stays private to its site), metrics, files.

mod adamw;
mod batches;
mod checkpoint;
mod device;
mod fingerprint;
mod held_out;
pub mod loss;
mod options;
mod rows;
mod run;
mod schedule;
mod stages;
mod step;
mod targets;
mod weights;
#[cfg(test)]
mod whole_steps;

pub use checkpoint::CheckpointOptions;
pub use options::{
    ClassWeights, Example, Freeze, Precision, Schedule, Target, TrainOptions, TrainingData,
};

use std::sync::atomic::AtomicBool;

use crate::error::SlmError;
use crate::model::heads::{self, Head};
use crate::model::names::{HEAD_BIAS, HEAD_WEIGHT};
use crate::model::{Base, Model, random_matrix};
use crate::params::Array;
use crate::random::Stream;
use crate::runtime::Runtime;
use targets::Outputs;

/// Where a run stands, told after every step.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// Stage, from 1, and how many there are; see [`TrainOptions::released_first`].
    pub stage: (usize, usize),
    /// Epoch, from 1.
    pub epoch: usize,
    /// Epochs planned.
    pub epochs: usize,
    /// Optimizer step, from 1.
    pub step: usize,
    /// Steps planned.
    pub steps: usize,
    /// Mean loss of the last steps (exponentially weighted).
    pub loss: f32,
    /// Learning rate of this step.
    pub learning_rate: f32,
    /// Rows trained per second so far.
    pub rows_per_second: f64,
    /// Seconds left at that rate.
    pub seconds_left: f64,
    /// Loss and accuracy on the validation examples, told once an epoch.
    pub validation: Option<Validation>,
}

/// How well the validation examples are labelled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Validation {
    /// Mean loss; of numbers, in their variance.
    pub loss: f32,
    /// Share of the decisions that are right: a label of a single-label head, each yes or no of a
    /// multi-label head. None if all heads give numbers.
    pub accuracy: Option<f32>,
}

/// What a caller hears and says during a run.
pub struct Hooks<'h> {
    /// Called after every step.
    pub progress: &'h mut dyn FnMut(&Progress),
    /// Set it to stop after the current step.
    pub cancel: &'h AtomicBool,
}

/// What came out of a run, beside the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Optimizer steps made.
    pub steps: usize,
    /// Epochs begun.
    pub epochs: usize,
    /// Mean loss of the last steps.
    pub loss: f32,
    /// Validation of the weights that were kept.
    pub validation: Option<Validation>,
    /// The epoch whose weights were kept, from 1.
    pub kept_epoch: usize,
    /// Examples trained on.
    pub examples: usize,
    /// Examples that were longer than the model takes.
    pub cut: usize,
    /// Examples without a token the model knows.
    pub only_unknown: usize,
    /// Declared labels that no example has, if they were allowed.
    pub empty_labels: Vec<String>,
    /// Numbers in the model.
    pub parameters: usize,
    /// Seconds for all steps, sessions included.
    pub seconds: f64,
}

/// Trains a model for the tasks of its heads.
///
/// # Errors
/// Before the first step: [`SlmError::Option`], [`SlmError::Labels`], [`SlmError::UnknownLabel`],
/// [`SlmError::WrongTarget`], [`SlmError::Weight`], [`SlmError::NoExamples`],
/// [`SlmError::NoExamplesOfHead`], [`SlmError::OneClass`], [`SlmError::EmptyLabels`],
/// [`SlmError::ClassWeight`], [`SlmError::UnknownTexts`], [`SlmError::Checkpoint`],
/// [`SlmError::NotACheckpoint`], [`SlmError::CheckpointDamaged`], and those of reading the base. Later: [`SlmError::Diverged`], [`SlmError::Cancelled`], [`SlmError::Runtime`].
pub fn train(
    runtime: &Runtime,
    base: &Base,
    data: &TrainingData<'_>,
    options: &TrainOptions,
    hooks: Hooks<'_>,
) -> Result<(Model, Summary), SlmError> {
    options.check()?;
    let outputs = Outputs::new(data.heads)?;
    let known = outputs.known(data.examples)?;
    outputs.known(data.validation)?;
    outputs.check_classes(data.examples, &known, options.allow_empty_labels)?;
    outputs.factors(&options.class_weights)?;
    let texts = data.examples.iter().map(|example| example.text.as_str());
    let mut model = Model::from_base(base, texts, options.seed)?;
    add_heads(&mut model, data.heads, options.seed);
    match options.released_first {
        None => run::run(runtime, model, data, options, hooks, (1, 1)),
        Some(epochs) => stages::run(runtime, model, data, options, hooks, epochs),
    }
}

/// Fresh heads, unless the model has exactly these: then training goes on from them.
fn add_heads(model: &mut Model, heads: &[Head], seed: u64) {
    if model.heads == heads {
        return;
    }
    let shape = [heads::outputs(heads), model.config.hidden];
    let weight = random_matrix(&shape, 0.02, Stream::new(seed, HEAD_STREAM));
    model.weights.insert(HEAD_WEIGHT, weight);
    model
        .weights
        .insert(HEAD_BIAS, Array::filled(&shape[..1], 0.0));
    model.heads = heads.to_vec();
}

/// Stream number of the head's random weights; see [`Stream`].
const HEAD_STREAM: u64 = 1 << 41;
