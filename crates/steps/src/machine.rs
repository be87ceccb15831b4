//! What steps need of the machine, looked at before a run: found out in the run, it would be after
//! a charge.

use std::path::Path;

use noisegate_llm::Place;
use noisegate_slm::{Device, runtime};
use noisegate_workflow::{Plan, PlannedStep};

/// What the plan's steps lack on this machine: ONNX Runtime, or a card.
pub fn lacks(plan: &Plan, onnxruntime: &Path) -> Vec<String> {
    let mut lacks: Vec<String> = Vec::new();
    for step in &plan.steps {
        let Err(lack) = has_all(step, onnxruntime) else {
            continue;
        };
        if !lacks.contains(&lack) {
            lacks.push(lack);
        }
    }
    lacks
}

/// Whether what one step needs is there.
fn has_all(step: &PlannedStep, onnxruntime: &Path) -> Result<(), String> {
    let on_a_card = step.with.get("device").is_some_and(|it| it == "cuda");
    if on_onnxruntime(&step.uses) {
        let runtime = runtime::load(onnxruntime).map_err(|error| error.to_string())?;
        if on_a_card {
            let card = runtime.expect_device(Device::Cuda(0));
            card.map_err(|error| error.to_string())?;
        }
    } else if on_a_card {
        Place::Cuda.open().map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Whether a step loads ONNX Runtime: classifiers do, and what embeds.
fn on_onnxruntime(uses: &str) -> bool {
    uses.starts_with("slm:") || ["llm:cluster", "llm:nearest-centroid"].contains(&uses)
}

#[cfg(test)]
mod tests {
    use noisegate_workflow::PortType;

    use super::*;

    #[test]
    fn what_reads_an_encoder_loads_onnx_runtime() {
        for step in crate::catalog::host_steps() {
            let embeds = step
                .reads
                .iter()
                .any(|port| port.accepts.contains(&PortType::Encoder));
            let classifies = step.uses.starts_with("slm:");
            assert_eq!(
                on_onnxruntime(&step.uses),
                embeds || classifies,
                "{}",
                step.uses
            );
        }
    }
}
