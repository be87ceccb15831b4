//! A GGUF file's metadata, typed, and what of it a `config.json` would say.
//!
//! Keys that would change the forward pass and are not understood here are refused.

use std::collections::{BTreeMap, HashMap};

use candle_core::quantized::gguf_file::{TensorInfo, Value};
use serde_json::{Value as Json, json};

/// Keys below the architecture's name that stand for parts that no network here has.
const REFUSED: [&str; 6] = [
    "expert_count",
    "attention.sliding_window",
    "attention.scale",
    "attention.clamp_kqv",
    "logit_scale",
    "residual_scale",
];

/// Metadata by key.
pub(super) struct Metadata<'a>(pub(super) &'a HashMap<String, Value>);

impl<'a> Metadata<'a> {
    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        match self.0.get(key)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// A whole number of any width.
    pub(super) fn whole(&self, key: &str) -> Option<u64> {
        whole(self.0.get(key)?)
    }

    /// The id of a token.
    pub(super) fn token(&self, key: &str) -> Option<u32> {
        u32::try_from(self.whole(key)?).ok()
    }

    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        match self.0.get(key)? {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    pub(super) fn list(&self, key: &str) -> Option<&'a [Value]> {
        match self.0.get(key)? {
            Value::Array(list) => Some(list),
            _ => None,
        }
    }

    fn number(&self, key: &str) -> Option<f64> {
        match self.0.get(key)? {
            Value::F32(number) => Some(f64::from(*number)),
            Value::F64(number) => Some(*number),
            _ => None,
        }
    }

    /// What the `config.json` of a model of this architecture would hold.
    pub(super) fn config(
        &self,
        architecture: &str,
        tensors: &HashMap<String, TensorInfo>,
    ) -> Result<Json, String> {
        let key = |name: &str| format!("{architecture}.{name}");
        for refused in REFUSED {
            let key = key(refused);
            let harmless = match self.0.get(&key) {
                None => true,
                Some(value) => whole(value) == Some(0),
            };
            if !harmless {
                return Err(format!("`{key}` is not supported"));
            }
        }
        let needed = |name: &str| {
            let key = key(name);
            self.whole(&key)
                .ok_or_else(|| format!("its metadata has no whole number `{key}`"))
        };
        let optional = |name: &str| self.whole(&key(name));
        let embedding = tensors
            .get("token_embd.weight")
            .ok_or("it has no tensor `token_embd.weight`")?;
        let (hidden, heads) = (needed("embedding_length")?, needed("attention.head_count")?);
        if heads == 0 {
            return Err(format!("`{}` is 0", key("attention.head_count")));
        }
        let head = optional("attention.key_length").unwrap_or(hidden / heads);
        for other in ["attention.value_length", "rope.dimension_count"] {
            if optional(other).is_some_and(|other| other != head) {
                return Err(format!(
                    "`{}` is not the size of a head, {head}, which is not supported",
                    key(other)
                ));
            }
        }
        let mut config = json!({
            "model_type": architecture,
            "num_hidden_layers": needed("block_count")?,
            "hidden_size": hidden,
            "intermediate_size": needed("feed_forward_length")?,
            "num_attention_heads": heads,
            "num_key_value_heads": optional("attention.head_count_kv").unwrap_or(heads),
            "head_dim": head,
            "max_position_embeddings": needed("context_length")?,
            "rms_norm_eps": self.number(&key("attention.layer_norm_rms_epsilon"))
                .ok_or_else(|| format!("its metadata has no `{}`", key("attention.layer_norm_rms_epsilon")))?,
            "rope_theta": self.number(&key("rope.freq_base")).unwrap_or(10_000.0),
            "vocab_size": embedding.shape.dims().first(),
            "tie_word_embeddings": !tensors.contains_key("output.weight"),
            "bos_token_id": self.token("tokenizer.ggml.bos_token_id"),
            "eos_token_id": self.token("tokenizer.ggml.eos_token_id"),
            "pad_token_id": self.token("tokenizer.ggml.padding_token_id"),
        });
        // `rope.scale_linear` is what the factor was called before there were several types.
        let factor = ["rope.scaling.factor", "rope.scale_linear"]
            .into_iter()
            .find_map(|name| self.number(&key(name)).filter(|factor| *factor != 0.0));
        match (self.text(&key("rope.scaling.type")), factor) {
            (Some("none"), _) | (None, None) => {}
            (kind, factor) => {
                let kind = kind.unwrap_or("linear");
                config["rope_scaling"] = json!({ "rope_type": kind, "factor": factor });
            }
        }
        Ok(config)
    }

    /// Texts of the special tokens, by the names that chat templates use.
    pub(super) fn specials(&self) -> BTreeMap<String, String> {
        let tokens = self.list("tokenizer.ggml.tokens").unwrap_or_default();
        let names = [
            ("bos_token", "bos"),
            ("eos_token", "eos"),
            ("unk_token", "unknown"),
            ("pad_token", "padding"),
        ];
        let text = |kind: &str| {
            let id = self.token(&format!("tokenizer.ggml.{kind}_token_id"))?;
            match tokens.get(id as usize)? {
                Value::String(text) => Some(text.clone()),
                _ => None,
            }
        };
        let named = names.into_iter();
        named
            .filter_map(|(name, kind)| Some((name.to_owned(), text(kind)?)))
            .collect()
    }
}

fn whole(value: &Value) -> Option<u64> {
    match value {
        Value::I8(number) => u64::try_from(*number).ok(),
        Value::I16(number) => u64::try_from(*number).ok(),
        Value::I32(number) => u64::try_from(*number).ok(),
        Value::I64(number) => u64::try_from(*number).ok(),
        Value::Bool(_) => None,
        value => value.to_u64().ok(),
    }
}
