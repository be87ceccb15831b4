//! `config.json` of the Llama family: the sizes of a model, as Hugging Face names them.
//!
//! Unknown keys are ignored, as the format is not ours and grows.

use serde::{Deserialize, Serialize};

use crate::architecture::{Activation, Architecture, LayerKind, NormKind, Rotary};
use crate::error::{Error, Result};

/// Sizes and constants of a Llama-style decoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LlamaConfig {
    /// Always `["LlamaForCausalLM"]` when written by this crate.
    #[serde(default)]
    pub architectures: Vec<String>,
    /// Always `llama` when written by this crate.
    #[serde(default)]
    pub model_type: String,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the gated feed-forward layer.
    pub intermediate_size: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Decoder layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; absent means as many as query heads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_key_value_heads: Option<usize>,
    /// Width of one head; absent means `hidden_size / num_attention_heads`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<usize>,
    /// Longest context, in tokens.
    pub max_position_embeddings: usize,
    /// Epsilon of RMSNorm.
    #[serde(default = "default_rms_norm_eps")]
    pub rms_norm_eps: f64,
    /// Base of the rotary position embedding.
    #[serde(default = "default_rope_theta")]
    pub rope_theta: f64,
    /// Whether the output layer is the transposed embedding.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Activation of the feed-forward gate; only `silu` is supported.
    #[serde(default = "default_hidden_act")]
    pub hidden_act: String,
    /// Token that starts a document, if any.
    #[serde(default)]
    pub bos_token_id: Option<u32>,
    /// Token or tokens that end a text.
    #[serde(default)]
    pub eos_token_id: Option<TokenIds>,
    /// Token used to fill up a batch; never attended to.
    #[serde(default)]
    pub pad_token_id: Option<u32>,
    /// Number format of the stored weights, for information.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub torch_dtype: Option<String>,
}

/// `eos_token_id` is one number in most files and a list in some.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TokenIds {
    /// One token.
    One(u32),
    /// Any of these.
    Many(Vec<u32>),
}

impl TokenIds {
    /// The ids as a slice.
    pub fn as_slice(&self) -> &[u32] {
        match self {
            Self::One(id) => std::slice::from_ref(id),
            Self::Many(ids) => ids,
        }
    }
}

fn default_rms_norm_eps() -> f64 {
    1e-5
}

fn default_rope_theta() -> f64 {
    10_000.0
}

fn default_hidden_act() -> String {
    "silu".to_owned()
}

impl LlamaConfig {
    /// Width of one attention head.
    pub fn head_size(&self) -> usize {
        self.head_dim
            .unwrap_or(self.hidden_size / self.num_attention_heads.max(1))
    }

    /// Key and value heads.
    pub fn kv_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Name and shape of every weight, in the order of the forward pass.
    pub fn tensor_shapes(&self) -> Vec<(String, Vec<usize>)> {
        let (d, f) = (self.hidden_size, self.intermediate_size);
        let q = self.num_attention_heads * self.head_size();
        let kv = self.kv_heads() * self.head_size();
        let mut shapes = vec![(
            "model.embed_tokens.weight".to_owned(),
            vec![self.vocab_size, d],
        )];
        for layer in 0..self.num_hidden_layers {
            let mut push = |name: &str, shape: Vec<usize>| {
                shapes.push((format!("model.layers.{layer}.{name}.weight"), shape));
            };
            push("input_layernorm", vec![d]);
            push("self_attn.q_proj", vec![q, d]);
            push("self_attn.k_proj", vec![kv, d]);
            push("self_attn.v_proj", vec![kv, d]);
            push("self_attn.o_proj", vec![d, q]);
            push("post_attention_layernorm", vec![d]);
            push("mlp.gate_proj", vec![f, d]);
            push("mlp.up_proj", vec![f, d]);
            push("mlp.down_proj", vec![d, f]);
        }
        shapes.push(("model.norm.weight".to_owned(), vec![d]));
        if !self.tie_word_embeddings {
            shapes.push(("lm_head.weight".to_owned(), vec![self.vocab_size, d]));
        }
        shapes
    }

    /// What a forward pass must know.
    pub fn architecture(&self) -> Architecture {
        let head = self.head_size();
        Architecture {
            family: "llama".to_owned(),
            vocab: self.vocab_size,
            hidden: self.hidden_size,
            intermediate: self.intermediate_size,
            heads: self.num_attention_heads,
            kv_heads: self.kv_heads(),
            head,
            context: self.max_position_embeddings,
            norm: NormKind::Rms,
            norm_eps: self.rms_norm_eps as f32,
            activation: Activation::Silu,
            gated: true,
            parallel: false,
            query_scale: 1.0 / (head as f32).sqrt(),
            embedding_scale: 1.0,
            score_cap: None,
            logit_cap: None,
            rotary: vec![Rotary::plain(head, self.rope_theta)],
            layers: vec![LayerKind::default(); self.num_hidden_layers],
            begin: self.bos_token_id,
            end: self
                .eos_token_id
                .as_ref()
                .map_or(Vec::new(), |ids| ids.as_slice().to_vec()),
            pad: self.pad_token_id,
        }
    }

    /// Number of weights.
    pub fn parameters(&self) -> usize {
        self.tensor_shapes()
            .iter()
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum()
    }

    /// Refuses sizes that no forward pass could use.
    ///
    /// # Errors
    /// [`Error::Option`] naming the first size that does not fit.
    pub fn validate(&self) -> Result<()> {
        let refuse = |option, value: String, remedy| {
            Err(Error::Option {
                option,
                value,
                remedy,
            })
        };
        for (option, value) in [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("vocab_size", self.vocab_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.kv_heads()),
            ("max_position_embeddings", self.max_position_embeddings),
        ] {
            if value == 0 {
                return refuse(option, value.to_string(), "it must be at least 1");
            }
        }
        if !self.num_attention_heads.is_multiple_of(self.kv_heads()) {
            return refuse(
                "num_key_value_heads",
                self.kv_heads().to_string(),
                "it must divide `num_attention_heads`",
            );
        }
        if self.head_size() == 0 || !self.head_size().is_multiple_of(2) {
            return refuse(
                "head_dim",
                self.head_size().to_string(),
                "rotary positions need an even head size",
            );
        }
        if self.hidden_act != "silu" {
            return refuse(
                "hidden_act",
                format!("`{}`", self.hidden_act),
                "only `silu` is supported",
            );
        }
        Ok(())
    }
}
