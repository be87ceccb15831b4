//! Loads a GGUF file: sizes from its metadata, weights in any of its number formats, and the
//! tokenizer and chat template it carries.
//!
//! ```text
//! metadata ─ metadata.rs ─> what a config.json would say ─┐
//! tensors ─ tensors.rs ─> f32, under Hugging Face's names ─┴─ the way of a model folder ─> LanguageModel
//! tokenizer.json beside it, else metadata ─ tokenizer.rs ─> TextTokenizer
//! ```
//! Numbers are read as f32; a large model keeps about the bits that it has (decision 041).
//!
//! Deliberately absent: files in several parts; families other than those of [`SUPPORTED`].
//!
//! # Source
//! The GGUF specification, `docs/gguf.md` of ggml; `src/llama-arch.cpp` of llama.cpp for names.

mod alignment;
mod metadata;
mod tensors;
#[cfg(test)]
mod tests;
mod tokenizer;

use std::io::Cursor;
use std::path::{Path, PathBuf};

use candle_core::Device;
use candle_core::quantized::gguf_file::Content;
use sha2::{Digest, Sha256};

use self::metadata::Metadata;
use crate::architecture::Architecture;
use crate::assemble;
use crate::begin_and_end::{Said, begin_and_end};
use crate::chat::ChatTemplate;
use crate::error::{Error, Result};
use crate::families::Family;
use crate::load::{Described, described};
use crate::model::{LanguageModel, hex};
use crate::tokenizer::TextTokenizer;

/// What this module understands, for messages.
pub const SUPPORTED: &str = "`llama` (Mistral's files too), `qwen2` and `qwen3`";

/// The GGUF file that a path means: the file itself, or the one in a folder without safetensors.
///
/// # Errors
/// [`Error::SeveralModels`] if there are more and none is `model.gguf`; [`Error::Io`].
pub(crate) fn find(path: &Path) -> Result<Option<PathBuf>> {
    if path.is_file() {
        return Ok(Some(path.to_owned()));
    }
    let weights = ["model.safetensors", "model.safetensors.index.json"];
    if !path.is_dir() || weights.iter().any(|name| path.join(name).exists()) {
        return Ok(None);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(Error::io("read", path))? {
        let file = entry.map_err(Error::io("read", path))?.path();
        if file
            .extension()
            .is_some_and(|extension| extension == "gguf")
        {
            files.push(file);
        }
    }
    let usual = path.join("model.gguf");
    if files.len() > 1 && !files.contains(&usual) {
        files.sort();
        return Err(Error::SeveralModels {
            folder: path.to_owned(),
            files,
        });
    }
    Ok(if files.contains(&usual) {
        Some(usual)
    } else {
        files.pop()
    })
}

/// Loads a GGUF file onto a device.
///
/// # Errors
/// Those of [`crate::load()`], and [`Error::NoTokenizer`].
pub(crate) fn load(path: &Path, device: &Device) -> Result<LanguageModel> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let malformed = |problem: String| Error::unusable(path, problem);
    let content = read(&bytes).map_err(malformed)?;
    let metadata = Metadata(&content.metadata);
    let name = metadata.text("general.architecture").unwrap_or("nameless");
    let Some(family) = family(name) else {
        return Err(Error::UnsupportedArchitecture {
            path: path.to_owned(),
            found: name.to_owned(),
            supported: SUPPORTED,
        });
    };
    let json = metadata
        .config(name, &content.tensor_infos)
        .map_err(malformed)?;
    let Described {
        mut architecture,
        mut parts,
        mut llama,
        ..
    } = described(path, family, json)?;
    let there = |tensor: &str| content.tensor_infos.contains_key(tensor);
    if family == Family::Llama {
        parts.qkv_bias = there("blk.0.attn_q.bias");
        parts.output_bias = there("blk.0.attn_output.bias");
        parts.mlp_bias = there("blk.0.ffn_down.bias");
    }
    let stretched = tensors::stretch(&content, &bytes, &mut architecture).map_err(malformed)?;
    if stretched || parts.qkv_bias || parts.output_bias || parts.mlp_bias {
        // It runs, but training here knows neither.
        llama = None;
    }
    let mut tensors = tensors::all(path, &content, &bytes, family, &architecture);
    tensors.keep_bits_if_large(device);
    let decoder = assemble::hugging_face(tensors, family, &architecture, parts)?;

    let mut hash = Sha256::new();
    hash.update(&bytes);
    let folder = path.parent().unwrap_or(Path::new("."));
    let tokenizer = text_tokenizer(
        path,
        folder,
        &metadata,
        family,
        &mut architecture,
        &mut hash,
    )?;
    let chat = ChatTemplate::in_folder(folder, metadata.specials())?.or_else(|| {
        let source = metadata.text("tokenizer.chat_template")?;
        Some(ChatTemplate::new(
            path,
            source.to_owned(),
            metadata.specials(),
        ))
    });
    if let Some(chat) = &chat {
        hash.update(chat.source());
        let end = chat.special("eos_token");
        architecture.ends_with(end.and_then(|text| tokenizer.token_id(text)));
    }
    let digest = hex(&hash.finalize());
    let mut model =
        LanguageModel::of_family(architecture, decoder, device, tokenizer, llama, digest)?;
    model.chat = chat;
    Ok(model)
}

fn family(architecture: &str) -> Option<Family> {
    match architecture {
        "llama" => Some(Family::Llama),
        "qwen2" => Some(Family::Qwen2),
        "qwen3" => Some(Family::Qwen3),
        _ => None,
    }
}

fn read(bytes: &[u8]) -> Result<Content, String> {
    if !bytes.starts_with(b"GGUF") {
        return Err("it does not begin with `GGUF`".to_owned());
    }
    if alignment::is_zero(bytes) {
        return Err("`general.alignment` is 0, and tensors lie at multiples of it".to_owned());
    }
    let content = Content::read(&mut Cursor::new(bytes)).map_err(|error| {
        let words = error.to_string();
        match words.contains("unknown dtype") {
            true => format!(
                "{words}, a number format that is not supported; F32, F16, BF16, Q4_0 to Q8_0 and Q2_K to Q6_K are"
            ),
            false => words,
        }
    })?;
    match Metadata(&content.metadata).whole("split.count") {
        Some(parts) if parts > 1 => Err(format!(
            "it is one of {parts} parts, which must be joined first"
        )),
        _ => Ok(content),
    }
}

/// The `tokenizer.json` beside the file, else the tokenizer inside it; and how texts begin and end.
fn text_tokenizer(
    path: &Path,
    folder: &Path,
    metadata: &Metadata<'_>,
    family: Family,
    architecture: &mut Architecture,
    hash: &mut Sha256,
) -> Result<TextTokenizer> {
    let beside = folder.join("tokenizer.json");
    let inside = architecture.begin;
    let tokenizer = if beside.exists() {
        let bytes = std::fs::read(&beside).map_err(Error::io("read", &beside))?;
        hash.update(&bytes);
        let tokenizer = TextTokenizer::from_bytes(&bytes).map_err(|problem| Error::Malformed {
            path: beside,
            problem,
        })?;
        let said = Said::in_folder(folder)?;
        said.hash(hash);
        begin_and_end(&said, family, &tokenizer, architecture)?;
        tokenizer
    } else {
        let (tokenizer, begins) =
            tokenizer::inside(metadata).map_err(|problem| Error::NoTokenizer {
                path: path.to_owned(),
                problem,
            })?;
        architecture.begin = inside.filter(|_| begins);
        tokenizer
    };
    match metadata.flag("tokenizer.ggml.add_bos_token") {
        Some(false) => architecture.begin = None,
        Some(true) => architecture.begin = architecture.begin.or(inside),
        None => {}
    }
    architecture.ends_with(metadata.token("tokenizer.ggml.eot_token_id"));
    Ok(tokenizer)
}
