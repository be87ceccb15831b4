//! Trains a classifier on JSONL files (`text`, `label`) and says how well it labels others.
//!
//! ```text
//! cargo run --release -p noisegate-slm --example classify -- LIBRARY BASE TRAIN.jsonl TEST.jsonl OUT [rows] [epochs] [rate] [batch] [lora rank]
//! ```
//! `BASE` is a model folder, or `scratch`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use noisegate_slm::train::train;
use noisegate_slm::{
    Base, Classifier, Example, Head, Hooks, Lora, Model, ScratchConfig, ServeOptions, Target,
    TrainOptions, TrainingData, runtime,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [library, base, train_path, test_path, out, numbers @ ..] = arguments.as_slice() else {
        println!(
            "usage: classify LIBRARY BASE TRAIN.jsonl TEST.jsonl OUT [rows] [epochs] [rate] [batch] [lora rank]"
        );
        return Ok(());
    };
    let number = |index: usize, default: f64| {
        let text: Option<&String> = numbers.get(index);
        text.and_then(|n| n.parse().ok()).unwrap_or(default)
    };
    let runtime = runtime::load(Path::new(library))?;
    let base = match base.as_str() {
        "scratch" => Base::Scratch(ScratchConfig::default()),
        folder => Base::Folder(PathBuf::from(folder)),
    };
    let mut examples = read(Path::new(train_path))?;
    examples.truncate(number(0, 2000.0) as usize);
    let test = read(Path::new(test_path))?;
    let mut labels: Vec<String> = examples
        .iter()
        .chain(&test)
        .map(|e| label(e).to_owned())
        .collect();
    labels.sort();
    labels.dedup();
    let options = TrainOptions {
        epochs: number(1, 3.0) as usize,
        learning_rate: number(2, 2e-4) as f32,
        batch: number(3, 16.0) as usize,
        lora: match number(4, 0.0) as usize {
            0 => None,
            rank => Some(Lora {
                rank,
                alpha: 2.0 * rank as f32,
            }),
        },
        threads: 2,
        ..TrainOptions::default()
    };
    let heads = [Head::single(labels.iter().map(String::as_str))];
    let data = TrainingData {
        heads: &heads,
        examples: &examples,
        validation: &[],
    };
    let hooks = Hooks {
        progress: &mut |p| {
            if p.step % 50 == 0 || p.step == p.steps {
                println!(
                    "step {}/{} loss {:.4} {:.0} rows/s, {:.0} s left",
                    p.step, p.steps, p.loss, p.rows_per_second, p.seconds_left
                );
            }
        },
        cancel: &AtomicBool::new(false),
    };
    let (model, summary) = train(&runtime, &base, &data, &options, hooks)?;
    println!("{summary:?}");
    model.save(Path::new(out), "# trained by the classify example\n")?;
    let model = Model::read_classifier(Path::new(out))?;
    model.save_int8(Path::new(out))?;
    let texts: Vec<&str> = test.iter().map(|e| e.text.as_str()).collect();
    let mut first: Vec<usize> = Vec::new();
    for int8 in [false, true] {
        let serve = ServeOptions {
            threads: 2,
            int8,
            ..ServeOptions::default()
        };
        let mut classifier = Classifier::new(&runtime, &model, &serve)?;
        let started = Instant::now();
        let predictions = classifier.predict(&texts)?;
        let seconds = started.elapsed().as_secs_f64();
        let found: Vec<usize> = predictions.iter().map(|p| p.label).collect();
        let pairs = found.iter().zip(&test);
        let right = pairs.filter(|(l, e)| labels[**l] == label(e)).count();
        let same = found.iter().zip(&first).filter(|(a, b)| a == b).count();
        println!(
            "{}: {right} of {} right ({:.2} %) in {seconds:.2} s{}",
            if int8 { "int8" } else { "fp32" },
            test.len(),
            100.0 * right as f64 / test.len() as f64,
            if int8 {
                format!("; {same} labels as fp32 gives them")
            } else {
                String::new()
            },
        );
        first = found;
    }
    Ok(())
}

fn label(example: &Example) -> &str {
    match &example.target {
        Target::Label(label) => label,
        _ => "",
    }
}

fn read(path: &Path) -> Result<Vec<Example>, Box<dyn Error>> {
    let text = std::fs::read_to_string(path)?;
    text.lines()
        .map(|line| {
            let row: serde_json::Value = serde_json::from_str(line)?;
            let field = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
            Ok(Example::labelled(field("text"), field("label")))
        })
        .collect()
}
