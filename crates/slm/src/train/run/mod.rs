//! The loop: epochs of batches, validation, checkpoints, the best weights kept.
//!
//! ```text
//! steps.rs   one batch ─> loss, new weights        scales.rs  numbers as they are trained
//! validation.rs  held-out rows ─> best weights     clock.rs   speed, to be told
//! ```

mod clock;
mod scales;
mod steps;
mod validation;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::batches;
use super::checkpoint::{Best, Checkpoint, Place};
use super::device::DeviceWeights;
use super::fingerprint::Fingerprint;
use super::options::{TrainOptions, TrainingData};
use super::rows::{self, Rows};
use super::schedule;
use super::step::Step;
use super::weights::Weights;
use super::{Hooks, Summary};
use crate::error::SlmError;
use crate::model::{Model, lora};
use crate::params::Parameters;
use crate::runtime::{Device, Runtime};
use clock::Clock;
use scales::{descale, rescale};

/// Weight of the newest step in the loss that is reported.
const SMOOTHING: f32 = 0.05;

pub(super) fn run(
    runtime: &Runtime,
    model: Model,
    data: &TrainingData<'_>,
    options: &TrainOptions,
    hooks: Hooks<'_>,
    stage: (usize, usize),
) -> Result<(Model, Summary), SlmError> {
    let in_graph = options.device != Device::Cpu;
    run_with(runtime, model, data, options, hooks, stage, in_graph)
}

/// `in_graph`: the optimizer is a part of the graph, as on a card; a test asks for it on the
/// processor too.
fn run_with(
    runtime: &Runtime,
    mut model: Model,
    data: &TrainingData<'_>,
    options: &TrainOptions,
    hooks: Hooks<'_>,
    stage: (usize, usize),
    in_graph: bool,
) -> Result<(Model, Summary), SlmError> {
    let started = Instant::now();
    let length_max = options.length_max.min(model.config.length_max());
    model.tokens = model.tokens.shorter(length_max)?;
    let rows = rows::prepare(&model, data, options)?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .build()
        .map_err(|_| SlmError::Option {
            name: "threads",
            value: options.threads.to_string(),
            remedy: "so many threads cannot be started; use fewer",
        })?;
    if let Some(lora) = options.lora {
        lora::add(&mut model, lora, options.freeze.layers(), options.seed);
    }
    descale(&mut model, &rows.scales)?;
    runtime.expect_device(options.device)?;
    let device = match in_graph {
        false => None,
        true => Some(DeviceWeights::new(runtime, &model, options)?),
    };
    let weights = match &device {
        None => Weights::new(&model, options)?,
        Some(_) => Weights::default(),
    };
    let fingerprint = match &options.checkpoint {
        None => Fingerprint::default(),
        Some(_) => Fingerprint::of(&model, &rows, options),
    };
    // From here on they live in `weights`.
    model.weights = Parameters::default();
    let mut trainer = Trainer {
        runtime,
        lengths: rows.train.iter().map(|row| row.ids.len()).collect(),
        model,
        options,
        rows,
        weights,
        device,
        fingerprint,
        pool,
        stage,
        sessions: BTreeMap::new(),
        checks: BTreeMap::new(),
    };
    let (mut weights, mut summary) = trainer.train(hooks)?;
    if let Some(lora) = options.lora {
        lora::merge(&mut weights, lora)?;
    }
    rescale(&mut weights, &trainer.rows.scales)?;
    summary.cut = trainer.rows.cut;
    summary.only_unknown = trainer.rows.only_unknown;
    summary.empty_labels = std::mem::take(&mut trainer.rows.empty_labels);
    let mut model = trainer.model;
    model.weights = weights;
    summary.parameters = model.parameter_count();
    summary.seconds = started.elapsed().as_secs_f64();
    Ok((model, summary))
}

struct Trainer<'t> {
    runtime: &'t Runtime,
    model: Model,
    options: &'t TrainOptions,
    rows: Rows,
    /// Tokens of each training row.
    lengths: Vec<usize>,
    weights: Weights,
    /// The weights of a run on a device; `weights` is empty then.
    device: Option<DeviceWeights>,
    /// What a checkpoint must have been made with.
    fingerprint: Fingerprint,
    pool: rayon::ThreadPool,
    /// Which of how many, to be told.
    stage: (usize, usize),
    /// Training sessions by length.
    sessions: BTreeMap<usize, Step>,
    /// Validation sessions by length.
    checks: BTreeMap<usize, Step>,
}

/// The figures of one optimizer step.
#[derive(Clone, Copy)]
struct Rate {
    step: usize,
    learning_rate: f32,
    mean_weight: f32,
}

impl Trainer<'_> {
    fn train(&mut self, hooks: Hooks<'_>) -> Result<(Parameters, Summary), SlmError> {
        let options = self.options;
        let per_epoch = self.rows.train.len().div_ceil(options.batch);
        let planned = per_epoch * options.epochs;
        let steps = options.steps_max.map_or(planned, |max| max.min(planned));
        let fingerprint = self.fingerprint;
        let (mut at, mut best) = self.resume(fingerprint)?;
        let mut clock = Clock::new(at.step, self.stage);
        while at.step < steps && !self.out_of_patience(at, best.as_ref()) {
            let length_max = self.model.tokens.length_max();
            let plan = batches::epoch(
                &self.lengths,
                options.batch,
                length_max,
                options.seed,
                at.epoch,
            );
            while at.done < plan.len() && at.step < steps {
                let batch = &plan[at.done];
                let rate = self.rate(at.step + 1, steps);
                if hooks.cancel.load(Ordering::Relaxed) {
                    self.write_checkpoint(at, best.as_ref(), fingerprint)?;
                    return Err(SlmError::Cancelled { step: rate.step });
                }
                let loss = self.step(batch, rate)?;
                clock.rows += batch.rows.len();
                at.step += 1;
                at.done += 1;
                at.loss = Some(at.loss.map_or(loss, |old| old + SMOOTHING * (loss - old)));
                let epoch = at.epoch + 1;
                let mut validation = None;
                if at.done == plan.len() || at.step == steps {
                    validation = self.validate(epoch, &mut best)?;
                    (at.epoch, at.done) = (epoch, 0);
                }
                (hooks.progress)(&clock.progress(at, epoch, steps, rate, options, validation));
                if options
                    .checkpoint
                    .as_ref()
                    .is_some_and(|it| at.step.is_multiple_of(it.every_steps))
                {
                    self.write_checkpoint(at, best.as_ref(), fingerprint)?;
                }
                if at.done == 0 {
                    break;
                }
            }
        }
        let summary = Summary {
            steps: at.step,
            epochs: at.epoch,
            loss: at.loss.unwrap_or(f32::NAN),
            validation: best.as_ref().map(|best| best.validation),
            kept_epoch: best.as_ref().map_or(at.epoch, |best| best.epoch),
            examples: self.rows.train.len(),
            cut: 0,
            only_unknown: 0,
            empty_labels: Vec::new(),
            parameters: 0,
            seconds: 0.0,
        };
        let weights = match best {
            Some(best) => best.weights,
            None => self.snapshot()?,
        };
        Ok((weights, summary))
    }

    fn resume(&mut self, fingerprint: Fingerprint) -> Result<(Place, Option<Best>), SlmError> {
        let Some(options) = &self.options.checkpoint else {
            return Ok((Place::default(), None));
        };
        match Checkpoint::read(&options.path, fingerprint)? {
            None => Ok((Place::default(), None)),
            Some(checkpoint) => {
                match &mut self.device {
                    None => self.weights.restore(&checkpoint.state)?,
                    Some(device) => device.restore(&checkpoint.state)?,
                }
                Ok((checkpoint.place, checkpoint.best))
            }
        }
    }

    fn snapshot(&mut self) -> Result<Parameters, SlmError> {
        match &mut self.device {
            None => Ok(self.weights.snapshot()),
            Some(device) => device.snapshot(),
        }
    }

    fn write_checkpoint(
        &mut self,
        place: Place,
        best: Option<&Best>,
        fingerprint: Fingerprint,
    ) -> Result<(), SlmError> {
        match &self.options.checkpoint {
            Some(options) => {
                let checkpoint = Checkpoint {
                    place,
                    state: match &mut self.device {
                        None => self.weights.state(),
                        Some(device) => device.state()?,
                    },
                    best: best.cloned(),
                };
                checkpoint.write(&options.path, fingerprint)
            }
            None => Ok(()),
        }
    }

    fn out_of_patience(&self, at: Place, best: Option<&Best>) -> bool {
        match (best, self.options.patience) {
            (Some(best), Some(patience)) => at.epoch >= best.epoch + patience,
            _ => false,
        }
    }

    fn rate(&self, step: usize, steps: usize) -> Rate {
        let warmup = (steps as f32 * self.options.warmup_share) as usize;
        let factor = schedule::factor(self.options.schedule, step, steps, warmup);
        let total: f64 = self.rows.train.iter().map(|r| f64::from(r.weight)).sum();
        Rate {
            step,
            learning_rate: self.options.learning_rate * factor,
            mean_weight: (total / self.rows.train.len() as f64) as f32,
        }
    }
}

#[cfg(test)]
mod tests;
