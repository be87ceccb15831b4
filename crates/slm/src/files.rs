//! Arrays in safetensors files.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, View};

use crate::error::SlmError;
use crate::params::Array;

/// Writes arrays as F32 and waits until they are on the disk.
///
/// # Errors
/// [`SlmError::Write`].
pub(crate) fn write_arrays<'a>(
    path: &Path,
    arrays: impl IntoIterator<Item = (String, &'a Array)>,
    metadata: HashMap<String, String>,
) -> Result<(), SlmError> {
    let tensors = arrays
        .into_iter()
        .map(|(name, array)| (name, Stored(array)));
    safetensors::serialize_to_file(tensors, Some(metadata), path).map_err(|error| {
        SlmError::Write {
            path: path.to_owned(),
            source: match error {
                safetensors::SafeTensorError::IoError(error) => error,
                other => std::io::Error::other(other),
            },
        }
    })?;
    let file = File::open(path).map_err(SlmError::write(path))?;
    file.sync_all().map_err(SlmError::write(path))
}

/// One array as safetensors sees it.
struct Stored<'a>(&'a Array);

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let bytes = self.0.data.iter().flat_map(|value| value.to_le_bytes());
        Cow::Owned(bytes.collect())
    }

    fn data_len(&self) -> usize {
        self.0.data.len() * 4
    }
}

/// The arrays of a file whose bytes were read; `path` is for messages.
///
/// # Errors
/// [`SlmError::Weights`] if it is cut short, [`SlmError::WeightDtype`].
pub(crate) fn read_arrays(path: &Path, bytes: &[u8]) -> Result<Vec<(String, Array)>, SlmError> {
    let file = open(path, bytes)?;
    file.iter()
        .map(|(name, view)| Ok((name.to_owned(), to_array(path, name, &view)?)))
        .collect()
}

/// The file whose bytes were read.
///
/// # Errors
/// [`SlmError::Weights`] if it is cut short.
pub(crate) fn open<'b>(path: &Path, bytes: &'b [u8]) -> Result<SafeTensors<'b>, SlmError> {
    SafeTensors::deserialize(bytes).map_err(|error| SlmError::Weights {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// A stored tensor as f32.
///
/// # Errors
/// [`SlmError::WeightDtype`] for other types than F32, F16 and BF16.
pub(crate) fn to_array(path: &Path, name: &str, view: &TensorView<'_>) -> Result<Array, SlmError> {
    let data = match view.dtype() {
        Dtype::F32 => floats(view.data(), f32::from_le_bytes),
        Dtype::F16 => floats(view.data(), |b| half::f16::from_le_bytes(b).to_f32()),
        Dtype::BF16 => floats(view.data(), |b| half::bf16::from_le_bytes(b).to_f32()),
        other => {
            return Err(SlmError::WeightDtype {
                path: path.to_owned(),
                name: name.to_owned(),
                found: format!("{other:?}"),
            });
        }
    };
    Ok(Array {
        shape: view.shape().to_vec(),
        data,
    })
}

fn floats<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let (values, _) = bytes.as_chunks::<N>();
    values.iter().map(|value| read(*value)).collect()
}
