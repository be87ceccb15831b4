//! Measures a model folder: generated, scored and trained tokens per second.
//!
//! `cargo run --release -p noisegate-llm --example speed -- FOLDER [BATCH...]`

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use noisegate_llm::{
    AdaptOptions, GenerateOptions, Place, Request, Sample, Sampling, ScoreRequest, adapt, generate,
    load, score,
};
use serde_json::json;

const NEW_TOKENS: usize = 64;
const TEXT: &str = "Topic: billing\nMessage: My bill shows a visit in March that I never had, and \
                    the insurance says it was never told about it.\nTopic: test results\nMessage: \
                    When will the results of my blood test from last Tuesday be in the portal?\n";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("name a model folder")?;
    let mut batches = arguments
        .map(|batch| batch.parse())
        .collect::<Result<Vec<usize>, _>>()?;
    if batches.is_empty() {
        batches = vec![1, 8, 32];
    }
    let model = load(Path::new(&folder), &Place::Cpu.open()?)?;
    let cancel = AtomicBool::new(false);
    for batch in batches {
        let count = batch * (64 / batch).max(1);
        let requests: Vec<Request> = (0..count)
            .map(|i| Request {
                prompt: format!("{TEXT}Topic: number {i}\nMessage:"),
                max_new_tokens: NEW_TOKENS,
                sampling: Sampling {
                    temperature: 1.0,
                    ..Sampling::default()
                },
                seed: i as u64,
                ..Request::default()
            })
            .collect();
        let options = GenerateOptions {
            batch_max: batch,
            ..GenerateOptions::default()
        };
        generate(&model, &requests[..1], &options, &mut |_| (), &cancel)?;
        let started = Instant::now();
        let made = generate(&model, &requests, &options, &mut |_| (), &cancel)?;
        let seconds = started.elapsed().as_secs_f64();
        let tokens: usize = made.iter().map(|made| made.tokens).sum();
        let rate = tokens as f64 / seconds;
        println!(
            "{}",
            json!({"what": "generate", "batch": batch, "tokens": tokens, "tokens_per_second": rate})
        );
    }

    let requests: Vec<ScoreRequest> = (0..800)
        .map(|i| ScoreRequest {
            prompt: format!("Topic: number {}\nMessage:", i % 8),
            continuation: format!(" {} {i}", &TEXT[24..24 + 60 + 13 * ((i / 8) % 7)]),
        })
        .collect();
    let started = Instant::now();
    let scores = score(&model, &requests, &mut |_| (), &cancel)?;
    let seconds = started.elapsed().as_secs_f64();
    let tokens: usize = scores.iter().map(|score| score.tokens).sum();
    let rate = tokens as f64 / seconds;
    println!(
        "{}",
        json!({"what": "score", "tokens": tokens, "tokens_per_second": rate})
    );

    let samples: Vec<Sample> = (0..40)
        .map(|i| Sample::new(format!("{} {i}", &TEXT[24..140]), ["a", "b"][i % 2]))
        .collect();
    let options = AdaptOptions {
        steps_min: 10,
        epochs: 1,
        ..AdaptOptions::default()
    };
    let mut steps = 0;
    let started = Instant::now();
    adapt(&model, &samples, &options, &mut |p| steps = p.done, &cancel)?;
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{}",
        json!({"what": "adapt", "steps": steps, "milliseconds_per_step": 1000.0 * seconds / steps as f64})
    );
    Ok(())
}
