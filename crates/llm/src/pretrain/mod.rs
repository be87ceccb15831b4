//! Pretraining: a small Llama-style decoder from plain text.
//!
//! ```text
//! documents ─ tokenizer ─> corpus ─ dealer ─> step (loss, gradients) ─> optimizer ─> weights
//!                                              └ schedule, budget       checkpoints ┘
//! ```
//! Start reading at [`pretrain`]. The time is passed in as a clock, so a run bounded by tokens
//! is a function of its inputs.
//!
//! Deliberately absent: reading corpora from files (the caller hands over documents), more than
//! one device, downstream fine-tuning.

mod attention;
mod cells;
mod checkpoint;
mod corpus;
mod evaluate;
pub(crate) mod init;
pub(crate) mod kernels;
mod optimizer;
mod reference;
mod schedule;
mod step;

use std::path::Path;
use std::sync::atomic::AtomicBool;

pub use checkpoint::{Counters, TRAINING_FILE, export};
pub(crate) use corpus::shuffle;
pub use corpus::{Document, Source};
pub use evaluate::{Evaluation, bits_per_byte};
pub use optimizer::OptimizerOptions;
pub use schedule::{Budget, Schedule};

use self::corpus::Dealer;
pub(crate) use self::optimizer::Optimizer;
use self::reference::ReferenceStep;
use self::step::FusedStep;
use crate::config::LlamaConfig;
use crate::error::{Error, Result};
use crate::progress::{Progress, stop_if_cancelled};
use crate::tokenizer::TextTokenizer;
use crate::weights::LlamaWeights;

/// Options of a run.
#[derive(Debug, Clone)]
pub struct PretrainOptions {
    /// Sizes of the model; its context is the training window.
    pub model: LlamaConfig,
    /// Windows per step.
    pub batch_windows: usize,
    /// When to end.
    pub budget: Budget,
    /// Learning rate over the run.
    pub schedule: Schedule,
    /// Learning rates and clipping.
    pub optimizer: OptimizerOptions,
    /// Decides first weights and order of the text.
    pub seed: u64,
    /// Seconds between checkpoints.
    pub checkpoint_seconds: f64,
    /// Steps between progress reports.
    pub report_steps: u64,
    /// Where the steps run; the fused kernels serve the CPU, candle's autograd the rest.
    pub device: candle_core::Device,
}

/// Trains until the budget is used, from the last checkpoint in `folder` if there is one.
///
/// Writes the folder described in `checkpoint.rs`, last when the budget is used or the caller
/// cancels. `clock` returns seconds from any fixed moment.
///
/// # Errors
/// [`Error::Option`], [`Error::VocabularyMismatch`], [`Error::CorpusTooSmall`], [`Error::Io`],
/// [`Error::Diverged`], and [`Error::Cancelled`] after the checkpoint is written.
pub fn pretrain(
    options: &PretrainOptions,
    tokenizer: &TextTokenizer,
    sources: &[Source],
    folder: &Path,
    clock: &dyn Fn() -> f64,
    progress: &mut dyn FnMut(Progress),
    cancel: &AtomicBool,
) -> Result<(LlamaWeights, Counters)> {
    check(options, tokenizer)?;
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let config = &options.model;
    let window = config.max_position_embeddings;
    let stepper = Stepper::new(config, window, &options.device)?;
    let mut optimizer = Optimizer::new(config, options.optimizer);
    let mut dealer = Dealer::new(sources, window, options.seed)?;
    let (mut weights, mut counters) = match checkpoint::resume(folder, config, &mut optimizer)? {
        Some(resumed) => resumed,
        None => (
            init::fresh_weights(config, options.seed)?,
            Counters::default(),
        ),
    };
    dealer.skip(counters.windows);
    let started = clock() - counters.seconds;
    let mut saved_at = counters.seconds;
    let save = |weights: &LlamaWeights, optimizer: &Optimizer, counters: &Counters| {
        export(folder, config, tokenizer, weights)?;
        checkpoint::save(folder, config, weights, optimizer, counters)
    };
    let mut pace = Pace {
        tokens: counters.tokens,
        seconds: counters.seconds,
    };
    loop {
        let used = options.budget.used(counters.tokens, counters.seconds);
        if used >= 1.0 {
            break;
        }
        if let Err(cancelled) = stop_if_cancelled(cancel) {
            save(&weights, &optimizer, &counters)?;
            return Err(cancelled);
        }
        let (inputs, targets) = dealer.batch(options.batch_windows);
        let result = stepper.run(&weights, &inputs, &targets)?;
        let rate = options.schedule.rate(counters.steps, used);
        let (updated, norm) = optimizer.update(&weights, &result.gradients, rate)?;
        for (what, value) in [("loss", result.loss), ("gradient norm", norm)] {
            if !value.is_finite() {
                return Err(Error::Diverged {
                    step: counters.steps,
                    what,
                });
            }
        }
        weights = updated;
        counters.loss = match counters.steps {
            0 => result.loss,
            _ => 0.98 * counters.loss + 0.02 * result.loss,
        };
        counters.steps += 1;
        counters.windows += options.batch_windows as u64;
        counters.tokens += targets.len() as u64;
        counters.seconds = clock() - started;
        if counters.steps.is_multiple_of(options.report_steps.max(1)) {
            progress(pace.report(options, &counters, norm, rate));
        }
        if counters.seconds - saved_at >= options.checkpoint_seconds {
            save(&weights, &optimizer, &counters)?;
            saved_at = counters.seconds;
        }
    }
    save(&weights, &optimizer, &counters)?;
    Ok((weights, counters))
}

fn check(options: &PretrainOptions, tokenizer: &TextTokenizer) -> Result<()> {
    options.model.validate()?;
    if options.batch_windows == 0 {
        return Err(Error::Option {
            option: "batch_windows",
            value: "0".to_owned(),
            remedy: "it must be at least 1",
        });
    }
    if options.budget.tokens_max.is_none() && options.budget.seconds_max.is_none() {
        return Err(Error::Option {
            option: "budget",
            value: "empty".to_owned(),
            remedy: "set `tokens_max` or `seconds_max`, or the run would never end",
        });
    }
    if tokenizer.vocab_size() > options.model.vocab_size {
        return Err(Error::VocabularyMismatch {
            tokenizer: tokenizer.vocab_size(),
            model: options.model.vocab_size,
        });
    }
    Ok(())
}

/// The fused step on CPU, candle's autograd elsewhere.
pub(crate) enum Stepper {
    Fused(Box<FusedStep>),
    Reference(Box<ReferenceStep>, candle_core::Device),
}

impl Stepper {
    pub(crate) fn new(
        config: &LlamaConfig,
        window: usize,
        device: &candle_core::Device,
    ) -> Result<Self> {
        if device.is_cpu() {
            return Ok(Self::Fused(Box::new(FusedStep::new(config, window))));
        }
        let reference = ReferenceStep::new(config, window, device)?;
        Ok(Self::Reference(Box::new(reference), device.clone()))
    }

    /// Weights and gradients live on the CPU; a device step carries both across.
    pub(crate) fn run(
        &self,
        weights: &LlamaWeights,
        inputs: &[u32],
        targets: &[u32],
    ) -> candle_core::Result<step::LossAndGradients> {
        match self {
            Self::Fused(fused) => fused.run(weights, inputs, targets),
            Self::Reference(reference, device) => {
                let there = carry(weights, device)?;
                let mut result = reference.run(&there, inputs, targets)?;
                result.gradients = carry(&result.gradients, &candle_core::Device::Cpu)?;
                Ok(result)
            }
        }
    }
}

/// Copies all tensors to a device.
pub(crate) fn carry(
    weights: &LlamaWeights,
    device: &candle_core::Device,
) -> candle_core::Result<LlamaWeights> {
    let tensors = weights
        .list()
        .into_iter()
        .map(|t| t.to_device(device)?.contiguous());
    Ok(LlamaWeights::from_list(
        weights.layers.len(),
        tensors.collect::<Result<_, _>>()?,
    ))
}

/// Speed since the last report.
struct Pace {
    tokens: u64,
    seconds: f64,
}

impl Pace {
    fn report(
        &mut self,
        options: &PretrainOptions,
        counters: &Counters,
        norm: f64,
        rate: f64,
    ) -> Progress {
        let speed =
            (counters.tokens - self.tokens) as f64 / (counters.seconds - self.seconds).max(1e-9);
        *self = Self {
            tokens: counters.tokens,
            seconds: counters.seconds,
        };
        let used = options.budget.used(counters.tokens, counters.seconds);
        let left = counters.seconds / used.max(1e-9) - counters.seconds;
        Progress {
            stage: "pretrain",
            done: (used * 1000.0) as u64,
            total: Some(1000),
            note: format!(
                "step {} tokens {:.2}M loss {:.3} gradient {norm:.2} rate {rate:.3} \
                 {speed:.0} tokens/s, {:.0} s left",
                counters.steps,
                counters.tokens as f64 / 1e6,
                counters.loss,
                left
            ),
            text: String::new(),
        }
    }
}

#[cfg(test)]
mod tests;
