//! What makes two requests of a guest step the same, beside the data and the guest: its parameters
//! and every byte of its public inputs.
//!
//! A step asks with it, and a plan is judged by it before a run ([`crate::outlook`]).

use std::fs;

use noisegate_engine::store::files_below;
use noisegate_engine::{Input, Inputs, StepFailure};
use noisegate_sandbox::{Digest, File};
use noisegate_workflow::PlannedStep;
use serde_json::json;

use crate::guest::failed;
use crate::plugin::Component;
use crate::samples;

/// Every file of the public inputs as `port/relative/path`.
pub(crate) fn public_files(read: &Inputs) -> Result<Vec<File>, StepFailure> {
    let mut files = Vec::new();
    for (port, inputs) in &read.0 {
        for input in inputs {
            let (path, pinned) = match input {
                Input::Path { path, pinned, .. } => (path, pinned),
                Input::Data { data, .. } if data.private => continue,
                Input::Data { data, .. } => {
                    let name = format!("{port}/{}.jsonl", data.name);
                    let data = samples::to_json_lines(&samples::read(input)?)?.into_bytes();
                    files.push(File { name, data });
                    continue;
                }
            };
            let found = if !pinned.is_empty() {
                // A plugin's folder may hold, or be made to name, anything: only pinned
                // content goes to the public side.
                pinned
                    .iter()
                    .map(|name| (name.clone(), path.join(name)))
                    .collect()
            } else if path.is_dir() {
                files_below(path).map_err(failed)?
            } else {
                vec![(
                    path.file_name()
                        .unwrap_or_default()
                        .to_string_lossy()
                        .into_owned(),
                    path.clone(),
                )]
            };
            for (relative, file) in found {
                let data = fs::read(&file).map_err(failed)?;
                files.push(File {
                    name: format!("{port}/{relative}"),
                    data,
                });
            }
        }
    }
    Ok(files)
}

/// Pins everything but the data and the guest: parameters, labels, public inputs, and the limits
/// of a private instance, which decide whether a unit counts.
///
/// The names of the step and of the run are no part of it: they do not change the output.
pub(crate) fn parameters_digest(
    step: &PlannedStep,
    inputs: &Inputs,
    component: &Component,
    public: &[File],
) -> noisegate_ledger::Digest {
    let fixed = json!({
        "with": step.with, "charge": step.charge,
        "fuel": component.fuel_per_unit, "memory": component.memory_bytes_max,
    });
    let mut pinned = vec![fixed.to_string()];
    for input in inputs.all("records") {
        if let Input::Data { data, labels, .. } = input {
            pinned.push(
                json!({
                    "labels": labels, "unit": data.unit, "units_public": data.units_public,
                    "text": data.text_column, "label": data.label_column, "format": data.format,
                })
                .to_string(),
            );
        }
    }
    for file in public {
        pinned.push(format!("{} {}", file.name, Digest::of(&file.data)));
    }
    noisegate_ledger::Digest::of(pinned.join("\n").as_bytes())
}
