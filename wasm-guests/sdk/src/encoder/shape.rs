//! The encoder's sizes, and where each weight lies in one flat vector.
//!
//! ```text
//!   flat  = words | positions | norm | layer 0 | layer 1 | ...
//!   layer = qkv | out | up | down | small
//!   small = bias of qkv | bias of out | norm | bias of up | bias of down | norm
//! ```
//!
//! Matrices are turned round to `[in, out]`, the layout that the host multiplies by without
//! packing them first, which at a few dozen tokens takes longer than the product. q, k and v
//! are one matrix, so that one product makes all three. The token type is always the first, so its row is added to
//! the positions once and for all. A norm is its weight, then its bias.

use serde::Deserialize;

use crate::safetensors::Weights;
use crate::wire::{Reader, Writer};

/// `config.json` of a Hugging Face BERT folder, the fields that matter here.
#[derive(Deserialize)]
struct Config {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    layer_norm_eps: f32,
    hidden_act: String,
    position_embedding_type: Option<String>,
    #[serde(default)]
    is_decoder: bool,
}

/// Sizes of the encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Number of tokens.
    pub vocab: usize,
    /// Width of a state, and of an embedding.
    pub hidden: usize,
    /// Number of layers.
    pub layers: usize,
    /// Attention heads; they divide `hidden`.
    pub heads: usize,
    /// Inner width of the MLP.
    pub ff: usize,
    /// Longest sequence.
    pub positions: usize,
    /// Token types.
    pub types: usize,
    /// Added under the root of the norms.
    pub norm_eps: f32,
}

/// Offsets of one layer's parts.
pub(super) struct Layer {
    pub qkv: usize,
    pub out: usize,
    pub up: usize,
    pub down: usize,
    pub small: usize,
    pub small_len: usize,
}

impl Shape {
    /// Reads and checks `config.json`.
    ///
    /// # Errors
    /// A sentence, if the folder is no plain BERT.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let kind: serde_json::Value = serde_json::from_slice(json)
            .map_err(|error| format!("`config.json` does not read: {error}"))?;
        let kind = kind["model_type"].as_str().unwrap_or("nameless");
        if kind != "bert" {
            return Err(format!(
                "`config.json` describes a `{kind}` model; this step needs a `bert`, such as `plugin:minilm`"
            ));
        }
        let config: Config = serde_json::from_slice(json)
            .map_err(|error| format!("`config.json` does not read: {error}"))?;
        let absolute = config
            .position_embedding_type
            .is_none_or(|kind| kind == "absolute");
        if config.hidden_act != "gelu" || !absolute || config.is_decoder {
            return Err(format!(
                "`config.json` of this `{}` asks for another activation than `gelu`, other positions than `absolute`, or a decoder; take a plain BERT encoder",
                config.model_type
            ));
        }
        let shape = Shape {
            vocab: config.vocab_size,
            hidden: config.hidden_size,
            layers: config.num_hidden_layers,
            heads: config.num_attention_heads,
            ff: config.intermediate_size,
            positions: config.max_position_embeddings,
            types: config.type_vocab_size,
            norm_eps: config.layer_norm_eps,
        };
        let sizes = [
            shape.vocab,
            shape.hidden,
            shape.layers,
            shape.heads,
            shape.ff,
            shape.positions,
            shape.types,
        ];
        let sound = sizes.iter().all(|size| (1..1 << 20).contains(size));
        if !sound || !shape.hidden.is_multiple_of(shape.heads) {
            return Err(
                "`config.json` has sizes that do not fit together: all from 1 to 2^20, and the heads divide the width"
                    .into(),
            );
        }
        Ok(shape)
    }

    /// The first position's place.
    pub(super) fn positions_at(&self) -> usize {
        self.vocab * self.hidden
    }

    /// The place of the norm after the embeddings.
    pub(super) fn norm_at(&self) -> usize {
        self.positions_at() + self.positions * self.hidden
    }

    pub(super) fn layer(&self, layer: usize) -> Layer {
        let square = self.hidden * self.hidden;
        let wide = self.ff * self.hidden;
        let small_len = 9 * self.hidden + self.ff;
        let len = 4 * square + 2 * wide + small_len;
        let qkv = self.norm_at() + 2 * self.hidden + layer * len;
        let out = qkv + 3 * square;
        let up = out + square;
        let down = up + wide;
        Layer {
            qkv,
            out,
            up,
            down,
            small: down + wide,
            small_len,
        }
    }

    /// Reads all weights into one vector; a head or pooler in the file is left out.
    ///
    /// # Errors
    /// A sentence naming the tensor that is missing or of another shape.
    pub fn load(&self, weights: &Weights<'_>) -> Result<Vec<f32>, String> {
        let (hidden, ff) = (self.hidden, self.ff);
        let prefix = ["", "bert."]
            .into_iter()
            .find(|prefix| weights.has(&format!("{prefix}embeddings.word_embeddings.weight")))
            .ok_or("`model.safetensors` has no `embeddings.word_embeddings.weight`; give a BERT folder in Hugging Face layout")?;
        let mut flat = Vec::with_capacity(self.layer(self.layers).qkv);
        let append = |name: &str, shape: &[usize], flat: &mut Vec<f32>| {
            weights.append(&format!("{prefix}{name}"), shape, flat)
        };
        append(
            "embeddings.word_embeddings.weight",
            &[self.vocab, hidden],
            &mut flat,
        )?;
        append(
            "embeddings.position_embeddings.weight",
            &[self.positions, hidden],
            &mut flat,
        )?;
        let mut types = Vec::new();
        append(
            "embeddings.token_type_embeddings.weight",
            &[self.types, hidden],
            &mut types,
        )?;
        for position in flat[self.positions_at()..].chunks_exact_mut(hidden) {
            position
                .iter_mut()
                .zip(&types)
                .for_each(|(sum, value)| *sum += value);
        }
        for part in ["weight", "bias"] {
            append(
                &format!("embeddings.LayerNorm.{part}"),
                &[hidden],
                &mut flat,
            )?;
        }
        for layer in 0..self.layers {
            let matrices: [(&[&str], usize, usize); 4] = [
                (
                    &[
                        "attention.self.query",
                        "attention.self.key",
                        "attention.self.value",
                    ],
                    hidden,
                    hidden,
                ),
                (&["attention.output.dense"], hidden, hidden),
                (&["intermediate.dense"], ff, hidden),
                (&["output.dense"], hidden, ff),
            ];
            for (names, output, input) in matrices {
                let mut stacked = Vec::with_capacity(names.len() * output * input);
                for name in names {
                    let name = format!("encoder.layer.{layer}.{name}.weight");
                    append(&name, &[output, input], &mut stacked)?;
                }
                for column in 0..input {
                    flat.extend(stacked[column..].iter().step_by(input));
                }
            }
            let small = [
                ("attention.self.query.bias", hidden),
                ("attention.self.key.bias", hidden),
                ("attention.self.value.bias", hidden),
                ("attention.output.dense.bias", hidden),
                ("attention.output.LayerNorm.weight", hidden),
                ("attention.output.LayerNorm.bias", hidden),
                ("intermediate.dense.bias", ff),
                ("output.dense.bias", hidden),
                ("output.LayerNorm.weight", hidden),
                ("output.LayerNorm.bias", hidden),
            ];
            for (name, len) in small {
                append(&format!("encoder.layer.{layer}.{name}"), &[len], &mut flat)?;
            }
        }
        Ok(flat)
    }

    /// Writes the sizes into a context.
    pub fn write(&self, writer: &mut Writer) {
        let sizes = [
            self.vocab,
            self.hidden,
            self.layers,
            self.heads,
            self.ff,
            self.positions,
            self.types,
        ];
        writer
            .u32s(&sizes.map(|size| size as u32))
            .f32(self.norm_eps);
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
            ff: size(4),
            positions: size(5),
            types: size(6),
            norm_eps: reader.f32(),
        }
    }
}
