//! Batched inference: embeddings, labels and numbers, in the order of the texts.
//!
//! Texts are sorted by length, so that little is computed on padding; a row's result does not
//! depend on its batch-mates (padding has attention weight exactly zero). With 8-bit products it
//! does a little: they round a whole batch with one factor.

use ort::session::Session;
use ort::value::TensorRef;

use crate::error::SlmError;
use crate::graph::{self, SessionOptions};
use crate::model::encoder::{ATTENTION_MASK, INPUT_IDS, POSITION_IDS};
use crate::model::heads::{self, Head, Task};
use crate::model::{Model, Serve};
use crate::runtime::{Device, Runtime};
use crate::tokens::{Encoded, Tokens};

/// Tokens that run at once, if more than one text does: bounds memory whatever the batch is, down to
/// one text of the model's longest length.
const TOKENS_AT_ONCE: usize = 16384;

/// How inference runs.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Threads inside one operator.
    pub threads: usize,
    /// Rows a batch.
    pub batch: usize,
    /// What computes.
    pub device: Device,
    /// Multiply 8-bit integers: faster on a processor, a little less exact.
    pub int8: bool,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            threads: 1,
            batch: 32,
            device: Device::Cpu,
            int8: false,
        }
    }
}

/// Embeddings of texts, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    /// How many.
    pub rows: usize,
    /// Numbers a row.
    pub width: usize,
    /// `rows * width` numbers; each row has length 1.
    pub values: Vec<f32>,
}

impl Embeddings {
    /// Row `index`.
    #[must_use]
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.width..][..self.width]
    }
}

/// What one head says about one text.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// The most probable label, as an index into the head's labels; 0 of a number head.
    pub label: usize,
    /// One probability a label; of a multi-label head each on its own, of a number head none.
    pub probabilities: Vec<f32>,
    /// The numbers of a number head, one a label.
    pub numbers: Vec<f32>,
    /// The text was longer than the model takes; its end was not seen.
    pub cut: bool,
    /// The text holds no token the model knows: the probabilities say nothing about it.
    pub only_unknown: bool,
}

/// Turns texts into vectors: mean-pooled token states of length 1, as `sentence-transformers` does.
#[derive(Debug)]
pub struct Embedder {
    server: Server,
}

impl Embedder {
    /// Opens an inference session on `model`, which may be dropped afterwards.
    ///
    /// # Errors
    /// [`SlmError::Runtime`], [`SlmError::WeightMissing`].
    pub fn new(runtime: &Runtime, model: &Model, options: &ServeOptions) -> Result<Self, SlmError> {
        let server = Server::new(runtime, model, Serve::Embeddings, options)?;
        Ok(Self { server })
    }

    /// One embedding a text, in order.
    ///
    /// A text is cut at what the model's positions take: 512 tokens for MiniLM, where
    /// `sentence-transformers` cuts at 256. Up to there the vectors are the same.
    ///
    /// # Errors
    /// [`SlmError::Tokenizer`], [`SlmError::Runtime`], [`SlmError::OutputNotFinite`].
    pub fn embed<S: AsRef<str>>(&mut self, texts: &[S]) -> Result<Embeddings, SlmError> {
        let encoded = self.server.tokens.encode(texts)?;
        let width = self.server.width;
        let values = self.server.run(&encoded, "sentence_embedding")?;
        Ok(Embeddings {
            rows: texts.len(),
            width,
            values,
        })
    }
}

/// Labels texts.
#[derive(Debug)]
pub struct Classifier {
    server: Server,
    heads: Vec<Head>,
}

impl Classifier {
    /// Opens an inference session on `model`, which may be dropped afterwards.
    ///
    /// # Errors
    /// [`SlmError::NotAClassifier`] if the model has no head; [`SlmError::Runtime`],
    /// [`SlmError::WeightMissing`].
    pub fn new(runtime: &Runtime, model: &Model, options: &ServeOptions) -> Result<Self, SlmError> {
        if model.heads.is_empty() {
            return Err(SlmError::NotAClassifier {
                path: "model in memory".into(),
            });
        }
        Ok(Self {
            server: Server::new(runtime, model, Serve::Classes, options)?,
            heads: model.heads.clone(),
        })
    }

    /// The labels of the first head, in the order of its probabilities.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.heads[0].labels
    }

    /// All heads, at least one.
    #[must_use]
    pub fn heads(&self) -> &[Head] {
        &self.heads
    }

    /// One prediction a text by the first head, in order.
    ///
    /// # Errors
    /// As [`Classifier::predict_all`].
    pub fn predict<S: AsRef<str>>(&mut self, texts: &[S]) -> Result<Vec<Prediction>, SlmError> {
        let all = self.predict_all(texts)?;
        Ok(all.into_iter().map(|mut heads| heads.remove(0)).collect())
    }

    /// For each text, in order, one prediction a head.
    ///
    /// # Errors
    /// [`SlmError::Tokenizer`], [`SlmError::Runtime`], [`SlmError::OutputNotFinite`].
    pub fn predict_all<S: AsRef<str>>(
        &mut self,
        texts: &[S],
    ) -> Result<Vec<Vec<Prediction>>, SlmError> {
        let encoded = self.server.tokens.encode(texts)?;
        let values = self.server.run(&encoded, "logits")?;
        let ranges = heads::ranges(&self.heads);
        let rows = values.chunks_exact(self.server.width).zip(&encoded);
        let predictions = rows.map(|(row, encoded)| {
            let all = self.heads.iter().zip(&ranges);
            all.map(|(head, range)| prediction(head, &row[range.clone()], encoded))
                .collect()
        });
        Ok(predictions.collect())
    }
}

#[derive(Debug)]
struct Server {
    session: Session,
    tokens: Tokens,
    width: usize,
    batch: usize,
    /// The first row of the position table, if the session wants its rows' numbers.
    first_position: Option<i64>,
}

impl Server {
    fn new(
        runtime: &Runtime,
        model: &Model,
        serve: Serve,
        options: &ServeOptions,
    ) -> Result<Self, SlmError> {
        let onnx = match (options.int8, options.device) {
            (false, device) => model.serving_graph_on(serve, device)?,
            (true, Device::Cpu) => model.quantised_graph(serve)?,
            (true, Device::Cuda(_)) => {
                return Err(SlmError::Option {
                    name: "int8",
                    value: "true".to_owned(),
                    remedy: "8-bit products are made on a processor; leave it out on a card",
                });
            }
        };
        let session = SessionOptions {
            threads: options.threads,
            device: options.device,
        };
        Ok(Self {
            session: graph::open(runtime, &onnx, session)?,
            tokens: model.tokens.clone(),
            width: match serve {
                Serve::Embeddings => model.config.hidden,
                _ => model.outputs(),
            },
            batch: options.batch.max(1),
            first_position: match options.device {
                Device::Cpu => None,
                Device::Cuda(_) => Some(model.config.first_position() as i64),
            },
        })
    }

    /// Output `name` for every row, `[rows, width]`.
    fn run(&mut self, encoded: &[Encoded], name: &str) -> Result<Vec<f32>, SlmError> {
        let mut order: Vec<usize> = (0..encoded.len()).collect();
        order.sort_by_key(|&row| encoded[row].ids.len());
        let mut values = vec![0.0; encoded.len() * self.width];
        let mut left = order.as_slice();
        while !left.is_empty() {
            let (rows, rest) = left.split_at(self.rows_at_once(encoded, left));
            left = rest;
            let out = self.run_batch(encoded, rows, name)?;
            for (row, out) in rows.iter().zip(out.chunks_exact(self.width)) {
                values[row * self.width..][..self.width].copy_from_slice(out);
            }
        }
        Ok(values)
    }

    /// How many of `left`, which is sorted by length, run together.
    fn rows_at_once(&self, encoded: &[Encoded], left: &[usize]) -> usize {
        let fits = |count: &usize| count * encoded[left[count - 1]].ids.len() <= TOKENS_AT_ONCE;
        let most = self.batch.min(left.len());
        (1..=most).rev().find(fits).unwrap_or(1)
    }

    fn run_batch(
        &mut self,
        encoded: &[Encoded],
        rows: &[usize],
        name: &str,
    ) -> Result<Vec<f32>, SlmError> {
        let length = rows.iter().map(|&row| encoded[row].ids.len()).max();
        let length = length.unwrap_or(1).max(1);
        let mut ids = vec![i64::from(self.tokens.pad()); rows.len() * length];
        let mut mask = vec![0i64; rows.len() * length];
        for (at, &row) in rows.iter().enumerate() {
            for (column, &id) in encoded[row].ids.iter().enumerate() {
                ids[at * length + column] = i64::from(id);
                mask[at * length + column] = 1;
            }
        }
        let shape = [rows.len(), length];
        let first = self.first_position.unwrap_or(0);
        let positions: Vec<i64> = (first..first + length as i64).collect();
        let mut run = || -> ort::Result<Vec<f32>> {
            let mut inputs = ort::inputs![
                INPUT_IDS => TensorRef::from_array_view((shape, ids.as_slice()))?,
                ATTENTION_MASK => TensorRef::from_array_view((shape, mask.as_slice()))?,
            ];
            if self.first_position.is_some() {
                let positions = TensorRef::from_array_view(([length], positions.as_slice()))?;
                inputs.push((POSITION_IDS.into(), positions.into()));
            }
            let outputs = self.session.run(inputs)?;
            Ok(outputs[name].try_extract_tensor::<f32>()?.1.to_vec())
        };
        let values = run().map_err(SlmError::runtime(format!("run a batch of {}", rows.len())))?;
        match values.iter().all(|value| value.is_finite()) {
            true => Ok(values),
            false => Err(SlmError::OutputNotFinite {
                output: name.to_owned(),
            }),
        }
    }
}

fn prediction(head: &Head, logits: &[f32], encoded: &Encoded) -> Prediction {
    let probabilities = head.probabilities(logits);
    Prediction {
        label: argmax(&probabilities),
        numbers: match head.task {
            Task::Number => logits.to_vec(),
            _ => Vec::new(),
        },
        probabilities,
        cut: encoded.cut,
        only_unknown: encoded.only_unknown,
    }
}

/// The first of the largest values.
fn argmax(values: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = index;
        }
    }
    best
}
