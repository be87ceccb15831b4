//! First weights of a new model, from a seed.

use candle_core::{Device, Result, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::config::LlamaConfig;
use crate::weights::LlamaWeights;

/// Weights to start pretraining from.
///
/// Gains are one; the embedding has standard deviation 0.02; a matrix has half of
/// 1 / sqrt(inputs); the two matrices that write to the residual stream start at zero, so that a
/// new model is its embedding and every layer learns its own contribution.
pub(super) fn fresh_weights(config: &LlamaConfig, seed: u64) -> Result<LlamaWeights> {
    let mut normal = Normal::new(seed);
    LlamaWeights::build(config, |name, shape| {
        let deviation = match shape {
            [_] => return Tensor::ones(shape, candle_core::DType::F32, &Device::Cpu),
            _ if name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight") => 0.0,
            _ if name.contains("embed_tokens") || name.contains("lm_head") => 0.02,
            _ => 0.5 / (shape[1] as f32).sqrt(),
        };
        normal.tensor(shape, deviation)
    })
}

/// Independent normal numbers by the Box-Muller transform.
pub(crate) struct Normal {
    rng: ChaCha8Rng,
}

impl Normal {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    pub(crate) fn draw(&mut self) -> f32 {
        let mut uniform = || (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let radius = (-2.0 * (1.0 - uniform()).ln()).sqrt();
        (radius * (std::f64::consts::TAU * uniform()).cos()) as f32
    }

    pub(crate) fn tensor(&mut self, shape: &[usize], deviation: f32) -> Result<Tensor> {
        let count = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|_| self.draw() * deviation).collect();
        Tensor::from_vec(values, shape, &Device::Cpu)
    }
}

/// A configuration small enough for unit tests.
#[cfg(test)]
pub(crate) fn test_config() -> LlamaConfig {
    serde_json::from_value(serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama",
        "hidden_size": 32, "intermediate_size": 48, "vocab_size": 300,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4,
        "max_position_embeddings": 96, "tie_word_embeddings": true, "eos_token_id": 0,
    }))
    .expect("the keys above are those of `LlamaConfig`")
}

/// Random weights everywhere, gains around one: nothing is zero, so that tests see everything.
#[cfg(test)]
pub(crate) fn random_weights(
    config: &LlamaConfig,
    deviation: f32,
    seed: u64,
) -> Result<LlamaWeights> {
    let mut normal = Normal::new(seed);
    LlamaWeights::build(config, |_, shape| {
        let tensor = normal.tensor(shape, deviation)?;
        if shape.len() == 1 {
            tensor + 1.0
        } else {
            Ok(tensor)
        }
    })
}
