//! Reads weights in the safetensors format, as f32.
//!
//! ```text
//!   u64 header length | JSON header { name: { dtype, shape, data_offsets } } | data
//! ```
//!
//! Only `F32`, `F16` and `BF16` are read. Nothing is written, nothing memory-mapped.

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// An opened file of weights.
pub struct Weights<'a> {
    entries: BTreeMap<String, Entry>,
    data: &'a [u8],
}

impl<'a> Weights<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// A sentence, if the bytes are not safetensors.
    pub fn open(bytes: &'a [u8]) -> Result<Self, String> {
        let damaged =
            |problem: &str| format!("the safetensors file is damaged: {problem}; fetch it again");
        let (length, rest) = bytes
            .split_first_chunk::<8>()
            .ok_or_else(|| damaged("shorter than its header"))?;
        let length =
            usize::try_from(u64::from_le_bytes(*length)).map_err(|_| damaged("header too long"))?;
        if length > rest.len() {
            return Err(damaged("it ends inside its header"));
        }
        let (header, data) = rest.split_at(length);
        let raw: BTreeMap<String, serde_json::Value> =
            serde_json::from_slice(header).map_err(|error| damaged(&error.to_string()))?;
        let mut entries = BTreeMap::new();
        for (name, value) in raw {
            if name == "__metadata__" {
                continue;
            }
            let entry: Entry = serde_json::from_value(value)
                .map_err(|error| damaged(&format!("tensor `{name}`: {error}")))?;
            entries.insert(name, entry);
        }
        Ok(Weights { entries, data })
    }

    /// Whether a tensor of this name is there.
    pub fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// One tensor as f32, appended to `into`.
    ///
    /// # Errors
    /// A sentence naming the tensor, if it is missing, of another shape or type, or cut off.
    pub fn append(&self, name: &str, shape: &[usize], into: &mut Vec<f32>) -> Result<(), String> {
        let entry = self.entries.get(name).ok_or_else(|| {
            format!(
                "the base model has no tensor `{name}`; give a Llama folder in Hugging Face layout"
            )
        })?;
        if entry.shape != shape {
            return Err(format!(
                "tensor `{name}` has shape {:?}, but config.json asks for {shape:?}; weights and config belong to different models",
                entry.shape
            ));
        }
        let count: usize = shape.iter().product();
        let (start, end) = entry.data_offsets;
        let bytes = self
            .data
            .get(start..end)
            .ok_or_else(|| format!("tensor `{name}` is cut off; fetch the file again"))?;
        let width = if entry.dtype == "F32" { 4 } else { 2 };
        if bytes.len() != count * width {
            return Err(format!(
                "tensor `{name}` has {} bytes instead of {}",
                bytes.len(),
                count * width
            ));
        }
        match entry.dtype.as_str() {
            "F32" => into.extend(
                bytes
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|&b| f32::from_le_bytes(b)),
            ),
            "BF16" => into.extend(
                bytes
                    .as_chunks::<2>()
                    .0
                    .iter()
                    .map(|&b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)),
            ),
            "F16" => into.extend(
                bytes
                    .as_chunks::<2>()
                    .0
                    .iter()
                    .map(|&b| from_f16(u16::from_le_bytes(b))),
            ),
            other => {
                return Err(format!(
                    "tensor `{name}` has type `{other}`; convert it to F32, F16 or BF16"
                ));
            }
        }
        Ok(())
    }
}

fn from_f16(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f32::from(bits & 0x3ff));
    match exponent {
        0 => sign * fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => sign * f32::INFINITY,
        31 => f32::NAN,
        _ => sign * (1.0 + fraction / 1024.0) * 2f32.powi(exponent - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(data);
        bytes
    }

    #[test]
    fn the_three_types_read_as_the_same_numbers() {
        for (dtype, data) in [
            (
                "F32",
                [
                    1.5f32.to_le_bytes().to_vec(),
                    (-2.0f32).to_le_bytes().to_vec(),
                ]
                .concat(),
            ),
            ("BF16", vec![0xc0, 0x3f, 0x00, 0xc0]),
            ("F16", vec![0x00, 0x3e, 0x00, 0xc0]),
        ] {
            let header = format!(
                r#"{{"w":{{"dtype":"{dtype}","shape":[2],"data_offsets":[0,{}]}}}}"#,
                data.len()
            );
            let bytes = file(&header, &data);
            let mut values = Vec::new();
            Weights::open(&bytes)
                .unwrap()
                .append("w", &[2], &mut values)
                .unwrap();
            assert_eq!(values, [1.5, -2.0], "{dtype}");
        }
    }

    #[test]
    fn damage_is_named_instead_of_read() {
        let header = r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        let bytes = file(header, &[0; 4]);
        let weights = Weights::open(&bytes).unwrap();
        assert!(
            weights
                .append("w", &[2], &mut vec![])
                .unwrap_err()
                .contains("cut off")
        );
        assert!(
            weights
                .append("v", &[2], &mut vec![])
                .unwrap_err()
                .contains("no tensor `v`")
        );
        assert!(
            weights
                .append("w", &[3], &mut vec![])
                .unwrap_err()
                .contains("[2]")
        );
        assert!(Weights::open(&bytes[..20]).is_err());
    }
}
