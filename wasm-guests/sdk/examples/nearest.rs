//! How often is the nearest text of the same label? For `nearest`, and for the mean of a
//! model's token vectors.
//!
//! ```text
//! cargo run --profile native -p noisegate-guest-sdk --example nearest -- ROWS.jsonl MODEL_FOLDER
//! ```
//!
//! The first 1,600 rows are compared with the next 1,000.

use std::collections::HashMap;
use std::path::Path;

use noisegate_guest_sdk::config::{Row, rows};
use noisegate_guest_sdk::nearest::{Index, best, build};
use noisegate_guest_sdk::safetensors::Weights;
use noisegate_guest_sdk::tokenizer::{Table, Vocabulary};
use noisegate_guest_sdk::{File, Tensor, maths};

const KNOWN: usize = 1600;
const ASKED: usize = 1000;

fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [data, model] = arguments.as_slice() else {
        return Err("usage: nearest ROWS.jsonl MODEL_FOLDER".to_owned());
    };
    let file = File {
        name: "rows/rows.jsonl".to_owned(),
        data: read(Path::new(data))?,
    };
    let rows = rows(&[file], "rows")?;
    let (known, asked) = rows.split_at(KNOWN.min(rows.len()));
    let asked = &asked[..ASKED.min(asked.len())];
    if asked.is_empty() {
        return Err(format!(
            "`{data}` has {} rows; give more than {KNOWN}",
            rows.len()
        ));
    }
    println!(
        "words and pieces of words   {:.3}",
        agreement(known, asked, words(known)?)
    );
    println!(
        "mean of token vectors       {:.3}",
        agreement(known, asked, means(known, Path::new(model))?)
    );
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))
}

/// Share of the asked texts whose nearest known one has their label.
fn agreement(known: &[Row], asked: &[Row], scores: impl Fn(&str) -> Vec<f32>) -> f64 {
    let agrees = |row: &&Row| {
        let nearest = best(&scores(&row.text), 1);
        nearest
            .first()
            .is_some_and(|at| known[*at as usize].label == row.label)
    };
    asked.iter().filter(agrees).count() as f64 / asked.len() as f64
}

fn words(known: &[Row]) -> Result<impl Fn(&str) -> Vec<f32> + use<>, String> {
    let documents: Vec<Vec<&str>> = known.iter().map(|row| vec![row.text.as_str()]).collect();
    let built = build(&documents)?;
    let tensor = Tensor::new(&built.tensor);
    Ok(move |text: &str| Index::open(&built.context, &tensor).scores(text))
}

/// Cosine of frequency-weighted means (Arora, Liang and Ma, 2017), with the mean of all taken off.
fn means(known: &[Row], model: &Path) -> Result<impl Fn(&str) -> Vec<f32> + use<>, String> {
    let config: serde_json::Value = serde_json::from_slice(&read(&model.join("config.json"))?)
        .map_err(|error| error.to_string())?;
    let size = |key: &str| config[key].as_u64().unwrap_or(0) as usize;
    let (vocabulary, width) = (size("vocab_size"), size("hidden_size"));
    let mut vectors = Vec::new();
    let weights = read(&model.join("model.safetensors"))?;
    Weights::open(&weights)?.append(
        "model.embed_tokens.weight",
        &[vocabulary, width],
        &mut vectors,
    )?;
    let table = Vocabulary::parse(&read(&model.join("tokenizer.json"))?)?.table();
    let mut counts: HashMap<u32, f32> = HashMap::new();
    for token in known
        .iter()
        .flat_map(|row| Table::new(&table).encode(&row.text))
    {
        *counts.entry(token).or_insert(0.0) += 1.0;
    }
    let total: f32 = counts.values().sum();
    let mean = move |text: &str| {
        let mut sum = vec![0.0; width];
        for token in Table::new(&table).encode(text) {
            let share = counts.get(&token).copied().unwrap_or(0.0) / total;
            maths::add_scaled(
                &mut sum,
                1e-3 / (1e-3 + share),
                &vectors[token as usize * width..][..width],
            );
        }
        sum
    };
    let mut all: Vec<Vec<f32>> = known.iter().map(|row| mean(&row.text)).collect();
    let mut centre = vec![0.0; width];
    all.iter()
        .for_each(|one| maths::add_scaled(&mut centre, 1.0 / known.len() as f32, one));
    let unit = move |mut vector: Vec<f32>| {
        maths::add_scaled(&mut vector, -1.0, &centre);
        let norm = maths::dot(&vector, &vector).sqrt().max(1e-9);
        vector.iter_mut().for_each(|value| *value /= norm);
        vector
    };
    all = all.into_iter().map(&unit).collect();
    Ok(move |text: &str| {
        let asked = unit(mean(text));
        all.iter()
            .map(|one| 1.0 + maths::dot(one, &asked))
            .collect()
    })
}
