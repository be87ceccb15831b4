//! The loop: epochs of batches, validation, checkpoints, the best weights kept.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::adamw;
use super::batches::{self, Batch};
use super::checkpoint::{Best, Checkpoint, Fingerprint, Place};
use super::device::DeviceWeights;
use super::loss::Weighing;
use super::options::{TrainOptions, TrainingData};
use super::rows::{self, Filling, Row, Rows};
use super::schedule;
use super::step::{Step, StepShape};
use super::targets::Known;
use super::weights::Weights;
use super::{Hooks, Progress, Summary, Validation};
use crate::error::SlmError;
use crate::model::heads::{self, Head, Task};
use crate::model::{Model, lora, names};
use crate::params::Parameters;
use crate::random::Stream;
use crate::runtime::{Device, Runtime};

/// First stream number of dropout masks; see [`Stream`].
const DROPOUT: u64 = 1 << 42;

/// Tokens that run at once: bounds the memory of a session whatever the batch and the texts are.
const TOKENS_AT_ONCE: usize = 8192;

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
                self.write_checkpoint(at, best.as_ref(), fingerprint)?;
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
            Some(options) if place.step.is_multiple_of(options.every_steps) => {
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
            _ => Ok(()),
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

    /// One optimizer step; returns the loss of the batch.
    fn step(&mut self, batch: &Batch, rate: Rate) -> Result<f32, SlmError> {
        let length_max = self.model.tokens.length_max();
        let size = self.rows_at_once(batch.length);
        let parts = batches::in_order(&batch.rows, &self.lengths, size, length_max);
        let scale = 1.0 / (batch.rows.len() as f32 * rate.mean_weight);
        let mut masks = Stream::new(self.options.seed, DROPOUT + rate.step as u64);
        let diverged = |loss| SlmError::Diverged {
            step: rate.step,
            learning_rate: rate.learning_rate,
            loss,
        };
        if self.device.is_some() {
            let loss = self.step_on_device(batch, rate, scale, &mut masks)?;
            return loss.map_err(diverged);
        }
        let mut loss = 0.0;
        let mut sums = Vec::new();
        self.weights.clear_rows();
        for part in &parts {
            let filling = self.filling(
                part.length,
                scale,
                self.options.label_smoothing,
                &self.rows.factors,
            );
            let inputs = rows::fill(&self.rows.train, part, filling);
            if !self.sessions.contains_key(&part.length) {
                let session = self.open(part.length, true)?;
                self.sessions.insert(part.length, session);
            }
            let session = self.sessions.get_mut(&part.length).expect("opened above");
            loss += session.run(&inputs, self.options.dropout, &mut masks)?;
            if !loss.is_finite() {
                return Err(diverged(loss));
            }
            self.weights.add_rows(session);
            if parts.len() > 1 {
                self.weights.add_gradients(&mut sums);
            }
        }
        self.weights.set_gradients(&sums);
        let (weights, options) = (&mut self.weights, self.options);
        self.pool.install(|| {
            let norm = weights.gradient_norm();
            if !norm.is_finite() {
                return Err(diverged(norm));
            }
            let clip = (options.clip_norm / norm.max(f32::MIN_POSITIVE)).min(1.0);
            let step = adamw::Step::new(rate.step, rate.learning_rate, clip);
            weights.update(step, options.weight_decay);
            Ok(loss)
        })
    }

    /// The same with the optimizer on the device; the inner error is a loss or norm that is none.
    fn step_on_device(
        &mut self,
        batch: &Batch,
        rate: Rate,
        scale: f32,
        masks: &mut Stream,
    ) -> Result<Result<f32, f32>, SlmError> {
        let smoothing = self.options.label_smoothing;
        let filling = self.filling(batch.length, scale, smoothing, &self.rows.factors);
        let inputs = rows::fill(&self.rows.train, batch, filling);
        let heads = self.model.heads.clone();
        let shape = self.shape(&heads, batch.length, true);
        let step = adamw::Step::new(rate.step, rate.learning_rate, 1.0);
        let scalars = step.scalars(self.options.weight_decay);
        let device = self.device.as_mut().expect("the caller asked");
        let outcome = device.step(&self.model.config, &shape, &inputs, scalars, masks)?;
        Ok(match (outcome.loss.is_finite(), outcome.norm.is_finite()) {
            (true, true) => Ok(outcome.loss),
            (false, _) => Err(outcome.loss),
            (true, false) => Err(outcome.norm),
        })
    }

    /// Rows of the session for `length` tokens.
    fn rows_at_once(&self, length: usize) -> usize {
        let batch = self.options.batch;
        if self.device.is_some() {
            return batch;
        }
        let wanted = self.options.micro_batch.map_or(batch, |m| m.min(batch));
        wanted.min(TOKENS_AT_ONCE / length).max(1)
    }

    fn filling<'f>(
        &'f self,
        length: usize,
        scale: f32,
        smoothing: f32,
        factors: &'f [f32],
    ) -> Filling<'f> {
        Filling {
            size: self.rows_at_once(length),
            heads: &self.model.heads,
            pad: self.model.tokens.pad(),
            weighing: Weighing {
                scale,
                smoothing,
                factors,
            },
        }
    }

    fn open(&mut self, length: usize, backward: bool) -> Result<Step, SlmError> {
        let heads = self.model.heads.clone();
        let shape = self.shape(&heads, length, backward);
        let (config, options) = (&self.model.config, self.options);
        Step::open(self.runtime, config, &shape, &mut self.weights, options)
    }

    fn shape<'h>(&self, heads: &'h [Head], length: usize, backward: bool) -> StepShape<'h> {
        StepShape {
            batch: self.rows_at_once(length),
            length,
            heads,
            dropout: self.options.dropout,
            lora: self
                .options
                .lora
                .map(|lora| (lora, self.options.freeze.layers())),
            backward,
        }
    }

    /// Validates the weights as they stand, and keeps them if they are the best.
    fn validate(
        &mut self,
        epoch: usize,
        best: &mut Option<Best>,
    ) -> Result<Option<Validation>, SlmError> {
        if self.rows.validation.is_empty() {
            return Ok(None);
        }
        let validation = self.score()?;
        let better = best
            .as_ref()
            .is_none_or(|best| validation.loss < best.validation.loss);
        if better {
            *best = Some(Best {
                epoch,
                validation,
                weights: self.snapshot()?,
            });
        }
        Ok(Some(validation))
    }

    fn score(&mut self) -> Result<Validation, SlmError> {
        let held: &[Row] = &self.rows.validation;
        let lengths: Vec<usize> = held.iter().map(|row| row.ids.len()).collect();
        let weight: f64 = held.iter().map(|row| f64::from(row.weight)).sum();
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        order.sort_by_key(|&row| lengths[row]);
        let (outputs, length_max) = (self.model.outputs(), self.model.tokens.length_max());
        let even = vec![1.0; outputs];
        let (mut loss, mut right, mut decisions) = (0.0f64, 0usize, 0usize);
        let longest = lengths.iter().copied().max().unwrap_or(1);
        let size = self.rows_at_once(longest.min(length_max));
        for batch in batches::in_order(&order, &lengths, size, length_max) {
            let filling = self.filling(batch.length, 1.0, 0.0, &even);
            let inputs = rows::fill(&self.rows.validation, &batch, filling);
            let heads = self.model.heads.clone();
            let shape = self.shape(&heads, batch.length, false);
            if let Some(device) = &mut self.device {
                let (part, logits) = device.score(&self.model.config, &shape, &inputs)?;
                loss += f64::from(part);
                let logits = logits.to_vec();
                let found = self.decided(&batch, &logits);
                right += found.0;
                decisions += found.1;
                continue;
            }
            if !self.checks.contains_key(&batch.length) {
                let session = self.open(batch.length, false)?;
                self.checks.insert(batch.length, session);
            }
            let session = self.checks.get_mut(&batch.length).expect("opened above");
            loss += f64::from(session.run(&inputs, 0.0, &mut Stream::new(0, 0))?);
            let logits = session.logits().to_vec();
            let found = self.decided(&batch, &logits);
            right += found.0;
            decisions += found.1;
        }
        Ok(Validation {
            loss: (loss / weight.max(f64::MIN_POSITIVE)) as f32,
            accuracy: (decisions > 0).then(|| right as f32 / decisions as f32),
        })
    }
}

impl Trainer<'_> {
    /// How many decisions about a validation batch are right, of how many.
    fn decided(&self, batch: &Batch, logits: &[f32]) -> (usize, usize) {
        let ranges = heads::ranges(&self.model.heads);
        let rows = batch
            .rows
            .iter()
            .zip(logits.chunks_exact(self.model.outputs()));
        rows.fold((0, 0), |(right, decisions), (row, logits)| {
            let row = &self.rows.validation[*row];
            let own = ranges[row.head].clone();
            let head = &self.model.heads[row.head];
            let found = judge(head, own.start, &logits[own], &row.known);
            (right + found.0, decisions + found.1)
        })
    }
}

/// How many of a head's decisions about a row are right, of how many.
fn judge(head: &Head, start: usize, logits: &[f32], known: &Known) -> (usize, usize) {
    match known {
        Known::Label(output) => {
            let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            (usize::from(logits[output - start] == best), 1)
        }
        Known::Labels(outputs) => {
            let each = logits.iter().enumerate();
            let right = each.filter(|(i, z)| (**z > 0.0) == outputs.contains(&(start + i)));
            (right.count(), head.labels.len())
        }
        Known::Numbers(_) => (0, 0),
    }
}

/// Makes the head speak in scaled numbers, which are what is trained.
fn descale(model: &mut Model, scales: &[(f32, f32)]) -> Result<(), SlmError> {
    if model.heads.iter().all(|head| head.task != Task::Number) {
        return Ok(());
    }
    let inverse: Vec<(f32, f32)> = scales
        .iter()
        .map(|(mean, deviation)| (-mean / deviation, 1.0 / deviation))
        .collect();
    rescale(&mut model.weights, &inverse)
}

/// Makes the head speak in the numbers of the examples: `deviation * (w x + b) + mean`.
fn rescale(weights: &mut Parameters, scales: &[(f32, f32)]) -> Result<(), SlmError> {
    if scales.iter().all(|scale| *scale == (0.0, 1.0)) {
        return Ok(());
    }
    let mut matrix = weights.get(names::HEAD_WEIGHT)?.clone();
    let mut bias = weights.get(names::HEAD_BIAS)?.clone();
    let width = matrix.shape[1];
    let rows = matrix.data.chunks_exact_mut(width).zip(&mut bias.data);
    for ((row, bias), (mean, deviation)) in rows.zip(scales) {
        row.iter_mut().for_each(|value| *value *= deviation);
        *bias = *bias * deviation + mean;
    }
    weights.insert(names::HEAD_WEIGHT, matrix);
    weights.insert(names::HEAD_BIAS, bias);
    Ok(())
}

/// How fast a run is, since it started or went on.
struct Clock {
    stage: (usize, usize),
    started: Instant,
    first_step: usize,
    rows: usize,
}

impl Clock {
    fn new(first_step: usize, stage: (usize, usize)) -> Self {
        Self {
            stage,
            started: Instant::now(),
            first_step,
            rows: 0,
        }
    }

    fn progress(
        &self,
        at: Place,
        epoch: usize,
        steps: usize,
        rate: Rate,
        options: &TrainOptions,
        validation: Option<Validation>,
    ) -> Progress {
        let seconds = self.started.elapsed().as_secs_f64();
        let made = (at.step - self.first_step) as f64;
        Progress {
            stage: self.stage,
            epoch,
            epochs: options.epochs,
            step: at.step,
            steps,
            loss: at.loss.unwrap_or(f32::NAN),
            learning_rate: rate.learning_rate,
            rows_per_second: self.rows as f64 / seconds,
            seconds_left: seconds / made * (steps - at.step) as f64,
            validation,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::model::{Base, Lora, ScratchConfig, Vocabulary};
    use crate::train::{CheckpointOptions, Example, Precision, add_heads};

    /// In a process of their own: one process loads one library, and the tests of `runtime` want
    /// none to be loaded.
    #[test]
    fn tests_with_the_library_pass() {
        let done = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--nocapture", "train::run::tests::"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stdout);
        println!("{said}");
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        assert!(said.contains("3 passed"), "{said}");
    }

    fn library() -> Option<Runtime> {
        const PATH: &str = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../target/noisegate/onnxruntime/libonnxruntime.so.1.32.0"
        );
        if !Path::new(PATH).exists() {
            println!("skipped: no `{PATH}`; run `cargo xtask setup`");
            return None;
        }
        Some(crate::runtime::load(Path::new(PATH)).unwrap())
    }

    fn train(runtime: &Runtime, options: &TrainOptions, in_graph: bool) -> (Model, Summary) {
        let words = ["bill", "fee", "late", "nurse", "doctor", "visit"];
        let example = |row: usize| {
            let text = (0..3 + row % 4).map(|i| words[(row * 5 + i * 3) % 6]);
            Example {
                weight: 1.0 + (row % 3) as f32,
                ..Example::labelled(text.collect::<Vec<_>>().join(" "), ["a", "b"][row % 2])
            }
        };
        let examples: Vec<Example> = (0..50).map(example).collect();
        let heads = [Head::single(["a", "b"])];
        let config = ScratchConfig {
            layers: 2,
            hidden: 32,
            heads: 2,
            intermediate: 64,
            length_max: 16,
            vocabulary: Vocabulary::Train { size: 60 },
        };
        let texts = examples.iter().map(|e| e.text.as_str());
        let mut model = Model::from_base(&Base::Scratch(config), texts, 3).unwrap();
        add_heads(&mut model, &heads, 3);
        let data = TrainingData {
            heads: &heads,
            examples: &examples,
            validation: &[],
        };
        let hooks = Hooks {
            progress: &mut |_| {},
            cancel: &AtomicBool::new(false),
        };
        run_with(runtime, model, &data, options, hooks, (1, 1), in_graph).unwrap()
    }

    fn options() -> TrainOptions {
        TrainOptions {
            epochs: 3,
            batch: 8,
            learning_rate: 1e-3,
            weight_decay: 0.1,
            clip_norm: 0.5,
            dropout: 0.1,
            validation_share: 0.2,
            threads: 1,
            ..TrainOptions::default()
        }
    }

    #[test]
    #[ignore = "loads the library: run by `tests_with_the_library_pass`"]
    fn the_optimizer_in_the_graph_is_the_optimizer_outside() {
        let Some(runtime) = library() else { return };
        for options in [
            options(),
            TrainOptions {
                lora: Some(Lora::default()),
                ..options()
            },
            TrainOptions {
                freeze: crate::train::Freeze::Layers(1),
                ..options()
            },
        ] {
            let (outside, a) = train(&runtime, &options, false);
            let (inside, b) = train(&runtime, &options, true);
            assert!((a.loss - b.loss).abs() < 1e-4, "{} vs {}", a.loss, b.loss);
            let (a, b) = (a.validation.unwrap(), b.validation.unwrap());
            assert!((a.loss - b.loss).abs() < 1e-4, "{} vs {}", a.loss, b.loss);
            for ((name, x), (_, y)) in outside.weights.iter().zip(inside.weights.iter()) {
                for (x, y) in x.data.iter().zip(&y.data) {
                    assert!((x - y).abs() < 5e-4, "{name}: {x} vs {y}");
                }
            }
        }
    }

    #[test]
    #[ignore = "loads the library: run by `tests_with_the_library_pass`"]
    fn products_of_bf16_numbers_train_almost_the_same_weights() {
        let Some(runtime) = library() else { return };
        if !crate::kernels::bf16_products() {
            println!("skipped: this machine has no AVX512-BF16");
            return;
        }
        let bf16 = TrainOptions {
            precision: Precision::Bf16,
            ..options()
        };
        let (exact, a) = train(&runtime, &options(), false);
        let (rounded, b) = train(&runtime, &bf16, false);
        assert!((a.loss - b.loss).abs() < 2e-2, "{} vs {}", a.loss, b.loss);
        assert_ne!(exact.weights, rounded.weights);
        let (again, _) = train(&runtime, &bf16, false);
        assert_eq!(rounded.weights, again.weights);
    }

    #[test]
    #[ignore = "loads the library: run by `tests_with_the_library_pass`"]
    fn a_run_with_the_optimizer_in_the_graph_goes_on_bit_for_bit() {
        let Some(runtime) = library() else { return };
        let folder = tempfile::tempdir().unwrap();
        let (whole, _) = train(&runtime, &options(), true);
        let cut = TrainOptions {
            checkpoint: Some(CheckpointOptions {
                path: folder.path().join("checkpoint"),
                every_steps: 4,
            }),
            ..options()
        };
        // The file of a run of 15 steps stands at step 12; a second run goes on from there.
        let (first, _) = train(&runtime, &cut, true);
        let (second, _) = train(&runtime, &cut, true);
        assert_eq!(whole.weights, first.weights);
        assert_eq!(whole.weights, second.weights);
    }
}
