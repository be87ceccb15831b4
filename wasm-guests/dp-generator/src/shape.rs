//! The base model: its shape, and where each weight lies in one flat vector.
//!
//! ```text
//!   flat = embed | layer 0 | layer 1 | ... | final norm | head (if untied)
//!   layer = norm1 | qkv | o | norm2 | gate and up | down
//! ```
//!
//! Matrices keep the layout of a linear layer, `[out, in]`; q, k and v are stacked,
//! and so are gate and up, so that each pair of products is one. The order makes
//! "everything from layer n on" one slice, which is what the trainable sets need.
//!
//! Only Llama-shaped models: RMS norms, rotary positions, SwiGLU, no biases.

use noisegate_guest_sdk::safetensors::Weights;
use noisegate_guest_sdk::wire::{Reader, Writer};
use serde::Deserialize;

/// `config.json` of a Hugging Face Llama folder, the fields that matter here.
#[derive(Deserialize)]
struct Config {
    model_type: Option<String>,
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    intermediate_size: usize,
    max_position_embeddings: usize,
    rms_norm_eps: f32,
    rope_theta: Option<f32>,
    rope_parameters: Option<RopeParameters>,
    rope_scaling: Option<serde_json::Value>,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
}

/// Where newer folders keep the rotary base.
#[derive(Deserialize)]
struct RopeParameters {
    rope_theta: Option<f32>,
}

/// Sizes of the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Number of tokens.
    pub vocab: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Number of layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head; even.
    pub head_dim: usize,
    /// Inner width of the MLP.
    pub ff: usize,
    /// Longest sequence.
    pub positions: usize,
    /// Added under the root of the norms.
    pub norm_eps: f32,
    /// Base of the rotary angles.
    pub rope_theta: f32,
    /// Whether the head is the embedding.
    pub tied: bool,
}

/// The four matrices of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matrix {
    /// Stacked q, k, v.
    Qkv,
    /// Attention output.
    Out,
    /// Stacked gate and up.
    GateUp,
    /// MLP output.
    Down,
}

impl Matrix {
    /// All four, in their order in the flat vector and in the LoRA layout.
    pub const ALL: [Matrix; 4] = [Matrix::Qkv, Matrix::Out, Matrix::GateUp, Matrix::Down];
}

/// Offsets within one layer, and its length.
struct LayerMap {
    norm1: usize,
    matrices: [usize; 4],
    norm2: usize,
    len: usize,
}

impl Shape {
    /// Reads and checks `config.json`.
    ///
    /// # Errors
    /// A sentence, if the folder is no plain Llama.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let config: Config = serde_json::from_slice(json)
            .map_err(|error| format!("`config.json` does not read: {error}"))?;
        if config
            .model_type
            .as_deref()
            .is_some_and(|kind| kind != "llama")
        {
            return Err(format!(
                "`config.json` describes a `{}` model; this step needs a `llama`",
                config.model_type.unwrap_or_default()
            ));
        }
        if config.attention_bias
            || config.mlp_bias
            || config.rope_scaling.is_some_and(|value| !value.is_null())
        {
            return Err("`config.json` asks for biases or rope scaling, which this step does not have; take a plain Llama".into());
        }
        let theta = config
            .rope_theta
            .or(config.rope_parameters.and_then(|rope| rope.rope_theta));
        let shape = Shape {
            vocab: config.vocab_size,
            hidden: config.hidden_size,
            layers: config.num_hidden_layers,
            heads: config.num_attention_heads,
            kv_heads: config
                .num_key_value_heads
                .unwrap_or(config.num_attention_heads),
            head_dim: config
                .head_dim
                .unwrap_or(config.hidden_size / config.num_attention_heads.max(1)),
            ff: config.intermediate_size,
            positions: config.max_position_embeddings,
            norm_eps: config.rms_norm_eps,
            rope_theta: theta.unwrap_or(10_000.0),
            tied: config.tie_word_embeddings,
        };
        let sizes = [
            shape.vocab,
            shape.hidden,
            shape.layers,
            shape.heads,
            shape.kv_heads,
            shape.head_dim,
            shape.ff,
        ];
        if sizes.contains(&0) || sizes.iter().any(|&size| size > 1 << 20) {
            return Err(
                "`config.json` has a size that is zero or absurd; fetch the folder again".into(),
            );
        }
        if !shape.heads.is_multiple_of(shape.kv_heads) || !shape.head_dim.is_multiple_of(2) {
            return Err(format!(
                "`config.json` has {} heads over {} key-value heads of width {}; they must divide, and the width be even",
                shape.heads, shape.kv_heads, shape.head_dim
            ));
        }
        Ok(shape)
    }

    /// Width of all query heads together.
    pub fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key heads together (and of all value heads).
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// `(out, in)` of a matrix.
    pub fn size(&self, matrix: Matrix) -> (usize, usize) {
        match matrix {
            Matrix::Qkv => (self.q_width() + 2 * self.kv_width(), self.hidden),
            Matrix::Out => (self.hidden, self.q_width()),
            Matrix::GateUp => (2 * self.ff, self.hidden),
            Matrix::Down => (self.hidden, self.ff),
        }
    }

    fn layer_map(&self) -> LayerMap {
        let length = |matrix| {
            let (rows, columns) = self.size(matrix);
            rows * columns
        };
        let qkv = self.hidden;
        let out = qkv + length(Matrix::Qkv);
        let norm2 = out + length(Matrix::Out);
        let gate_up = norm2 + self.hidden;
        let down = gate_up + length(Matrix::GateUp);
        LayerMap {
            norm1: 0,
            matrices: [qkv, out, gate_up, down],
            norm2,
            len: down + length(Matrix::Down),
        }
    }

    /// Where layer `layer` starts; `layers` gives the final norm.
    pub fn layer_start(&self, layer: usize) -> usize {
        self.vocab * self.hidden + layer * self.layer_map().len
    }

    /// Where a matrix starts.
    pub fn matrix(&self, layer: usize, matrix: Matrix) -> usize {
        self.layer_start(layer) + self.layer_map().matrices[matrix as usize]
    }

    /// Where the norm before attention starts.
    pub fn norm1(&self, layer: usize) -> usize {
        self.layer_start(layer) + self.layer_map().norm1
    }

    /// Where the norm before the MLP starts.
    pub fn norm2(&self, layer: usize) -> usize {
        self.layer_start(layer) + self.layer_map().norm2
    }

    /// Where the final norm starts.
    pub fn final_norm(&self) -> usize {
        self.layer_start(self.layers)
    }

    /// Where the head starts: the embedding, if tied.
    pub fn head(&self) -> usize {
        if self.tied {
            0
        } else {
            self.final_norm() + self.hidden
        }
    }

    /// Length of the flat vector.
    pub fn weights_len(&self) -> usize {
        let head = if self.tied {
            0
        } else {
            self.vocab * self.hidden
        };
        self.final_norm() + self.hidden + head
    }

    /// Lays the tensors of a safetensors file out as one flat vector.
    ///
    /// # Errors
    /// A sentence naming the tensor that does not fit.
    pub fn load(&self, weights: &Weights<'_>) -> Result<Vec<f32>, String> {
        let (d, q, kv, ff) = (self.hidden, self.q_width(), self.kv_width(), self.ff);
        let mut flat = Vec::with_capacity(self.weights_len());
        weights.append("model.embed_tokens.weight", &[self.vocab, d], &mut flat)?;
        for layer in 0..self.layers {
            let mut append = |name: &str, shape: &[usize]| {
                weights.append(
                    &format!("model.layers.{layer}.{name}.weight"),
                    shape,
                    &mut flat,
                )
            };
            append("input_layernorm", &[d])?;
            append("self_attn.q_proj", &[q, d])?;
            append("self_attn.k_proj", &[kv, d])?;
            append("self_attn.v_proj", &[kv, d])?;
            append("self_attn.o_proj", &[d, q])?;
            append("post_attention_layernorm", &[d])?;
            append("mlp.gate_proj", &[ff, d])?;
            append("mlp.up_proj", &[ff, d])?;
            append("mlp.down_proj", &[d, ff])?;
        }
        weights.append("model.norm.weight", &[d], &mut flat)?;
        if !self.tied {
            weights.append("lm_head.weight", &[self.vocab, d], &mut flat)?;
        }
        Ok(flat)
    }

    /// Writes the shape into a context.
    pub fn write(&self, writer: &mut Writer) {
        let sizes = [
            self.vocab,
            self.hidden,
            self.layers,
            self.heads,
            self.kv_heads,
            self.head_dim,
            self.ff,
            self.positions,
        ];
        writer.u32s(&sizes.map(|size| size as u32));
        writer
            .f32(self.norm_eps)
            .f32(self.rope_theta)
            .u32(u32::from(self.tied));
    }

    /// Reads what [`Shape::write`] wrote.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let sizes = reader.u32s();
        let size = |at: usize| sizes[at] as usize;
        Shape {
            vocab: size(0),
            hidden: size(1),
            layers: size(2),
            heads: size(3),
            kv_heads: size(4),
            head_dim: size(5),
            ff: size(6),
            positions: size(7),
            norm_eps: reader.f32(),
            rope_theta: reader.f32(),
            tied: reader.u32() == 1,
        }
    }
}
