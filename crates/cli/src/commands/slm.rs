//! `slm train|evaluate|predict|embed|export`: the SLM steps on a person's own files.

use std::io::{BufRead, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use noisegate_engine::{Event, Observer, StepFailure, interruptible};
use noisegate_steps::slm::direct::{self, Bench, Reading, RowsFile, Serving};
use noisegate_steps::slm::{evaluate_signature, train_signature};
use serde_json::{Map, Value};

use crate::args::Place;
use crate::args::slm::{SlmCommand, SlmEvaluate, SlmExport, SlmRows, SlmTexts, SlmTrain};
use crate::exit::Exit;
use crate::progress::Bars;
use crate::project;
use crate::show;

/// Small models, without a workflow.
pub fn slm(place: &Place, what: &SlmCommand) -> Result<(), Exit> {
    match what {
        SlmCommand::Train(what) => train(place, what),
        SlmCommand::Evaluate(what) => evaluate(place, what),
        SlmCommand::Predict(what) => predict(place, what),
        SlmCommand::Embed(what) => embed(place, what),
        SlmCommand::Export(what) => export(what),
    }
}

fn train(place: &Place, what: &SlmTrain) -> Result<(), Exit> {
    let mut files = Vec::new();
    for (given, released) in [(&what.records, false), (&what.released, true)] {
        for text in given {
            files.push(named(text, released)?);
        }
    }
    let reading = Reading {
        unit_column: what.unit_column.clone(),
        ..reading(&what.rows)
    };
    let (base, checkpoint) = (what.base.as_deref(), what.checkpoint.as_deref());
    let reads = direct::reads(&files, &reading, base);
    let with = direct::parameters(&train_signature(), &what.parameters.0, &reads).map_err(exit)?;
    let trained = with_bars(place, what.threads, with, "train", |bench| {
        direct::train(&files, &reading, base, checkpoint, &what.out, bench)
    });
    trained.map_err(|ended| match (ended, checkpoint) {
        (Exit::Interrupted(text), Some(checkpoint)) => Exit::Interrupted(format!(
            "{text}; the same command goes on from `{}`",
            checkpoint.display()
        )),
        (ended, _) => ended,
    })?;
    println!("{}", what.out.display());
    Ok(())
}

fn evaluate(place: &Place, what: &SlmEvaluate) -> Result<(), Exit> {
    let with = direct::parameters(&evaluate_signature(), &what.parameters.0, &[]).map_err(exit)?;
    let file = named(&what.records.display().to_string(), false)?;
    let (baseline, out) = (what.baseline.as_deref(), what.out.as_deref());
    let (table, json) = with_bars(place, what.threads, with, "evaluate", |bench| {
        direct::evaluate(
            &what.model,
            &file,
            &reading(&what.rows),
            baseline,
            out,
            bench,
        )
    })?;
    if what.json {
        return show::json_line(&json);
    }
    print!("{table}");
    Ok(())
}

fn predict(place: &Place, what: &SlmTexts) -> Result<(), Exit> {
    let texts = texts(what)?;
    let told = direct::predict(&what.model, &texts, &serving(place, what)?);
    for (index, told) in told.map_err(exit)?.into_iter().enumerate() {
        if told.get("only_unknown_tokens").is_some() {
            // Its number, as it may be private and end in a log.
            warn(&format!(
                "text {} holds no token the model knows; what is said of it means nothing",
                index + 1
            ));
        }
        println!("{told}");
    }
    Ok(())
}

fn embed(place: &Place, what: &SlmTexts) -> Result<(), Exit> {
    let texts = texts(what)?;
    let vectors = direct::embed(&what.model, &texts, &serving(place, what)?);
    let mut out = BufWriter::new(std::io::stdout().lock());
    for vector in vectors.map_err(exit)? {
        let line = serde_json::to_string(&vector).map_err(Exit::failed)?;
        writeln!(out, "{line}").map_err(Exit::unwritten)?;
    }
    out.flush().map_err(Exit::unwritten)
}

fn export(what: &SlmExport) -> Result<(), Exit> {
    direct::export(&what.model, &what.out, what.int8).map_err(exit)?;
    println!("{}", what.out.display());
    Ok(())
}

/// `NAME=FILE`, or a file named after itself.
fn named(text: &str, released: bool) -> Result<RowsFile, Exit> {
    let (name, path) = match text.split_once('=') {
        Some((name, path)) if !name.contains(['/', '.']) => (name.to_owned(), path),
        _ => (stem(Path::new(text)), text),
    };
    if path != text && !Path::new(path).exists() && Path::new(text).exists() {
        return Err(Exit::Wrong(format!(
            "there is no file `{path}` to be called `{name}`; if the file `{text}` is meant, write `./{text}`"
        )));
    }
    Ok(RowsFile {
        name: if released {
            name
        } else {
            format!("data.{name}")
        },
        path: PathBuf::from(path),
        released,
    })
}

/// A file's name as a name of a workflow: what stands before the first dot, in small letters.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.split('.').next().unwrap_or_default().to_lowercase();
    let letter = |c: char| {
        if c.is_ascii_alphanumeric() || c == '_' {
            c
        } else {
            '-'
        }
    };
    let name: String = stem.chars().map(letter).take(60).collect();
    match name.starts_with(|first: char| first.is_ascii_lowercase()) {
        true => name,
        false => format!("d{name}"),
    }
}

fn reading(rows: &SlmRows) -> Reading {
    Reading {
        text_column: rows.text_column.clone(),
        label_column: rows.label_column.clone(),
        unit_column: None,
        labels: rows.labels.clone(),
    }
}

fn texts(what: &SlmTexts) -> Result<Vec<String>, Exit> {
    let texts = match what.texts.is_empty() {
        false => what.texts.clone(),
        true => std::io::stdin()
            .lock()
            .lines()
            .collect::<Result<_, _>>()
            .map_err(|error| Exit::Wrong(format!("could not read standard input: {error}")))?,
    };
    if texts.is_empty() {
        return Err(Exit::Wrong(
            "there are no texts; give them as arguments, or one a line on standard input"
                .to_owned(),
        ));
    }
    Ok(texts)
}

fn serving(place: &Place, what: &SlmTexts) -> Result<Serving, Exit> {
    Ok(Serving {
        onnxruntime: library(place)?,
        threads: threads(what.threads),
        int8: what.int8,
        device: what.device.clone(),
    })
}

fn threads(given: Option<usize>) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    given.unwrap_or_else(cores)
}

/// The ONNX Runtime library: the one given, or the one beside the nearest `plugins/`.
fn library(place: &Place) -> Result<PathBuf, Exit> {
    if let Some(given) = &place.onnxruntime {
        return Ok(given.clone());
    }
    let plugins = match &place.plugins {
        Some(given) => given.clone(),
        None => project::plugins_above(Path::new(".")).map_err(|_| {
            Exit::Wrong("name the ONNX Runtime library with `--onnxruntime FILE`".to_owned())
        })?,
    };
    Ok(project::onnxruntime(place, &plugins))
}

/// Runs a step with its progress drawn on standard error.
fn with_bars<T>(
    place: &Place,
    threads_given: Option<usize>,
    with: Map<String, Value>,
    step: &str,
    work: impl FnOnce(&Bench<'_>) -> Result<T, StepFailure> + Send,
) -> Result<T, Exit>
where
    T: Send,
{
    let (bars, cancel) = (Bars::new(false), AtomicBool::new(false));
    let step = step.to_owned();
    let record = |event: Event| bars.saw(&event);
    let bench = Bench {
        onnxruntime: library(place)?,
        with,
        cores: threads(threads_given),
        record: &record,
        cancel: &cancel,
    };
    let started = std::time::Instant::now();
    record(Event::StepStarted { step: step.clone() });
    let result = interruptible(&cancel, &bars, || work(&bench)).map_err(Exit::failed)?;
    record(match &result {
        Ok(_) => Event::StepFinished {
            step,
            seconds: started.elapsed().as_secs_f64(),
            artifacts: Vec::new(),
        },
        Err(failure) => Event::StepFailed {
            step,
            problem: failure.to_string(),
        },
    });
    result.map_err(exit)
}

fn warn(text: &str) {
    // A reader who has closed the pipe loses a warning, no more.
    let _ = writeln!(std::io::stderr(), "noisegate: {text}");
}

fn exit(failure: StepFailure) -> Exit {
    match failure {
        StepFailure::Failed(_) => Exit::failed(failure),
        StepFailure::Cancelled => Exit::Interrupted(failure.to_string()),
        StepFailure::BadInput(_) => Exit::wrong(failure),
        StepFailure::Refused(_) => Exit::Refused(failure.to_string()),
    }
}
