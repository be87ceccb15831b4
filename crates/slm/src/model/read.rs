//! A model folder in Hugging Face's layout, read with every name, shape and dtype checked.

use std::path::Path;

use safetensors::SafeTensors;
use serde_json::{Map, Value};

use super::Model;
use super::config::EncoderConfig;
use super::heads;
use super::names::{self, HEAD_BIAS, HEAD_WEIGHT};
use crate::error::SlmError;
use crate::files;
use crate::params::{Array, Parameters};
use crate::tokens::Tokens;

impl Model {
    /// Reads a folder: an encoder, with its head if it is a classifier of this crate.
    ///
    /// A head made elsewhere (with another pooling) is left out: a new one is trained.
    ///
    /// # Errors
    /// [`SlmError::Read`], [`SlmError::Config`], [`SlmError::Weights`],
    /// [`SlmError::WeightMissing`], [`SlmError::WeightShape`], [`SlmError::WeightDtype`],
    /// [`SlmError::WeightNotFinite`],
    /// [`SlmError::Tokenizer`], [`SlmError::VocabularyMismatch`], [`SlmError::PaddingMismatch`].
    pub fn read(folder: &Path) -> Result<Self, SlmError> {
        let path = folder.join("config.json");
        let json = read_config(&path)?;
        let config = EncoderConfig::parse(&json, &path)?;
        let heads = heads::read(&json, &path)?;
        let length_max = own(&json, "length_max").and_then(Value::as_u64);
        let length_max = length_max.map_or(usize::MAX, |length| length as usize);
        let tokens = Tokens::read(
            &folder.join("tokenizer.json"),
            length_max.min(config.length_max()),
        )?;
        fits(&tokens, &config)?;
        let weights = read_weights(
            &folder.join("model.safetensors"),
            &config,
            heads::outputs(&heads),
        )?;
        Ok(Self {
            config,
            weights,
            tokens,
            heads,
        })
    }

    /// Reads a folder that must be a classifier of this crate.
    ///
    /// # Errors
    /// As [`Model::read`], and [`SlmError::NotAClassifier`].
    pub fn read_classifier(folder: &Path) -> Result<Self, SlmError> {
        let model = Self::read(folder)?;
        if model.heads.is_empty() {
            return Err(SlmError::NotAClassifier {
                path: folder.to_owned(),
            });
        }
        Ok(model)
    }
}

/// Refuses a tokenizer that was made for another model.
///
/// Embeddings are often padded to a round number of rows, so a few rows more than ids are fine.
fn fits(tokens: &Tokens, config: &EncoderConfig) -> Result<(), SlmError> {
    let highest = tokens.highest_id();
    if highest >= config.vocabulary || 2 * (highest + 1) < config.vocabulary {
        return Err(SlmError::VocabularyMismatch {
            highest,
            rows: config.vocabulary,
        });
    }
    if tokens.pad() as usize != config.pad {
        return Err(SlmError::PaddingMismatch {
            tokenizer: tokens.pad() as usize,
            model: config.pad,
        });
    }
    Ok(())
}

fn read_config(path: &Path) -> Result<Map<String, Value>, SlmError> {
    let bytes = std::fs::read(path).map_err(SlmError::read(path))?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(config_error(path, "it is no JSON object".to_owned())),
        Err(error) => Err(config_error(path, format!("it is not JSON: {error}"))),
    }
}

fn config_error(path: &Path, problem: String) -> SlmError {
    SlmError::Config {
        path: path.to_owned(),
        problem,
    }
}

/// A key of this crate's own section.
fn own<'j>(json: &'j Map<String, Value>, key: &str) -> Option<&'j Value> {
    json.get("noisegate").and_then(|own| own.get(key))
}

fn read_weights(
    path: &Path,
    config: &EncoderConfig,
    outputs: usize,
) -> Result<Parameters, SlmError> {
    let bytes = std::fs::read(path).map_err(SlmError::read(path))?;
    let file = files::open(path, &bytes)?;
    let head = [
        (HEAD_WEIGHT.to_owned(), vec![outputs, config.hidden]),
        (HEAD_BIAS.to_owned(), vec![outputs]),
    ];
    let head = head.into_iter().filter(|_| outputs > 0);
    let mut weights = Parameters::default();
    for (name, shape) in names::shapes(config).chain(head) {
        let array = read_weight(path, &file, config, &name)?;
        if array.shape != shape {
            return Err(SlmError::WeightShape {
                path: path.to_owned(),
                name,
                found: array.shape,
                expected: shape,
            });
        }
        if !array.data.iter().all(|value| value.is_finite()) {
            return Err(SlmError::WeightNotFinite {
                path: path.to_owned(),
                name,
            });
        }
        weights.insert(name, array);
    }
    Ok(weights)
}

fn read_weight(
    path: &Path,
    file: &SafeTensors<'_>,
    config: &EncoderConfig,
    name: &str,
) -> Result<Array, SlmError> {
    // Old checkpoints call a norm's weight and bias `gamma` and `beta`.
    let old = name
        .replace("LayerNorm.weight", "LayerNorm.gamma")
        .replace("LayerNorm.bias", "LayerNorm.beta");
    let view = names::prefixes(config.family)
        .iter()
        .flat_map(|prefix| [format!("{prefix}{name}"), format!("{prefix}{old}")])
        .find_map(|stored| file.tensor(&stored).ok())
        .ok_or_else(|| SlmError::WeightMissing {
            path: path.to_owned(),
            name: name.to_owned(),
        })?;
    files::to_array(path, name, &view)
}
