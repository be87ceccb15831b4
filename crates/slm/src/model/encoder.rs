//! The graph of a BERT-like encoder, mean pooling, and a classification head.
//!
//! ```text
//! input_ids ─gather─┐
//! position ─────────┼─ add ─ norm ─ [attention ─ add ─ norm ─ feed-forward ─ add ─ norm] x layers
//! token type ───────┘                                                     │
//! attention_mask ─────────────────────────────────── mean over real tokens ─ head ─ logits
//! ```
//!
//! One function serves training (fixed sizes) and serving (symbolic axes).
//!
//! Source: Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers", 2019;
//! Reimers, Gurevych, "Sentence-BERT", 2019 (mean pooling).

use super::config::{Activation, EncoderConfig};
use super::lora::{self, Lora};
use super::names::{self, HEAD_BIAS, HEAD_WEIGHT};
use crate::error::SlmError;
use crate::graph::{Dim, Dtype, Graph, Op, TensorId};

/// Score added where a token is padding; its softmax weight becomes exactly zero.
const MASKED: f32 = -1e9;

/// Name of the input with token ids, i64 `[batch, length]`.
pub const INPUT_IDS: &str = "input_ids";
/// Name of the input with ones for real tokens and zeros for padding, i64 `[batch, length]`.
pub const ATTENTION_MASK: &str = "attention_mask";

/// Name of the input with the tokens' rows of the position table, consecutive, i64 `[length]`: see
/// [`Additions::positions_fed`].
pub const POSITION_IDS: &str = "position_ids";

/// The rows of a table that a graph used: gradients are taken here, not at the whole table.
#[derive(Clone, Debug)]
pub struct TableRows {
    /// The parameter.
    pub table: String,
    /// Which rows.
    pub which: Which,
    /// The gathered rows, `[batch, length, d]`, `[length, d]` or `[1, d]`.
    pub rows: TensorId,
}

/// Which rows of a table were used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those of the token ids.
    Ids,
    /// Consecutive ones, from this one on.
    From(usize),
}

/// The encoder's part of a graph.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// Token states `[batch, length, d]`.
    pub hidden: TensorId,
    /// The mask as floats `[batch, length]`.
    pub mask: TensorId,
    /// Table rows that were used.
    pub tables: Vec<TableRows>,
}

/// What training adds to the encoder's graph; nothing by default.
#[derive(Clone, Debug, Default)]
pub struct Additions {
    /// Inverted dropout: a mask input behind embeddings, attention and feed-forward outputs.
    pub dropout: bool,
    /// Names of the mask inputs, in order.
    pub masks: Vec<String>,
    /// Low-rank adapters in the layers from the given one on.
    pub lora: Option<(Lora, usize)>,
    /// Rows of the position table come by fed numbers, not by the shape of the token ids: a card
    /// would leave the arithmetic on shapes to the processor.
    pub positions_fed: bool,
}

impl Additions {
    fn drop_out(&mut self, graph: &mut Graph, x: TensorId) -> Result<TensorId, SlmError> {
        if !self.dropout {
            return Ok(x);
        }
        let name = format!("dropout_{}", self.masks.len());
        let shape = graph.shape(x).to_vec();
        let mask = graph.input(&name, Dtype::F32, &shape);
        self.masks.push(name);
        graph.mul(x, mask)
    }
}

/// Adds the encoder to `graph` for `[batch, length]` token ids.
///
/// # Errors
/// [`SlmError::Shape`] if `length` exceeds the model's positions.
pub fn encoder(
    graph: &mut Graph,
    config: &EncoderConfig,
    batch: Dim,
    length: Dim,
    additions: &mut Additions,
) -> Result<Encoder, SlmError> {
    let ids = graph.input(INPUT_IDS, Dtype::I64, &[batch, length]);
    let mask = graph.input(ATTENTION_MASK, Dtype::I64, &[batch, length]);
    let mask = graph.to_float(mask);
    let mut builder = Builder {
        graph,
        config,
        batch,
        length,
        additions,
        tables: Vec::new(),
        layer: 0,
    };
    let mut x = builder.embeddings(ids)?;
    let bias = builder.attention_bias(mask)?;
    for index in 0..config.layers {
        x = builder.layer(x, bias, index)?;
    }
    Ok(Encoder {
        hidden: x,
        mask,
        tables: builder.tables,
    })
}

/// The mean of the real tokens' states, `[batch, d]`.
///
/// # Errors
/// Never for an encoder of this module.
pub fn mean_pool(graph: &mut Graph, encoder: &Encoder) -> Result<TensorId, SlmError> {
    let mut shape = graph.shape(encoder.mask).to_vec();
    shape.push(Dim::Size(1));
    let weights = graph.reshape(encoder.mask, &shape)?;
    let masked = graph.mul(encoder.hidden, weights)?;
    let sum = graph.reduce_sum(masked, &[1], false)?;
    let count = graph.reduce_sum(weights, &[1], false)?;
    let one = graph.constant(&[], vec![1.0])?;
    let count = graph.max(count, one)?;
    graph.div(sum, count)
}

/// Rows scaled to length 1.
///
/// # Errors
/// [`SlmError::Shape`] if `x` has no axes.
pub fn normalise(graph: &mut Graph, x: TensorId) -> Result<TensorId, SlmError> {
    let square = graph.mul(x, x)?;
    let last = graph.shape(x).len() - 1;
    let sum = graph.reduce_sum(square, &[last], true)?;
    let norm = graph.unary(Op::Sqrt, sum);
    let tiny = graph.constant(&[], vec![1e-12])?;
    let norm = graph.max(norm, tiny)?;
    graph.div(x, norm)
}

/// The classification head: `[batch, d]` to logits `[batch, labels]`.
///
/// # Errors
/// [`SlmError::Shape`] if `pooled` has another width than the model.
pub fn head(
    graph: &mut Graph,
    config: &EncoderConfig,
    pooled: TensorId,
    labels: usize,
) -> Result<TensorId, SlmError> {
    let weight = graph.parameter(HEAD_WEIGHT, &[labels, config.hidden]);
    let bias = graph.parameter(HEAD_BIAS, &[labels]);
    graph.linear(pooled, weight, Some(bias))
}

struct Builder<'b> {
    graph: &'b mut Graph,
    config: &'b EncoderConfig,
    batch: Dim,
    length: Dim,
    additions: &'b mut Additions,
    tables: Vec<TableRows>,
    /// The layer under construction.
    layer: usize,
}

impl Builder<'_> {
    fn embeddings(&mut self, ids: TensorId) -> Result<TensorId, SlmError> {
        let config = self.config;
        let words = self
            .graph
            .parameter(&names::words(), &[config.vocabulary, config.hidden]);
        let mut sum = self.graph.gather(words, ids)?;
        self.used(names::words(), Which::Ids, sum);
        let start = config.first_position();
        let positions = self
            .graph
            .parameter(&names::positions(), &[config.positions, config.hidden]);
        let rows = match self.additions.positions_fed {
            false => self.graph.rows(positions, ids, start, 1)?,
            true => {
                let which = self.graph.input(POSITION_IDS, Dtype::I64, &[self.length]);
                self.graph.gather(positions, which)?
            }
        };
        self.used(names::positions(), Which::From(start), rows);
        sum = self.graph.add(sum, rows)?;
        if config.types > 0 {
            let types = self
                .graph
                .parameter(&names::types(), &[config.types, config.hidden]);
            let one = self.graph.constant(&[1], vec![0.0])?;
            let rows = self.graph.rows(types, one, 0, 0)?;
            self.used(names::types(), Which::From(0), rows);
            sum = self.graph.add(sum, rows)?;
        }
        let normed = self.norm(sum, &names::embedding_norm())?;
        self.additions.drop_out(self.graph, normed)
    }

    fn used(&mut self, table: String, which: Which, rows: TensorId) {
        self.tables.push(TableRows { table, which, rows });
    }

    /// 0 for real tokens and [`MASKED`] for padding, `[batch, 1, 1, length]`.
    fn attention_bias(&mut self, mask: TensorId) -> Result<TensorId, SlmError> {
        let shape = [self.batch, Dim::Size(1), Dim::Size(1), self.length];
        let mask = self.graph.reshape(mask, &shape)?;
        let missing = self.graph.shift(mask, -1.0)?;
        self.graph.scale(missing, -MASKED)
    }

    fn layer(&mut self, x: TensorId, bias: TensorId, index: usize) -> Result<TensorId, SlmError> {
        self.layer = index;
        let names = names::layer(self.config.family, index);
        let attended = self.attention(x, bias, &names)?;
        let attended = self.additions.drop_out(self.graph, attended)?;
        let sum = self.graph.add(attended, x)?;
        let x = self.norm(sum, &names.attention_norm)?;
        let (d, wide) = (self.config.hidden, self.config.intermediate);
        let up = self.dense(x, &names.up, wide, d)?;
        let active = self.activation(up)?;
        let down = self.dense(active, &names.down, d, wide)?;
        let down = self.additions.drop_out(self.graph, down)?;
        let sum = self.graph.add(down, x)?;
        self.norm(sum, &names.output_norm)
    }

    fn attention(
        &mut self,
        x: TensorId,
        bias: TensorId,
        names: &names::LayerNames,
    ) -> Result<TensorId, SlmError> {
        let (d, heads) = (self.config.hidden, self.config.heads);
        let split = [
            self.batch,
            self.length,
            Dim::Size(heads),
            Dim::Size(d / heads),
        ];
        let mut qkv = Vec::with_capacity(3);
        for name in &names.qkv {
            let flat = self.dense(x, name, d, d)?;
            let per_head = self.graph.reshape(flat, &split)?;
            qkv.push(self.graph.transpose(per_head, &[0, 2, 1, 3])?);
        }
        let scores = self.graph.matmul(qkv[0], qkv[1], false, true)?;
        let scaled = self
            .graph
            .scale(scores, 1.0 / ((d / heads) as f32).sqrt())?;
        let biased = self.graph.add(scaled, bias)?;
        let weights = self.graph.unary(Op::Softmax, biased);
        let mixed = self.graph.matmul(weights, qkv[2], false, false)?;
        let back = self.graph.transpose(mixed, &[0, 2, 1, 3])?;
        let flat = self
            .graph
            .reshape(back, &[self.batch, self.length, Dim::Size(d)])?;
        self.dense(flat, &names.out, d, d)
    }

    fn activation(&mut self, x: TensorId) -> Result<TensorId, SlmError> {
        match self.config.activation {
            Activation::Gelu => Ok(self.graph.unary(Op::Gelu, x)),
            Activation::Relu => Ok(self.graph.unary(Op::Relu, x)),
            // x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3).
            Activation::GeluTanh => {
                let square = self.graph.mul(x, x)?;
                let cube = self.graph.mul(square, x)?;
                let cube = self.graph.scale(cube, 0.044_715)?;
                let inner = self.graph.add(x, cube)?;
                let slope = 2.0 * std::f32::consts::FRAC_2_PI.sqrt();
                let inner = self.graph.scale(inner, slope)?;
                let gate = self.graph.unary(Op::Sigmoid, inner);
                self.graph.mul(x, gate)
            }
        }
    }

    fn dense(
        &mut self,
        x: TensorId,
        name: &str,
        out: usize,
        inner: usize,
    ) -> Result<TensorId, SlmError> {
        let weight = self
            .graph
            .parameter(&format!("{name}.weight"), &[out, inner]);
        let bias = self.graph.parameter(&format!("{name}.bias"), &[out]);
        let full = self.graph.linear(x, weight, Some(bias))?;
        let Some((lora, first)) = self.additions.lora else {
            return Ok(full);
        };
        if self.layer < first {
            return Ok(full);
        }
        let a = self.graph.parameter(&lora::down(name), &[lora.rank, inner]);
        let b = self.graph.parameter(&lora::up(name), &[out, lora.rank]);
        let thin = self.graph.linear(x, a, None)?;
        let wide = self.graph.linear(thin, b, None)?;
        let scaled = self.graph.scale(wide, lora.scale())?;
        self.graph.add(full, scaled)
    }

    fn norm(&mut self, x: TensorId, name: &str) -> Result<TensorId, SlmError> {
        let d = self.config.hidden;
        let scale = self.graph.parameter(&format!("{name}.weight"), &[d]);
        let bias = self.graph.parameter(&format!("{name}.bias"), &[d]);
        self.graph.layer_norm(x, scale, bias, self.config.epsilon)
    }
}
