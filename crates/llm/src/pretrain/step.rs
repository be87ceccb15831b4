//! One training step on CPU: loss and gradients of a Llama-style decoder, written out by hand.
//!
//! ```text
//! ids ─> embedding ─> [ norm ─> q,k,v ─> rope ─> attention ─> + ─> norm ─> swiglu ─> + ] x layers
//!     ─> norm ─> logits (the embedding again) ─> cross-entropy
//! ```
//!
//! The matrix products are `gemm`'s (`cells::product`); the rest are the kernels next door. Against candle's own
//! autograd (`reference.rs`, which the tests compare with) this keeps no copies, materialises no
//! masks and computes the logits in slices that stay in cache.
//!
//! Deliberately absent: dropout, biases, mixed precision, gradient accumulation.

use candle_core::{Result, Tensor};

use super::attention::{self, Heads};
use super::cells::{change, plus_product, product, read, tensor};
use super::kernels::{self, Rotary};
use crate::config::LlamaConfig;
use crate::weights::{LayerWeights, LlamaWeights};

/// Rows of logits computed at once: 512 x 4096 floats stay in the second- and third-level cache.
const LOGIT_ROWS: usize = 512;

/// What the backward pass of one layer needs again.
struct Saved {
    x: Tensor,
    normed: Tensor,
    inverse: Vec<f32>,
    heads: Heads,
    attended: Tensor,
    middle: Tensor,
    middle_normed: Tensor,
    middle_inverse: Vec<f32>,
    gate_up: Tensor,
    gated: Tensor,
}

/// A training step of fixed shape.
pub(crate) struct FusedStep {
    config: LlamaConfig,
    rotary: Rotary,
    window: usize,
}

/// Mean loss in nats per token, and the gradients.
pub(crate) struct LossAndGradients {
    pub(crate) loss: f64,
    pub(crate) gradients: LlamaWeights,
}

impl FusedStep {
    /// `window` is the number of tokens of one training row.
    pub(super) fn new(config: &LlamaConfig, window: usize) -> Self {
        let rotary = Rotary::new(window, config.head_size(), config.rope_theta);
        Self {
            config: config.clone(),
            rotary,
            window,
        }
    }

    /// Forward and backward over `inputs` and `targets`, both `[rows * window]`.
    pub(super) fn run(
        &self,
        weights: &LlamaWeights,
        inputs: &[u32],
        targets: &[u32],
    ) -> Result<LossAndGradients> {
        let mut saved = Vec::with_capacity(weights.layers.len());
        let mut x = self.embed(weights, inputs)?;
        for layer in &weights.layers {
            let (next, kept) = self.layer_forward(layer, x)?;
            x = next;
            saved.push(kept);
        }
        let (normed, inverse) = self.norm(&x, &weights.norm)?;
        let scale = 1.0 / targets.len() as f32;
        let (losses, dnormed, dhead) = output_layer(weights, &normed, targets, scale)?;
        let (mut dx, dnorm) = self.norm_backward(&x, &weights.norm, &inverse, &dnormed, None)?;

        let mut layers = Vec::with_capacity(saved.len());
        for (layer, kept) in weights.layers.iter().zip(saved).rev() {
            let (below, gradients) = self.layer_backward(layer, kept, dx)?;
            dx = below;
            layers.push(gradients);
        }
        layers.reverse();

        let (dembedding, head) = match weights.head {
            Some(_) => (dhead.zeros_like()?, Some(dhead)),
            None => (dhead, None),
        };
        scatter_rows(&dembedding, inputs, &dx)?;
        let loss = losses.iter().map(|l| f64::from(*l)).sum::<f64>() / losses.len() as f64;
        let gradients = LlamaWeights {
            embedding: dembedding,
            layers,
            norm: dnorm,
            head,
        };
        Ok(LossAndGradients { loss, gradients })
    }

    /// Negative log-likelihood of every target, in nats.
    pub(super) fn losses(
        &self,
        weights: &LlamaWeights,
        inputs: &[u32],
        targets: &[u32],
    ) -> Result<Vec<f32>> {
        let mut x = self.embed(weights, inputs)?;
        for layer in &weights.layers {
            x = self.layer_forward(layer, x)?.0;
        }
        let (normed, _) = self.norm(&x, &weights.norm)?;
        let matrix = weights.output_matrix().t()?;
        let mut losses = Vec::with_capacity(targets.len());
        for (chunk, targets) in targets.chunks(LOGIT_ROWS).enumerate() {
            let rows = normed.narrow(0, chunk * LOGIT_ROWS, targets.len())?;
            let mut logits = product(&rows, &matrix)?.flatten_all()?.to_vec1::<f32>()?;
            let vocab = logits.len() / targets.len();
            for (row, target) in logits.chunks_exact_mut(vocab).zip(targets) {
                losses.push(kernels::cross_entropy(row, *target as usize, 1.0));
            }
        }
        Ok(losses)
    }

    fn embed(&self, weights: &LlamaWeights, inputs: &[u32]) -> Result<Tensor> {
        let d = self.config.hidden_size;
        let rows = read(&weights.embedding, |table| {
            let mut rows = Vec::with_capacity(inputs.len() * d);
            for id in inputs {
                rows.extend_from_slice(&table[*id as usize * d..(*id as usize + 1) * d]);
            }
            rows
        })?;
        tensor(rows, (inputs.len(), d))
    }

    fn norm(&self, x: &Tensor, gain: &Tensor) -> Result<(Tensor, Vec<f32>)> {
        let eps = self.config.rms_norm_eps as f32;
        let mut y = vec![0f32; x.elem_count()];
        let inverse = read(x, |x| {
            read(gain, |gain| kernels::rms_norm(x, gain, eps, &mut y))
        })??;
        Ok((tensor(y, x.shape())?, inverse))
    }

    /// Gradient of the norm's input, added to `residual` where there is one, and of its gain.
    fn norm_backward(
        &self,
        x: &Tensor,
        gain: &Tensor,
        inverse: &[f32],
        dy: &Tensor,
        residual: Option<&Tensor>,
    ) -> Result<(Tensor, Tensor)> {
        let mut dx = match residual {
            Some(residual) => read(residual, <[f32]>::to_vec)?,
            None => vec![0f32; x.elem_count()],
        };
        let mut dgain = vec![0f32; gain.elem_count()];
        read(x, |x| {
            read(gain, |gain| {
                read(dy, |dy| {
                    kernels::rms_norm_backward(x, gain, inverse, dy, &mut dx, &mut dgain);
                })
            })
        })???;
        Ok((tensor(dx, x.shape())?, tensor(dgain, gain.shape())?))
    }

    fn layer_forward(&self, w: &LayerWeights, x: Tensor) -> Result<(Tensor, Saved)> {
        let (normed, inverse) = self.norm(&x, &w.input_norm)?;
        let qkv = product(
            &normed,
            &Tensor::cat(&[&w.query, &w.key, &w.value], 0)?.t()?,
        )?;
        let heads = Heads::split(&self.config, &self.rotary, self.window, &qkv)?;
        let attended = attention::forward(&heads)?;
        let middle = plus_product(&x, &attended, &w.output.t()?)?;
        let (middle_normed, middle_inverse) = self.norm(&middle, &w.post_norm)?;
        let gate_up = product(&middle_normed, &Tensor::cat(&[&w.gate, &w.up], 0)?.t()?)?;
        let width = self.config.intermediate_size;
        let rows = x.dim(0)?;
        let mut gated = vec![0f32; rows * width];
        read(&gate_up, |gate_up| {
            kernels::swiglu(gate_up, width, &mut gated)
        })?;
        let gated = tensor(gated, (rows, width))?;
        let out = plus_product(&middle, &gated, &w.down.t()?)?;
        let saved = Saved {
            x,
            normed,
            inverse,
            heads,
            attended,
            middle,
            middle_normed,
            middle_inverse,
            gate_up,
            gated,
        };
        Ok((out, saved))
    }

    fn layer_backward(
        &self,
        w: &LayerWeights,
        kept: Saved,
        dout: Tensor,
    ) -> Result<(Tensor, LayerWeights)> {
        let width = self.config.intermediate_size;
        let down = product(&dout.t()?, &kept.gated)?;
        let dgated = product(&dout, &w.down)?;
        let mut dgate_up = vec![0f32; kept.gate_up.elem_count()];
        read(&kept.gate_up, |gate_up| {
            read(&dgated, |dgated| {
                kernels::swiglu_backward(gate_up, width, dgated, &mut dgate_up);
            })
        })??;
        let dgate_up = tensor(dgate_up, kept.gate_up.shape())?;
        let gate_and_up = product(&dgate_up.t()?, &kept.middle_normed)?;
        let dnormed = product(&dgate_up, &Tensor::cat(&[&w.gate, &w.up], 0)?)?;
        let (dmiddle, post_norm) = self.norm_backward(
            &kept.middle,
            &w.post_norm,
            &kept.middle_inverse,
            &dnormed,
            Some(&dout),
        )?;

        let output = product(&dmiddle.t()?, &kept.attended)?;
        let dattended = product(&dmiddle, &w.output)?;
        let dqkv = attention::backward(&kept.heads, &self.rotary, &kept.attended, &dattended)?;
        let qkv = product(&dqkv.t()?, &kept.normed)?;
        let dnormed = product(&dqkv, &Tensor::cat(&[&w.query, &w.key, &w.value], 0)?)?;
        let (dx, input_norm) = self.norm_backward(
            &kept.x,
            &w.input_norm,
            &kept.inverse,
            &dnormed,
            Some(&dmiddle),
        )?;
        let (q, k) = (w.query.dim(0)?, w.key.dim(0)?);
        let gradients = LayerWeights {
            input_norm,
            query: qkv.narrow(0, 0, q)?,
            key: qkv.narrow(0, q, k)?,
            value: qkv.narrow(0, q + k, k)?,
            output,
            post_norm,
            gate: gate_and_up.narrow(0, 0, width)?,
            up: gate_and_up.narrow(0, width, width)?,
            down,
        };
        Ok((dx, gradients))
    }
}

/// Losses, gradient of the normed hidden states, gradient of the output matrix.
fn output_layer(
    weights: &LlamaWeights,
    normed: &Tensor,
    targets: &[u32],
    scale: f32,
) -> Result<(Vec<f32>, Tensor, Tensor)> {
    let matrix = weights.output_matrix();
    let vocab = matrix.dim(0)?;
    let mut losses = vec![0f32; targets.len()];
    let mut dnormed = Vec::with_capacity(normed.elem_count());
    let dmatrix = matrix.zeros_like()?;
    for (chunk, targets) in targets.chunks(LOGIT_ROWS).enumerate() {
        let start = chunk * LOGIT_ROWS;
        let rows = normed.narrow(0, start, targets.len())?;
        let logits = product(&rows, &matrix.t()?)?;
        let chunk_losses = std::cell::RefCell::new(&mut losses[start..start + targets.len()]);
        change(&logits, |logits| {
            let mut losses = chunk_losses.borrow_mut();
            for ((row, target), loss) in logits
                .chunks_exact_mut(vocab)
                .zip(targets)
                .zip(losses.iter_mut())
            {
                *loss = kernels::cross_entropy(row, *target as usize, scale);
            }
        })?;
        read(&product(&logits, matrix)?, |d| dnormed.extend_from_slice(d))?;
        let part = product(&logits.t()?, &rows)?;
        read(&part, |part| change(&dmatrix, |sum| add(sum, part)))??;
    }
    Ok((losses, tensor(dnormed, normed.shape())?, dmatrix))
}

fn add(sum: &mut [f32], part: &[f32]) {
    for (sum, part) in sum.iter_mut().zip(part) {
        *sum += part;
    }
}

/// Adds row i of `rows` to row `ids[i]` of `table`.
fn scatter_rows(table: &Tensor, ids: &[u32], rows: &Tensor) -> Result<()> {
    let d = table.dim(1)?;
    read(rows, |rows| {
        change(table, |table| {
            for (id, row) in ids.iter().zip(rows.chunks_exact(d)) {
                add(&mut table[*id as usize * d..(*id as usize + 1) * d], row);
            }
        })
    })?
}
