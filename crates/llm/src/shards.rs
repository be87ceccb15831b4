//! The weights of a Hugging Face folder: one safetensors file, or the shards that an index names.

use std::collections::BTreeSet;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

use crate::assemble::Tensors;
use crate::error::{Error, Result};
use crate::load::read;
use crate::weight::Bits;

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

/// Adds the tensors of one file.
pub(crate) fn collect<'a>(path: &Path, bytes: &'a [u8], tensors: &mut Tensors<'a>) -> Result<()> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| Error::Malformed {
        path: path.to_owned(),
        problem: e.to_string(),
    })?;
    for (name, view) in file.tensors() {
        let Some((bits, read)) = format(view.dtype()) else {
            let problem = format!(
                "tensor `{name}` is {:?}, which is not supported",
                view.dtype()
            );
            return Err(Error::unusable(path, problem));
        };
        let data = view.data();
        tensors.insert(name, view.shape().to_vec(), bits, move || Ok(read(data)));
    }
    Ok(())
}

/// Reads a tensor's bytes as f32.
type Reader = fn(&[u8]) -> Vec<f32>;

/// How the numbers of a format are read; `None` for integers.
fn format(format: Dtype) -> Option<(Bits, Reader)> {
    Some(match format {
        Dtype::F32 => (Bits::Full, |data| read_all(data, f32::from_le_bytes)),
        Dtype::F64 => (Bits::Full, |data| {
            read_all(data, |number| f64::from_le_bytes(number) as f32)
        }),
        Dtype::BF16 => (Bits::Bf16, |data| {
            read_all(data, |number| half::bf16::from_le_bytes(number).to_f32())
        }),
        Dtype::F16 => (Bits::F16, |data| {
            read_all(data, |number| half::f16::from_le_bytes(number).to_f32())
        }),
        _ => return None,
    })
}

fn read_all<const BYTES: usize>(data: &[u8], read: impl Fn([u8; BYTES]) -> f32) -> Vec<f32> {
    data.as_chunks()
        .0
        .iter()
        .map(|number| read(*number))
        .collect()
}
