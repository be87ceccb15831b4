//! Filters labelled texts, adapts a model to those kept and makes new ones.
//!
//! `cargo run --release -p noisegate-llm --example augment -- FOLDER SAMPLES.jsonl PER_LABEL`
//!
//! Each line of the samples is a JSON object with `text` and `label`. Prints the new ones.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use noisegate_llm::judge::CrossFitOptions;
use noisegate_llm::{
    AdaptOptions, AugmentOptions, JudgeMode, JudgeOptions, Place, Sample, adapt, augment, judge,
    load,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, path, per_label] = &arguments[..] else {
        return Err("name a model folder, a file of samples and a number per label".into());
    };
    let model = load(Path::new(folder), &Place::Cpu.open()?)?;
    let mut samples = Vec::new();
    for line in std::fs::read_to_string(path)?.lines() {
        samples.push(serde_json::from_str::<Sample>(line)?);
    }
    let mut labels: Vec<String> = samples.iter().map(|s| s.label.clone()).collect();
    labels.sort();
    labels.dedup();
    let cancel = AtomicBool::new(false);
    let mut started = Instant::now();
    let mut lap = |what: &str| {
        eprintln!("{what}: {:.1} s", started.elapsed().as_secs_f64());
        started = Instant::now();
    };
    let mut last = String::new();
    let mut progress = |p: noisegate_llm::Progress| last = format!("{} {}", p.stage, p.note);
    let adapted = adapt(
        &model,
        &samples,
        &AdaptOptions::default(),
        &mut progress,
        &cancel,
    )?;
    lap("adapt");
    let everything = [(0..samples.len()).collect::<Vec<_>>()];
    let mode = JudgeMode::CrossFit(CrossFitOptions::default());
    let options = JudgeOptions {
        mode,
        ..JudgeOptions::default()
    };
    let judged = judge(
        &adapted,
        &samples,
        &everything,
        &labels,
        &options,
        &mut progress,
        &cancel,
    )?;
    lap("judge");
    let kept: Vec<Sample> = judged.kept.iter().map(|i| samples[*i].clone()).collect();
    let adapted = adapt(
        &model,
        &kept,
        &AdaptOptions::default(),
        &mut progress,
        &cancel,
    )?;
    lap("adapt");
    let options = AugmentOptions {
        per_label: per_label.parse()?,
        ..AugmentOptions::default()
    };
    let made = augment(&adapted, &kept, &labels, &options, &mut progress, &cancel)?;
    lap("augment");
    for new in &made.samples {
        println!("{}", serde_json::to_string(new)?);
    }
    eprintln!("judged: kept {}, {:?}", judged.kept.len(), judged.reasons());
    eprintln!(
        "answers {}, rejected {:?}, missing {:?}",
        made.answers, made.rejected, made.missing
    );
    eprintln!("{last}");
    Ok(())
}
