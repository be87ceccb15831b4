//! The names and shapes of an encoder's weights, per family, without the task prefix.

use super::config::{EncoderConfig, Family};

/// Name of the classification head's weight `[labels, hidden]`.
pub const HEAD_WEIGHT: &str = "classifier.weight";
/// Name of the classification head's bias `[labels]`.
pub const HEAD_BIAS: &str = "classifier.bias";

/// Names of one transformer layer's products and norms; `.weight` and `.bias` follow.
#[derive(Clone, Debug)]
pub struct LayerNames {
    /// Query, key, value.
    pub qkv: [String; 3],
    /// Attention output.
    pub out: String,
    /// Norm behind the attention.
    pub attention_norm: String,
    /// First feed-forward product.
    pub up: String,
    /// Second feed-forward product.
    pub down: String,
    /// Norm behind the feed-forward part.
    pub output_norm: String,
}

/// The word embedding.
#[must_use]
pub fn words() -> String {
    "embeddings.word_embeddings.weight".to_owned()
}

/// The position embedding.
#[must_use]
pub fn positions() -> String {
    "embeddings.position_embeddings.weight".to_owned()
}

/// The token type embedding.
#[must_use]
pub fn types() -> String {
    "embeddings.token_type_embeddings.weight".to_owned()
}

/// The norm behind the embeddings.
#[must_use]
pub fn embedding_norm() -> String {
    "embeddings.LayerNorm".to_owned()
}

/// The names of layer `index`.
#[must_use]
pub fn layer(family: Family, index: usize) -> LayerNames {
    match family {
        Family::Bert | Family::Roberta => {
            let at = |rest: &str| format!("encoder.layer.{index}.{rest}");
            LayerNames {
                qkv: ["query", "key", "value"].map(|n| at(&format!("attention.self.{n}"))),
                out: at("attention.output.dense"),
                attention_norm: at("attention.output.LayerNorm"),
                up: at("intermediate.dense"),
                down: at("output.dense"),
                output_norm: at("output.LayerNorm"),
            }
        }
        Family::Distilbert => {
            let at = |rest: &str| format!("transformer.layer.{index}.{rest}");
            LayerNames {
                qkv: ["q_lin", "k_lin", "v_lin"].map(|n| at(&format!("attention.{n}"))),
                out: at("attention.out_lin"),
                attention_norm: at("sa_layer_norm"),
                up: at("ffn.lin1"),
                down: at("ffn.lin2"),
                output_norm: at("output_layer_norm"),
            }
        }
    }
}

/// Prefixes under which task models store the encoder.
#[must_use]
pub fn prefixes(family: Family) -> &'static [&'static str] {
    match family {
        Family::Bert => &["", "bert."],
        Family::Roberta => &["", "roberta."],
        Family::Distilbert => &["", "distilbert."],
    }
}

/// Every weight of the encoder with its shape.
///
/// One layer after the other: how many there are, a stranger's `config.json` says, and a reader
/// stops at the first that its file lacks.
pub fn shapes(config: &EncoderConfig) -> impl Iterator<Item = (String, Vec<usize>)> + '_ {
    let layers = (0..config.layers).flat_map(|index| layer_shapes(config, index));
    embedding_shapes(config).into_iter().chain(layers)
}

fn embedding_shapes(config: &EncoderConfig) -> Vec<(String, Vec<usize>)> {
    let d = config.hidden;
    let mut all = vec![
        (words(), vec![config.vocabulary, d]),
        (positions(), vec![config.positions, d]),
    ];
    if config.types > 0 {
        all.push((types(), vec![config.types, d]));
    }
    all.extend(norm(&embedding_norm(), d));
    all
}

fn layer_shapes(config: &EncoderConfig, index: usize) -> Vec<(String, Vec<usize>)> {
    let d = config.hidden;
    let names = layer(config.family, index);
    let mut all = Vec::new();
    for name in names.qkv.iter().chain([&names.out]) {
        all.extend(dense(name, d, d));
    }
    all.extend(norm(&names.attention_norm, d));
    all.extend(dense(&names.up, config.intermediate, d));
    all.extend(dense(&names.down, d, config.intermediate));
    all.extend(norm(&names.output_norm, d));
    all
}

fn norm(name: &str, width: usize) -> [(String, Vec<usize>); 2] {
    ["weight", "bias"].map(|part| (format!("{name}.{part}"), vec![width]))
}

fn dense(name: &str, out: usize, inner: usize) -> [(String, Vec<usize>); 2] {
    [
        (format!("{name}.weight"), vec![out, inner]),
        (format!("{name}.bias"), vec![out]),
    ]
}
