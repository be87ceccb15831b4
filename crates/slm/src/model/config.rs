//! What an encoder looks like, read from and written to Hugging Face's `config.json`.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::error::SlmError;

/// Which names and key words a model uses; the arithmetic is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// BERT and MiniLM.
    Bert,
    /// RoBERTa and XLM-R: positions start behind the padding id.
    Roberta,
    /// DistilBERT: other names, no token types.
    Distilbert,
}

/// The non-linearity between the two feed-forward products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Exact GELU.
    Gelu,
    /// GELU's tanh approximation.
    GeluTanh,
    /// ReLU.
    Relu,
}

/// Sizes and constants of an encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct EncoderConfig {
    /// Which names it uses.
    pub family: Family,
    /// Rows of the word embedding.
    pub vocabulary: usize,
    /// Width of a token.
    pub hidden: usize,
    /// Transformer layers.
    pub layers: usize,
    /// Attention heads; they divide `hidden`.
    pub heads: usize,
    /// Width between the two feed-forward products.
    pub intermediate: usize,
    /// Rows of the position embedding.
    pub positions: usize,
    /// Rows of the token type embedding; 0 for none.
    pub types: usize,
    /// Feed-forward non-linearity.
    pub activation: Activation,
    /// Added to variances.
    pub epsilon: f32,
    /// The id rows are padded with.
    pub pad: usize,
}

impl EncoderConfig {
    /// The first position a token can have.
    #[must_use]
    pub fn first_position(&self) -> usize {
        match self.family {
            Family::Roberta => self.pad + 1,
            _ => 0,
        }
    }

    /// The most tokens a text may have.
    #[must_use]
    pub fn length_max(&self) -> usize {
        self.positions.saturating_sub(self.first_position())
    }

    /// Reads the keys of a `config.json`; `path` is for messages.
    ///
    /// # Errors
    /// [`SlmError::Config`] with the key, its value, and what would be right.
    pub fn parse(config: &Map<String, Value>, path: &Path) -> Result<Self, SlmError> {
        let reader = Reader { config, path };
        let kind = reader.text("model_type")?;
        let family = match kind {
            "bert" => Family::Bert,
            "roberta" | "xlm-roberta" | "camembert" => Family::Roberta,
            "distilbert" => Family::Distilbert,
            other => {
                return reader.wrong(format!(
                    "`model_type` is `{other}`; encoders of type `bert`, `roberta` and `distilbert` can be read"
                ));
            }
        };
        let keys = keys(family);
        let activation = match reader.text(keys.activation)? {
            "gelu" => Activation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" => Activation::GeluTanh,
            "relu" => Activation::Relu,
            other => {
                return reader.wrong(format!(
                    "`{}` is `{other}`; `gelu`, `gelu_new` and `relu` are known",
                    keys.activation
                ));
            }
        };
        if let Some(kind) = config
            .get("position_embedding_type")
            .and_then(Value::as_str)
            && kind != "absolute"
        {
            return reader.wrong(format!(
                "`position_embedding_type` is `{kind}`; only `absolute` is known"
            ));
        }
        let default_pad = usize::from(family == Family::Roberta);
        let parsed = Self {
            family,
            vocabulary: reader.size("vocab_size")?,
            hidden: reader.size(keys.hidden)?,
            layers: reader.size(keys.layers)?,
            heads: reader.size(keys.heads)?,
            intermediate: reader.size(keys.intermediate)?,
            positions: reader.size("max_position_embeddings")?,
            types: match family {
                Family::Distilbert => 0,
                _ => reader.size("type_vocab_size")?,
            },
            activation,
            epsilon: config
                .get("layer_norm_eps")
                .and_then(Value::as_f64)
                .unwrap_or(1e-12) as f32,
            pad: config
                .get("pad_token_id")
                .and_then(Value::as_u64)
                .map_or(default_pad, |pad| pad as usize),
        };
        if !parsed.hidden.is_multiple_of(parsed.heads) {
            return reader.wrong(format!(
                "{} heads do not divide a width of {}",
                parsed.heads, parsed.hidden
            ));
        }
        Ok(parsed)
    }

    /// The keys of a `config.json` that Hugging Face's library reads back.
    #[must_use]
    pub fn to_json(&self) -> Map<String, Value> {
        let keys = keys(self.family);
        let (kind, class) = match self.family {
            Family::Bert => ("bert", "BertModel"),
            Family::Roberta => ("roberta", "RobertaModel"),
            Family::Distilbert => ("distilbert", "DistilBertModel"),
        };
        let activation = match self.activation {
            Activation::Gelu => "gelu",
            Activation::GeluTanh => "gelu_new",
            Activation::Relu => "relu",
        };
        let mut config = Map::new();
        let mut set = |key: &str, value: Value| config.insert(key.to_owned(), value);
        set("architectures", json!([class]));
        set("model_type", json!(kind));
        set("vocab_size", json!(self.vocabulary));
        set(keys.hidden, json!(self.hidden));
        set(keys.layers, json!(self.layers));
        set(keys.heads, json!(self.heads));
        set(keys.intermediate, json!(self.intermediate));
        set("max_position_embeddings", json!(self.positions));
        if self.types > 0 {
            set("type_vocab_size", json!(self.types));
        }
        set(keys.activation, json!(activation));
        set("layer_norm_eps", json!(f64::from(self.epsilon)));
        set("pad_token_id", json!(self.pad));
        config
    }
}

struct Keys {
    hidden: &'static str,
    layers: &'static str,
    heads: &'static str,
    intermediate: &'static str,
    activation: &'static str,
}

fn keys(family: Family) -> Keys {
    match family {
        Family::Bert | Family::Roberta => Keys {
            hidden: "hidden_size",
            layers: "num_hidden_layers",
            heads: "num_attention_heads",
            intermediate: "intermediate_size",
            activation: "hidden_act",
        },
        Family::Distilbert => Keys {
            hidden: "dim",
            layers: "n_layers",
            heads: "n_heads",
            intermediate: "hidden_dim",
            activation: "activation",
        },
    }
}

struct Reader<'c> {
    config: &'c Map<String, Value>,
    path: &'c Path,
}

impl<'c> Reader<'c> {
    fn wrong<T>(&self, problem: String) -> Result<T, SlmError> {
        Err(SlmError::Config {
            path: self.path.to_owned(),
            problem,
        })
    }

    fn text(&self, key: &str) -> Result<&'c str, SlmError> {
        match self.config.get(key).and_then(Value::as_str) {
            Some(text) => Ok(text),
            None => self.wrong(format!("`{key}` is missing or no string")),
        }
    }

    fn size(&self, key: &str) -> Result<usize, SlmError> {
        match self.config.get(key).and_then(Value::as_u64) {
            Some(size @ 1..=100_000_000) => Ok(size as usize),
            _ => self.wrong(format!("`{key}` is missing or no positive whole number")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<EncoderConfig, SlmError> {
        let Value::Object(map) = serde_json::from_str(text).unwrap() else {
            panic!("no object");
        };
        EncoderConfig::parse(&map, Path::new("config.json"))
    }

    const ROBERTA: &str = r#"{"model_type":"roberta","vocab_size":50265,"hidden_size":768,
        "num_hidden_layers":12,"num_attention_heads":12,"intermediate_size":3072,
        "max_position_embeddings":514,"type_vocab_size":1,"hidden_act":"gelu",
        "layer_norm_eps":1e-05,"pad_token_id":1}"#;

    #[test]
    fn roberta_positions_start_behind_the_padding() {
        let config = parse(ROBERTA).unwrap();
        assert_eq!((config.first_position(), config.length_max()), (2, 512));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let config = parse(ROBERTA).unwrap();
        let again = EncoderConfig::parse(&config.to_json(), Path::new("config.json")).unwrap();
        assert_eq!(config, again);
    }

    #[test]
    fn an_unknown_family_names_the_known_ones() {
        let error = parse(r#"{"model_type":"t5"}"#).unwrap_err().to_string();
        assert!(
            error.contains("`t5`") && error.contains("`bert`"),
            "{error}"
        );
    }

    #[test]
    fn a_missing_key_is_named() {
        let error = parse(&ROBERTA.replace("vocab_size\"", "vocab\"")).unwrap_err();
        assert!(error.to_string().contains("`vocab_size`"), "{error}");
    }

    #[test]
    fn heads_must_divide_the_width() {
        let text = ROBERTA.replace("\"num_attention_heads\":12", "\"num_attention_heads\":7");
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.contains("7 heads do not divide"), "{error}");
    }
}
