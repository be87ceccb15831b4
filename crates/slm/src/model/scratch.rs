//! A small BERT with random weights and, if wanted, a vocabulary of its own.

use std::path::PathBuf;

use super::Model;
use super::config::{Activation, EncoderConfig, Family};
use super::names;
use crate::error::SlmError;
use crate::params::{Array, Parameters};
use crate::random::Stream;
use crate::tokens::Tokens;

/// Standard deviation of random weights. Larger than BERT's 0.02, which is meant for widths above
/// 700: at a width of 128 the signal would all but vanish in the first layers.
const DEVIATION: f32 = 0.05;

/// Where a scratch model's vocabulary comes from.
#[derive(Clone, Debug)]
pub enum Vocabulary {
    /// WordPiece, trained on the training texts, with at most this many entries; words with
    /// characters that find no room are unknown.
    Train {
        /// Upper bound of entries.
        size: usize,
    },
    /// An existing `tokenizer.json`.
    Tokenizer(PathBuf),
}

/// Sizes of a scratch model.
#[derive(Clone, Debug)]
pub struct ScratchConfig {
    /// Transformer layers.
    pub layers: usize,
    /// Width of a token.
    pub hidden: usize,
    /// Attention heads; they divide `hidden`.
    pub heads: usize,
    /// Width between the feed-forward products.
    pub intermediate: usize,
    /// The most tokens a text may have.
    pub length_max: usize,
    /// Where the vocabulary comes from.
    pub vocabulary: Vocabulary,
}

impl Default for ScratchConfig {
    /// Two layers of width 128: about 1.4 M parameters.
    fn default() -> Self {
        Self {
            layers: 2,
            hidden: 128,
            heads: 4,
            intermediate: 512,
            length_max: 128,
            vocabulary: Vocabulary::Train { size: 8000 },
        }
    }
}

pub(super) fn build<'t>(
    scratch: &ScratchConfig,
    texts: impl IntoIterator<Item = &'t str>,
    seed: u64,
) -> Result<Model, SlmError> {
    check(scratch)?;
    let tokens = match &scratch.vocabulary {
        Vocabulary::Train { size } => Tokens::train(texts, *size, scratch.length_max)?,
        Vocabulary::Tokenizer(path) => Tokens::read(path, scratch.length_max)?,
    };
    let config = EncoderConfig {
        family: Family::Bert,
        vocabulary: tokens.highest_id() + 1,
        hidden: scratch.hidden,
        layers: scratch.layers,
        heads: scratch.heads,
        intermediate: scratch.intermediate,
        positions: scratch.length_max,
        types: 2,
        activation: Activation::Gelu,
        epsilon: 1e-12,
        pad: tokens.pad() as usize,
    };
    let mut weights = Parameters::default();
    for (index, (name, shape)) in names::shapes(&config).enumerate() {
        let array = match (shape.len(), name.ends_with(".weight")) {
            (1, true) => Array::filled(&shape, 1.0),
            (1, false) => Array::filled(&shape, 0.0),
            _ => random_matrix(&shape, DEVIATION, Stream::new(seed, index as u64)),
        };
        weights.insert(name, array);
    }
    Ok(Model {
        config,
        weights,
        tokens,
        heads: Vec::new(),
    })
}

/// Normal values with the given deviation.
pub(crate) fn random_matrix(shape: &[usize], deviation: f32, mut stream: Stream) -> Array {
    let size = shape.iter().product();
    Array {
        shape: shape.to_vec(),
        data: (0..size).map(|_| deviation * stream.normal()).collect(),
    }
}

fn check(scratch: &ScratchConfig) -> Result<(), SlmError> {
    let wrong = |name, value: usize, remedy| SlmError::Option {
        name,
        value: value.to_string(),
        remedy,
    };
    for (name, value) in [
        ("layers", scratch.layers),
        ("hidden", scratch.hidden),
        ("heads", scratch.heads),
        ("intermediate", scratch.intermediate),
    ] {
        if value == 0 {
            return Err(wrong(name, value, "it must be at least 1"));
        }
    }
    if scratch.length_max < 3 {
        let remedy = "it must be at least 3: two tokens are the frame of a text";
        return Err(wrong("length_max", scratch.length_max, remedy));
    }
    if !scratch.hidden.is_multiple_of(scratch.heads) {
        return Err(wrong("heads", scratch.heads, "it must divide `hidden`"));
    }
    if let Vocabulary::Train { size } = scratch.vocabulary
        && size < 32
    {
        return Err(wrong("vocabulary", size, "it must be at least 32"));
    }
    Ok(())
}
