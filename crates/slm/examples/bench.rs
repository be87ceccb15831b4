//! One contender of `benches/slm_vs_torch.py`: this crate, in a process of its own.
//!
//! ```text
//! bench LIBRARY FOLDER TASK BATCH LENGTH THREADS STEPS DEVICE
//! ```
//!
//! `TASK` is `train-fp32`, `train-bf16`, `infer-fp32` or `infer-int8`. `FOLDER` holds the model; if it has only a
//! `tokenizer.json`, the weights are random and the sizes MiniLM's. Prints one JSON object:
//! milliseconds of every step after the warm-up, the peak resident memory in MiB, the last loss.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use noisegate_slm::train::train;
use noisegate_slm::{
    Base, Device, Embedder, Example, Head, Hooks, Model, Precision, Runtime, ScratchConfig,
    ServeOptions, SlmError, TrainOptions, TrainingData, Vocabulary, runtime,
};

/// Steps before the clock counts.
const WARM: usize = 4;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [library, folder, task, numbers @ .., device] = arguments.as_slice() else {
        return Err("usage: bench LIBRARY FOLDER TASK BATCH LENGTH THREADS STEPS DEVICE".into());
    };
    let numbers: Vec<usize> = numbers
        .iter()
        .map(|n| n.parse())
        .collect::<Result<_, _>>()?;
    let &[batch, length, threads, steps] = numbers.as_slice() else {
        return Err("four numbers are needed: BATCH LENGTH THREADS STEPS".into());
    };
    let contender = Contender {
        runtime: runtime::load(Path::new(library))?,
        base: base(PathBuf::from(folder)),
        batch,
        length,
        threads,
        steps,
        device: device.parse()?,
    };
    let (times, loss) = match task.as_str() {
        "train-fp32" => contender.training(Precision::F32)?,
        "train-bf16" => contender.training(Precision::Bf16)?,
        "infer-fp32" => (contender.inference(false)?, 0.0),
        "infer-int8" => (contender.inference(true)?, 0.0),
        other => return Err(format!("no task `{other}`").into()),
    };
    println!(
        "{}",
        serde_json::json!({ "ms": times, "peak_mib": peak_mib(), "loss": loss })
    );
    Ok(())
}

/// The model in `folder`, or one of MiniLM's sizes with random weights.
fn base(folder: PathBuf) -> Base {
    if folder.join("model.safetensors").exists() {
        return Base::Folder(folder);
    }
    Base::Scratch(ScratchConfig {
        layers: 6,
        hidden: 384,
        heads: 12,
        intermediate: 1536,
        length_max: 512,
        vocabulary: Vocabulary::Tokenizer(folder.join("tokenizer.json")),
    })
}

struct Contender {
    runtime: Runtime,
    base: Base,
    batch: usize,
    length: usize,
    threads: usize,
    steps: usize,
    device: Device,
}

impl Contender {
    /// Milliseconds a step, and the last loss.
    fn training(&self, precision: Precision) -> Result<(Vec<f64>, f32), SlmError> {
        let examples = rows(self.batch * (self.steps + WARM), self.length);
        let heads = [Head::single(["label 0", "label 1"])];
        let data = TrainingData {
            heads: &heads,
            examples: &examples,
            validation: &[],
        };
        let options = TrainOptions {
            epochs: 1,
            batch: self.batch,
            length_max: self.length,
            threads: self.threads,
            device: self.device,
            precision,
            ..TrainOptions::default()
        };
        let mut marks = Vec::new();
        let mut loss = f32::NAN;
        let hooks = Hooks {
            progress: &mut |progress| {
                loss = progress.loss;
                marks.push(Instant::now());
            },
            cancel: &AtomicBool::new(false),
        };
        train(&self.runtime, &self.base, &data, &options, hooks)?;
        let times = marks.windows(2).skip(WARM - 1);
        let times = times.map(|pair| (pair[1] - pair[0]).as_secs_f64() * 1e3);
        Ok((times.collect(), loss))
    }

    fn inference(&self, int8: bool) -> Result<Vec<f64>, SlmError> {
        let examples = rows(self.batch, self.length);
        let texts: Vec<&str> = examples.iter().map(|e| e.text.as_str()).collect();
        let model = Model::from_base(&self.base, [], 0)?;
        let options = ServeOptions {
            threads: self.threads,
            batch: self.batch,
            device: self.device,
            int8,
        };
        let mut embedder = Embedder::new(&self.runtime, &model, &options)?;
        drop(model);
        let mut times = Vec::new();
        for step in 0..WARM + self.steps {
            let started = Instant::now();
            embedder.embed(&texts)?;
            if step >= WARM {
                times.push(started.elapsed().as_secs_f64() * 1e3);
            }
        }
        Ok(times)
    }
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

/// The peak resident memory of this process, as Linux tells it; 0 elsewhere.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    kib.and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}
