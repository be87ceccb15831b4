//! What a model says about texts.

use std::path::{Path, PathBuf};

use noisegate_engine::StepFailure;
use noisegate_slm::{Classifier, Embedder, Head, Model, Prediction, ServeOptions, Task, runtime};
use serde_json::{Map, Value, json};

use crate::slm::failure;
use crate::slm::heads::{CUT, ONLY_UNKNOWN};

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
            object.insert(CUT.to_owned(), json!(true));
        }
        if only_unknown {
            object.insert(ONLY_UNKNOWN.to_owned(), json!(true));
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
