//! A step's context made up, and the step run in it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use noisegate_engine::{Input, Inputs, Made, Step, StepContext, StepFailure};
use noisegate_workflow::{Placement, PlannedStep, StepSignature};

use super::{Bench, io};
use crate::slm::{bad_input, heads};

/// Runs a step in a folder of its own in `place`, and hands what it made to `take`.
pub(super) fn run<T>(
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
        let names = inputs.iter().map(heads::name);
        Some(noisegate_workflow::Input {
            port: port.parse().ok()?,
            artifacts: names.filter_map(|name| name.parse().ok()).collect(),
        })
    });
    all.collect()
}
