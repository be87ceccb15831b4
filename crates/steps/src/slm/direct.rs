//! The SLM steps on a person's own files, for trying things: no workflow, no run folder, no ledger.
//!
//! A step's context is made up here, so that the very code of the workflow's steps runs. The rows
//! are the person's own; nothing is hidden from the log, and nothing leaves the machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use noisegate_engine::{Event, Input, Inputs, Made, Step, StepContext, StepFailure};
use noisegate_records::{self as records, Columns, LabelForm, ReadOptions};
use noisegate_slm::model::{Serve, heads};
use noisegate_slm::{Classifier, Embedder, Head, Model, Prediction, ServeOptions, Task, runtime};
use noisegate_workflow::{
    FilePath, ParamKind, ParamSpec, Placement, PlannedData, PlannedStep, RelativeTo, StepSignature,
};
use serde_json::{Map, Value, json};

use super::evaluate::{Scores, table};
use super::{Evaluate, Train, bad_input, failure, rows, unconnected};

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

/// Every parameter of a step: what was given as text, checked, and the defaults of the rest.
///
/// # Errors
/// [`StepFailure::BadInput`] with the parameter, its value, and what would be right.
pub fn parameters(
    signature: &StepSignature,
    given: &BTreeMap<String, String>,
) -> Result<Map<String, Value>, StepFailure> {
    let mut with = Map::new();
    for spec in &signature.with {
        let value = match given.get(&spec.name) {
            Some(text) => parse(spec, text)?,
            None => spec.default.clone().unwrap_or(Value::Null),
        };
        with.insert(spec.name.clone(), value);
    }
    Ok(with)
}

fn parse(spec: &ParamSpec, text: &str) -> Result<Value, StepFailure> {
    let wrong = |expected: String| {
        bad_input(format!(
            "`{}` is `{text}`; it must be {expected}",
            spec.name
        ))
    };
    match &spec.kind {
        ParamKind::Int { min, max } => match text.parse::<i64>() {
            Ok(value) if (*min..=*max).contains(&value) => Ok(json!(value)),
            _ => Err(wrong(format!("a whole number from {min} to {max}"))),
        },
        ParamKind::Float { min, max } => match text.parse::<f64>() {
            Ok(value) if (*min..=*max).contains(&value) => Ok(json!(value)),
            _ => Err(wrong(format!("a number from {min} to {max}"))),
        },
        ParamKind::Bool => match text.parse::<bool>() {
            Ok(value) => Ok(json!(value)),
            Err(_) => Err(wrong("`true` or `false`".to_owned())),
        },
        ParamKind::Text => Ok(json!(text)),
        ParamKind::Choice(choices) if choices.iter().any(|choice| choice == text) => {
            Ok(json!(text))
        }
        ParamKind::Choice(choices) => Err(wrong(format!("one of `{}`", choices.join("`, `")))),
    }
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
    inputs.insert("records".to_owned(), records?);
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
        beside(out),
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
    // A label that occurs and that the head lacks is an error here, not a row set aside.
    let labels = match reading.labels.as_slice() {
        [] => occurring(file, reading, head.task)?,
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
    let place = std::env::temp_dir();
    run(
        &step,
        super::evaluate_signature(),
        inputs,
        place,
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

/// How texts are answered by hand.
#[derive(Debug, Clone)]
pub struct Serving {
    /// The ONNX Runtime library.
    pub onnxruntime: PathBuf,
    /// Threads.
    pub threads: usize,
    /// Multiply 8-bit integers.
    pub int8: bool,
    /// `cpu`, `cuda` or `cuda:` and the number of a card.
    pub device: String,
}

impl Serving {
    fn options(&self) -> Result<ServeOptions, StepFailure> {
        Ok(ServeOptions {
            threads: self.threads,
            int8: self.int8,
            device: self.device.parse().map_err(failure)?,
            ..ServeOptions::default()
        })
    }
}

/// What every head of `model` says about each text, as one JSON object a text.
///
/// # Errors
/// [`StepFailure::BadInput`] for a folder or library that does not fit.
pub fn predict(
    model: &Path,
    texts: &[String],
    serving: &Serving,
) -> Result<Vec<Value>, StepFailure> {
    let model = Model::read_classifier(model).map_err(failure)?;
    let runtime = runtime::load(&serving.onnxruntime).map_err(failure)?;
    let mut classifier = Classifier::new(&runtime, &model, &serving.options()?).map_err(failure)?;
    let told = classifier.predict_all(texts).map_err(failure)?;
    let all = told.into_iter().map(|told| {
        let mut object = Map::new();
        let (cut, only_unknown) = (told[0].cut, told[0].only_unknown);
        for (head, told) in model.heads.iter().zip(&told) {
            object.insert(head.name.clone(), said(head, told));
        }
        if cut {
            object.insert("cut".to_owned(), json!(true));
        }
        if only_unknown {
            object.insert("only_unknown_tokens".to_owned(), json!(true));
        }
        Value::Object(object)
    });
    Ok(all.collect())
}

fn said(head: &Head, told: &Prediction) -> Value {
    let shares: Map<String, Value> = head
        .labels
        .iter()
        .zip(&told.probabilities)
        .map(|(label, share)| (label.clone(), json!(share)))
        .collect();
    match head.task {
        Task::SingleLabel => json!({ "label": head.labels[told.label], "probabilities": shares }),
        Task::MultiLabel => {
            let all = head.labels.iter().zip(&told.probabilities);
            let yes: Vec<&String> = all.filter(|(_, p)| **p > 0.5).map(|(l, _)| l).collect();
            json!({ "labels": yes, "probabilities": shares })
        }
        Task::Number => json!(told.numbers[0]),
    }
}

/// One vector of length 1 a text.
///
/// # Errors
/// As [`predict`].
pub fn embed(
    model: &Path,
    texts: &[String],
    serving: &Serving,
) -> Result<Vec<Vec<f32>>, StepFailure> {
    let model = Model::read(model).map_err(failure)?;
    let runtime = runtime::load(&serving.onnxruntime).map_err(failure)?;
    let mut embedder = Embedder::new(&runtime, &model, &serving.options()?).map_err(failure)?;
    let embedded = embedder.embed(texts).map_err(failure)?;
    Ok((0..embedded.rows)
        .map(|row| embedded.row(row).to_vec())
        .collect())
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

fn folder(name: &str, path: &Path) -> Input {
    Input::Path {
        name: name.to_owned(),
        path: path.to_owned(),
        pinned: Vec::new(),
    }
}

fn input(file: &RowsFile, reading: &Reading, labels: &[String]) -> Result<Input, StepFailure> {
    if file.released {
        return Ok(folder(&file.name, &file.path));
    }
    let name = file.name.strip_prefix("data.").unwrap_or(&file.name);
    let data = PlannedData {
        name: name.parse().map_err(bad_input)?,
        site: "here".parse().map_err(bad_input)?,
        path: FilePath {
            text: file.path.display().to_string(),
            relative_to: RelativeTo::WorkingFolder,
        },
        format: None,
        private: false,
        unit: None,
        units_public: None,
        labels: None,
        text_column: reading.text_column.clone(),
        label_column: reading.label_column.clone(),
        budget: None,
    };
    Ok(Input::Data {
        data: Box::new(data),
        path: file.path.clone(),
        labels: labels.to_vec(),
    })
}

/// The labels that occur: fine for a person's own file, never done in a workflow.
fn occurring(file: &RowsFile, reading: &Reading, task: Task) -> Result<Vec<String>, StepFailure> {
    let form = match task {
        Task::SingleLabel => LabelForm::One,
        Task::MultiLabel => LabelForm::Many,
        Task::Number => return Ok(vec![reading.label_column.clone()]),
    };
    let options = ReadOptions {
        columns: Columns {
            text: reading.text_column.clone(),
            label: Some(reading.label_column.clone()),
            unit: None,
        },
        labels: form,
        ..ReadOptions::default()
    };
    let rows = records::read_all(&file.path, &options).map_err(bad_input)?;
    let cells = rows.iter().filter_map(|row| row.label.as_deref());
    let mut labels: Vec<String> = match task {
        Task::MultiLabel => cells.flat_map(rows::split).map(str::to_owned).collect(),
        _ => cells.map(str::to_owned).collect(),
    };
    labels.sort();
    labels.dedup();
    Ok(labels)
}

/// The folder that `out` will stand in, so that the result can be moved there.
fn beside(out: &Path) -> PathBuf {
    match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Runs a step in a folder of its own in `place`, and hands what it made to `take`.
fn run<T>(
    step: &dyn Step,
    signature: StepSignature,
    inputs: BTreeMap<String, Vec<Input>>,
    place: PathBuf,
    bench: &Bench<'_>,
    take: impl FnOnce(&[Made]) -> Result<T, StepFailure>,
) -> Result<T, StepFailure> {
    let kind = signature.uses.replace("slm:", "");
    let planned = PlannedStep {
        name: kind.parse().map_err(bad_input)?,
        uses: signature.uses,
        placement: Placement::Host,
        site: "here".parse().map_err(bad_input)?,
        inputs: planned_inputs(&inputs),
        outputs: Vec::new(),
        with: bench.with.clone(),
        charge: None,
        sends_to: Vec::new(),
        weight: signature.weight,
        after: Vec::new(),
    };
    let work = place.join(format!(".noisegate-{kind}-{}", std::process::id()));
    std::fs::create_dir_all(&work).map_err(|error| io("make", &work, &error))?;
    let context = StepContext {
        step: &planned,
        plan: None,
        inputs: Inputs(inputs),
        work: &work,
        cores: bench.cores,
        run: "none",
        record: bench.record,
        cancel: bench.cancel,
    };
    let result = step.run(&context).and_then(|made| take(&made));
    // Scratch of this process; a leftover harms nobody.
    let _ = std::fs::remove_dir_all(&work);
    result
}

/// The inputs by name, for the model card.
fn planned_inputs(inputs: &BTreeMap<String, Vec<Input>>) -> Vec<noisegate_workflow::Input> {
    let all = inputs.iter().filter_map(|(port, inputs)| {
        let names = inputs.iter().map(super::heads::name);
        Some(noisegate_workflow::Input {
            port: port.parse().ok()?,
            artifacts: names.filter_map(|name| name.parse().ok()).collect(),
        })
    });
    all.collect()
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
