//! `slm:train`, `slm:evaluate`, `slm:agree` and `slm:pseudo-label`: small encoders on ONNX Runtime.
//!
//! ```text
//! inputs ──heads.rs──> which head each input trains ──rows.rs──> examples ─┬─ train.rs ──> model
//!                                                                          └─ evaluate.rs ─> report, page
//! samples, model ─┬─ agree.rs ──────> the samples that the model agrees with, report
//!                 └─ pseudo_label.rs > the samples with the model's labels, report
//! scoring.rs  texts through a model
//! together.rs what `check` says of parameters and inputs
//! try_rows.rs rows read as a run would read them, for `check --rows`
//! telling.rs  what a log hears of training
//! card.rs     what the model's folder says of it
//! direct/     training and evaluation on a person's own files, without a workflow
//! ```
//!
//! All may read what is private to their own site; what they then make is private to it, by its label.

mod agree;
mod card;
pub mod direct;
mod evaluate;
mod heads;
mod pseudo_label;
mod rows;
mod scoring;
mod signatures;
mod telling;
mod together;
mod train;
mod try_rows;
mod weigh;

use std::path::{Path, PathBuf};

use noisegate_engine::{Input, StepContext, StepFailure};
use noisegate_slm::{SlmError, runtime};

pub use try_rows::try_rows;

pub use signatures::{
    agree_signature, evaluate_signature, pseudo_label_signature, train_signature,
};

/// `slm:train`
pub struct Train {
    /// The ONNX Runtime library.
    pub onnxruntime: PathBuf,
    /// Where to write the run down now and then, and to go on from. It holds private weights, so
    /// no workflow names it: only a person at the site's own command line does.
    pub checkpoint: Option<PathBuf>,
}

/// `slm:evaluate`
pub struct Evaluate {
    /// The ONNX Runtime library.
    pub onnxruntime: PathBuf,
}

/// `slm:agree`
pub struct Agree {
    /// The ONNX Runtime library.
    pub onnxruntime: PathBuf,
}

/// `slm:pseudo-label`
pub struct PseudoLabel {
    /// The ONNX Runtime library.
    pub onnxruntime: PathBuf,
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

/// Whether the step reads something private: rows, or what was made of them.
fn reads_private(context: &StepContext<'_>) -> bool {
    let mut inputs = context.inputs.0.values().flatten();
    inputs.any(Input::is_private)
}

/// The tenths of `total`, in per cent, that lie in `before..=done`: ten over a whole pass, whatever
/// its length, so that the lines of a log count nothing.
fn tenths(before: usize, done: usize, total: usize) -> impl Iterator<Item = u64> {
    let of = |done: usize| (10 * done).checked_div(total).unwrap_or(10) as u64;
    let first = if total == 0 { 0 } else { of(before) };
    (first + 1..=of(done)).map(|tenth| 10 * tenth)
}

/// Turns the crate's errors into the engine's: what a disk cannot take is nobody's input.
pub fn failure(error: SlmError) -> StepFailure {
    match error {
        SlmError::Cancelled { .. } => StepFailure::Cancelled,
        SlmError::Write { .. } => StepFailure::Failed(chain(&error)),
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

/// Writes a result below the step's folder.
fn write(path: &Path, text: &str) -> Result<(), StepFailure> {
    std::fs::write(path, text).map_err(|error| {
        StepFailure::Failed(format!("could not write `{}`: {error}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_a_failure_and_a_strange_file_bad_input() {
        let path = PathBuf::from("model");
        let full = SlmError::Write {
            path: path.clone(),
            source: std::io::ErrorKind::StorageFull.into(),
        };
        assert!(matches!(failure(full), StepFailure::Failed(_)));
        let strange = SlmError::NotAClassifier { path };
        assert!(matches!(failure(strange), StepFailure::BadInput(_)));
    }

    #[test]
    fn a_pass_of_any_length_tells_ten_tenths() {
        for total in [1, 3, 7, 10, 11, 120, 1000] {
            let told: Vec<u64> = (0..total)
                .flat_map(|before| tenths(before, before + 1, total))
                .collect();
            assert_eq!(
                told,
                (1..=10).map(|it| 10 * it).collect::<Vec<_>>(),
                "{total}"
            );
        }
        assert_eq!(tenths(4, 4, 10).count(), 0);
    }
}
