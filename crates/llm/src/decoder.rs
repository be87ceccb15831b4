//! The numbers of a decoder of any family, on the CPU, before a network takes them.
//!
//! Matrices are `[out, in]`, as Hugging Face stores them; query, key and value are one matrix, and
//! so are gate and up.

use std::borrow::Cow;

use candle_core::{Device, Tensor};

use crate::architecture::Architecture;
use crate::config::LlamaConfig;
use crate::weight::Weight;
use crate::weights::LlamaWeights;

/// A matrix with an optional bias.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Linear {
    /// `[out, in]`.
    pub(crate) weight: Weight,
    /// `[out]`.
    pub(crate) bias: Option<Vec<f32>>,
}

/// Gain and, for layer norms, bias.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Norm {
    pub(crate) gain: Vec<f32>,
    pub(crate) bias: Option<Vec<f32>>,
}

/// One layer; a part that a family does not have is `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Layer {
    /// Before attention.
    pub(crate) input_norm: Norm,
    /// `[(heads + 2 * kv_heads) * head, hidden]`.
    pub(crate) qkv: Linear,
    /// Norm of each query head.
    pub(crate) query_norm: Option<Norm>,
    /// Norm of each key head.
    pub(crate) key_norm: Option<Norm>,
    /// `[hidden, heads * head]`.
    pub(crate) output: Linear,
    /// Of attention's result, before it is added.
    pub(crate) attention_norm: Option<Norm>,
    /// Before the feed-forward layer; `None` where that reads `input_norm`.
    pub(crate) middle_norm: Option<Norm>,
    /// `[2 * intermediate, hidden]`, gate then up; `[intermediate, hidden]` where not gated.
    pub(crate) gate_up: Linear,
    /// `[hidden, intermediate]`.
    pub(crate) down: Linear,
    /// Of the feed-forward layer's result, before it is added.
    pub(crate) output_norm: Option<Norm>,
}

/// A whole decoder.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Decoder {
    /// `[vocab, hidden]`.
    pub(crate) embedding: Weight,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: Norm,
    /// `[vocab, hidden]`; `None` where the embedding is used again.
    pub(crate) head: Option<Linear>,
}

impl Decoder {
    /// The numbers of a Llama.
    pub(crate) fn from_llama(weights: &LlamaWeights) -> candle_core::Result<Self> {
        let join = |tensors: &[&Tensor]| {
            let mut joined = Vec::new();
            for tensor in tensors {
                joined.extend(tensor.flatten_all()?.to_vec1::<f32>()?);
            }
            candle_core::Result::Ok(joined)
        };
        let linear = |tensors: &[&Tensor]| {
            let (weight, bias) = (Weight::Full(join(tensors)?), None);
            candle_core::Result::Ok(Linear { weight, bias })
        };
        let norm = |tensor: &Tensor| {
            let (gain, bias) = (join(&[tensor])?, None);
            candle_core::Result::Ok(Norm { gain, bias })
        };
        let mut layers = Vec::with_capacity(weights.layers.len());
        for layer in &weights.layers {
            layers.push(Layer {
                input_norm: norm(&layer.input_norm)?,
                qkv: linear(&[&layer.query, &layer.key, &layer.value])?,
                output: linear(&[&layer.output])?,
                middle_norm: Some(norm(&layer.post_norm)?),
                gate_up: linear(&[&layer.gate, &layer.up])?,
                down: linear(&[&layer.down])?,
                ..Layer::default()
            });
        }
        Ok(Self {
            embedding: Weight::Full(join(&[&weights.embedding])?),
            layers,
            norm: norm(&weights.norm)?,
            head: match &weights.head {
                Some(head) => Some(linear(&[head])?),
                None => None,
            },
        })
    }

    /// Inverse of [`Decoder::from_llama`].
    pub(crate) fn to_llama(&self, config: &LlamaConfig) -> candle_core::Result<LlamaWeights> {
        let mut parts: Vec<Cow<'_, [f32]>> = vec![self.embedding.numbers()];
        let (query, kv) = (
            config.num_attention_heads * config.head_size() * config.hidden_size,
            config.kv_heads() * config.head_size() * config.hidden_size,
        );
        for layer in &self.layers {
            let cut = |matrix: &Cow<'_, [f32]>, range: std::ops::Range<usize>| {
                Cow::Owned(matrix[range].to_vec())
            };
            let (qkv, gate_up) = (layer.qkv.weight.numbers(), layer.gate_up.weight.numbers());
            let middle = layer.middle_norm.as_ref();
            let half = gate_up.len() / 2;
            parts.extend([
                Cow::Borrowed(&layer.input_norm.gain[..]),
                cut(&qkv, 0..query),
                cut(&qkv, query..query + kv),
                cut(&qkv, query + kv..qkv.len()),
                layer.output.weight.numbers(),
                Cow::Borrowed(middle.map_or(&[][..], |norm| &norm.gain)),
                cut(&gate_up, 0..half),
                cut(&gate_up, half..2 * half),
                layer.down.weight.numbers(),
            ]);
        }
        parts.push(Cow::Borrowed(&self.norm.gain));
        parts.extend(self.head.as_ref().map(|head| head.weight.numbers()));
        let tensors = config.tensor_shapes().into_iter().zip(parts);
        let tensors =
            tensors.map(|((_, shape), part)| Tensor::from_slice(&part, shape, &Device::Cpu));
        let tensors = tensors.collect::<candle_core::Result<_>>()?;
        Ok(LlamaWeights::from_list(config.num_hidden_layers, tensors))
    }

    /// Numbers in all.
    pub(crate) fn parameters(&self, architecture: &Architecture) -> usize {
        let of = |linear: &Linear| linear.weight.len();
        let layer = |l: &Layer| of(&l.qkv) + of(&l.output) + of(&l.gate_up) + of(&l.down);
        let inside: usize = self.layers.iter().map(layer).sum();
        let ends = 1 + usize::from(self.head.is_some());
        inside + ends * architecture.vocab * architecture.hidden
    }
}
