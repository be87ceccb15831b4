//! `llm:*`: the steps on candle. None of them may read an unreleased artifact;
//! their ports say so, and `check` holds them to it.

pub mod augment;
pub mod cluster;
mod embed;
mod excerpt;
pub mod judge;
pub mod nearest_centroid;
pub mod pretrain;
pub mod served;

use std::path::Path;
use std::time::Instant;

use noisegate_engine::{Input, StepContext, StepFailure};
use noisegate_llm::{Error, LanguageModel, Place, Progress};

use crate::llm::excerpt::Excerpt;
use crate::samples::Sample;
use crate::with::With;

/// Loads a language model on the device that the step names, without its chat template if the
/// step wants none.
fn load(context: &StepContext<'_>, source: &Input) -> Result<LanguageModel, StepFailure> {
    let with = With(&context.step.with);
    let place = match with.text("device")? {
        "cuda" => Place::Cuda,
        _ => Place::Cpu,
    };
    let folder = pinned_folder(source)?;
    let mut model =
        noisegate_llm::load(folder, &place.open().map_err(failure)?).map_err(failure)?;
    if with.text("chat")? == "off" {
        model.chat = None;
    }
    Ok(model)
}

/// The folder of a model; of a plugin, only if it pins every file that makes the model.
///
/// An artifact was made by a step, which is what vouches for it.
pub(crate) fn pinned_folder(source: &Input) -> Result<&Path, StepFailure> {
    if let Input::Path { path, pinned, .. } = source
        && !pinned.is_empty()
    {
        all_pinned(path, pinned)?;
    }
    Ok(source.path())
}

/// Refuses a plugin's folder with a file that would change the model and that nobody vouches for:
/// a chat template or a list of ending tokens is as much a part of it as its weights.
fn all_pinned(folder: &Path, pinned: &[String]) -> Result<(), StepFailure> {
    let unread =
        |error| StepFailure::Failed(format!("could not read `{}`: {error}", folder.display()));
    for entry in std::fs::read_dir(folder).map_err(unread)? {
        let name = entry.map_err(unread)?.file_name().display().to_string();
        if noisegate_llm::reads(&name) && !pinned.contains(&name) {
            return Err(StepFailure::BadInput(format!(
                "`{}` is a part of the model, but its plugin.toml does not pin it; \
                 add its SHA-256 to `[model.sha256]`, or remove the file",
                folder.join(&name).display()
            )));
        }
    }
    Ok(())
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

/// Passes the crate's progress on, and excerpts of texts where it tells any.
///
/// No port of these steps lets a private artifact in, so what is told is made from released and
/// public text.
fn report<'a>(context: &'a StepContext<'_>) -> impl FnMut(Progress) + 'a {
    let mut excerpt = Excerpt::default();
    move |progress| {
        if let Some(text) = excerpt.take(&progress.text, Instant::now()) {
            context.text(text);
        }
        // A piece of text alone is no progress.
        if progress.text.is_empty() || progress.text == "\n" {
            context.progress(progress.done, progress.total.unwrap_or(0), &what(&progress));
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_that_a_model_is_made_of_must_be_pinned() {
        let folder = tempfile::tempdir().unwrap();
        let pinned = ["config.json", "tokenizer.json", "model.safetensors"].map(str::to_owned);
        for name in pinned
            .iter()
            .map(String::as_str)
            .chain(["README.md", "plugin.toml"])
        {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        all_pinned(folder.path(), &pinned).unwrap();
        for stray in ["chat_template.jinja", "generation_config.json", "b.gguf"] {
            let path = folder.path().join(stray);
            std::fs::write(&path, "").unwrap();
            let refused = all_pinned(folder.path(), &pinned).unwrap_err().to_string();
            assert!(
                refused.contains(stray) && refused.contains("does not pin it"),
                "{refused}"
            );
            std::fs::remove_file(path).unwrap();
        }
    }
}
