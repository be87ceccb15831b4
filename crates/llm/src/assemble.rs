//! Named tensors of a Hugging Face file into a [`Decoder`].
//!
//! Every tensor must be there, have the shape that the configuration implies, and be used: a file
//! with a part that the forward pass does not know would give wrong numbers without a word.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::Device;

use crate::architecture::Architecture;
use crate::decoder::{Decoder, Layer, Linear, Norm};
use crate::error::{Error, Result};
use crate::families::{Family, Parts};
use crate::network::PARAMETERS_PER_SESSION_MAX;
use crate::weight::{Bits, Panels, Weight};

/// Tensors by name, each read when it is taken: at no time is a whole model there as f32 beside
/// what is made of it.
pub(crate) struct Tensors<'a> {
    path: PathBuf,
    by_name: HashMap<String, Stored<'a>>,
    /// Whether matrices stay in the bits that they have.
    keep_bits: bool,
}

/// A tensor in a file.
struct Stored<'a> {
    shape: Vec<usize>,
    bits: Bits,
    read: Box<dyn FnOnce() -> Result<Vec<f32>, String> + 'a>,
}

impl<'a> Tensors<'a> {
    /// - `path`: for messages.
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            by_name: HashMap::new(),
            keep_bits: false,
        }
    }

    /// - `read`: makes the numbers, as many as `shape` says.
    pub(crate) fn insert(
        &mut self,
        name: String,
        shape: Vec<usize>,
        bits: Bits,
        read: impl FnOnce() -> Result<Vec<f32>, String> + 'a,
    ) {
        let read = Box::new(read);
        self.by_name.insert(name, Stored { shape, bits, read });
    }

    /// Matrices of a model that is too large for a processor's caches will be left in the bits that
    /// they have.
    pub(crate) fn keep_bits_if_large(&mut self, device: &Device) {
        let numbers = |stored: &Stored<'_>| {
            let mut sizes = stored.shape.iter();
            sizes.try_fold(1_usize, |all, size| all.checked_mul(*size))
        };
        let all = self.by_name.values().try_fold(0_usize, |all, stored| {
            numbers(stored).and_then(|more| all.checked_add(more))
        });
        self.keep_bits = device.is_cpu() && all.is_none_or(|all| all > PARAMETERS_PER_SESSION_MAX);
    }

    /// The same for a model of any size.
    #[cfg(test)]
    pub(crate) fn keep_bits(&mut self) {
        self.keep_bits = true;
    }

    /// Takes a tensor out.
    pub(crate) fn take(&mut self, name: &str, expected: &[usize]) -> Result<Vec<f32>> {
        self.take_with_bits(name, expected)
            .map(|(values, _)| values)
    }

    fn take_with_bits(&mut self, name: &str, expected: &[usize]) -> Result<(Vec<f32>, Bits)> {
        let Some(Stored { shape, bits, read }) = self.by_name.remove(name) else {
            return Err(Error::MissingTensor {
                name: name.to_owned(),
                path: self.path.clone(),
            });
        };
        if shape != expected {
            return Err(Error::ShapeMismatch {
                name: name.to_owned(),
                expected: expected.to_vec(),
                found: shape,
            });
        }
        let values = read().map_err(|problem| Error::unusable(&self.path, problem))?;
        if !values.iter().all(|value| value.is_finite()) {
            return Err(Error::Malformed {
                path: self.path.clone(),
                problem: format!("tensor `{name}` holds a number that is not finite"),
            });
        }
        Ok((values, bits))
    }

    /// Drops a tensor that repeats another one or can be computed.
    pub(crate) fn forget(&mut self, redundant: impl Fn(&str) -> bool) {
        self.by_name.retain(|name, _| !redundant(name));
    }

    /// Refuses tensors that nobody took.
    pub(crate) fn finish(self, family: Family) -> Result<()> {
        let Some(name) = self.by_name.keys().min() else {
            return Ok(());
        };
        Err(Error::Malformed {
            problem: format!(
                "it holds a tensor `{name}`, which a `{}` model with this configuration does not have",
                family.name()
            ),
            path: self.path,
        })
    }

    /// Takes several matrices with the same input, one below the other.
    pub(crate) fn linear(
        &mut self,
        parts: &[(&str, usize)],
        input: usize,
        bias: bool,
    ) -> Result<Linear> {
        let named: Vec<_> = parts
            .iter()
            .map(|(name, output)| (format!("{name}.weight"), *output))
            .collect();
        let weight = self.weight(&named, input)?;
        let mut all = bias.then(Vec::new);
        for (name, output) in parts {
            if let Some(all) = &mut all {
                all.extend(self.take(&format!("{name}.bias"), &[*output])?);
            }
        }
        Ok(Linear { weight, bias: all })
    }

    /// Takes matrices by their whole names, one below the other.
    fn weight(&mut self, parts: &[(String, usize)], input: usize) -> Result<Weight> {
        let mut numbers = Vec::new();
        let mut bits = None;
        for (name, output) in parts {
            let (values, own) = self.take_with_bits(name, &[*output, input])?;
            bits = match bits {
                Some(others) if others != own => Some(Bits::Full),
                _ => Some(own),
            };
            match numbers.is_empty() {
                true => numbers = values,
                false => numbers.extend(values),
            }
        }
        let bits = bits.filter(|_| self.keep_bits).unwrap_or(Bits::Full);
        Ok(match Panels::pack(&numbers, input, bits) {
            Some(panels) => Weight::Panels(panels),
            None => Weight::Full(numbers),
        })
    }

    /// Takes a norm's gain, and its bias where the family has one.
    pub(crate) fn norm(&mut self, name: &str, width: usize, family: Family) -> Result<Norm> {
        let mut gain = self.take(&format!("{name}.weight"), &[width])?;
        if family.is_gemma() {
            gain.iter_mut().for_each(|gain| *gain += 1.0);
        }
        let bias = match family {
            Family::Phi => Some(self.take(&format!("{name}.bias"), &[width])?),
            _ => None,
        };
        Ok(Norm { gain, bias })
    }
}

/// Takes a whole decoder out of a file with Hugging Face's names.
pub(crate) fn hugging_face(
    mut tensors: Tensors<'_>,
    family: Family,
    architecture: &Architecture,
    parts: Parts,
) -> Result<Decoder> {
    let a = architecture;
    tensors.forget(|name| {
        name.ends_with("rotary_emb.inv_freq") || (parts.tied && name == "lm_head.weight")
    });
    let embedding = [("model.embed_tokens.weight".to_owned(), a.vocab)];
    let embedding = tensors.weight(&embedding, a.hidden)?;
    let mut layers = Vec::with_capacity(a.layers.len());
    for index in 0..a.layers.len() {
        let prefix = format!("model.layers.{index}");
        layers.push(layer(&mut tensors, &prefix, family, a, parts)?);
    }
    let norm = match family {
        Family::Phi => "model.final_layernorm",
        _ => "model.norm",
    };
    let norm = tensors.norm(norm, a.hidden, family)?;
    let head = match parts.tied {
        true => None,
        false => Some(tensors.linear(&[("lm_head", a.vocab)], a.hidden, family == Family::Phi)?),
    };
    tensors.finish(family)?;
    Ok(Decoder {
        embedding,
        layers,
        norm,
        head,
    })
}

fn layer(
    tensors: &mut Tensors<'_>,
    prefix: &str,
    family: Family,
    a: &Architecture,
    parts: Parts,
) -> Result<Layer> {
    let name = |part: &str| format!("{prefix}.{part}");
    let (query, kv) = (a.query_width(), a.kv_width());
    let qkv = match family {
        Family::Phi3 => tensors.linear(
            &[(&name("self_attn.qkv_proj"), query + 2 * kv)],
            a.hidden,
            parts.qkv_bias,
        )?,
        _ => tensors.linear(
            &[
                (&name("self_attn.q_proj"), query),
                (&name("self_attn.k_proj"), kv),
                (&name("self_attn.v_proj"), kv),
            ],
            a.hidden,
            parts.qkv_bias,
        )?,
    };
    let output = match family {
        Family::Phi => "self_attn.dense",
        _ => "self_attn.o_proj",
    };
    let output = tensors.linear(&[(&name(output), a.hidden)], query, parts.output_bias)?;
    let (gate, up, down) = (
        name("mlp.gate_proj"),
        name("mlp.up_proj"),
        name("mlp.down_proj"),
    );
    let (first, second) = (name("mlp.fc1"), name("mlp.fc2"));
    let fused = name("mlp.gate_up_proj");
    let (up, down) = match family {
        Family::Phi => (vec![(&first[..], a.intermediate)], &second),
        Family::Phi3 => (vec![(&fused[..], 2 * a.intermediate)], &down),
        _ => (
            vec![(&gate[..], a.intermediate), (&up[..], a.intermediate)],
            &down,
        ),
    };
    let gate_up = tensors.linear(&up, a.hidden, parts.mlp_bias)?;
    let down = tensors.linear(&[(down, a.hidden)], a.intermediate, parts.mlp_bias)?;
    // Where a family norms the results too, `post_attention_layernorm` is such a norm.
    let sandwiched = matches!(family, Family::Gemma2 | Family::Gemma3);
    let middle = match family {
        Family::Phi => None,
        Family::Gemma2 | Family::Gemma3 => Some("pre_feedforward_layernorm"),
        _ => Some("post_attention_layernorm"),
    };
    let head_norms = matches!(family, Family::Qwen3 | Family::Gemma3);
    let mut norm = |present: bool, part: &str, width: usize| match present {
        true => tensors.norm(&name(part), width, family).map(Some),
        false => Ok(None),
    };
    Ok(Layer {
        query_norm: norm(head_norms, "self_attn.q_norm", a.head)?,
        key_norm: norm(head_norms, "self_attn.k_norm", a.head)?,
        attention_norm: norm(sandwiched, "post_attention_layernorm", a.hidden)?,
        middle_norm: norm(middle.is_some(), middle.unwrap_or_default(), a.hidden)?,
        output_norm: norm(sandwiched, "post_feedforward_layernorm", a.hidden)?,
        input_norm: tensors.norm(&name("input_layernorm"), a.hidden, family)?,
        qkv,
        output,
        gate_up,
        down,
    })
}
