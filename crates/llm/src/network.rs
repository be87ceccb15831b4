//! The forward pass of a Llama-style decoder, for a whole text or for one token of many texts.
//!
//! ```text
//! whole:  tokens [rows, length] (+ past, shared by all rows) ─> hidden states, keys and values
//! step:   one token per sequence, each at its own position   ─> hidden states; the cache grows
//! ```
//! Sequences of different lengths share a batch without padding on the left: every sequence has
//! its own slot in the cache and its own position, and a mask hides what lies beyond it.
//!
//! Works on every candle device. Deliberately absent: scaled rotary positions, sliding windows.

use candle_core::{D, Device, Result, Tensor};
use candle_nn::ops::{rms_norm, silu, softmax_last_dim};
use candle_nn::rotary_emb::rope_thd;

use crate::config::LlamaConfig;
use crate::weights::{LayerWeights, LlamaWeights};

/// A decoder ready to run.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) config: LlamaConfig,
    pub(crate) weights: LlamaWeights,
    /// `[context, head / 2]`.
    cos: Tensor,
    sin: Tensor,
}

/// Keys and values of a text, `[rows, kv_heads, length, head]` per layer.
#[derive(Debug, Clone)]
pub(crate) struct Past {
    layers: Vec<(Tensor, Tensor)>,
    pub(crate) length: usize,
}

/// Keys and values of many sequences, `[slots, kv_heads, capacity, head]` per layer.
pub(crate) struct Cache {
    layers: Vec<(Tensor, Tensor)>,
}

impl Network {
    pub(crate) fn new(config: LlamaConfig, weights: LlamaWeights) -> Result<Self> {
        let device = weights.embedding.device().clone();
        let (positions, half) = (config.max_position_embeddings, config.head_size() / 2);
        let angles: Vec<f64> = (0..positions)
            .flat_map(|p| {
                let (theta, half) = (config.rope_theta, half as f64);
                (0..half as usize).map(move |i| p as f64 * theta.powf(-(i as f64) / half))
            })
            .collect();
        let table = |f: fn(f64) -> f64| {
            let values: Vec<f32> = angles.iter().map(|a| f(*a) as f32).collect();
            Tensor::from_vec(values, (positions, half), &device)
        };
        Ok(Self {
            cos: table(f64::cos)?,
            sin: table(f64::sin)?,
            config,
            weights,
        })
    }

    pub(crate) fn device(&self) -> &Device {
        self.weights.embedding.device()
    }

    /// Runs `rows` texts of equal length (pad on the right; causality hides the padding).
    ///
    /// `past` is a text that all rows go on from. Returns `[rows * length, hidden]` and the keys
    /// and values of the new tokens with the past's before them.
    pub(crate) fn whole(
        &self,
        tokens: &[u32],
        rows: usize,
        past: Option<&Past>,
    ) -> Result<(Tensor, Past)> {
        let length = tokens.len() / rows;
        let before = past.map_or(0, |past| past.length);
        let cos = self.cos.narrow(0, before, length)?;
        let sin = self.sin.narrow(0, before, length)?;
        let mask = self.causal_mask(length, before)?;
        let mut x = self.embed(tokens)?;
        let mut kept = Vec::with_capacity(self.weights.layers.len());
        for (index, layer) in self.weights.layers.iter().enumerate() {
            x = self.layer(
                layer,
                &x,
                (rows, length),
                (&cos, &sin),
                |query, key, value| {
                    let (mut key, mut value) = (by_head(&key)?, by_head(&value)?);
                    if let Some(past) = past {
                        let (past_key, past_value) = &past.layers[index];
                        key = Tensor::cat(&[&repeat_rows(past_key, rows)?, &key], 2)?;
                        value = Tensor::cat(&[&repeat_rows(past_value, rows)?, &value], 2)?;
                    }
                    let mixed = self.attend(&by_head(&query)?, &key, &value, &mask)?;
                    kept.push((key, value));
                    mixed
                        .transpose(1, 2)?
                        .contiguous()?
                        .reshape((rows * length, ()))
                },
            )?;
        }
        Ok((
            self.final_norm(&x)?,
            Past {
                layers: kept,
                length: before + length,
            },
        ))
    }

    /// Runs one token for each of the first `tokens.len()` slots; token i goes to `positions[i]`.
    pub(crate) fn step(
        &self,
        tokens: &[u32],
        positions: &[usize],
        cache: &Cache,
    ) -> Result<Tensor> {
        let count = tokens.len();
        let ids: Vec<u32> = positions.iter().map(|p| *p as u32).collect();
        let ids = Tensor::new(ids, self.device())?;
        let cos = self.cos.index_select(&ids, 0)?;
        let sin = self.sin.index_select(&ids, 0)?;
        let seen = positions.iter().max().map_or(0, |p| p + 1);
        let mask = self.length_mask(positions, seen)?;
        let (kv_heads, head) = (self.config.kv_heads(), self.config.head_size());
        let group = self.config.num_attention_heads / kv_heads;
        let mut x = self.embed(tokens)?;
        for (layer, (keys, values)) in self.weights.layers.iter().zip(&cache.layers) {
            // One "row" whose positions are those of the sequences: rotation needs no more.
            x = self.layer(layer, &x, (1, count), (&cos, &sin), |query, key, value| {
                let key = key.reshape((count, kv_heads, 1, head))?;
                let value = value.reshape((count, kv_heads, 1, head))?;
                for (slot, position) in positions.iter().enumerate() {
                    let here = |t: &Tensor| t.narrow(0, slot, 1);
                    here(keys)?.slice_set(&here(&key)?, 2, *position)?;
                    here(values)?.slice_set(&here(&value)?, 2, *position)?;
                }
                let query = query.reshape((count, kv_heads, group, head))?;
                let keys = keys.narrow(0, 0, count)?.narrow(2, 0, seen)?;
                let values = values.narrow(0, 0, count)?.narrow(2, 0, seen)?;
                let scores = (query.matmul(&keys.t()?)? * self.scale())?.broadcast_add(&mask)?;
                softmax_last_dim(&scores)?
                    .matmul(&values)?
                    .reshape((count, ()))
            })?;
        }
        self.final_norm(&x)
    }

    /// Logits of some hidden states, `[n, vocab]`.
    pub(crate) fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        hidden.matmul(&self.weights.output_matrix().t()?)
    }

    /// An empty cache.
    pub(crate) fn cache(&self, slots: usize, capacity: usize) -> Result<Cache> {
        let shape = (
            slots,
            self.config.kv_heads(),
            capacity,
            self.config.head_size(),
        );
        let empty = || Tensor::zeros(shape, candle_core::DType::F32, self.device());
        let layers = self
            .weights
            .layers
            .iter()
            .map(|_| Ok((empty()?, empty()?)))
            .collect::<Result<_>>()?;
        Ok(Cache { layers })
    }

    fn embed(&self, tokens: &[u32]) -> Result<Tensor> {
        self.weights
            .embedding
            .index_select(&Tensor::new(tokens, self.device())?, 0)
    }

    fn final_norm(&self, x: &Tensor) -> Result<Tensor> {
        rms_norm(x, &self.weights.norm, self.config.rms_norm_eps as f32)
    }

    fn scale(&self) -> f64 {
        1.0 / (self.config.head_size() as f64).sqrt()
    }

    /// One layer; `attend` gets rotated `[rows, length, heads, head]` queries, keys and values.
    fn layer(
        &self,
        w: &LayerWeights,
        x: &Tensor,
        (rows, length): (usize, usize),
        (cos, sin): (&Tensor, &Tensor),
        attend: impl FnOnce(Tensor, Tensor, Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let eps = self.config.rms_norm_eps as f32;
        let normed = rms_norm(x, &w.input_norm, eps)?;
        let project = |matrix: &Tensor| {
            normed
                .matmul(&matrix.t()?)?
                .reshape((rows, length, (), self.config.head_size()))
        };
        let query = rope_thd(&project(&w.query)?, cos, sin)?;
        let key = rope_thd(&project(&w.key)?, cos, sin)?;
        let mixed = attend(query, key, project(&w.value)?)?;
        let x = (x + mixed.matmul(&w.output.t()?)?)?;
        let normed = rms_norm(&x, &w.post_norm, eps)?;
        let gated = (silu(&normed.matmul(&w.gate.t()?)?)? * normed.matmul(&w.up.t()?)?)?;
        &x + gated.matmul(&w.down.t()?)?
    }

    /// `[rows, heads, length, head]` from the same and `[rows, kv_heads, seen, head]` twice.
    fn attend(
        &self,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        mask: &Tensor,
    ) -> Result<Tensor> {
        let (rows, heads, length, head) = query.dims4()?;
        let (_, kv_heads, seen, _) = key.dims4()?;
        let stacked = query.reshape((rows, kv_heads, heads / kv_heads * length, head))?;
        let scores = (stacked.matmul(&key.t()?)? * self.scale())?;
        let scores = scores
            .reshape((rows, heads, length, seen))?
            .broadcast_add(mask)?;
        let weights = softmax_last_dim(&scores)?;
        let weights = weights.reshape((rows, kv_heads, heads / kv_heads * length, seen))?;
        weights.matmul(value)?.reshape((rows, heads, length, head))
    }

    /// `[length, before + length]`: zero where a token may look, minus infinity elsewhere.
    fn causal_mask(&self, length: usize, before: usize) -> Result<Tensor> {
        let seen = before + length;
        let visible = |i: usize| i % seen <= before + i / seen;
        let mask: Vec<f32> = (0..length * seen)
            .map(|i| if visible(i) { 0.0 } else { f32::NEG_INFINITY })
            .collect();
        Tensor::from_vec(mask, (length, seen), self.device())
    }

    /// `[sequences, 1, 1, seen]`: minus infinity beyond each sequence's own position.
    fn length_mask(&self, positions: &[usize], seen: usize) -> Result<Tensor> {
        let mask: Vec<f32> = positions
            .iter()
            .flat_map(|p| (0..seen).map(move |i| if i <= *p { 0.0 } else { f32::NEG_INFINITY }))
            .collect();
        Tensor::from_vec(mask, (positions.len(), 1, 1, seen), self.device())
    }
}

impl Cache {
    /// Puts a text's keys and values (one row) into a slot.
    pub(crate) fn fill(&self, slot: usize, past: &Past) -> Result<()> {
        for ((keys, values), (key, value)) in self.layers.iter().zip(&past.layers) {
            keys.narrow(0, slot, 1)?
                .slice_set(&key.contiguous()?, 2, 0)?;
            values
                .narrow(0, slot, 1)?
                .slice_set(&value.contiguous()?, 2, 0)?;
        }
        Ok(())
    }

    /// Copies one slot over another, so that the slots in use stay together.
    pub(crate) fn copy_slot(&self, from: usize, to: usize) -> Result<()> {
        for tensor in self.layers.iter().flat_map(|(keys, values)| [keys, values]) {
            let moved = tensor.narrow(0, from, 1)?.copy()?;
            tensor.narrow(0, to, 1)?.slice_set(&moved, 0, 0)?;
        }
        Ok(())
    }
}

/// `[rows, length, heads, head]` to `[rows, heads, length, head]`.
fn by_head(x: &Tensor) -> Result<Tensor> {
    x.transpose(1, D::Minus2)?.contiguous()
}

fn repeat_rows(x: &Tensor, rows: usize) -> Result<Tensor> {
    let (_, heads, length, head) = x.dims4()?;
    x.expand((rows, heads, length, head))?.contiguous()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pretrain::init;

    fn network(kv_heads: usize) -> Network {
        let config = LlamaConfig {
            num_key_value_heads: Some(kv_heads),
            ..init::test_config()
        };
        let weights = init::random_weights(&config, 0.2, 11).unwrap();
        Network::new(config, weights).unwrap()
    }

    fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
        let difference = (a - b).unwrap().abs().unwrap();
        difference
            .flatten_all()
            .unwrap()
            .max(0)
            .unwrap()
            .to_scalar()
            .unwrap()
    }

    #[test]
    fn token_by_token_gives_the_hidden_states_of_the_whole_text() {
        for kv_heads in [4, 2, 1] {
            let network = network(kv_heads);
            let texts: [&[u32]; 3] = [&[5, 9, 200, 31, 7, 8], &[1, 2, 3], &[250, 4, 4, 4, 90]];
            let cache = network.cache(3, 12).unwrap();
            let mut last = Vec::new();
            for (slot, text) in texts.iter().enumerate() {
                let (hidden, _) = network.whole(text, 1, None).unwrap();
                last.push(hidden.narrow(0, text.len() - 1, 1).unwrap());
                let (_, past) = network.whole(&text[..text.len() - 1], 1, None).unwrap();
                cache.fill(slot, &past).unwrap();
            }
            let tokens: Vec<u32> = texts.iter().map(|t| t[t.len() - 1]).collect();
            let positions: Vec<usize> = texts.iter().map(|t| t.len() - 1).collect();
            let stepped = network.step(&tokens, &positions, &cache).unwrap();
            let difference = largest_difference(&stepped, &Tensor::cat(&last, 0).unwrap());
            assert!(
                difference < 1e-4,
                "{kv_heads} key heads: off by {difference}"
            );
        }
    }

    #[test]
    fn a_shared_past_gives_the_hidden_states_of_the_whole_text() {
        let network = network(2);
        let (_, past) = network.whole(&[5, 9, 200], 1, None).unwrap();
        let (hidden, _) = network.whole(&[31, 7, 42, 43], 2, Some(&past)).unwrap();
        let (whole, _) = network.whole(&[5, 9, 200, 42, 43], 1, None).unwrap();
        let difference = largest_difference(
            &hidden.narrow(0, 2, 2).unwrap(),
            &whole.narrow(0, 3, 2).unwrap(),
        );
        assert!(difference < 1e-4, "off by {difference}");
    }
}
