//! Which tokens begin and end a text, by what lies beside a model's configuration.
//!
//! Which one begins a text is the tokenizer's business, and which ones end it is often said in
//! `generation_config.json` alone.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::architecture::Architecture;
use crate::config::TokenIds;
use crate::error::{Error, Result};
use crate::families::Family;
use crate::load::read;
use crate::tokenizer::TextTokenizer;

/// What a folder says beside its configuration, where it says anything.
pub(crate) struct Said {
    generation: Option<(PathBuf, Vec<u8>)>,
    tokenizer: Option<(PathBuf, Vec<u8>)>,
}

impl Said {
    pub(crate) fn in_folder(folder: &Path) -> Result<Self> {
        let there = |file: &str| -> Result<_> {
            let path = folder.join(file);
            match path.exists() {
                true => Ok(Some((path, read(folder, file)?))),
                false => Ok(None),
            }
        };
        Ok(Self {
            generation: there("generation_config.json")?,
            tokenizer: there("tokenizer_config.json")?,
        })
    }

    pub(crate) fn hash(&self, hash: &mut Sha256) {
        for (_, bytes) in self.generation.iter().chain(&self.tokenizer) {
            hash.update(bytes);
        }
    }
}

fn malformed(path: &Path, problem: String) -> Error {
    let path = path.to_owned();
    Error::Malformed { path, problem }
}

fn json(path: &Path, bytes: &[u8]) -> Result<serde_json::Value> {
    serde_json::from_slice(bytes).map_err(|e| malformed(path, e.to_string()))
}

/// Sets the tokens that begin and end a text.
pub(crate) fn begin_and_end(
    said: &Said,
    family: Family,
    tokenizer: &TextTokenizer,
    architecture: &mut Architecture,
) -> Result<()> {
    let config = match &said.tokenizer {
        Some((path, bytes)) => json(path, bytes)?,
        None => serde_json::Value::Null,
    };
    let class = config["tokenizer_class"].as_str();
    let of = |name: &str| class.is_some_and(|class| class.contains(name));
    let named = config["bos_token"].as_str();
    let named = named.or(config["bos_token"]["content"].as_str());
    architecture.begin = match (
        tokenizer.first_special()?,
        config["add_bos_token"].as_bool(),
    ) {
        // What the tokenizer's file does is done in any case, but for classes that do it anew.
        (Some(_), Some(false)) if of("Llama") || of("Gemma") => None,
        (Some(first), _) => Some(first),
        (None, Some(true)) => named
            .and_then(|text| tokenizer.token_id(text))
            .or(architecture.begin),
        (None, Some(false)) => None,
        // A Llama without a word about it begins with its token; other families, and Llamas with
        // another family's tokenizer, do not.
        (None, None) if family == Family::Llama && (class.is_none() || of("Llama")) => {
            architecture.begin
        }
        (None, None) => None,
    };
    if let Some((path, bytes)) = &said.generation {
        let ids = &json(path, bytes)?["eos_token_id"];
        if !ids.is_null() {
            let ids: TokenIds = serde_json::from_value(ids.clone())
                .map_err(|_| malformed(path, format!("`eos_token_id` is {ids}")))?;
            architecture.ends_with(ids.as_slice().iter().copied());
        }
    }
    Ok(())
}
