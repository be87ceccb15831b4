//! Trains the tokenizer and the model of `plugins/tiny-lm` from decompressed JSON Lines.
//!
//! `pretrain FOLDER END_SECONDS_FROM_NOW WIKI.jsonl BOOKS.jsonl HELD_OUT.jsonl...`
#![allow(missing_docs)]

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use noisegate_llm::pretrain::{
    Budget, Document, OptimizerOptions, PretrainOptions, Schedule, Source, bits_per_byte, pretrain,
};
use noisegate_llm::{LlamaConfig, TextTokenizer};

fn rows(path: &str) -> Vec<Document> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            Document {
                title: row["title"].as_str().map(str::to_owned),
                text: row["text"].as_str().unwrap().to_owned(),
            }
        })
        .collect()
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let folder = PathBuf::from(&args[0]);
    let seconds: f64 = args[1].parse().unwrap();
    let setting = |name: &str, default: f64| {
        std::env::var(name).map_or(default, |value| value.parse().unwrap())
    };
    let mut held_out_titles = HashSet::new();
    for path in &args[4..] {
        for document in rows(path) {
            let first = document.text.lines().next().unwrap_or("").trim();
            held_out_titles.insert(first.trim_matches(['=', ' ']).to_lowercase());
        }
    }
    let mut wiki = rows(&args[2]);
    let before = wiki.len();
    wiki.retain(|d| {
        !held_out_titles.contains(&d.title.as_deref().unwrap_or("").trim().to_lowercase())
    });
    println!(
        "wiki: {} documents, {} dropped as held out",
        wiki.len(),
        before - wiki.len()
    );
    let books = rows(&args[3]);
    std::fs::create_dir_all(&folder).unwrap();
    let started = Instant::now();
    let tokenizer_path = folder.join("tokenizer.json");
    let tokenizer = if tokenizer_path.exists() {
        TextTokenizer::load(&tokenizer_path).unwrap()
    } else {
        let sample: Vec<String> = wiki
            .iter()
            .take(2400)
            .chain(books.iter().take(800))
            .map(Document::render)
            .collect();
        let tokenizer = TextTokenizer::train(sample.into_iter(), 4096).unwrap();
        std::fs::write(&tokenizer_path, tokenizer.to_json().unwrap()).unwrap();
        tokenizer
    };
    println!(
        "tokenizer: {} tokens, {:.0} s",
        tokenizer.vocab_size(),
        started.elapsed().as_secs_f64()
    );
    let bytes: usize = wiki
        .iter()
        .chain(&books)
        .map(|d| d.render().len() + 1)
        .sum();
    let sources = vec![
        packed(&folder, "wiki_en", 0.85, wiki, &tokenizer),
        packed(&folder, "gutenberg_books", 0.15, books, &tokenizer),
    ];
    let tokens: usize = sources.iter().map(|s| s.tokens.len()).sum();
    println!(
        "corpus: {tokens} tokens, {:.2} bytes/token, {:.0} s",
        bytes as f64 / tokens as f64,
        started.elapsed().as_secs_f64()
    );
    let model: LlamaConfig = serde_json::from_value(serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama",
        "hidden_size": 192, "intermediate_size": 512, "vocab_size": 4096,
        "num_hidden_layers": 6, "num_attention_heads": 6, "num_key_value_heads": 6,
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": true, "hidden_act": "silu",
        "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1,
    }))
    .unwrap();
    println!("model: {} parameters", model.parameters());
    let options = PretrainOptions {
        model,
        batch_windows: setting("BATCH", 8.0) as usize,
        budget: Budget {
            tokens_max: Some(setting("TOKENS", 1e12) as u64),
            seconds_max: Some(seconds - started.elapsed().as_secs_f64()),
        },
        schedule: Schedule {
            warmup_steps: 60,
            decay_from: setting("DECAY_FROM", 0.4),
        },
        optimizer: OptimizerOptions {
            matrix_rate: setting("MATRIX_RATE", 0.02),
            adam_rate: setting("ADAM_RATE", 0.004),
            ..OptimizerOptions::default()
        },
        seed: 20_240_522,
        checkpoint_seconds: setting("CHECKPOINT", 240.0),
        report_steps: setting("REPORT", 20.0) as u64,
        device: candle_core::Device::Cpu,
    };
    let clock = || started.elapsed().as_secs_f64();
    let cancel = AtomicBool::new(false);
    let (weights, counters) = pretrain(
        &options,
        &tokenizer,
        &sources,
        &folder,
        &clock,
        &mut |p| println!("{}", p.note),
        &cancel,
    )
    .unwrap();
    println!("{counters:?}");
    for path in &args[4..] {
        let documents: Vec<String> = rows(path).into_iter().map(|d| d.text).collect();
        let evaluation = bits_per_byte(
            &options.model,
            &weights,
            &tokenizer,
            &documents,
            &mut |_| (),
            &cancel,
        )
        .unwrap();
        println!("{path}: {evaluation:?}");
    }
}

fn packed(
    folder: &Path,
    name: &str,
    weight: f64,
    documents: Vec<Document>,
    tokenizer: &TextTokenizer,
) -> Source {
    let cache = folder.join(format!("{name}.u16"));
    if let Ok(bytes) = std::fs::read(&cache) {
        let tokens = bytes
            .as_chunks::<2>()
            .0
            .iter()
            .map(|b| u16::from_le_bytes(*b))
            .collect();
        return Source {
            name: name.to_owned(),
            weight,
            tokens,
        };
    }
    let source = Source::pack(name, weight, documents, tokenizer, 1, |_| ()).unwrap();
    let bytes: Vec<u8> = source.tokens.iter().flat_map(|t| t.to_le_bytes()).collect();
    std::fs::write(&cache, bytes).unwrap();
    source
}
