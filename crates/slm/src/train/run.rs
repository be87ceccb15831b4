//! The loop: epochs of batches, validation, the best weights kept.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::adamw;
use super::batches::{self, Batch};
use super::options::{self, TrainOptions, TrainingData};
use super::schedule;
use super::step::{Inputs, Step, StepShape};
use super::weights::Weights;
use super::{Hooks, Progress, Summary, Validation};
use crate::error::SlmError;
use crate::model::Model;
use crate::params::Parameters;
use crate::random::Stream;
use crate::runtime::Runtime;

/// First stream number of dropout masks and the stream of the validation split; see [`Stream`].
const DROPOUT: u64 = 1 << 42;
const SPLIT: u64 = 1 << 43;

/// Weight of the newest step in the loss that is reported.
const SMOOTHING: f32 = 0.05;

/// An example ready for the graph.
struct Row {
    ids: Vec<u32>,
    target: usize,
    weight: f32,
}

pub(super) fn run(
    runtime: &Runtime,
    model: Model,
    data: &TrainingData<'_>,
    options: &TrainOptions,
    hooks: Hooks<'_>,
) -> Result<(Model, Summary), SlmError> {
    let started = Instant::now();
    let length_max = options.length_max.min(model.config.length_max());
    let mut notes = Notes::default();
    let mut rows = encode(&model, data, data.examples, length_max, &mut notes)?;
    let mut validation = encode(&model, data, data.validation, length_max, &mut notes)?;
    if validation.is_empty() && options.validation_share > 0.0 {
        validation = split(&mut rows, options);
    }
    if options.balance_labels {
        balance(&mut rows, data.labels.len());
    }
    let weights = Weights::new(&model, options.freeze)?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .build()
        .map_err(|_| SlmError::Option {
            name: "threads",
            value: options.threads.to_string(),
            remedy: "so many threads cannot be started; use fewer",
        })?;
    let mut trainer = Trainer {
        runtime,
        model,
        options,
        length_max,
        rows,
        validation,
        weights,
        pool,
        sessions: BTreeMap::new(),
        checks: BTreeMap::new(),
    };
    let (weights, mut summary) = trainer.epochs(hooks)?;
    let mut model = trainer.model;
    model.weights = weights;
    summary.cut = notes.cut;
    summary.only_unknown = notes.only_unknown;
    summary.parameters = model.parameter_count();
    summary.seconds = started.elapsed().as_secs_f64();
    Ok((model, summary))
}

#[derive(Default)]
struct Notes {
    cut: usize,
    only_unknown: usize,
}

fn encode(
    model: &Model,
    data: &TrainingData<'_>,
    examples: &[options::Example],
    length_max: usize,
    notes: &mut Notes,
) -> Result<Vec<Row>, SlmError> {
    let targets = options::targets(data.labels, examples)?;
    let texts: Vec<&str> = examples.iter().map(|e| e.text.as_str()).collect();
    let encoded = model.tokens.shorter(length_max)?.encode(&texts)?;
    notes.cut += encoded.iter().filter(|e| e.cut).count();
    notes.only_unknown += encoded.iter().filter(|e| e.only_unknown).count();
    let row =
        |((encoded, target), example): ((crate::tokens::Encoded, usize), &options::Example)| Row {
            ids: encoded.ids,
            target,
            weight: example.weight,
        };
    Ok(encoded
        .into_iter()
        .zip(targets)
        .zip(examples)
        .map(row)
        .collect())
}

/// Takes the validation share out of `rows`.
fn split(rows: &mut Vec<Row>, options: &TrainOptions) -> Vec<Row> {
    let count = (rows.len() as f32 * options.validation_share) as usize;
    let order = Stream::new(options.seed, SPLIT).shuffled(rows.len());
    let mut held: Vec<bool> = vec![false; rows.len()];
    for &row in &order[..count] {
        held[row] = true;
    }
    let mut held = held.into_iter();
    rows.extract_if(.., |_| held.next().unwrap_or(false))
        .collect()
}

/// Scales weights so that each label that occurs has the same total.
fn balance(rows: &mut [Row], labels: usize) {
    let mut totals = vec![0.0f64; labels];
    for row in rows.iter() {
        totals[row.target] += f64::from(row.weight);
    }
    let used = totals.iter().filter(|t| **t > 0.0).count() as f64;
    let all: f64 = totals.iter().sum();
    for row in rows {
        let total = totals[row.target];
        if total > 0.0 {
            row.weight = (f64::from(row.weight) * all / (used * total)) as f32;
        }
    }
}

struct Trainer<'t> {
    runtime: &'t Runtime,
    model: Model,
    options: &'t TrainOptions,
    length_max: usize,
    rows: Vec<Row>,
    validation: Vec<Row>,
    weights: Weights,
    pool: rayon::ThreadPool,
    /// Training sessions by length.
    sessions: BTreeMap<usize, Step>,
    /// Validation sessions by length.
    checks: BTreeMap<usize, Step>,
}

/// The best weights so far.
struct Best {
    epoch: usize,
    validation: Validation,
    weights: Parameters,
}

impl Trainer<'_> {
    fn epochs(&mut self, hooks: Hooks<'_>) -> Result<(Parameters, Summary), SlmError> {
        let options = self.options;
        let per_epoch = self.rows.len().div_ceil(options.batch);
        let planned = per_epoch * options.epochs;
        let steps = options.steps_max.map_or(planned, |max| max.min(planned));
        let warmup = (steps as f32 * options.warmup_share) as usize;
        let total: f64 = self.rows.iter().map(|row| f64::from(row.weight)).sum();
        let mean_weight = (total / self.rows.len() as f64) as f32;
        let lengths: Vec<usize> = self.rows.iter().map(|row| row.ids.len()).collect();
        let (mut step, mut seen, mut epoch) = (0, 0, 0);
        let mut loss = f32::NAN;
        let mut best: Option<Best> = None;
        let started = Instant::now();
        while step < steps {
            let plan = batches::epoch(
                &lengths,
                options.batch,
                self.length_max,
                options.seed,
                epoch,
            );
            epoch += 1;
            for (index, batch) in plan.iter().enumerate() {
                step += 1;
                if hooks.cancel.load(Ordering::Relaxed) {
                    return Err(SlmError::Cancelled { step });
                }
                let factor = schedule::factor(options.schedule, step, steps, warmup);
                let rate = options.learning_rate * factor;
                let now = self.step(batch, step, rate, mean_weight)?;
                loss = match loss.is_nan() {
                    true => now,
                    false => loss + SMOOTHING * (now - loss),
                };
                seen += batch.rows.len();
                let last = index + 1 == plan.len() || step == steps;
                let mut validation = None;
                if last && !self.validation.is_empty() {
                    let found = self.validate()?;
                    validation = Some(found);
                    if best.as_ref().is_none_or(|b| found.loss < b.validation.loss) {
                        best = Some(Best {
                            epoch,
                            validation: found,
                            weights: self.weights.snapshot(),
                        });
                    }
                }
                let seconds = started.elapsed().as_secs_f64();
                (hooks.progress)(&Progress {
                    epoch,
                    epochs: options.epochs,
                    step,
                    steps,
                    loss,
                    learning_rate: rate,
                    rows_per_second: seen as f64 / seconds,
                    seconds_left: seconds / step as f64 * (steps - step) as f64,
                    validation,
                });
                if step == steps {
                    break;
                }
            }
            if let (Some(best), Some(patience)) = (&best, options.patience)
                && epoch - best.epoch >= patience
            {
                break;
            }
        }
        let mut summary = Summary {
            steps: step,
            epochs: epoch,
            loss,
            validation: None,
            kept_epoch: epoch,
            examples: self.rows.len(),
            cut: 0,
            only_unknown: 0,
            parameters: 0,
            seconds: 0.0,
        };
        let weights = match best {
            Some(best) => {
                summary.validation = Some(best.validation);
                summary.kept_epoch = best.epoch;
                best.weights
            }
            None => self.weights.snapshot(),
        };
        Ok((weights, summary))
    }

    /// One optimizer step; returns the loss of the batch.
    fn step(
        &mut self,
        batch: &Batch,
        number: usize,
        rate: f32,
        mean_weight: f32,
    ) -> Result<f32, SlmError> {
        let scale = 1.0 / (batch.rows.len() as f32 * mean_weight);
        let inputs = self.inputs(&self.rows, batch, scale, self.options.label_smoothing);
        if !self.sessions.contains_key(&batch.length) {
            let session = self.open(batch.length, true)?;
            self.sessions.insert(batch.length, session);
        }
        let session = self.sessions.get_mut(&batch.length).expect("opened above");
        let mut masks = Stream::new(self.options.seed, DROPOUT + number as u64);
        let loss = session.run(&inputs, self.options.dropout, &mut masks)?;
        let diverged = |loss| SlmError::Diverged {
            step: number,
            learning_rate: rate,
            loss,
        };
        if !loss.is_finite() {
            return Err(diverged(loss));
        }
        self.weights.collect_rows(session);
        let weights = &mut self.weights;
        let options = self.options;
        self.pool.install(|| {
            let norm = weights.gradient_norm();
            if !norm.is_finite() {
                return Err(diverged(norm));
            }
            let clip = (options.clip_norm / norm.max(f32::MIN_POSITIVE)).min(1.0);
            weights.update(adamw::Step::new(number, rate, clip), options.weight_decay);
            Ok(loss)
        })
    }

    fn open(&mut self, length: usize, backward: bool) -> Result<Step, SlmError> {
        let shape = StepShape {
            batch: self.options.batch,
            length,
            labels: self.model.labels.len(),
            dropout: self.options.dropout,
            backward,
        };
        Step::open(
            self.runtime,
            &self.model.config,
            &shape,
            &mut self.weights,
            self.options.threads,
        )
    }

    fn validate(&mut self) -> Result<Validation, SlmError> {
        let lengths: Vec<usize> = self.validation.iter().map(|row| row.ids.len()).collect();
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        order.sort_by_key(|&row| lengths[row]);
        let labels = self.model.labels.len();
        let (mut loss, mut right) = (0.0f64, 0usize);
        for batch in batches::in_order(&order, &lengths, self.options.batch, self.length_max) {
            let inputs = self.inputs(&self.validation, &batch, 1.0, 0.0);
            if !self.checks.contains_key(&batch.length) {
                let session = self.open(batch.length, false)?;
                self.checks.insert(batch.length, session);
            }
            let session = self.checks.get_mut(&batch.length).expect("opened above");
            loss += f64::from(session.run(&inputs, 0.0, &mut Stream::new(0, 0))?);
            let logits = session.logits().chunks_exact(labels);
            for (row, logits) in batch.rows.iter().zip(logits) {
                let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                right += usize::from(logits[self.validation[*row].target] == best);
            }
        }
        let weight: f64 = self
            .validation
            .iter()
            .map(|row| f64::from(row.weight))
            .sum();
        Ok(Validation {
            loss: (loss / weight.max(f64::MIN_POSITIVE)) as f32,
            accuracy: right as f32 / self.validation.len() as f32,
        })
    }

    /// Pads a batch to its session's shape; each row's targets sum to `scale` times its weight.
    fn inputs(&self, rows: &[Row], batch: &Batch, scale: f32, smoothing: f32) -> Inputs {
        let (size, labels) = (self.options.batch, self.model.labels.len());
        let pad = i64::from(self.model.tokens.pad());
        let mut inputs = Inputs {
            ids: vec![pad; size * batch.length],
            mask: vec![0; size * batch.length],
            targets: vec![0.0; size * labels],
        };
        for (at, &row) in batch.rows.iter().enumerate() {
            let row = &rows[row];
            for (column, &id) in row.ids.iter().take(batch.length).enumerate() {
                inputs.ids[at * batch.length + column] = i64::from(id);
                inputs.mask[at * batch.length + column] = 1;
            }
            let weight = row.weight * scale;
            let targets = &mut inputs.targets[at * labels..][..labels];
            targets.fill(weight * smoothing / labels as f32);
            targets[row.target] += weight * (1.0 - smoothing);
        }
        inputs
    }
}
