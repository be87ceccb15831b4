//! A training run on disk: a model folder that can be loaded at any time, and the rest to resume.
//!
//! ```text
//! folder/config.json  tokenizer.json  model.safetensors (bf16)     any program can use these
//!        training.safetensors (f32 weights, optimiser, counters)   only a resumed run needs this
//! ```
//! Every file is written beside its place and renamed, so a killed run leaves the last one whole.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use half::bf16;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::cells::read;
use super::optimizer::Optimizer;
use crate::config::LlamaConfig;
use crate::error::{Error, Result};
use crate::tokenizer::TextTokenizer;
use crate::weights::LlamaWeights;

/// Name of the file that only a resumed run needs.
pub const TRAINING_FILE: &str = "training.safetensors";

/// Counters of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Counters {
    /// Optimiser steps done.
    pub steps: u64,
    /// Windows dealt.
    pub windows: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Seconds spent, over all parts of the run.
    pub seconds: f64,
    /// Smoothed loss, nats per token.
    pub loss: f64,
}

/// Writes a Hugging Face folder: `config.json`, `tokenizer.json`, `model.safetensors` in bf16.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub fn export(
    folder: &Path,
    config: &LlamaConfig,
    tokenizer: &TextTokenizer,
    weights: &LlamaWeights,
) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let config = LlamaConfig {
        torch_dtype: Some("bfloat16".to_owned()),
        ..config.clone()
    };
    let json = serde_json::to_string_pretty(&config).map_err(|e| Error::Malformed {
        path: folder.join("config.json"),
        problem: e.to_string(),
    })?;
    write(&folder.join("config.json"), format!("{json}\n").as_bytes())?;
    write(
        &folder.join("tokenizer.json"),
        tokenizer.to_json()?.as_bytes(),
    )?;
    let mut tensors = Vec::new();
    for ((name, shape), tensor) in config.tensor_shapes().into_iter().zip(weights.list()) {
        let bytes: Vec<u8> = read(tensor, |values| {
            values
                .iter()
                .flat_map(|v| bf16::from_f32(*v).to_le_bytes())
                .collect()
        })?;
        tensors.push((name, Dtype::BF16, shape, bytes));
    }
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    write_tensors(&folder.join("model.safetensors"), &tensors, metadata)
}

type Entry = (String, Dtype, Vec<usize>, Vec<u8>);

fn write_tensors(path: &Path, tensors: &[Entry], metadata: HashMap<String, String>) -> Result<()> {
    let malformed = |e: safetensors::SafeTensorError| Error::Malformed {
        path: path.to_owned(),
        problem: e.to_string(),
    };
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| {
            TensorView::new(*dtype, shape.clone(), bytes).map(|view| (name.as_str(), view))
        })
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(malformed)?;
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(malformed)?;
    write(path, &bytes)
}

/// Writes a file beside its place, flushes it to disk and renames it.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    let beside = path.with_extension("partial");
    let mut file = std::fs::File::create(&beside).map_err(Error::io("create", &beside))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(Error::io("write", &beside))?;
    std::fs::rename(&beside, path).map_err(Error::io("rename", path))
}

/// Writes everything a run needs to go on.
pub(super) fn save(
    folder: &Path,
    config: &LlamaConfig,
    weights: &LlamaWeights,
    optimizer: &Optimizer,
    counters: &Counters,
) -> Result<()> {
    let bytes = |values: &[f32]| {
        values
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    let mut tensors: Vec<Entry> = Vec::new();
    for ((name, shape), tensor) in config.tensor_shapes().into_iter().zip(weights.list()) {
        tensors.push((name, Dtype::F32, shape, read(tensor, bytes)?));
    }
    for (name, values) in optimizer.state() {
        tensors.push((name, Dtype::F32, vec![values.len()], bytes(values)));
    }
    let path = folder.join(TRAINING_FILE);
    let json = serde_json::to_string(counters).map_err(|e| Error::Malformed {
        path: path.clone(),
        problem: e.to_string(),
    })?;
    write_tensors(
        &path,
        &tensors,
        HashMap::from([("counters".to_owned(), json)]),
    )
}

/// Reads what [`save`] wrote; `None` if there is no earlier run in the folder.
pub(super) fn resume(
    folder: &Path,
    config: &LlamaConfig,
    optimizer: &mut Optimizer,
) -> Result<Option<(LlamaWeights, Counters)>> {
    let path = folder.join(TRAINING_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let malformed = |problem: String| Error::Malformed {
        path: path.clone(),
        problem,
    };
    let buffer = std::fs::read(&path).map_err(Error::io("read", &path))?;
    let (_, header) = SafeTensors::read_metadata(&buffer).map_err(|e| malformed(e.to_string()))?;
    let tensors = SafeTensors::deserialize(&buffer).map_err(|e| malformed(e.to_string()))?;
    let counters: Counters = header
        .metadata()
        .as_ref()
        .and_then(|m| m.get("counters"))
        .ok_or_else(|| malformed("it has no `counters`".to_owned()))
        .and_then(|json| serde_json::from_str(json).map_err(|e| malformed(e.to_string())))?;
    let floats = |name: &str| -> Result<(Vec<usize>, Vec<f32>)> {
        let view = tensors.tensor(name).map_err(|_| Error::MissingTensor {
            name: name.to_owned(),
            path: path.clone(),
        })?;
        let values = view
            .data()
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect();
        Ok((view.shape().to_vec(), values))
    };
    let check = |name: &str, expected: &[usize]| -> Result<Vec<f32>> {
        let (found, values) = floats(name)?;
        if found != expected {
            return Err(Error::ShapeMismatch {
                name: name.to_owned(),
                expected: expected.to_vec(),
                found,
            });
        }
        Ok(values)
    };
    let weights = LlamaWeights::build(config, |name, shape| -> Result<Tensor> {
        Ok(Tensor::from_vec(check(name, shape)?, shape, &Device::Cpu)?)
    })?;
    optimizer.restore(counters.steps, |name, length| check(name, &[length]))?;
    Ok(Some((weights, counters)))
}
