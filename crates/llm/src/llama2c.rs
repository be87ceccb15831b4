//! Converts a llama2.c checkpoint (version 0) and its tokenizer.
//!
//! These files are tiny and their greedy output is known, which makes them proof of the forward
//! pass: they share nothing with our own training.
//!
//! # Source
//! Karpathy, llama2.c, `run.c` (`read_checkpoint`, `build_tokenizer`, `encode`).

use std::path::Path;

use candle_core::{Device, Tensor};
use sha2::{Digest, Sha256};
use tokenizers::decoders::{byte_fallback, fuse, sequence, strip};
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::prepend::Prepend;
use tokenizers::{AddedToken, Tokenizer};

use crate::config::{LlamaConfig, TokenIds};
use crate::error::{Error, Result};
use crate::model::{LanguageModel, hex};
use crate::tokenizer::{TextTokenizer, merges_by_score};
use crate::weights::{LayerWeights, LlamaWeights};

/// Beginning of a text in every llama2.c tokenizer.
const BEGIN: u32 = 1;
/// End of a text.
const END: u32 = 2;

/// Loads `stories*.bin` and `tok*.bin`.
///
/// # Errors
/// [`Error::Io`]; [`Error::Malformed`] if a file is shorter or longer than its header says.
pub fn load_llama2c(model: &Path, tokenizer: &Path) -> Result<LanguageModel> {
    let model_bytes = std::fs::read(model).map_err(Error::io("read", model))?;
    let tokenizer_bytes = std::fs::read(tokenizer).map_err(Error::io("read", tokenizer))?;
    let malformed = |path: &Path| {
        let path = path.to_owned();
        move |problem: String| Error::Malformed { path, problem }
    };
    let (config, weights) = parse_model(&model_bytes).map_err(malformed(model))?;
    let text_tokenizer =
        parse_tokenizer(&tokenizer_bytes, config.vocab_size).map_err(malformed(tokenizer))?;
    let mut hash = Sha256::new();
    hash.update(&model_bytes);
    hash.update(&tokenizer_bytes);
    LanguageModel::new(config, &weights, text_tokenizer, hex(&hash.finalize()))
}

fn parse_model(bytes: &[u8]) -> Result<(LlamaConfig, LlamaWeights), String> {
    let header: Vec<i32> = bytes
        .as_chunks()
        .0
        .iter()
        .take(7)
        .map(|b| i32::from_le_bytes(*b))
        .collect();
    let [dim, hidden, layers, heads, kv_heads, vocab, context] = header[..] else {
        return Err("it is shorter than its header".to_owned());
    };
    let size = |value: i32| usize::try_from(value).map_err(|_| format!("it has a size of {value}"));
    let config = LlamaConfig {
        architectures: vec!["LlamaForCausalLM".to_owned()],
        model_type: "llama".to_owned(),
        hidden_size: size(dim)?,
        intermediate_size: size(hidden)?,
        // A negative vocabulary says that the output layer is not the embedding.
        vocab_size: vocab.unsigned_abs() as usize,
        num_hidden_layers: size(layers)?,
        num_attention_heads: size(heads)?,
        num_key_value_heads: Some(size(kv_heads)?),
        head_dim: None,
        max_position_embeddings: size(context)?,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        tie_word_embeddings: vocab > 0,
        hidden_act: "silu".to_owned(),
        bos_token_id: Some(BEGIN),
        eos_token_id: Some(TokenIds::Many(vec![BEGIN, END])),
        pad_token_id: None,
        torch_dtype: None,
    };
    config.validate().map_err(|e| e.to_string())?;
    let floats: Vec<f32> = bytes[28..]
        .as_chunks()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect();
    let rotary = config.max_position_embeddings * config.head_size();
    let expected = config.parameters() + rotary;
    if floats.len() != expected {
        return Err(format!(
            "it holds {} numbers instead of {expected}",
            floats.len()
        ));
    }
    let weights = take_weights(&config, &floats).map_err(|e| e.to_string())?;
    Ok((config, weights))
}

/// Cuts the flat file up; each kind of weight comes for all layers before the next kind.
fn take_weights(config: &LlamaConfig, floats: &[f32]) -> candle_core::Result<LlamaWeights> {
    let (d, f) = (config.hidden_size, config.intermediate_size);
    let kv = config.kv_heads() * config.head_size();
    let mut rest = floats;
    let mut take = |shape: &[usize]| {
        let (here, after) = rest.split_at(shape.iter().product());
        rest = after;
        Tensor::from_slice(here, shape, &Device::Cpu)
    };
    let embedding = take(&[config.vocab_size, d])?;
    let mut every = |shape: &[usize]| -> candle_core::Result<std::vec::IntoIter<Tensor>> {
        let layers = (0..config.num_hidden_layers).map(|_| take(shape));
        Ok(layers.collect::<candle_core::Result<Vec<_>>>()?.into_iter())
    };
    let mut input_norm = every(&[d])?;
    let (mut query, mut key) = (every(&[d, d])?, every(&[kv, d])?);
    let (mut value, mut output) = (every(&[kv, d])?, every(&[d, d])?);
    let mut post_norm = every(&[d])?;
    let (mut gate, mut down, mut up) = (every(&[f, d])?, every(&[d, f])?, every(&[f, d])?);
    let mut layers = Vec::with_capacity(config.num_hidden_layers);
    while let (Some(q), Some(k)) = (query.next(), key.next()) {
        let next = |kind: &mut std::vec::IntoIter<Tensor>| {
            kind.next()
                .ok_or_else(|| candle_core::Error::Msg("a layer is incomplete".to_owned()))
        };
        layers.push(LayerWeights {
            input_norm: next(&mut input_norm)?,
            query: half_split(&q, config.head_size())?,
            key: half_split(&k, config.head_size())?,
            value: next(&mut value)?,
            output: next(&mut output)?,
            post_norm: next(&mut post_norm)?,
            gate: next(&mut gate)?,
            up: next(&mut up)?,
            down: next(&mut down)?,
        });
    }
    let norm = take(&[d])?;
    let rotary = config.max_position_embeddings * config.head_size() / 2;
    take(&[rotary])?;
    take(&[rotary])?;
    let head = match config.tie_word_embeddings {
        true => None,
        false => Some(take(&[config.vocab_size, d])?),
    };
    Ok(LlamaWeights {
        embedding,
        layers,
        norm,
        head,
    })
}

/// llama2.c rotates neighbouring pairs (2i, 2i + 1); Hugging Face rotates (i, i + head / 2).
/// Reordering the rows of each head makes one the other.
fn half_split(matrix: &Tensor, head: usize) -> candle_core::Result<Tensor> {
    let (rows, columns) = matrix.dims2()?;
    matrix
        .reshape((rows / head, head / 2, 2, columns))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape((rows, columns))
}

fn parse_tokenizer(bytes: &[u8], vocab_size: usize) -> Result<TextTokenizer, String> {
    let mut rest = bytes.get(4..).ok_or("it is shorter than its header")?;
    let mut tokens: Vec<(String, f32)> = Vec::with_capacity(vocab_size);
    for id in 0..vocab_size {
        let entry = (|| {
            let (score, after) = rest.split_first_chunk::<4>()?;
            let (length, after) = after.split_first_chunk::<4>()?;
            let length = usize::try_from(i32::from_le_bytes(*length)).ok()?;
            let (text, after) = after.split_at_checked(length)?;
            rest = after;
            Some((
                String::from_utf8(text.to_vec()).ok()?,
                f32::from_le_bytes(*score),
            ))
        })();
        tokens.push(entry.ok_or_else(|| format!("it ends or is not text at token {id}"))?);
    }
    let ids: std::collections::HashMap<&str, u32> = tokens
        .iter()
        .enumerate()
        .map(|(id, (text, _))| (text.as_str(), id as u32))
        .collect();
    let scored: Vec<(&str, f32)> = tokens
        .iter()
        .map(|(text, score)| (&text[..], *score))
        .collect();
    // The first 259 are unknown, begin, end and the 256 bytes; none of them is ever merged into.
    let merges = merges_by_score(&scored, |id| id >= 259);
    let vocab: Vocab = ids
        .iter()
        .map(|(text, id)| ((*text).to_owned(), *id))
        .collect();
    let words = |e: tokenizers::Error| e.to_string();
    let bpe = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .unk_token("<unk>".to_owned())
        .byte_fallback(true)
        .build()
        .map_err(words)?;
    let mut inner = Tokenizer::new(bpe);
    inner
        .with_normalizer(Some(Prepend::new(" ".to_owned())))
        .map_err(words)?;
    inner.with_decoder(Some(sequence::Sequence::new(vec![
        byte_fallback::ByteFallback::new().into(),
        fuse::Fuse::new().into(),
        strip::Strip::new(' ', 1, 0).into(),
    ])));
    let special: Vec<AddedToken> = tokens[..3]
        .iter()
        .map(|(text, _)| AddedToken::from(text.clone(), true).normalized(false))
        .collect();
    inner.add_special_tokens(special).map_err(words)?;
    Ok(TextTokenizer::from_inner(inner))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::generate::{GenerateOptions, Request, Sampling, generate};

    const STORIES: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/models/stories260k"
    );

    #[test]
    fn stories260k_tells_the_story_that_llama2c_tells() {
        let folder = Path::new(STORIES);
        if !folder.exists() {
            println!("skipped: {STORIES} is not there");
            return;
        }
        let model =
            load_llama2c(&folder.join("stories260K.bin"), &folder.join("tok512.bin")).unwrap();
        let request = Request {
            prompt: String::new(),
            max_new_tokens: 120,
            sampling: Sampling::greedy(),
            ..Request::default()
        };
        let options = GenerateOptions::default();
        let cancel = AtomicBool::new(false);
        let told = generate(&model, &[request], &options, &mut |_| (), &cancel).unwrap();
        let known = "Once upon a time, there was a little girl named Lily. She loved to play \
                     outside in the park. One day, she saw a big, red ball. She wanted to play \
                     with it, but it was too high.";
        assert!(
            told[0].text.trim_start().starts_with(known),
            "{}",
            told[0].text
        );
    }

    #[test]
    fn a_truncated_checkpoint_is_refused_with_both_sizes() {
        let folder = Path::new(STORIES);
        if !folder.exists() {
            println!("skipped: {STORIES} is not there");
            return;
        }
        let bytes = std::fs::read(folder.join("stories260K.bin")).unwrap();
        let message = parse_model(&bytes[..bytes.len() - 400])
            .map(|_| ())
            .unwrap_err();
        assert!(message.contains("numbers instead of"), "{message}");
    }
}
