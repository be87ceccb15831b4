//! `llm:*`: the steps on candle. None of them may read an unreleased artifact;
//! their ports say so, and `check` holds them to it.

pub mod augment;
pub mod cluster;
pub mod judge;
pub mod pretrain;
pub mod served;

use std::path::Path;

use noisegate_engine::{Input, StepContext, StepFailure};
use noisegate_llm::{Error, LanguageModel, Place, Progress};

use crate::samples::Sample;
use crate::with::With;

/// Loads a language model on the device that the step names, without its chat template if the
/// step wants none.
fn load(context: &StepContext<'_>, folder: &Path) -> Result<LanguageModel, StepFailure> {
    let with = With(&context.step.with);
    let place = match with.text("device")? {
        "cuda" => Place::Cuda,
        _ => Place::Cpu,
    };
    let mut model =
        noisegate_llm::load(folder, &place.open().map_err(failure)?).map_err(failure)?;
    if with.text("chat")? == "off" {
        model.chat = None;
    }
    Ok(model)
}

/// The samples as the crate wants them.
fn plain(samples: &[Sample]) -> Vec<noisegate_llm::Sample> {
    samples
        .iter()
        .map(|sample| noisegate_llm::Sample::new(&sample.text, &sample.label))
        .collect()
}

/// The labels that occur, sorted.
fn labels(samples: &[Sample]) -> Vec<String> {
    let mut labels: Vec<String> = samples.iter().map(|sample| sample.label.clone()).collect();
    labels.sort();
    labels.dedup();
    labels
}

/// The single input of `port`.
fn input<'a>(context: &'a StepContext<'_>, port: &str) -> Result<&'a Input, StepFailure> {
    context.inputs.one(port).ok_or_else(|| {
        StepFailure::Failed(format!(
            "port `{port}` is not connected; `check` should have refused this workflow"
        ))
    })
}

/// Passes the crate's progress on.
fn report<'a>(context: &'a StepContext<'_>) -> impl FnMut(Progress) + 'a {
    |progress| context.progress(progress.done, progress.total.unwrap_or(0), &what(&progress))
}

fn what(progress: &Progress) -> String {
    if progress.note.is_empty() {
        progress.stage.to_owned()
    } else {
        format!("{}: {}", progress.stage, progress.note)
    }
}

/// Turns the crate's errors into the engine's.
fn failure(error: Error) -> StepFailure {
    match error {
        Error::Cancelled => StepFailure::Cancelled,
        Error::Tensor(_) | Error::Diverged { .. } | Error::Served(_) => {
            StepFailure::Failed(chain(&error))
        }
        other => StepFailure::BadInput(chain(&other)),
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

/// Writes `value` as JSON.
pub(crate) fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), StepFailure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| StepFailure::Failed(error.to_string()))?;
    std::fs::write(path, text).map_err(|error| {
        StepFailure::Failed(format!("could not write `{}`: {error}", path.display()))
    })
}
