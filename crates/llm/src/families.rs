//! `config.json` of every supported family into an [`Architecture`].
//!
//! A key that would change the forward pass and that is not understood here is refused, never
//! ignored. Defaults are those of `transformers`, for files that leave a key out.

use serde_json::Value;

use crate::architecture::{Activation, Architecture, LayerKind, NormKind, Rotary};
use crate::config::TokenIds;
use crate::config_values::Config;

/// What [`crate::load()`] understands, for messages.
pub const SUPPORTED: &str = "`LlamaForCausalLM`, `MistralForCausalLM`, `Qwen2ForCausalLM`, \
                             `Qwen3ForCausalLM`, `GemmaForCausalLM`, `Gemma2ForCausalLM`, \
                             `Gemma3ForCausalLM`, `PhiForCausalLM` and `Phi3ForCausalLM`";

/// Far beyond any model; a damaged file must not ask for all memory before its tensors are looked at.
const LAYERS_MAX: usize = 10_000;
/// Likewise.
const HEAD_MAX: usize = 65_536;
/// Longer texts are not run here, whatever a model could do: there is a table of all positions.
const CONTEXT_MAX: usize = 1 << 20;

/// A family of models that differ in size only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
    Gemma,
    Gemma2,
    Gemma3,
    Phi,
    Phi3,
}

impl Family {
    /// By the first entry of `architectures`, or by `model_type`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "LlamaForCausalLM" | "llama" => Self::Llama,
            "MistralForCausalLM" | "mistral" => Self::Mistral,
            "Qwen2ForCausalLM" | "qwen2" => Self::Qwen2,
            "Qwen3ForCausalLM" | "qwen3" => Self::Qwen3,
            "GemmaForCausalLM" | "gemma" => Self::Gemma,
            "Gemma2ForCausalLM" | "gemma2" => Self::Gemma2,
            "Gemma3ForCausalLM" | "gemma3_text" | "gemma3" => Self::Gemma3,
            "PhiForCausalLM" | "phi" | "phi2" => Self::Phi,
            "Phi3ForCausalLM" | "phi3" => Self::Phi3,
            _ => return None,
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gemma => "gemma",
            Self::Gemma2 => "gemma2",
            Self::Gemma3 => "gemma3",
            Self::Phi => "phi",
            Self::Phi3 => "phi3",
        }
    }

    /// Gemma stores gains less one and scales its embedding.
    pub(crate) fn is_gemma(self) -> bool {
        matches!(self, Self::Gemma | Self::Gemma2 | Self::Gemma3)
    }
}

/// Biases and the output layer, which a family alone does not settle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) qkv_bias: bool,
    pub(crate) output_bias: bool,
    pub(crate) mlp_bias: bool,
    /// Whether the output layer is the embedding.
    pub(crate) tied: bool,
}

/// Reads a parsed `config.json`; the error says what is wrong with it, in words.
pub(crate) fn describe(family: Family, json: &Value) -> Result<(Architecture, Parts), String> {
    let config = Config(json);
    let layers = config.size("num_hidden_layers")?;
    let vocab = config.size("vocab_size")?;
    let heads = config.size("num_attention_heads")?;
    let hidden = config.size("hidden_size")?;
    let head = match config.optional_size("head_dim")? {
        Some(head) => head,
        None if matches!(family, Family::Gemma | Family::Gemma2 | Family::Gemma3) => 256,
        None if family == Family::Qwen3 => 128,
        None => hidden / heads,
    };
    for (key, value, most) in [
        ("num_hidden_layers", layers, LAYERS_MAX),
        ("head_dim", head, HEAD_MAX),
    ] {
        if value > most {
            return Err(format!("`{key}` is {value}; it must be at most {most}"));
        }
    }
    let kv_heads = config
        .optional_size("num_key_value_heads")?
        .unwrap_or(heads);
    if !heads.is_multiple_of(kv_heads) {
        return Err(format!(
            "`num_key_value_heads` is {kv_heads}, which does not divide {heads}"
        ));
    }
    let mut context = config.size("max_position_embeddings")?.min(CONTEXT_MAX);
    let eps = if family == Family::Phi {
        "layer_norm_eps"
    } else {
        "rms_norm_eps"
    };
    let eps_default = if family == Family::Phi || family == Family::Phi3 {
        1e-5
    } else {
        1e-6
    };
    let rotary = rotary(&config, family, head, &mut context)?;
    if rotary
        .iter()
        .any(|table| 2 * table.frequencies.len() > head || table.frequencies.is_empty())
    {
        return Err(format!("rotary positions do not fit a head of {head}"));
    }
    let scale = match family {
        Family::Gemma2 | Family::Gemma3 => config.number("query_pre_attn_scalar")?.unwrap_or(256.0),
        _ => head as f64,
    };
    let (score_cap, logit_cap) = match family {
        Family::Gemma2 => (Some(50.0), Some(30.0)),
        _ => (None, None),
    };
    let capped = |key: &str, default: Option<f64>| match json.get(key) {
        Some(Value::Null) => Ok(None),
        Some(_) => config.number(key),
        None => Ok(default),
    };
    let end = match json.get("eos_token_id") {
        None | Some(Value::Null) => Vec::new(),
        Some(ids) => serde_json::from_value::<TokenIds>(ids.clone())
            .map_err(|_| format!("`eos_token_id` is {ids}"))?
            .as_slice()
            .to_vec(),
    };
    let architecture = Architecture {
        family: family.name().to_owned(),
        vocab,
        hidden,
        intermediate: config.size("intermediate_size")?,
        heads,
        kv_heads,
        head,
        context,
        norm: if family == Family::Phi {
            NormKind::Layer
        } else {
            NormKind::Rms
        },
        norm_eps: norm_eps(&config, eps, eps_default)?,
        activation: activation(&config, family)?,
        gated: family != Family::Phi,
        parallel: family == Family::Phi,
        query_scale: (1.0 / scale.sqrt()) as f32,
        embedding_scale: if family.is_gemma() {
            (hidden as f32).sqrt()
        } else {
            1.0
        },
        score_cap: capped("attn_logit_softcapping", score_cap)?.map(|cap| cap as f32),
        logit_cap: capped("final_logit_softcapping", logit_cap)?.map(|cap| cap as f32),
        rotary,
        layers: layer_kinds(&config, family, layers)?,
        begin: config.optional_size("bos_token_id")?.map(|id| id as u32),
        end,
        // A token that the model cannot emit need not be kept from being drawn.
        pad: config
            .optional_size("pad_token_id")?
            .filter(|id| *id < vocab)
            .map(|id| id as u32),
    };
    refuse_unknown(&config, family)?;
    Ok((architecture, parts(&config, family)?))
}

fn parts(config: &Config<'_>, family: Family) -> Result<Parts, String> {
    let attention_bias = config.flag("attention_bias")?.unwrap_or(false);
    let phi = family == Family::Phi;
    Ok(Parts {
        qkv_bias: phi || family == Family::Qwen2 || attention_bias,
        output_bias: phi || (family != Family::Qwen2 && attention_bias),
        mlp_bias: phi || config.flag("mlp_bias")?.unwrap_or(false),
        tied: config
            .flag("tie_word_embeddings")?
            .unwrap_or(family.is_gemma()),
    })
}

/// What keeps a norm from dividing by zero.
fn norm_eps(config: &Config<'_>, key: &str, otherwise: f64) -> Result<f32, String> {
    let eps = config.number(key)?.unwrap_or(otherwise);
    match (0.0..1.0).contains(&eps) {
        true => Ok(eps as f32),
        false => Err(format!(
            "`{key}` is {eps}; it must be at least 0 and below 1"
        )),
    }
}

fn refuse_unknown(config: &Config<'_>, family: Family) -> Result<(), String> {
    let json = config.0;
    for key in ["qk_layernorm", "use_bidirectional_attention", "use_qk_norm"] {
        if json[key] == true {
            return Err(format!("`{key}` is not supported for `{}`", family.name()));
        }
    }
    if json["quantization_config"].is_object() {
        return Err("quantised weights are supported as GGUF files only".to_owned());
    }
    Ok(())
}

fn activation(config: &Config<'_>, family: Family) -> Result<Activation, String> {
    let keys = ["hidden_activation", "hidden_act"];
    let named = keys.iter().find_map(|key| config.0[*key].as_str());
    match named {
        // The first Gemma files say `gelu` and mean its tanh approximation.
        Some("gelu") if family == Family::Gemma => Ok(Activation::GeluTanh),
        Some("silu" | "swish") => Ok(Activation::Silu),
        Some("gelu_pytorch_tanh" | "gelu_new" | "gelu_fast") => Ok(Activation::GeluTanh),
        Some(other) => Err(format!("activation `{other}` is not supported")),
        None if family.is_gemma() || family == Family::Phi => Ok(Activation::GeluTanh),
        None => Ok(Activation::Silu),
    }
}

fn layer_kinds(
    config: &Config<'_>,
    family: Family,
    layers: usize,
) -> Result<Vec<LayerKind>, String> {
    let window = config.optional_size("sliding_window")?;
    let sliding: Vec<bool> = match config.0["layer_types"].as_array() {
        Some(types) if types.len() == layers => types
            .iter()
            .map(|kind| match kind.as_str() {
                Some("sliding_attention") => Ok(true),
                Some("full_attention") => Ok(false),
                _ => Err(format!("layer type {kind} is not supported")),
            })
            .collect::<Result<_, _>>()?,
        Some(types) => {
            return Err(format!(
                "`layer_types` has {} entries for {layers} layers",
                types.len()
            ));
        }
        None => match family {
            Family::Mistral | Family::Phi3 => vec![true; layers],
            Family::Qwen2 | Family::Qwen3 => {
                let used = config.flag("use_sliding_window")?.unwrap_or(false);
                let full = config.optional_size("max_window_layers")?.unwrap_or(28);
                (0..layers).map(|layer| used && layer >= full).collect()
            }
            Family::Gemma2 => (0..layers).map(|layer| layer % 2 == 0).collect(),
            Family::Gemma3 => {
                let pattern = config.optional_size("sliding_window_pattern")?.unwrap_or(6);
                (0..layers)
                    .map(|layer| (layer + 1) % pattern.max(1) != 0)
                    .collect()
            }
            _ => vec![false; layers],
        },
    };
    let kind = |sliding: bool| LayerKind {
        rotary: usize::from(sliding && family == Family::Gemma3),
        window: window.filter(|_| sliding),
    };
    Ok(sliding.into_iter().map(kind).collect())
}

/// The rotary tables; the context shrinks where positions beyond it would need another table.
fn rotary(
    config: &Config<'_>,
    family: Family,
    head: usize,
    context: &mut usize,
) -> Result<Vec<Rotary>, String> {
    let json = config.0;
    // Newer files keep everything in `rope_parameters`, for Gemma 3 one object per layer type.
    let parameters = &json["rope_parameters"];
    let (global, local) = match parameters["full_attention"].is_object() {
        true => (
            &parameters["full_attention"],
            &parameters["sliding_attention"],
        ),
        false => (parameters, &Value::Null),
    };
    if !(json["rope_scaling"].is_null() || json["rope_scaling"].is_object()) {
        return Err(format!(
            "`rope_scaling` is {}, not an object",
            json["rope_scaling"]
        ));
    }
    let scaling = if global.is_object() {
        global
    } else {
        &json["rope_scaling"]
    };
    let theta_default = if family == Family::Gemma3 { 1e6 } else { 1e4 };
    let number = |value: &Value, key: &str| value[key].as_f64();
    let theta = number(global, "rope_theta")
        .or(number(json, "rope_theta"))
        .unwrap_or(theta_default);
    let local_theta = number(local, "rope_theta")
        .or(number(json, "rope_local_base_freq"))
        .unwrap_or(1e4);
    for (key, theta) in [("rope_theta", theta), ("rope_local_base_freq", local_theta)] {
        if !(theta > 0.0 && theta.is_finite()) {
            return Err(format!("`{key}` is {theta}; it must be above 0"));
        }
    }
    let part_default = if family == Family::Phi { 0.5 } else { 1.0 };
    let part = number(global, "partial_rotary_factor")
        .or(number(json, "partial_rotary_factor"))
        .unwrap_or(part_default);
    let dims = (head as f64 * part) as usize / 2 * 2;
    let mut table = Rotary::plain(dims, theta);
    let kind = scaling["rope_type"].as_str().or(scaling["type"].as_str());
    match kind.unwrap_or("default") {
        "default" => {}
        "linear" => {
            let factor = needed(scaling, "factor")?;
            table.frequencies.iter_mut().for_each(|f| *f /= factor);
        }
        "llama3" => llama3(scaling, &mut table)?,
        "longrope" | "su" => {
            let original = number(scaling, "original_max_position_embeddings")
                .or(number(json, "original_max_position_embeddings"))
                .ok_or("`longrope` without `original_max_position_embeddings`")?;
            let factor = number(scaling, "factor").unwrap_or(*context as f64 / original);
            longrope(scaling, factor, original, &mut table)?;
            *context = (*context).min(original as usize);
        }
        other => return Err(format!("rotary scaling `{other}` is not supported")),
    }
    if family != Family::Gemma3 {
        return Ok(vec![table]);
    }
    if let Some(kind) = local["rope_type"]
        .as_str()
        .filter(|kind| *kind != "default")
    {
        return Err(format!(
            "rotary scaling `{kind}` of sliding windows is not supported"
        ));
    }
    Ok(vec![table, Rotary::plain(dims, local_theta)])
}

fn needed(scaling: &Value, key: &str) -> Result<f64, String> {
    let value = scaling[key].as_f64().filter(|value| *value > 0.0);
    value.ok_or_else(|| format!("rotary scaling without `{key}`"))
}

/// Long wavelengths are stretched, short ones kept, those between blended.
///
/// # Source
/// Meta, "The Llama 3 Herd of Models", 2024; the reference code of Llama 3.1.
fn llama3(scaling: &Value, table: &mut Rotary) -> Result<(), String> {
    let factor = needed(scaling, "factor")?;
    let (low, high) = (
        needed(scaling, "low_freq_factor")?,
        needed(scaling, "high_freq_factor")?,
    );
    let original = needed(scaling, "original_max_position_embeddings")?;
    for frequency in &mut table.frequencies {
        let wavelength = 2.0 * std::f64::consts::PI / *frequency;
        let smooth = ((original / wavelength - low) / (high - low)).clamp(0.0, 1.0);
        *frequency *= (1.0 - smooth) / factor + smooth;
    }
    Ok(())
}

/// Texts up to the original context use the short factors, and only those are run here.
///
/// # Source
/// Ding et al., "LongRoPE", 2024, section 3.
fn longrope(scaling: &Value, factor: f64, original: f64, table: &mut Rotary) -> Result<(), String> {
    let short = scaling["short_factor"]
        .as_array()
        .ok_or("`longrope` without `short_factor`")?;
    if short.len() != table.frequencies.len() {
        return Err(format!(
            "{} short factors for {} frequencies",
            short.len(),
            table.frequencies.len()
        ));
    }
    for (frequency, factor) in table.frequencies.iter_mut().zip(short) {
        *frequency /= factor
            .as_f64()
            .filter(|f| *f > 0.0)
            .ok_or("a short factor is not a number")?;
    }
    table.amplitude = match scaling["attention_factor"].as_f64() {
        Some(amplitude) => amplitude,
        None if factor <= 1.0 => 1.0,
        None => (1.0 + factor.ln() / original.ln()).sqrt(),
    };
    Ok(())
}
