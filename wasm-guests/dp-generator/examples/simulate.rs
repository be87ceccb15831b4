//! Runs the whole step natively against a stand-in for the gate, to tune parameters.
//!
//! ```text
//! cargo run --profile native --example simulate -- SETTINGS.json
//! SETTINGS: { "base": folder, "train": jsonl, "test": jsonl, "out": jsonl or null, "released": folder or null, "threads": 2,
//!             "labels": [...], "with": {...}, "mechanism": {...}, "seed": 1 }
//! ```
//!
//! It clips in floats and draws its noise from a seeded generator: good for tuning
//! on public text, worthless as protection. Utility is measured as the accuracy, on
//! real test texts, of a naive Bayes classifier that saw only the synthetic ones.

use std::collections::HashMap;
use std::error::Error;
use std::time::Instant;

use dp_generator::context::Context;
use dp_generator::gradient::add_gradient;
use dp_generator::model::Model;
use dp_generator::public::Generator;
use noisegate_guest_sdk::rng::Rng;
use noisegate_guest_sdk::{Accum, ClientStep, File, Tensor, TextRecord, Turn, Unit};
use serde::Deserialize;

#[derive(Deserialize)]
struct Settings {
    base: String,
    train: String,
    test: String,
    out: Option<String>,
    /// A folder for the released sums: read if they are there, else written.
    released: Option<String>,
    threads: usize,
    labels: Vec<String>,
    with: serde_json::Value,
    mechanism: Gate,
    seed: u64,
}

#[derive(Deserialize, serde::Serialize, Clone, Copy)]
struct Gate {
    sampling_rate: f64,
    noise_multiplier: f64,
    clip: f64,
    steps: u32,
    expected_batch: f64,
}

#[derive(Deserialize, Clone)]
struct Record {
    text: String,
    label: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args()
        .nth(1)
        .ok_or("usage: simulate SETTINGS.json")?;
    let settings: Settings = serde_json::from_slice(&std::fs::read(path)?)?;
    let (train, test) = (records(&settings.train)?, records(&settings.test)?);
    let config = serde_json::json!({
        "with": settings.with, "labels": settings.labels, "mechanism": settings.mechanism, "seed": settings.seed,
    });
    let inputs = ["config.json", "tokenizer.json", "model.safetensors"].map(|name| {
        let data = std::fs::read(format!("{}/{name}", settings.base));
        data.map(|data| File {
            name: format!("base/{name}"),
            data,
        })
    });
    let inputs = inputs.into_iter().collect::<Result<Vec<File>, _>>()?;
    let started = Instant::now();
    let (mut step, setup) = <Generator as ClientStep>::start(&config.to_string(), inputs)?;
    let fixed: Vec<Tensor> = setup
        .tensors
        .iter()
        .map(|values| Tensor::new(values))
        .collect();
    let mut gate = Stand {
        settings: &settings,
        rng: Rng::new(settings.seed, 99),
        train: &train,
        fixed,
        context: setup.context,
    };
    let mut query = 0;
    let mut last: Vec<Tensor> = Vec::new();
    println!("dim {}, context {} bytes", setup.dim, gate.context.len());
    loop {
        match step.turn() {
            Turn::Ask(asked) => {
                let file = settings
                    .released
                    .as_ref()
                    .map(|folder| format!("{folder}/{query}.json"));
                let known = file.as_ref().and_then(|file| std::fs::read(file).ok());
                last = asked
                    .tensors
                    .iter()
                    .map(|values| Tensor::new(values))
                    .collect();
                let released = match known {
                    Some(bytes) => serde_json::from_slice(&bytes)?,
                    None => gate.release(setup.dim as usize, asked.tensors, query),
                };
                if let Some(file) = file {
                    std::fs::write(file, serde_json::to_vec(&released)?)?;
                }
                ClientStep::absorb(&mut step, released);
                query += 1;
            }
            Turn::Working(0, total) => println!(
                "training took {:.1} s; drawing {total}",
                started.elapsed().as_secs_f64()
            ),
            Turn::Working(..) => {}
            Turn::Done => break,
        }
    }
    println!("all took {:.1} s", started.elapsed().as_secs_f64());
    fit(&gate, &last, &test, settings.labels.len());
    let files = ClientStep::outputs(&mut step)?;
    if let Some(out) = &settings.out {
        std::fs::write(out, &files[0].data)?;
    }
    let samples: Vec<Record> = parse(&String::from_utf8(files[0].data.clone())?)?;
    for sample in samples.iter().take(settings.labels.len()) {
        println!("  {:24} {}", sample.label, sample.text);
    }
    let few: Vec<Record> = train.iter().take(100).cloned().collect();
    let both: Vec<Record> = few.iter().chain(&samples).cloned().collect();
    println!(
        "RESULT samples {} accuracy {:.3} | 100 real {:.3} | 100 real + samples {:.3} | all real {:.3}",
        samples.len(),
        naive_bayes(&samples, &test),
        naive_bayes(&few, &test),
        naive_bayes(&both, &test),
        naive_bayes(&train, &test)
    );
    Ok(())
}

/// What stands in for the gate.
struct Stand<'a> {
    settings: &'a Settings,
    rng: Rng,
    train: &'a [Record],
    fixed: Vec<Tensor>,
    context: Vec<u8>,
}

impl Stand<'_> {
    fn release(&mut self, dim: usize, tensors: Vec<Vec<f32>>, query: u32) -> Vec<f32> {
        let gate = self.settings.mechanism;
        let chosen: Vec<&Record> = self
            .train
            .iter()
            .filter(|_| f64::from(self.rng.uniform()) < gate.sampling_rate)
            .collect();
        let started = Instant::now();
        let share = chosen.len().div_ceil(self.settings.threads).max(1);
        let (fixed, context) = (&self.fixed, &self.context);
        let parts: Vec<(Vec<f32>, f64)> = std::thread::scope(|scope| {
            let run =
                |part: &[&Record]| sum_of(part, dim, fixed, &tensors, context, gate.clip as f32);
            let handles: Vec<_> = chosen
                .chunks(share)
                .map(|part| scope.spawn(move || run(part)))
                .collect();
            handles
                .into_iter()
                .map(|handle| handle.join().expect("a worker panicked"))
                .collect()
        });
        let mut sum = vec![0.0f32; dim];
        let mut norms = 0.0;
        for (part, norm) in &parts {
            sum.iter_mut()
                .zip(part)
                .for_each(|(sum, value)| *sum += value);
            norms += norm;
        }
        let signal = sum
            .iter()
            .map(|v| f64::from(*v).powi(2))
            .sum::<f64>()
            .sqrt();
        let deviation = (gate.noise_multiplier * gate.clip) as f32;
        if query.is_multiple_of(10) {
            println!(
                "query {query}: {} units, {:.2} ms a unit and thread, mean norm {:.3}, |sum| {signal:.2} against noise {:.2}",
                chosen.len(),
                started.elapsed().as_secs_f64() * 1e3 * self.settings.threads as f64
                    / chosen.len().max(1) as f64,
                norms / chosen.len().max(1) as f64,
                f64::from(deviation) * (dim as f64).sqrt()
            );
        }
        sum.iter()
            .map(|value| (value + deviation * self.rng.normal()) / gate.expected_batch as f32)
            .collect()
    }
}

/// How well the model fits real test texts: nats per token with the right label, and how
/// often the right label fits best.
fn fit(gate: &Stand<'_>, last: &[Tensor], test: &[Record], labels: usize) {
    let context = Context::read(&gate.context);
    let dim = context.plan.dim(&context.shape);
    let [base, lora_inputs] = gate.fixed.as_slice() else {
        return;
    };
    let [moved, biases] = last else { return };
    let model = Model {
        shape: &context.shape,
        plan: &context.plan,
        base,
        lora_inputs,
        moved,
        labels: biases,
    };
    let loss = |record: &Record, label: usize| {
        let name = &context.recipe.labels[label].0;
        let sequence = context
            .recipe
            .sequence(&context.table, &record.text, name)?;
        let loss = add_gradient(model, &sequence, 1.0, &Accum::zero(dim));
        Some((loss, sequence.label))
    };
    let (mut total, mut right, mut count) = (0.0, 0, 0);
    for record in test.iter().take(80) {
        let losses: Vec<f32> = (0..labels)
            .filter_map(|label| Some(loss(record, label)?.0))
            .collect();
        let own = context
            .recipe
            .labels
            .iter()
            .position(|(name, _)| *name == record.label);
        let Some(own) = own.filter(|own| *own < losses.len()) else {
            continue;
        };
        let best = (0..labels).min_by(|a, b| losses[*a].total_cmp(&losses[*b]));
        total += losses[own];
        right += usize::from(best == Some(own));
        count += 1;
    }
    println!(
        "FIT {:.3} nats a token; right label {:.3}",
        total / count as f32,
        right as f32 / count as f32
    );
}

/// Sum of the clipped contributions, and the sum of their norms before clipping.
fn sum_of(
    part: &[&Record],
    dim: usize,
    fixed: &[Tensor],
    moving: &[Vec<f32>],
    context: &[u8],
    clip: f32,
) -> (Vec<f32>, f64) {
    let moving: Vec<Tensor> = moving.iter().map(|values| Tensor::new(values)).collect();
    let tensors: Vec<&Tensor> = fixed.iter().chain(&moving).collect();
    let mut sum = vec![0.0; dim];
    let mut norms = 0.0;
    for record in part {
        let records = vec![TextRecord {
            text: record.text.clone(),
            label: record.label.clone(),
        }];
        let into = Accum::zero(dim);
        <Generator as ClientStep>::contribute(&Unit { records }, context, &[], &tensors, &into);
        let values = into.into_values();
        let norm = values
            .iter()
            .map(|v| f64::from(*v).powi(2))
            .sum::<f64>()
            .sqrt();
        norms += norm;
        let scale = (clip / norm.max(1e-12) as f32).min(1.0);
        sum.iter_mut()
            .zip(&values)
            .for_each(|(sum, value)| *sum += scale * value);
    }
    (sum, norms)
}

fn records(path: &str) -> Result<Vec<Record>, Box<dyn Error>> {
    parse(&std::fs::read_to_string(path)?)
}

fn parse(lines: &str) -> Result<Vec<Record>, Box<dyn Error>> {
    Ok(lines
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?)
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}

/// Accuracy of a multinomial naive Bayes classifier with add-one-half smoothing and equal priors.
fn naive_bayes(train: &[Record], test: &[Record]) -> f64 {
    let mut counts: HashMap<&str, HashMap<String, f64>> = HashMap::new();
    let mut vocabulary: HashMap<String, ()> = HashMap::new();
    for record in train {
        for word in words(&record.text) {
            vocabulary.insert(word.clone(), ());
            *counts
                .entry(&record.label)
                .or_default()
                .entry(word)
                .or_default() += 1.0;
        }
    }
    let totals: HashMap<&str, f64> = counts
        .iter()
        .map(|(label, words)| {
            (
                *label,
                words.values().sum::<f64>() + 0.5 * vocabulary.len() as f64,
            )
        })
        .collect();
    let right = test.iter().filter(|record| {
        let score = |label: &&str| -> f64 {
            let known = words(&record.text).filter(|word| vocabulary.contains_key(word));
            known
                .map(|word| {
                    ((counts[*label].get(&word).unwrap_or(&0.0) + 0.5) / totals[*label]).ln()
                })
                .sum()
        };
        let best = counts.keys().max_by(|a, b| score(a).total_cmp(&score(b)));
        best.is_some_and(|best| *best == record.label)
    });
    right.count() as f64 / test.len() as f64
}
