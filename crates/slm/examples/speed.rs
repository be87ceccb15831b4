//! Steps per second of training and rows per second of inference, on random rows of fixed length.
//!
//! ```text
//! cargo run --release -p noisegate-slm --example speed -- LIBRARY MINILM_FOLDER [batch] [length] [threads] [steps]
//! ```

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use noisegate_slm::train::train;
use noisegate_slm::{
    Base, Embedder, Example, Head, Hooks, Lora, Model, Runtime, ScratchConfig, ServeOptions,
    SlmError, TrainOptions, TrainingData, Vocabulary, runtime,
};

fn main() -> Result<(), SlmError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [library, minilm, numbers @ ..] = arguments.as_slice() else {
        println!("usage: speed LIBRARY MINILM_FOLDER [batch] [length] [threads] [steps]");
        return Ok(());
    };
    let number = |index: usize, default: usize| {
        let text: Option<&String> = numbers.get(index);
        text.and_then(|n| n.parse().ok()).unwrap_or(default)
    };
    let (batch, length) = (number(0, 16), number(1, 32));
    let (threads, steps) = (number(2, 2), number(3, 20));
    let runtime = runtime::load(Path::new(library))?;
    let folder = PathBuf::from(minilm);
    let scratch = ScratchConfig {
        vocabulary: Vocabulary::Tokenizer(folder.join("tokenizer.json")),
        ..ScratchConfig::default()
    };
    println!("batch {batch}, {length} tokens, {threads} threads, {steps} steps");
    for (name, base) in [
        ("MiniLM", Base::Folder(folder)),
        ("scratch 2 x 128", Base::Scratch(scratch)),
    ] {
        for lora in [None, Some(Lora::default())] {
            let options = TrainOptions {
                epochs: 1,
                batch,
                length_max: length,
                threads,
                lora,
                ..TrainOptions::default()
            };
            training(&runtime, name, &base, &options, steps)?;
        }
        inference(&runtime, name, &base, batch, length, threads)?;
    }
    Ok(())
}

/// Rows of exactly `length` tokens with two labels.
fn rows(count: usize, length: usize) -> Vec<Example> {
    const WORDS: [&str; 7] = ["bill", "doctor", "time", "late", "pain", "the", "good"];
    let text = |row: usize| -> String {
        let words = (0..length - 2).map(|i| WORDS[(row * 31 + i * i * 7 + i) % WORDS.len()]);
        words.collect::<Vec<_>>().join(" ")
    };
    (0..count)
        .map(|row| Example::labelled(text(row), format!("label {}", row % 2)))
        .collect()
}

fn training(
    runtime: &Runtime,
    name: &str,
    base: &Base,
    options: &TrainOptions,
    steps: usize,
) -> Result<(), SlmError> {
    let warm = 3;
    let examples = rows(options.batch * (steps + warm), options.length_max);
    let heads = [Head::single(["label 0", "label 1"])];
    let data = TrainingData {
        heads: &heads,
        examples: &examples,
        validation: &[],
    };
    let mut marks = vec![Instant::now()];
    let hooks = Hooks {
        progress: &mut |_| marks.push(Instant::now()),
        cancel: &AtomicBool::new(false),
    };
    train(runtime, base, &data, options, hooks)?;
    let mut times: Vec<f64> = marks
        .windows(2)
        .skip(warm)
        .map(|pair| (pair[1] - pair[0]).as_secs_f64() * 1e3)
        .collect();
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    println!(
        "{name}, {}: train {median:.2} ms/step (fastest {:.2}), {:.1} steps/s; {:.2} s until the first step",
        if options.lora.is_some() {
            "adapters"
        } else {
            "all weights"
        },
        times[0],
        1e3 / median,
        (marks[1] - marks[0]).as_secs_f64()
    );
    Ok(())
}

fn inference(
    runtime: &Runtime,
    name: &str,
    base: &Base,
    batch: usize,
    length: usize,
    threads: usize,
) -> Result<(), SlmError> {
    let texts: Vec<String> = rows(batch * 20, length)
        .into_iter()
        .map(|e| e.text)
        .collect();
    let model = Model::from_base(base, [], 0)?;
    let options = ServeOptions {
        threads,
        batch,
        ..ServeOptions::default()
    };
    let mut embedder = Embedder::new(runtime, &model, &options)?;
    embedder.embed(&texts[..batch])?;
    let started = Instant::now();
    embedder.embed(&texts)?;
    let rate = texts.len() as f64 / started.elapsed().as_secs_f64();
    println!("{name}: embed {rate:.0} rows/s");
    Ok(())
}
