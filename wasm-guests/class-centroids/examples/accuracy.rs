//! How well noised centroids classify, and how long a unit takes natively.
//!
//! ```text
//! cargo run --profile native -p class-centroids --example accuracy -- \
//!     TRAIN.jsonl TEST.jsonl ../target/noisegate/minilm [ROWS] [NOISE_MULTIPLIER]
//! ```
//!
//! The gate is played by pseudo-random noise that anyone can repeat: good for choosing, never
//! for releasing.

use std::time::Instant;

use class_centroids::ClassCentroids;
use noisegate_guest_sdk::config::{Row, rows};
use noisegate_guest_sdk::maths::dot;
use noisegate_guest_sdk::rng::Rng;
use noisegate_guest_sdk::{Accum, ClientStep, File, Setup, Tensor, TextRecord, Unit};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [train, test, encoder, more @ ..] = arguments.as_slice() else {
        panic!("give TRAIN.jsonl TEST.jsonl ENCODER_FOLDER [ROWS] [NOISE_MULTIPLIER]");
    };
    let count = more.first().map_or(1000, |rows| rows.parse().unwrap());
    let sigma: f32 = more.get(1).map_or(1.2, |sigma| sigma.parse().unwrap());
    let mut train = read("train", train);
    train.truncate(count);
    let mut test = read("test", test);
    test.truncate(count);
    let mut labels: Vec<&str> = train.iter().map(|row| row.label.as_str()).collect();
    labels.sort_unstable();
    labels.dedup();

    let config = serde_json::json!({
        "with": { "max_tokens": 48 }, "labels": labels,
        "mechanism": { "noise_multiplier": sigma, "clip": 1.0, "steps": 1, "expected_batch": train.len() },
    });
    let (mut step, setup) = ClassCentroids::start(&config.to_string(), folder(encoder)).unwrap();
    let weights = Tensor::new(&setup.tensors[0]);
    let started = Instant::now();
    let mut sum = vec![0.0; setup.dim as usize];
    for row in &train {
        let values = contribution(&setup, &weights, &row.text, &row.label);
        sum.iter_mut()
            .zip(values)
            .for_each(|(sum, value)| *sum += value);
    }
    let unit_ms = started.elapsed().as_secs_f64() * 1e3 / train.len() as f64;
    let mut noise = Rng::new(1, 0);
    sum.iter_mut()
        .for_each(|value| *value = (*value + sigma * noise.normal()) / train.len() as f32);
    step.absorb(sum);
    let file = step.outputs().unwrap().remove(0).data;
    let file: serde_json::Value = serde_json::from_slice(&file).unwrap();
    let centroids: Vec<Vec<f32>> = serde_json::from_value(file["centroids"].clone()).unwrap();

    let width = centroids[0].len();
    let right = |row: &&Row| {
        // The first label's slot serves as an embedder.
        let embedding = contribution(&setup, &weights, &row.text, labels[0]);
        let cosines = centroids.iter().map(|one| dot(&embedding[..width], one));
        let best = cosines.enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
        best.is_some_and(|(at, _)| labels[at] == row.label)
    };
    println!(
        "{} rows, {} labels, noise multiplier {sigma}: accuracy {:.3} on {} rows, {unit_ms:.1} ms a unit",
        train.len(),
        labels.len(),
        test.iter().filter(right).count() as f64 / test.len() as f64,
        test.len()
    );
    println!("norms {}", file["norms"]);
}

fn read(port: &str, path: &str) -> Vec<Row> {
    let file = File {
        name: format!("{port}/rows"),
        data: std::fs::read(path).unwrap(),
    };
    rows(&[file], port).unwrap()
}

fn folder(path: &str) -> Vec<File> {
    ["config.json", "tokenizer.json", "model.safetensors"]
        .map(|name| File {
            name: format!("encoder/{name}"),
            data: std::fs::read(format!("{path}/{name}")).unwrap(),
        })
        .into()
}

fn contribution(setup: &Setup, weights: &Tensor, text: &str, label: &str) -> Vec<f32> {
    let record = TextRecord {
        text: text.to_owned(),
        label: label.to_owned(),
    };
    let unit = Unit {
        records: vec![record],
    };
    let into = Accum::zero(setup.dim as usize);
    ClassCentroids::contribute(&unit, &setup.context, &[], &[weights], &into);
    into.into_values()
}
