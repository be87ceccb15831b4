//! Named tensors of a Hugging Face file into a [`Decoder`].
//!
//! Every tensor must be there, have the shape that the configuration implies, and be used: a file
//! with a part that the forward pass does not know would give wrong numbers without a word.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::architecture::Architecture;
use crate::decoder::{Decoder, Layer, Linear, Norm};
use crate::error::{Error, Result};
use crate::families::{Family, Parts};

/// Tensors by name, as f32.
pub(crate) struct Tensors {
    path: PathBuf,
    by_name: HashMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Tensors {
    /// - `path`: for messages.
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            by_name: HashMap::new(),
        }
    }

    pub(crate) fn insert(&mut self, name: String, shape: Vec<usize>, values: Vec<f32>) {
        self.by_name.insert(name, (shape, values));
    }

    /// Takes a tensor out.
    pub(crate) fn take(&mut self, name: &str, expected: &[usize]) -> Result<Vec<f32>> {
        let Some((found, values)) = self.by_name.remove(name) else {
            return Err(Error::MissingTensor {
                name: name.to_owned(),
                path: self.path.clone(),
            });
        };
        if found != expected {
            return Err(Error::ShapeMismatch {
                name: name.to_owned(),
                expected: expected.to_vec(),
                found,
            });
        }
        if !values.iter().all(|value| value.is_finite()) {
            return Err(Error::Malformed {
                path: self.path.clone(),
                problem: format!("tensor `{name}` holds a number that is not finite"),
            });
        }
        Ok(values)
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
        let mut linear = Linear {
            weight: Vec::new(),
            bias: bias.then(Vec::new),
        };
        for (name, output) in parts {
            let weight = self.take(&format!("{name}.weight"), &[*output, input])?;
            if linear.weight.is_empty() {
                linear.weight = weight;
            } else {
                linear.weight.extend(weight);
            }
            if let Some(bias) = &mut linear.bias {
                bias.extend(self.take(&format!("{name}.bias"), &[*output])?);
            }
        }
        Ok(linear)
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
    mut tensors: Tensors,
    family: Family,
    architecture: &Architecture,
    parts: Parts,
) -> Result<Decoder> {
    let a = architecture;
    tensors.forget(|name| {
        name.ends_with("rotary_emb.inv_freq") || (parts.tied && name == "lm_head.weight")
    });
    let embedding = tensors.take("model.embed_tokens.weight", &[a.vocab, a.hidden])?;
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
    tensors: &mut Tensors,
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
