//! Measures a model: generated, scored and trained tokens per second, one JSON object a line.
//!
//! `cargo run --release -p noisegate-llm --example llm_speed -- MODEL [TASKS] [BATCHES] [PROMPTS]`
//!
//! MODEL is a folder or a GGUF file, TASKS are of `generate,score,adapt`, BATCHES such as `1,8,32`,
//! PROMPTS how many there are to generate for, by default 64. Prompts begin differently, so that none is computed for
//! several texts; generation is greedy. `benches/llm_vs_transformers.py` compares it.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use noisegate_llm::{
    AdaptOptions, GenerateOptions, LanguageModel, Place, Request, Sample, Sampling, ScoreRequest,
    adapt, generate, load, score,
};
use serde_json::json;

const NEW_TOKENS: usize = 64;
const TEXT: &str = "Topic: billing\nMessage: My bill shows a visit in March that I never had, and \
                    the insurance says it was never told about it.\nTopic: test results\nMessage: \
                    When will the results of my blood test from last Tuesday be in the portal?\n";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("name a model")?;
    let tasks = arguments
        .next()
        .unwrap_or("generate,score,adapt".to_owned());
    let batches = arguments.next().unwrap_or("1,8,32".to_owned());
    let prompts: usize = arguments.next().map_or(Ok(64), |prompts| prompts.parse())?;
    let model = load(Path::new(&path), &Place::Cpu.open()?)?;
    for task in tasks.split(',') {
        match task {
            "generate" => {
                for batch in batches.split(',') {
                    generated(&model, batch.parse()?, prompts)?;
                }
            }
            "score" => scored(&model)?,
            "adapt" => adapted(&model)?,
            other => return Err(format!("`{other}` is no task").into()),
        }
    }
    Ok(())
}

fn generated(model: &LanguageModel, batch: usize, prompts: usize) -> noisegate_llm::Result<()> {
    let request = |i: usize| Request {
        prompt: format!("{i} texts.\n{TEXT}Topic: number {i}\nMessage:"),
        max_new_tokens: NEW_TOKENS,
        sampling: Sampling::greedy(),
        ..Request::default()
    };
    let requests: Vec<Request> = (0..prompts.max(batch)).map(request).collect();
    let options = GenerateOptions {
        batch_max: batch,
        ..GenerateOptions::default()
    };
    let cancel = AtomicBool::new(false);
    generate(model, &requests[..batch], &options, &mut |_| (), &cancel)?;
    let started = Instant::now();
    let made = generate(model, &requests, &options, &mut |_| (), &cancel)?;
    let seconds = started.elapsed().as_secs_f64();
    let tokens: usize = made.iter().map(|made| made.tokens).sum();
    let rate = tokens as f64 / seconds;
    println!(
        "{}",
        json!({"what": "generate", "batch": batch, "tokens": tokens, "tokens_per_second": rate})
    );
    Ok(())
}

fn scored(model: &LanguageModel) -> noisegate_llm::Result<()> {
    let request = |i: usize| ScoreRequest {
        prompt: format!("Topic: number {}\nMessage:", i % 8),
        continuation: format!(" {} {i}", &TEXT[24..24 + 60 + 13 * ((i / 8) % 7)]),
    };
    let requests: Vec<ScoreRequest> = (0..800).map(request).collect();
    let started = Instant::now();
    let scores = score(model, &requests, &mut |_| (), &AtomicBool::new(false))?;
    let seconds = started.elapsed().as_secs_f64();
    let tokens: usize = scores.iter().map(|score| score.tokens).sum();
    let rate = tokens as f64 / seconds;
    println!(
        "{}",
        json!({"what": "score", "tokens": tokens, "tokens_per_second": rate})
    );
    Ok(())
}

fn adapted(model: &LanguageModel) -> noisegate_llm::Result<()> {
    let sample = |i: usize| Sample::new(format!("{} {i}", &TEXT[24..140]), ["a", "b"][i % 2]);
    let samples: Vec<Sample> = (0..40).map(sample).collect();
    let options = AdaptOptions {
        steps_min: 10,
        epochs: 1,
        ..AdaptOptions::default()
    };
    let mut steps = 0;
    let started = Instant::now();
    let cancel = AtomicBool::new(false);
    adapt(model, &samples, &options, &mut |p| steps = p.done, &cancel)?;
    let milliseconds = 1000.0 * started.elapsed().as_secs_f64() / steps as f64;
    println!(
        "{}",
        json!({"what": "adapt", "steps": steps, "milliseconds_per_step": milliseconds})
    );
    Ok(())
}
