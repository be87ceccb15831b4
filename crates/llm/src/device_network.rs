//! A decoder as tensors, for any candle device; the CPU has its own (`host`).
//!
//! Here are the numbers, where they lie; start reading at [`DeviceSession::forward`] in
//! `session.rs`. Deliberately absent: quantised weights.

mod session;

use std::sync::Arc;

use candle_core::{Device, Result, Tensor};
use candle_nn::ops::rms_norm;

pub(crate) use self::session::DeviceSession;
use crate::architecture::{Architecture, NormKind};
use crate::decoder::{self, Decoder};

/// A decoder of tensors; cloning is cheap.
#[derive(Debug, Clone)]
pub(crate) struct DeviceNetwork {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    architecture: Architecture,
    /// As given, for whoever trains the model.
    decoder: Decoder,
    device: Device,
    embedding: Tensor,
    layers: Vec<Layer>,
    norm: Norm,
    head: Linear,
    /// Cosines and sines per table, `[context, dims / 2]` each.
    rotary: Vec<(Tensor, Tensor)>,
}

#[derive(Debug)]
struct Linear {
    /// `[in, out]`, a view of `[out, in]`.
    matrix: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    fn new(linear: &decoder::Linear, columns: usize, device: &Device) -> Result<Self> {
        let rows = linear.weight.len() / columns;
        let bias = linear.bias.as_ref();
        Ok(Self {
            matrix: Tensor::from_slice(&linear.weight.numbers(), (rows, columns), device)?.t()?,
            bias: bias
                .map(|bias| Tensor::new(&bias[..], device))
                .transpose()?,
        })
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let y = x.matmul(&self.matrix)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}

#[derive(Debug)]
struct Norm {
    gain: Tensor,
    bias: Option<Tensor>,
}

impl Norm {
    fn new(norm: &decoder::Norm, device: &Device) -> Result<Self> {
        let bias = norm.bias.as_ref();
        Ok(Self {
            gain: Tensor::new(&norm.gain[..], device)?,
            bias: bias
                .map(|bias| Tensor::new(&bias[..], device))
                .transpose()?,
        })
    }

    fn apply(&self, architecture: &Architecture, x: &Tensor) -> Result<Tensor> {
        let (x, eps) = (x.contiguous()?, architecture.norm_eps);
        match (architecture.norm, &self.bias) {
            (NormKind::Rms, _) => rms_norm(&x, &self.gain, eps),
            (NormKind::Layer, Some(bias)) => candle_nn::ops::layer_norm(&x, &self.gain, bias, eps),
            (NormKind::Layer, None) => {
                candle_nn::ops::layer_norm(&x, &self.gain, &self.gain.zeros_like()?, eps)
            }
        }
    }
}

#[derive(Debug)]
struct Layer {
    input_norm: Norm,
    qkv: Linear,
    query_norm: Option<Norm>,
    key_norm: Option<Norm>,
    output: Linear,
    attention_norm: Option<Norm>,
    middle_norm: Option<Norm>,
    gate_up: Linear,
    down: Linear,
    output_norm: Option<Norm>,
}

impl DeviceNetwork {
    pub(crate) fn new(
        architecture: Architecture,
        decoder: Decoder,
        device: &Device,
    ) -> Result<Self> {
        let a = &architecture;
        let norm = |norm: &decoder::Norm| Norm::new(norm, device);
        let optional = |n: &Option<decoder::Norm>| n.as_ref().map(norm).transpose();
        let mut layers = Vec::with_capacity(decoder.layers.len());
        for layer in &decoder.layers {
            layers.push(Layer {
                input_norm: norm(&layer.input_norm)?,
                qkv: Linear::new(&layer.qkv, a.hidden, device)?,
                query_norm: optional(&layer.query_norm)?,
                key_norm: optional(&layer.key_norm)?,
                output: Linear::new(&layer.output, a.query_width(), device)?,
                attention_norm: optional(&layer.attention_norm)?,
                middle_norm: optional(&layer.middle_norm)?,
                gate_up: Linear::new(&layer.gate_up, a.hidden, device)?,
                down: Linear::new(&layer.down, a.intermediate, device)?,
                output_norm: optional(&layer.output_norm)?,
            });
        }
        let embedding =
            Tensor::from_slice(&decoder.embedding.numbers(), (a.vocab, a.hidden), device)?;
        let head = match &decoder.head {
            Some(head) => Linear::new(head, a.hidden, device)?,
            None => Linear {
                matrix: embedding.t()?,
                bias: None,
            },
        };
        let table = |table: &crate::architecture::Rotary, f: fn(f64) -> f64| {
            let angles =
                (0..a.context).flat_map(|p| table.frequencies.iter().map(move |w| p as f64 * w));
            let values: Vec<f32> = angles
                .map(|angle| (f(angle) * table.amplitude) as f32)
                .collect();
            Tensor::from_vec(values, (a.context, table.frequencies.len()), device)
        };
        let rotary = a
            .rotary
            .iter()
            .map(|t| Ok((table(t, f64::cos)?, table(t, f64::sin)?)));
        Ok(Self {
            inner: Arc::new(Inner {
                rotary: rotary.collect::<Result<_>>()?,
                norm: norm(&decoder.norm)?,
                device: device.clone(),
                embedding,
                layers,
                head,
                decoder,
                architecture,
            }),
        })
    }

    pub(crate) fn architecture(&self) -> &Architecture {
        &self.inner.architecture
    }

    pub(crate) fn decoder(&self) -> Decoder {
        self.inner.decoder.clone()
    }
}
