//! Ids and embeddings against those of tokenizers, PyTorch and transformers.
//!
//! `fixtures/encoder.py` makes the references.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Compiled, Encoder, Shape, Vocabulary};
use crate::{File, Tensor};

#[derive(Deserialize)]
struct Reference {
    max_tokens: usize,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    text: String,
    ids: Vec<u32>,
    embedding: Vec<f32>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn folder(path: &Path) -> Vec<File> {
    ["config.json", "tokenizer.json", "model.safetensors"]
        .iter()
        .map(|name| File {
            name: format!("encoder/{name}"),
            data: std::fs::read(path.join(name)).unwrap(),
        })
        .collect()
}

fn compare(model: &Path, reference: &str) {
    let reference = std::fs::read(fixtures().join(reference)).unwrap();
    let reference: Reference = serde_json::from_slice(&reference).unwrap();
    let compiled = Compiled::read(&folder(model), "encoder", reference.max_tokens).unwrap();
    let weights = Tensor::new(&compiled.weights);
    let encoder = Encoder::open(&compiled.context, &weights);
    for row in &reference.rows {
        assert_eq!(encoder.tokens(&row.text), row.ids, "{:?}", row.text);
    }
    // All at once: no text's embedding depends on its neighbours.
    let texts: Vec<&str> = reference.rows.iter().map(|row| row.text.as_str()).collect();
    for (row, embedding) in reference.rows.iter().zip(encoder.embed(&texts)) {
        assert_eq!(embedding.len(), row.embedding.len());
        for (found, expected) in embedding.iter().zip(&row.embedding) {
            assert!(
                (found - expected).abs() < 1e-4,
                "{:?}: {found} instead of {expected}",
                row.text
            );
        }
    }
}

#[test]
fn a_small_random_encoder_agrees_with_the_reference() {
    compare(&fixtures().join("bert"), "bert.json");
}

#[test]
fn minilm_agrees_with_the_reference() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/noisegate/minilm");
    if model.join("model.safetensors").is_file() {
        compare(&model, "minilm.json");
    } else {
        println!("skipped: MiniLM is not on this machine; `cargo xtask setup` fetches it");
    }
}

#[test]
fn other_models_are_refused_with_a_sentence() {
    let config = std::fs::read_to_string(fixtures().join("bert/config.json")).unwrap();
    let refusal = |from: &str, to: &str| {
        assert!(config.contains(from));
        Shape::parse(config.replace(from, to).as_bytes()).unwrap_err()
    };
    assert!(refusal("\"bert\"", "\"roberta\"").contains("`roberta`"));
    assert!(refusal("\"gelu\"", "\"relu\"").contains("plain BERT"));
    assert!(refusal("\"num_attention_heads\": 4", "\"num_attention_heads\": 3").contains("heads"));
    assert!(Shape::parse(b"{}").unwrap_err().contains("nameless"));

    let tokenizer = std::fs::read_to_string(fixtures().join("bert/tokenizer.json")).unwrap();
    let refusal = |from: &str, to: &str| {
        assert!(tokenizer.contains(from));
        let parsed = Vocabulary::parse(tokenizer.replace(from, to).as_bytes());
        parsed.err().unwrap()
    };
    assert!(refusal("BertNormalizer", "NFC").contains("`NFC`"));
    assert!(refusal("\"[SEP]\": 3", "\"[END]\": 3").contains("`[SEP]`"));

    let refusal =
        |inputs: &[File], tokens| Compiled::read(inputs, "encoder", tokens).err().unwrap();
    let mut files = folder(&fixtures().join("bert"));
    assert!(refusal(&files, 33).contains("3 to 32"));
    files[0].data = config
        .replace("\"intermediate_size\": 24", "\"intermediate_size\": 25")
        .into_bytes();
    assert!(refusal(&files, 8).contains("[24, 16]"));
    files.pop();
    assert!(refusal(&files, 8).contains("`model.safetensors`"));
}
