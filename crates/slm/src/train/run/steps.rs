//! One optimizer step, on the processor or with the optimizer in the graph.

use super::{Rate, Trainer};
use crate::error::SlmError;
use crate::model::heads::Head;
use crate::random::Stream;
use crate::train::adamw;
use crate::train::batches::{self, Batch};
use crate::train::loss::Weighing;
use crate::train::rows::{self, Filling};
use crate::train::step::{Step, StepShape};

/// First stream number of dropout masks; see [`Stream`].
const DROPOUT: u64 = 1 << 42;

/// Tokens that run at once, if more than one row does: bounds the memory of a session whatever the
/// batch is, down to one row of the longest length.
const TOKENS_AT_ONCE: usize = 8192;

impl Trainer<'_> {
    /// One optimizer step; returns the loss of the batch.
    pub(super) fn step(&mut self, batch: &Batch, rate: Rate) -> Result<f32, SlmError> {
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
    pub(super) fn rows_at_once(&self, length: usize) -> usize {
        let batch = self.options.batch;
        if self.device.is_some() {
            return batch;
        }
        let wanted = self.options.micro_batch.map_or(batch, |m| m.min(batch));
        wanted.min(TOKENS_AT_ONCE / length).max(1)
    }

    pub(super) fn filling<'f>(
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

    pub(super) fn open(&mut self, length: usize, backward: bool) -> Result<Step, SlmError> {
        let heads = self.model.heads.clone();
        let shape = self.shape(&heads, length, backward);
        let (config, options) = (&self.model.config, self.options);
        Step::open(self.runtime, config, &shape, &mut self.weights, options)
    }

    pub(super) fn shape<'h>(
        &self,
        heads: &'h [Head],
        length: usize,
        backward: bool,
    ) -> StepShape<'h> {
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
}
