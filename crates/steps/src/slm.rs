//! `slm:train` and `slm:evaluate`: the classifier on ONNX Runtime.
//!
//! Both may read private records of their own site; what they make is private to
//! it, by its label.

use std::path::{Path, PathBuf};

use noisegate_engine::{Input, Made, Step, StepContext, StepFailure};
use noisegate_records::LabelSet;
use noisegate_records::metrics::{self, Evaluation};
use noisegate_slm::{
    Base, Classifier, Example, Hooks, Lora, Model, Progress, ScratchConfig, ServeOptions, SlmError,
    Summary, TrainOptions, TrainingData, Vocabulary, runtime, train,
};

use crate::samples;
use crate::with::With;

/// `slm:train`
pub struct Train {
    /// The ONNX Runtime library.
    pub onnxruntime: PathBuf,
}

/// `slm:evaluate`
pub struct Evaluate {
    /// The ONNX Runtime library.
    pub onnxruntime: PathBuf,
}

impl Step for Train {
    fn run(&self, context: &StepContext<'_>) -> Result<Vec<Made>, StepFailure> {
        let options = train_options(context)?;
        let base = base(context)?;
        let runtime = runtime::load(&self.onnxruntime).map_err(failure)?;
        let (labels, examples) = gather(context)?;
        let data = TrainingData {
            labels: &labels,
            examples: &examples,
            validation: &[],
        };
        let private = reads_private(context);
        let mut progress = |progress: &Progress| {
            if private {
                // The log holds public facts: shares, not counts, and no loss.
                context.progress(
                    percent(progress.step, progress.steps),
                    100,
                    "training, percent",
                );
                return;
            }
            let what = format!(
                "epoch {}/{}, loss {:.3}",
                progress.epoch, progress.epochs, progress.loss
            );
            context.progress(progress.step as u64, progress.steps as u64, &what);
        };
        let hooks = Hooks {
            progress: &mut progress,
            cancel: context.cancel,
        };
        let (model, summary) = train::train(&runtime, &base, &data, &options, hooks)
            .map_err(|error| training_failure(error, private))?;
        let path = context.work.join("model");
        model
            .save(&path, &card(context, &summary))
            .map_err(failure)?;
        Ok(vec![Made {
            port: "model".to_owned(),
            path,
        }])
    }
}

impl Step for Evaluate {
    fn run(&self, context: &StepContext<'_>) -> Result<Vec<Made>, StepFailure> {
        let runtime = runtime::load(&self.onnxruntime).map_err(failure)?;
        let path = context
            .inputs
            .one("model")
            .map(Input::path)
            .ok_or_else(unconnected)?;
        let model = Model::read_classifier(path).map_err(failure)?;
        let records = context.inputs.one("records").ok_or_else(unconnected)?;
        check_labels(records, &model)?;
        let rows = samples::read(records)?;
        let batch = With(&context.step.with).count("batch")?;
        let options = ServeOptions {
            threads: context.cores,
            batch,
        };
        let mut classifier = Classifier::new(&runtime, &model, &options).map_err(failure)?;
        let mut predictions = Vec::with_capacity(rows.len());
        for chunk in rows.chunks(batch.max(1) * 8) {
            if context.cancelled() {
                return Err(StepFailure::Cancelled);
            }
            let texts: Vec<&str> = chunk.iter().map(|row| row.text.as_str()).collect();
            predictions.extend(classifier.predict(&texts).map_err(failure)?);
            context.progress(
                percent(predictions.len(), rows.len()),
                100,
                "scoring, percent",
            );
        }
        let labels = LabelSet::new(model.labels.clone()).map_err(bad_input)?;
        let scored: Option<Vec<metrics::Prediction>> = rows
            .iter()
            .zip(&predictions)
            .map(|(row, prediction)| {
                let confidence = prediction
                    .probabilities
                    .get(prediction.label)
                    .copied()
                    .map(f64::from);
                let truth = labels.position(&row.label)?;
                Some(metrics::Prediction {
                    truth,
                    predicted: prediction.label,
                    confidence,
                })
            })
            .collect();
        let scored = scored.ok_or_else(|| {
            StepFailure::BadInput(
                "a held-out record has a label that the classifier was not trained on".to_owned(),
            )
        })?;
        let evaluation = metrics::evaluate(&labels, &scored).map_err(bad_input)?;
        Ok(vec![write_report(context, &evaluation)?])
    }
}

/// Whether the step reads a private data set.
fn reads_private(context: &StepContext<'_>) -> bool {
    let inputs = context.inputs.0.values().flatten();
    inputs
        .into_iter()
        .any(|input| matches!(input, Input::Data { data, .. } if data.private))
}

fn percent(done: usize, total: usize) -> u64 {
    (100 * done / total.max(1)) as u64
}

/// As [`failure`]; of private records it says no number and no label.
fn training_failure(error: SlmError, private: bool) -> StepFailure {
    let tells = matches!(
        error,
        SlmError::NoExamples
            | SlmError::OneClass { .. }
            | SlmError::UnknownLabel { .. }
            | SlmError::Weight { .. }
    );
    if private && tells {
        return bad_input(
            "the private records cannot be trained on: with the declared labels they are empty or \
             all of one class; look at `labels`, `label_column` and the file",
        );
    }
    failure(error)
}

/// Loads the library and says what it is, for `noisegate doctor`.
///
/// # Errors
/// [`StepFailure::BadInput`] if it is missing or does not fit.
pub fn library_version(library: &Path) -> Result<String, StepFailure> {
    let runtime = runtime::load(library).map_err(failure)?;
    Ok(format!(
        "{} ({})",
        runtime.path().display(),
        runtime.build_info()
    ))
}

fn train_options(context: &StepContext<'_>) -> Result<TrainOptions, StepFailure> {
    let with = With(&context.step.with);
    let from_scratch = context.inputs.one("base").is_none();
    let rank = with.count("lora_rank")?;
    let usual = match (from_scratch, rank) {
        (true, _) => 1e-3,
        (false, 0) => 3e-4,
        (false, _) => 2e-3,
    };
    Ok(TrainOptions {
        epochs: with.count("epochs")?,
        batch: with.count("batch")?,
        length_max: with.count("tokens_max")?,
        learning_rate: with.float_or("learning_rate", usual)? as f32,
        weight_decay: with.float("weight_decay")? as f32,
        warmup_share: with.float("warm_up")? as f32,
        dropout: with.float("dropout")? as f32,
        seed: with.count("seed")? as u64,
        threads: context.cores,
        lora: (rank > 0).then(|| Lora {
            rank,
            ..Lora::default()
        }),
        ..TrainOptions::default()
    })
}

fn base(context: &StepContext<'_>) -> Result<Base, StepFailure> {
    if let Some(input) = context.inputs.one("base") {
        return Ok(Base::Folder(input.path().to_owned()));
    }
    let with = With(&context.step.with);
    Ok(Base::Scratch(ScratchConfig {
        layers: with.count("layers")?,
        hidden: with.count("hidden")?,
        heads: with.count("heads")?,
        intermediate: with.count("intermediate")?,
        length_max: with.count("tokens_max")?,
        vocabulary: Vocabulary::Train {
            size: with.count("vocabulary")?,
        },
    }))
}

/// The head's labels and all examples.
///
/// The labels are those that the data sets declare; with released records alone,
/// those that occur in them.
fn gather(context: &StepContext<'_>) -> Result<(Vec<String>, Vec<Example>), StepFailure> {
    let released_weight = With(&context.step.with).float("released_weight")? as f32;
    let mut declared: Vec<String> = Vec::new();
    let mut examples = Vec::new();
    for input in context.inputs.all("records") {
        let weight = match input {
            Input::Data { labels, .. } => {
                declared.extend(labels.iter().cloned());
                1.0
            }
            Input::Path { .. } => released_weight,
        };
        let rows = samples::read(input)?;
        examples.extend(rows.into_iter().map(|row| Example {
            text: row.text,
            label: row.label,
            weight,
        }));
    }
    let mut labels = declared;
    if labels.is_empty() {
        labels = examples
            .iter()
            .map(|example| example.label.clone())
            .collect();
    }
    labels.sort();
    labels.dedup();
    let known = |example: &Example| labels.binary_search(&example.label).is_ok();
    if !examples.iter().all(known) {
        return Err(StepFailure::BadInput(format!(
            "step `{}`: a released record has a label that no data set of the step declares; \
             declare the same `labels` for both",
            context.step.name
        )));
    }
    Ok((labels, examples))
}

/// Refuses, by the public declarations alone, a test set with labels the head lacks.
fn check_labels(records: &Input, model: &Model) -> Result<(), StepFailure> {
    let Input::Data { data, labels, .. } = records else {
        return Ok(());
    };
    let unknown: Vec<String> = labels
        .iter()
        .filter(|label| !model.labels.contains(label))
        .map(|label| format!("`{label}`"))
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(StepFailure::BadInput(format!(
        "data set `{}` declares {} not seen in training: {}; train on records of every label, \
         or declare fewer labels for `{}`",
        data.name,
        if unknown.len() == 1 {
            "a label"
        } else {
            "labels"
        },
        unknown.join(", "),
        data.name
    )))
}

fn write_report(context: &StepContext<'_>, evaluation: &Evaluation) -> Result<Made, StepFailure> {
    let path = context.work.join("report.json");
    let text = serde_json::to_string_pretty(evaluation)
        .map_err(|error| StepFailure::Failed(error.to_string()))?;
    std::fs::write(&path, text).map_err(|error| {
        StepFailure::Failed(format!("could not write `{}`: {error}", path.display()))
    })?;
    Ok(Made {
        port: "report".to_owned(),
        path,
    })
}

/// The model card.
fn card(context: &StepContext<'_>, summary: &Summary) -> String {
    let sources: Vec<String> = context
        .step
        .inputs
        .iter()
        .flat_map(|input| {
            input
                .artifacts
                .iter()
                .map(|id| format!("- `{}`: `{id}`", input.port))
        })
        .collect();
    format!(
        "# A classifier trained by noisegate\n\n\
         Made by step `{}` (`{}`) on site `{}`, in run `{}`.\n\n\
         **Private to its site if it read a private data set: it is not differentially private \
         with respect to the records it was trained on.**\n\n\
         ## Trained on\n\n{}\n\n\
         ## Training\n\n{} parameters, {} steps, last mean loss {:.4}.\n\n\
         Parameters of the step: `{}`\n",
        context.step.name,
        context.step.uses,
        context.step.site,
        context.run,
        sources.join("\n"),
        summary.parameters,
        summary.steps,
        summary.loss,
        serde_json::Value::Object(context.step.with.clone()),
    )
}

/// Turns the crate's errors into the engine's.
pub fn failure(error: SlmError) -> StepFailure {
    match error {
        SlmError::Cancelled { .. } => StepFailure::Cancelled,
        other => bad_input(chain(&other)),
    }
}

/// An error and its causes, as fragments.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn bad_input(error: impl std::fmt::Display) -> StepFailure {
    StepFailure::BadInput(error.to_string())
}

fn unconnected() -> StepFailure {
    StepFailure::Failed(
        "a port is not connected; `check` should have refused this workflow".to_owned(),
    )
}
