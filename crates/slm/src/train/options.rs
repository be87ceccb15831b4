//! What a training run may be told, and the checks before hours are spent.

use super::checkpoint::CheckpointOptions;
use crate::error::SlmError;
use crate::kernels;
use crate::model::{Head, Lora};
use crate::runtime::Device;

/// What is known of a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// Its label, for a single-label head.
    Label(String),
    /// How probable each label is, for a single-label head: shares that sum to 1, such as another
    /// classifier's ("soft targets": Hinton, Vinyals and Dean, "Distilling the Knowledge in a
    /// Neural Network", 2015, section 2, at temperature 1). Labels left out have none.
    Shares(Vec<(String, f32)>),
    /// All its labels, perhaps none, for a multi-label head.
    Labels(Vec<String>),
    /// Its numbers, one a label of the head, for a number head. They are scaled before they become
    /// f32, so that numbers far from zero stay apart; each lies within the range of an f32.
    Numbers(Vec<f64>),
}

/// One text with what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// The text.
    pub text: String,
    /// What the head should say.
    pub target: Target,
    /// Which of the declared heads it trains.
    pub head: usize,
    /// Whose text it is, such as a patient's: the privacy unit, under any number. Examples of one
    /// unit are held back for validation together or not at all; one without is a unit of its own.
    pub unit: Option<usize>,
    /// Its share in the loss: 1 for an ordinary example, less for a source trusted less.
    pub weight: f32,
    /// Written by a language model: never held back for validation, which asks how well the
    /// real texts are labelled.
    pub synthetic: bool,
}

impl Example {
    /// A real text with one label, for the first head.
    #[must_use]
    pub fn labelled(text: impl Into<String>, label: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            target: Target::Label(label.into()),
            head: 0,
            unit: None,
            weight: 1.0,
            synthetic: false,
        }
    }
}

/// What to train on.
#[derive(Clone, Copy, Debug)]
pub struct TrainingData<'d> {
    /// The heads, in order: a public declaration, never read from the examples.
    pub heads: &'d [Head],
    /// The examples.
    pub examples: &'d [Example],
    /// Examples to choose the best epoch by; if empty, `validation_share` is carved off.
    pub validation: &'d [Example],
}

/// How much each label counts in the loss.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ClassWeights {
    /// As much as its examples.
    #[default]
    Equal,
    /// Rare labels are weighed up, so that each label of a head has the same share in the loss.
    Balanced,
    /// Factors by label, or by `head/label` where there are several heads; 1 for the others.
    Given(Vec<(String, f32)>),
}

/// How the learning rate goes on after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// Stays.
    Constant,
    /// Falls in a line to zero.
    Linear,
    /// Falls along half a cosine to zero.
    Cosine,
}

/// Which parts stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freeze {
    /// Everything is trained.
    Nothing,
    /// The embeddings stay.
    Embeddings,
    /// The embeddings and the first `n` layers stay.
    Layers(usize),
}

impl Freeze {
    /// How many layers stay.
    pub(super) fn layers(self) -> usize {
        match self {
            Self::Layers(n) => n,
            _ => 0,
        }
    }
}

/// What the products of a training step are made of; sums, weights and moments are always f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// Operands rounded to bf16, as PyTorch's autocast does: on processors with AVX512-BF16.
    Bf16,
}

/// The settings of a training run.
#[derive(Clone, Debug)]
pub struct TrainOptions {
    /// Passes over the examples.
    pub epochs: usize,
    /// Stop after this many optimizer steps, whatever the epochs say.
    pub steps_max: Option<usize>,
    /// Rows an optimizer step.
    pub batch: usize,
    /// Rows that run at once, if fewer: their gradients add up to the same step in less memory.
    pub micro_batch: Option<usize>,
    /// Texts are cut at this many tokens (and at what the model takes).
    pub length_max: usize,
    /// Highest learning rate.
    pub learning_rate: f32,
    /// Decoupled weight decay of matrices; vectors (biases, norms) have none.
    pub weight_decay: f32,
    /// Share of the steps in which the learning rate rises from zero.
    pub warmup_share: f32,
    /// What it does afterwards.
    pub schedule: Schedule,
    /// The gradient of all weights together is scaled down to this L2 norm.
    pub clip_norm: f32,
    /// Chance that a value behind embeddings, attention or feed-forward is dropped.
    pub dropout: f32,
    /// Share of the target spread over all labels.
    pub label_smoothing: f32,
    /// How much each label counts.
    pub class_weights: ClassWeights,
    /// Go on although a declared label has no example. Such a label is hardly ever predicted, so
    /// it is refused unless somebody means it.
    pub allow_empty_labels: bool,
    /// Train this many epochs on the synthetic examples alone first, then on the real ones alone.
    pub released_first: Option<usize>,
    /// Which parts stay.
    pub freeze: Freeze,
    /// Train low-rank adapters and the head only: a third faster, with a rate near 1e-3.
    pub lora: Option<Lora>,
    /// Share of the real examples held back to choose the best epoch by; 0 for none. Whole units,
    /// at least one, and never the last of a label.
    pub validation_share: f32,
    /// Stop after this many epochs without a better validation loss.
    pub patience: Option<usize>,
    /// Seed of weights, shuffles and dropout.
    pub seed: u64,
    /// Threads for everything.
    pub threads: usize,
    /// What computes the steps.
    pub device: Device,
    /// What products are made of.
    pub precision: Precision,
    /// Write the run down now and then, and go on from there.
    pub checkpoint: Option<CheckpointOptions>,
}

impl Default for TrainOptions {
    /// Fine-tuning a pretrained encoder.
    fn default() -> Self {
        Self {
            epochs: 3,
            steps_max: None,
            batch: 16,
            micro_batch: None,
            length_max: 128,
            learning_rate: 1e-4,
            weight_decay: 0.01,
            warmup_share: 0.1,
            schedule: Schedule::Linear,
            clip_norm: 1.0,
            dropout: 0.0,
            label_smoothing: 0.0,
            class_weights: ClassWeights::Equal,
            allow_empty_labels: false,
            released_first: None,
            freeze: Freeze::Nothing,
            lora: None,
            validation_share: 0.0,
            patience: None,
            seed: 0,
            threads: 1,
            device: Device::Cpu,
            precision: Precision::F32,
            checkpoint: None,
        }
    }
}

impl TrainOptions {
    /// Refuses values out of range.
    ///
    /// # Errors
    /// [`SlmError::Option`] with the first such value.
    pub fn check(&self) -> Result<(), SlmError> {
        self.check_precision()?;
        let share = |x: f32| (0.0..1.0).contains(&x);
        let positive = |x: f32| x > 0.0 && x.is_finite();
        let at_least_one = "it must be at least 1";
        let micro = self.micro_batch.unwrap_or(1);
        let every = self.checkpoint.as_ref().map_or(1, |c| c.every_steps);
        let rank = self.lora.map_or(1, |lora| lora.rank);
        let first = self.released_first.unwrap_or(1);
        let patience = self.patience.unwrap_or(1);
        let checks: [(&'static str, f64, bool, &'static str); 16] = [
            ("released_first", first as f64, first > 0, at_least_one),
            ("patience", patience as f64, patience > 0, at_least_one),
            ("rank", rank as f64, rank > 0, at_least_one),
            ("micro_batch", micro as f64, micro > 0, at_least_one),
            ("every_steps", every as f64, every > 0, at_least_one),
            ("epochs", self.epochs as f64, self.epochs > 0, at_least_one),
            ("batch", self.batch as f64, self.batch > 0, at_least_one),
            (
                "threads",
                self.threads as f64,
                self.threads > 0,
                at_least_one,
            ),
            (
                "length_max",
                self.length_max as f64,
                self.length_max >= 3,
                "it must be at least 3: two tokens are the frame of a text",
            ),
            (
                "learning_rate",
                f64::from(self.learning_rate),
                positive(self.learning_rate),
                "it must be above 0, such as 1e-4",
            ),
            (
                "weight_decay",
                f64::from(self.weight_decay),
                self.weight_decay >= 0.0 && self.weight_decay < 1.0,
                "it must be in 0..1, such as 0.01",
            ),
            (
                "warmup_share",
                f64::from(self.warmup_share),
                share(self.warmup_share),
                "it must be in 0..1, such as 0.1",
            ),
            (
                "clip_norm",
                f64::from(self.clip_norm),
                positive(self.clip_norm),
                "it must be above 0, such as 1",
            ),
            (
                "dropout",
                f64::from(self.dropout),
                share(self.dropout),
                "it must be in 0..1, such as 0.1",
            ),
            (
                "label_smoothing",
                f64::from(self.label_smoothing),
                share(self.label_smoothing),
                "it must be in 0..1, such as 0.1",
            ),
            (
                "validation_share",
                f64::from(self.validation_share),
                share(self.validation_share),
                "it must be in 0..1, such as 0.1",
            ),
        ];
        for (name, value, fine, remedy) in checks {
            if !fine {
                return Err(SlmError::Option {
                    name,
                    value: value.to_string(),
                    remedy,
                });
            }
        }
        Ok(())
    }
}

impl TrainOptions {
    fn check_precision(&self) -> Result<(), SlmError> {
        let refuse = |remedy| {
            Err(SlmError::Option {
                name: "precision",
                value: "bf16".to_owned(),
                remedy,
            })
        };
        match (self.precision, self.device) {
            (Precision::F32, _) => Ok(()),
            (Precision::Bf16, Device::Cuda(_)) => {
                refuse("bf16 products are made on processors; on a card use `f32`")
            }
            (Precision::Bf16, Device::Cpu) if !kernels::bf16_products() => {
                refuse("this processor has no AVX512-BF16; use `f32`")
            }
            (Precision::Bf16, Device::Cpu) => Ok(()),
        }
    }
}
