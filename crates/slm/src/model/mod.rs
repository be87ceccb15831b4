//! A model: configuration, weights, tokenizer, and its heads if it has any.
//!
//! ```text
//! Base::Folder ──read──┐
//!                      ├─> Model ──train──> Model with a head ──save──> folder + model.onnx
//! Base::Scratch ─init──┘      └──> Embedder, Classifier
//! ```
//!
//! Deliberately absent: other architectures than BERT-like encoders, and downloads.

pub mod config;
pub mod encoder;
pub mod heads;
pub(crate) mod lora;
pub mod names;
mod read;
mod save;
mod scratch;

pub use heads::{Head, Task};
pub use lora::Lora;
pub(crate) use scratch::random_matrix;
pub use scratch::{ScratchConfig, Vocabulary};

use std::path::PathBuf;

use crate::error::SlmError;
use crate::graph::{self, Dim, Graph, OnnxGraph, Weights};
use crate::params::Parameters;
use crate::runtime::Device;
use crate::tokens::Tokens;
use config::EncoderConfig;
use encoder::{Additions, encoder, head, mean_pool, normalise};

/// What a training run starts from.
#[derive(Clone, Debug)]
pub enum Base {
    /// A folder in Hugging Face's layout: `config.json`, `tokenizer.json`, `model.safetensors`.
    Folder(PathBuf),
    /// A small BERT with random weights.
    Scratch(ScratchConfig),
}

/// A model in memory.
#[derive(Clone, Debug)]
pub struct Model {
    /// Sizes and constants.
    pub config: EncoderConfig,
    /// Weights by their Hugging Face names, without a task prefix.
    pub weights: Parameters,
    /// The tokenizer.
    pub tokens: Tokens,
    /// What its outputs mean; empty for a bare encoder.
    pub heads: Vec<Head>,
}

/// What a serving graph puts out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serve {
    /// `sentence_embedding`: mean-pooled states of length 1, `[batch, d]`.
    Embeddings,
    /// `logits`, `[batch, outputs]`, all heads side by side.
    Classes,
    /// `logits` and `sentence_embedding`, for the `.onnx` file.
    Everything,
}

impl Model {
    /// The model a training run starts from; `texts` train a vocabulary if the base asks for one.
    ///
    /// # Errors
    /// Those of reading a folder, or of training a tokenizer.
    pub fn from_base<'t>(
        base: &Base,
        texts: impl IntoIterator<Item = &'t str>,
        seed: u64,
    ) -> Result<Self, SlmError> {
        match base {
            Base::Folder(folder) => Self::read(folder),
            Base::Scratch(config) => scratch::build(config, texts, seed),
        }
    }

    /// A name for every output, in the order of the head's rows; empty for a bare encoder.
    #[must_use]
    pub fn labels(&self) -> Vec<String> {
        heads::names(&self.heads)
    }

    /// How many numbers the heads give for a text.
    #[must_use]
    pub fn outputs(&self) -> usize {
        heads::outputs(&self.heads)
    }

    /// Refuses a model whose head has other labels than `labels`, or has them in another order.
    ///
    /// # Errors
    /// [`SlmError::LabelMismatch`] with both lists.
    pub fn expect_labels(&self, labels: &[String]) -> Result<(), SlmError> {
        let found = self.labels();
        if found == labels {
            return Ok(());
        }
        let list = |labels: &[String]| format!("`{}`", labels.join("`, `"));
        Err(SlmError::LabelMismatch {
            found: list(&found),
            asked: list(labels),
        })
    }

    /// How many numbers the model holds.
    #[must_use]
    pub fn parameter_count(&self) -> usize {
        self.weights.count()
    }

    /// The serving graph: weights baked in, symbolic batch and length.
    ///
    /// # Errors
    /// [`SlmError::WeightMissing`] if the model lacks a weight its configuration asks for.
    pub fn serving_graph(&self, serve: Serve) -> Result<OnnxGraph<'_>, SlmError> {
        self.serving_graph_on(serve, Device::Cpu)
    }

    /// The serving graph with the matrices of products as 8-bit integers, for a processor.
    ///
    /// # Errors
    /// [`SlmError::WeightMissing`] if the model lacks a weight its configuration asks for.
    pub fn quantised_graph(&self, serve: Serve) -> Result<OnnxGraph<'_>, SlmError> {
        let graph = self.build_serving(serve, Device::Cpu)?;
        graph::lower(&graph, Weights::Quantised(&self.weights))
    }

    /// The serving graph for a device; on a card it has the input [`encoder::POSITION_IDS`] too.
    ///
    /// # Errors
    /// [`SlmError::WeightMissing`] if the model lacks a weight its configuration asks for.
    pub fn serving_graph_on(
        &self,
        serve: Serve,
        device: Device,
    ) -> Result<OnnxGraph<'_>, SlmError> {
        let graph = self.build_serving(serve, device)?;
        graph::lower(&graph, Weights::Baked(&self.weights))
    }

    fn build_serving(&self, serve: Serve, device: Device) -> Result<Graph, SlmError> {
        let mut graph = Graph::new();
        let (batch, length) = (Dim::Batch, Dim::Length);
        let mut additions = Additions {
            positions_fed: device != Device::Cpu,
            ..Additions::default()
        };
        let states = encoder(&mut graph, &self.config, batch, length, &mut additions)?;
        let pooled = mean_pool(&mut graph, &states)?;
        if serve != Serve::Embeddings && !self.heads.is_empty() {
            let logits = head(&mut graph, &self.config, pooled, self.outputs())?;
            graph.output("logits", logits);
        }
        if serve != Serve::Classes {
            let unit = normalise(&mut graph, pooled)?;
            graph.output("sentence_embedding", unit);
        }
        Ok(graph)
    }
}
