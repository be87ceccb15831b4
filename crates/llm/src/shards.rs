//! The weights of a Hugging Face folder: one safetensors file, or the shards that an index names.

use std::collections::BTreeSet;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use crate::assemble::Tensors;
use crate::error::{Error, Result};
use crate::load::read;

/// The weight files of a folder, in name order.
pub(crate) fn weight_files(folder: &Path) -> Result<Vec<String>> {
    const SINGLE: &str = "model.safetensors";
    const INDEX: &str = "model.safetensors.index.json";
    if folder.join(SINGLE).exists() || !folder.join(INDEX).exists() {
        return Ok(vec![SINGLE.to_owned()]);
    }
    let malformed = |problem: String| Error::Malformed {
        path: folder.join(INDEX),
        problem,
    };
    let index: serde_json::Value =
        serde_json::from_slice(&read(folder, INDEX)?).map_err(|e| malformed(e.to_string()))?;
    let map = index["weight_map"]
        .as_object()
        .ok_or_else(|| malformed("it has no `weight_map`".to_owned()))?;
    let mut files = BTreeSet::new();
    for file in map.values() {
        match file.as_str() {
            // A shard is a plain name beside the index, never a path to elsewhere.
            Some(file) if !file.contains(['/', '\\']) => files.insert(file.to_owned()),
            _ => {
                return Err(malformed(format!(
                    "`{file}` is not the name of a file beside it"
                )));
            }
        };
    }
    Ok(files.into_iter().collect())
}

/// Adds the tensors of one file as f32.
pub(crate) fn collect(path: &Path, bytes: &[u8], tensors: &mut Tensors) -> Result<()> {
    let malformed = |problem: String| Error::Malformed {
        path: path.to_owned(),
        problem,
    };
    let file = SafeTensors::deserialize(bytes).map_err(|e| malformed(e.to_string()))?;
    for (name, view) in file.iter() {
        let values = floats(&view)
            .ok_or_else(|| {
                format!(
                    "tensor `{name}` is {:?}, which is not supported",
                    view.dtype()
                )
            })
            .map_err(|problem| Error::unusable(path, problem))?;
        tensors.insert(name.to_owned(), view.shape().to_vec(), values);
    }
    Ok(())
}

/// The numbers of a tensor as f32; `None` for integer formats.
fn floats(view: &TensorView<'_>) -> Option<Vec<f32>> {
    let data = view.data();
    Some(match view.dtype() {
        Dtype::F32 => data
            .as_chunks()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect(),
        Dtype::F64 => data
            .as_chunks()
            .0
            .iter()
            .map(|b| f64::from_le_bytes(*b) as f32)
            .collect(),
        Dtype::BF16 => data
            .as_chunks()
            .0
            .iter()
            .map(|b| half::bf16::from_le_bytes(*b).to_f32())
            .collect(),
        Dtype::F16 => data
            .as_chunks()
            .0
            .iter()
            .map(|b| half::f16::from_le_bytes(*b).to_f32())
            .collect(),
        _ => return None,
    })
}
