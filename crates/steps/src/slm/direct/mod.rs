//! The SLM steps on a person's own files, for trying things: no workflow, no run folder, no ledger.
//!
//! A step's context is made up here, so that the very code of the workflow's steps runs. The rows
//! are the person's own; nothing is hidden from the log, and nothing leaves the machine.

mod answers;
mod bench;
mod inputs;
mod parameters;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use noisegate_engine::{Event, Input, Made, StepFailure};
use noisegate_records as records;
use noisegate_slm::model::{Serve, heads};
use noisegate_slm::{Model, Task};
use serde_json::{Map, Value};

pub use answers::{Serving, embed, predict};
pub use parameters::parameters;

use super::evaluate::{Scores, table};
use super::{Evaluate, Train, bad_input, failure, unconnected};
use bench::run;
pub use inputs::reads;
use inputs::{check_labels, folder, input, occurring};

/// A file of labelled rows.
#[derive(Debug, Clone)]
pub struct RowsFile {
    /// What `--tasks` and the model card call it; a name such as a workflow gives.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Written by a language model: JSON Lines of `text` and `label`.
    pub released: bool,
}

/// Which columns, and which labels.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The column with the text.
    pub text_column: String,
    /// The column with the label.
    pub label_column: String,
    /// The column with the privacy unit, if training is to know it.
    pub unit_column: Option<String>,
    /// The labels; if empty, those that occur in a head's files.
    pub labels: Vec<String>,
}

/// What a step needs beside its inputs.
pub struct Bench<'b> {
    /// The ONNX Runtime library.
    pub onnxruntime: PathBuf,
    /// Every parameter of the step, as [`parameters`] gives them.
    pub with: Map<String, Value>,
    /// Threads.
    pub cores: usize,
    /// Takes the step's events.
    pub record: &'b (dyn Fn(Event) + Sync),
    /// Set to stop.
    pub cancel: &'b AtomicBool,
}

/// Trains a model and puts its folder at `out`.
///
/// # Errors
/// As the step `slm:train`; and [`StepFailure::BadInput`] if something is at `out` already.
pub fn train(
    files: &[RowsFile],
    reading: &Reading,
    base: Option<&Path>,
    checkpoint: Option<&Path>,
    out: &Path,
    bench: &Bench<'_>,
) -> Result<(), StepFailure> {
    if out.exists() {
        return Err(exists(out));
    }
    let mut inputs = BTreeMap::new();
    let records: Result<Vec<Input>, StepFailure> = files
        .iter()
        .map(|file| input(file, reading, &reading.labels))
        .collect();
    let records = records?;
    check_labels(files, &records, reading, &bench.with)?;
    inputs.insert("records".to_owned(), records);
    if let Some(base) = base {
        inputs.insert("base".to_owned(), vec![folder("base", base)]);
    }
    let step = Train {
        onnxruntime: bench.onnxruntime.clone(),
        checkpoint: checkpoint.map(Path::to_owned),
    };
    run(
        &step,
        super::train_signature(),
        inputs,
        &beside(out),
        bench,
        |made| keep(one(made, "model")?, out),
    )
}

/// Scores a model; returns the table and the JSON, and puts both and the page into `out`.
///
/// # Errors
/// As the step `slm:evaluate`.
pub fn evaluate(
    model: &Path,
    file: &RowsFile,
    reading: &Reading,
    baseline: Option<&Path>,
    out: Option<&Path>,
    bench: &Bench<'_>,
) -> Result<(String, Value), StepFailure> {
    let read = Model::read_classifier(model).map_err(failure)?;
    let name = bench.with.get("head").and_then(Value::as_str);
    let name = name.filter(|name| !name.is_empty());
    let head = &read.heads[heads::find(&read.heads, name).map_err(failure)?];
    let labels = match reading.labels.as_slice() {
        // A label that occurs and that the head lacks is an error here, not a row set aside; one
        // that does not occur is one that no record has.
        [] => {
            let mut labels = occurring(file, reading, head.task)?;
            if head.task != Task::Number {
                labels.extend(head.labels.iter().cloned());
            }
            labels.sort();
            labels.dedup();
            labels
        }
        given => given.to_vec(),
    };
    let mut inputs = BTreeMap::from([
        ("model".to_owned(), vec![folder("model", model)]),
        ("records".to_owned(), vec![input(file, reading, &labels)?]),
    ]);
    if let Some(baseline) = baseline {
        let name = baseline.display().to_string();
        inputs.insert("baseline".to_owned(), vec![folder(&name, baseline)]);
    }
    let step = Evaluate {
        onnxruntime: bench.onnxruntime.clone(),
    };
    run(
        &step,
        super::evaluate_signature(),
        inputs,
        &std::env::temp_dir(),
        bench,
        |made| {
            let report = one(made, "report")?;
            let text =
                std::fs::read_to_string(report).map_err(|error| io("read", report, &error))?;
            let scores: Scores = serde_json::from_str(&text)
                .map_err(|error| StepFailure::Failed(error.to_string()))?;
            let json = serde_json::from_str(&text)
                .map_err(|error| StepFailure::Failed(error.to_string()))?;
            if let Some(out) = out {
                std::fs::create_dir_all(out).map_err(|error| io("make", out, &error))?;
                for (port, file) in [("report", "report.json"), ("page", "report.html")] {
                    let to = out.join(file);
                    std::fs::copy(one(made, port)?, &to)
                        .map_err(|error| io("write", &to, &error))?;
                }
            }
            Ok((table(&scores), json))
        },
    )
}

/// Writes a model folder as one `.onnx` file with its weights inside; with `int8`, those of
/// products as 8-bit integers.
///
/// # Errors
/// [`StepFailure::BadInput`] for a folder that is no model, or if something is at `out` already.
pub fn export(model: &Path, out: &Path, int8: bool) -> Result<(), StepFailure> {
    if out.exists() {
        return Err(exists(out));
    }
    let model = Model::read(model).map_err(failure)?;
    let graph = match int8 {
        true => model.quantised_graph(Serve::Everything),
        false => model.serving_graph(Serve::Everything),
    };
    let bytes = noisegate_slm::graph::encode(&graph.map_err(failure)?);
    records::write_atomic(out, &bytes).map_err(bad_input)
}

fn exists(out: &Path) -> StepFailure {
    bad_input(format!(
        "`{}` exists already; choose another place or remove it first",
        out.display()
    ))
}

fn io(what: &str, path: &Path, error: &std::io::Error) -> StepFailure {
    StepFailure::Failed(format!("could not {what} `{}`: {error}", path.display()))
}

/// The folder that `out` will stand in, so that the result can be moved there.
fn beside(out: &Path) -> PathBuf {
    match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn one<'m>(made: &'m [Made], port: &str) -> Result<&'m Path, StepFailure> {
    let found = made.iter().find(|made| made.port == port);
    found
        .map(|made| made.path.as_path())
        .ok_or_else(unconnected)
}

fn keep(made: &Path, out: &Path) -> Result<(), StepFailure> {
    std::fs::rename(made, out).map_err(|error| io("write", out, &error))
}
