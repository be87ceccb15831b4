//! The same step in plain candle operations with candle's autograd.
//!
//! Slower on CPU, but it runs on every candle device (it is what the `cuda` feature trains
//! with), and it is the oracle that the fused step is tested against.

use candle_core::backprop::GradStore;
use candle_core::{D, DType, Device, Result, Tensor, Var};

use super::kernels::Rotary;
use super::step::LossAndGradients;
use crate::config::LlamaConfig;
use crate::weights::{LayerWeights, LlamaWeights};

/// A training step of fixed window on any device.
pub(crate) struct ReferenceStep {
    config: LlamaConfig,
    window: usize,
    cos: Tensor,
    sin: Tensor,
    mask: Tensor,
}

impl ReferenceStep {
    pub(super) fn new(config: &LlamaConfig, window: usize, device: &Device) -> Result<Self> {
        let rotary = Rotary::new(window, config.head_size(), config.rope_theta);
        let shape = (window, config.head_size() / 2);
        let mask = (0..window * window)
            .map(|i| {
                if i % window > i / window {
                    f32::NEG_INFINITY
                } else {
                    0.0
                }
            })
            .collect();
        Ok(Self {
            config: config.clone(),
            window,
            cos: Tensor::from_vec(rotary.cos, shape, device)?,
            sin: Tensor::from_vec(rotary.sin, shape, device)?,
            mask: Tensor::from_vec::<_, f32>(mask, (window, window), device)?,
        })
    }

    /// Forward and backward over `inputs` and `targets`, both `[rows * window]`.
    pub(super) fn run(
        &self,
        weights: &LlamaWeights,
        inputs: &[u32],
        targets: &[u32],
    ) -> Result<LossAndGradients> {
        let vars: Vec<Var> = weights
            .list()
            .into_iter()
            .map(Var::from_tensor)
            .collect::<Result<_>>()?;
        let tracked = LlamaWeights::from_list(
            weights.layers.len(),
            vars.iter().map(|v| v.as_tensor().clone()).collect(),
        );
        let device = tracked.embedding.device();
        let ids = Tensor::new(inputs, device)?;
        let targets = Tensor::new(targets, device)?;
        let mut x = tracked.embedding.embedding(&ids)?;
        for layer in &tracked.layers {
            x = self.layer(layer, &x)?;
        }
        let logits = self
            .norm(&x, &tracked.norm)?
            .matmul(&tracked.output_matrix().t()?)?;
        let loss = candle_nn::loss::cross_entropy(&logits, &targets)?;
        let store: GradStore = loss.backward()?;
        let gradients = vars
            .iter()
            .map(|v| store.get(v).cloned().map_or_else(|| v.zeros_like(), Ok))
            .collect::<Result<_>>()?;
        Ok(LossAndGradients {
            loss: f64::from(loss.to_dtype(DType::F32)?.to_scalar::<f32>()?),
            gradients: LlamaWeights::from_list(weights.layers.len(), gradients),
        })
    }

    fn norm(&self, x: &Tensor, gain: &Tensor) -> Result<Tensor> {
        let mean = x.sqr()?.mean_keepdim(D::Minus1)?;
        x.broadcast_div(&(mean + self.config.rms_norm_eps)?.sqrt()?)?
            .broadcast_mul(gain)
    }

    fn heads(&self, x: &Tensor, count: usize, rotate: bool) -> Result<Tensor> {
        let rows = x.dim(0)? / self.window;
        let x = x
            .reshape((rows, self.window, count, self.config.head_size()))?
            .transpose(1, 2)?
            .contiguous()?;
        if !rotate {
            return Ok(x);
        }
        candle_nn::rotary_emb::rope_slow(&x, &self.cos, &self.sin)
    }

    fn layer(&self, w: &LayerWeights, x: &Tensor) -> Result<Tensor> {
        let (heads, kv_heads) = (self.config.num_attention_heads, self.config.kv_heads());
        let normed = self.norm(x, &w.input_norm)?;
        let query = self.heads(&normed.matmul(&w.query.t()?)?, heads, true)?;
        let key = self.heads(&normed.matmul(&w.key.t()?)?, kv_heads, true)?;
        let value = self.heads(&normed.matmul(&w.value.t()?)?, kv_heads, false)?;
        let (key, value) = (
            repeat(&key, heads / kv_heads)?,
            repeat(&value, heads / kv_heads)?,
        );
        let scale = 1.0 / (self.config.head_size() as f64).sqrt();
        let scores = (query.matmul(&key.t()?)? * scale)?.broadcast_add(&self.mask)?;
        let mixed = candle_nn::ops::softmax(&scores, D::Minus1)?.matmul(&value)?;
        let mixed = mixed
            .transpose(1, 2)?
            .contiguous()?
            .reshape((x.dim(0)?, ()))?;
        let x = (x + mixed.matmul(&w.output.t()?)?)?;
        let normed = self.norm(&x, &w.post_norm)?;
        let gated =
            (candle_nn::ops::silu(&normed.matmul(&w.gate.t()?)?)? * normed.matmul(&w.up.t()?)?)?;
        &x + gated.matmul(&w.down.t()?)?
    }
}

fn repeat(x: &Tensor, times: usize) -> Result<Tensor> {
    if times == 1 {
        return Ok(x.clone());
    }
    let (rows, heads, window, head) = x.dims4()?;
    x.unsqueeze(2)?
        .expand((rows, heads, times, window, head))?
        .contiguous()?
        .reshape((rows, heads * times, window, head))
}

#[cfg(test)]
mod tests {
    use super::super::init;
    use super::super::step::FusedStep;
    use super::*;

    fn relative_error(a: &Tensor, b: &Tensor) -> f64 {
        let norm = |t: &Tensor| {
            t.sqr()
                .unwrap()
                .sum_all()
                .unwrap()
                .to_scalar::<f32>()
                .map(f64::from)
                .unwrap()
                .sqrt()
        };
        norm(&(a - b).unwrap()) / norm(b).max(1e-12)
    }

    fn compare(kv_heads: usize, tied: bool, window: usize) {
        let config = LlamaConfig {
            num_key_value_heads: Some(kv_heads),
            tie_word_embeddings: tied,
            ..init::test_config()
        };
        let weights = init::random_weights(&config, 0.3, 7).unwrap();
        let ids: Vec<u32> = (0..2 * window + 1).map(|i| (i * i % 31) as u32).collect();
        let (inputs, targets) = (&ids[..2 * window], &ids[1..]);
        let fused = FusedStep::new(&config, window)
            .run(&weights, inputs, targets)
            .unwrap();
        let plain = ReferenceStep::new(&config, window, &Device::Cpu)
            .unwrap()
            .run(&weights, inputs, targets)
            .unwrap();
        assert!(
            (fused.loss - plain.loss).abs() < 1e-4,
            "{} {}",
            fused.loss,
            plain.loss
        );
        let names = config.tensor_shapes();
        let pairs = fused
            .gradients
            .list()
            .into_iter()
            .zip(plain.gradients.list());
        for ((name, _), (fused, plain)) in names.iter().zip(pairs) {
            let error = relative_error(fused, plain);
            assert!(error < 2e-4, "gradient of {name} is off by {error}");
        }
    }

    #[test]
    fn the_fused_step_agrees_with_autograd() {
        compare(4, true, 70);
    }

    #[test]
    fn the_fused_step_agrees_with_autograd_when_heads_share_keys() {
        compare(2, false, 9);
    }
}
