//! Fine-tunes an encoder, or trains a small one, as a classifier.
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
mod options;
mod rows;
mod run;
mod schedule;
mod step;
mod weights;

pub use checkpoint::CheckpointOptions;
pub use options::{Example, Freeze, Schedule, TrainOptions, TrainingData};

use std::sync::atomic::AtomicBool;

use crate::error::SlmError;
use crate::model::names::{HEAD_BIAS, HEAD_WEIGHT};
use crate::model::{Base, Model, random_matrix};
use crate::params::Array;
use crate::random::Stream;
use crate::runtime::Runtime;

/// Where a run stands, told after every step.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
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
    /// Mean cross-entropy.
    pub loss: f32,
    /// Share labelled right.
    pub accuracy: f32,
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
    /// Declared labels that no example has: the model will hardly ever give them.
    pub empty_labels: Vec<String>,
    /// Numbers in the model.
    pub parameters: usize,
    /// Seconds for all steps, sessions included.
    pub seconds: f64,
}

/// Trains a classifier.
///
/// # Errors
/// Before the first step: [`SlmError::Option`], [`SlmError::Labels`], [`SlmError::UnknownLabel`],
/// [`SlmError::Weight`], [`SlmError::NoExamples`], [`SlmError::OneClass`], and those of reading the
/// base. Later: [`SlmError::Diverged`], [`SlmError::Cancelled`], [`SlmError::Runtime`].
pub fn train(
    runtime: &Runtime,
    base: &Base,
    data: &TrainingData<'_>,
    options: &TrainOptions,
    hooks: Hooks<'_>,
) -> Result<(Model, Summary), SlmError> {
    options.check()?;
    let targets = options::targets(data.labels, data.examples)?;
    options::targets(data.labels, data.validation)?;
    options::check_classes(data.labels, data.examples, &targets)?;
    let texts = data.examples.iter().map(|example| example.text.as_str());
    let mut model = Model::from_base(base, texts, options.seed)?;
    add_head(&mut model, data.labels, options.seed);
    run::run(runtime, model, data, options, hooks)
}

/// A fresh head, unless the model has one for exactly these labels: then training goes on from it.
fn add_head(model: &mut Model, labels: &[String], seed: u64) {
    if model.labels == labels {
        return;
    }
    let shape = [labels.len(), model.config.hidden];
    let weight = random_matrix(&shape, 0.02, Stream::new(seed, HEAD_STREAM));
    model.weights.insert(HEAD_WEIGHT, weight);
    model
        .weights
        .insert(HEAD_BIAS, Array::filled(&[labels.len()], 0.0));
    model.labels = labels.to_vec();
}

/// Stream number of the head's random weights; see [`Stream`].
const HEAD_STREAM: u64 = 1 << 41;
