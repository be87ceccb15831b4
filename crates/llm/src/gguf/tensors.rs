//! A GGUF file's tensors, read as f32, under the names and in the order of rows of a Hugging Face folder.

use std::io::Cursor;
use std::path::Path;

use candle_core::Device;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::Content;

use crate::architecture::Architecture;
use crate::assemble::Tensors;
use crate::families::Family;
use crate::weight::Bits;

/// Divides each pair's rotary frequency; Llama 3.1's stretched positions are stored so.
const ROTARY_FACTORS: &str = "rope_freqs.weight";

/// GGUF's names of a layer's parts, and Hugging Face's.
const PARTS: [(&str, &str); 11] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// All tensors of the file but the rotary factors.
pub(super) fn all<'a>(
    path: &Path,
    content: &'a Content,
    bytes: &'a [u8],
    family: Family,
    architecture: &Architecture,
) -> Tensors<'a> {
    let mut tensors = Tensors::new(path);
    for (name, info) in &content.tensor_infos {
        if name == ROTARY_FACTORS {
            continue;
        }
        let heads = match name.rsplit('.').nth(1) {
            Some("attn_q") => architecture.heads,
            Some("attn_k") => architecture.kv_heads,
            _ => 0,
        };
        let (turned, head) = (family == Family::Llama && heads > 0, architecture.head);
        let bits = match info.ggml_dtype {
            GgmlDType::F32 => Bits::Full,
            GgmlDType::F16 => Bits::F16,
            GgmlDType::BF16 => Bits::Bf16,
            _ => Bits::Few,
        };
        let read = move || {
            let values = floats(content, bytes, name)?;
            if !turned {
                return Ok(values);
            }
            half_split(&values, heads, head)
                .ok_or_else(|| format!("tensor `{name}` does not have {heads} heads"))
        };
        tensors.insert(hugging_face(name), info.shape.dims().to_vec(), bits, read);
    }
    tensors
}

/// Applies the file's rotary factors, if it has any.
pub(super) fn stretch(
    content: &Content,
    bytes: &[u8],
    architecture: &mut Architecture,
) -> Result<bool, String> {
    if !content.tensor_infos.contains_key(ROTARY_FACTORS) {
        return Ok(false);
    }
    let factors = floats(content, bytes, ROTARY_FACTORS)?;
    for table in &mut architecture.rotary {
        if factors.len() != table.frequencies.len() || factors.iter().any(|f| *f <= 0.0) {
            return Err(format!(
                "`{ROTARY_FACTORS}` has {} factors for {} frequencies, or one that is not positive",
                factors.len(),
                table.frequencies.len()
            ));
        }
        for (frequency, factor) in table.frequencies.iter_mut().zip(&factors) {
            *frequency /= f64::from(*factor);
        }
    }
    Ok(true)
}

fn floats(content: &Content, bytes: &[u8], name: &str) -> Result<Vec<f32>, String> {
    // Two bits a number is the smallest format; the library does not expect products that overflow.
    let dims = content.tensor_infos.get(name).map(|info| info.shape.dims());
    let mut dims = dims.unwrap_or_default().iter();
    let numbers = dims.try_fold(1_usize, |all, dim| all.checked_mul(*dim));
    if numbers.is_none_or(|numbers| numbers / 4 > bytes.len()) {
        return Err(format!("tensor `{name}` is larger than the file"));
    }
    content
        .tensor(&mut Cursor::new(bytes), name, &Device::Cpu)
        .and_then(|tensor| tensor.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1())
        .map_err(|error| format!("tensor `{name}`: {error}"))
}

/// A name that is not known stays as it is, and is refused with the tensors that nobody takes.
fn hugging_face(name: &str) -> String {
    match name {
        "token_embd.weight" => return "model.embed_tokens.weight".to_owned(),
        "output_norm.weight" => return "model.norm.weight".to_owned(),
        "output.weight" => return "lm_head.weight".to_owned(),
        _ => {}
    }
    let parts: Vec<&str> = name.split('.').collect();
    let ["blk", layer, part, kind] = parts[..] else {
        return name.to_owned();
    };
    match PARTS.iter().find(|(theirs, _)| *theirs == part) {
        Some((_, ours)) => format!("model.layers.{layer}.{ours}.{kind}"),
        None => name.to_owned(),
    }
}

/// Files of the `llama` architecture rotate neighbouring pairs (2i, 2i + 1); Hugging Face rotates
/// (i, i + head / 2). Reordering the rows of each head makes one the other.
///
/// - `values`: shape `[heads * head, columns]`, or `[heads * head]` for a bias.
fn half_split(values: &[f32], heads: usize, head: usize) -> Option<Vec<f32>> {
    let rows = heads * head;
    if rows == 0 || !head.is_multiple_of(2) || !values.len().is_multiple_of(rows) {
        return None;
    }
    let columns = values.len() / rows;
    let mut out = Vec::with_capacity(values.len());
    for row in 0..rows {
        let (first, within) = (row - row % head, row % head);
        let (half, pair) = (within / (head / 2), within % (head / 2));
        let from = (first + 2 * pair + half) * columns;
        out.extend_from_slice(&values[from..from + columns]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_pairs_become_halves_within_each_head() {
        let rows: Vec<f32> = (0..8).map(|row| row as f32).collect();
        assert_eq!(
            half_split(&rows, 2, 4).unwrap(),
            [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]
        );
        assert_eq!(half_split(&rows, 1, 3), None);
    }

    #[test]
    fn names_that_are_not_known_stay() {
        assert_eq!(
            hugging_face("blk.3.attn_q.bias"),
            "model.layers.3.self_attn.q_proj.bias"
        );
        assert_eq!(
            hugging_face("blk.3.ffn_gate_exps.weight"),
            "blk.3.ffn_gate_exps.weight"
        );
    }
}
