//! A data set read as the steps of a plan will read it, for `check --rows`.
//!
//! Which cells a label column may hold depends on the head that it trains, or that is scored by it.

use noisegate_engine::{Input, StepFailure};
use noisegate_slm::Task;
use noisegate_workflow::{ArtifactId, Plan, PlannedStep};
use serde_json::Value;

use super::heads;
use super::rows::{self, MoreColumns};
use crate::resolve::{RowLabels, look_at_rows};
use crate::with::With;

/// Reads the rows once for each way in which a step of the plan reads them, and says what became of
/// them. Only for the operator of the site: it depends on private rows.
///
/// # Errors
/// [`StepFailure::BadInput`] with file and line, as the steps would say it, and as
/// [`look_at_rows`] where rows have one label each.
pub fn try_rows(plan: &Plan, input: &Input) -> Result<RowLabels, StepFailure> {
    let Input::Data { data, .. } = input else {
        return look_at_rows(input);
    };
    let id = ArtifactId::Data(data.name.clone());
    let reads = |step: &&PlannedStep| {
        let mut artifacts = step.inputs.iter().flat_map(|it| &it.artifacts);
        artifacts.any(|it| *it == id)
    };
    let mut ways: Vec<Option<(Task, MoreColumns<'_>)>> = Vec::new();
    for step in plan.steps.iter().filter(reads) {
        let way = way(plan, step, &id);
        if !ways.contains(&way) {
            ways.push(way);
        }
    }
    if ways.is_empty() {
        ways.push(None);
    }
    let mut labels = RowLabels::NoneLeftOut;
    for way in ways {
        if let Some((task, more)) = way {
            rows::read(input, task, more)?;
            if task != Task::SingleLabel {
                continue;
            }
        }
        if look_at_rows(input)? == RowLabels::SomeLeftOut {
            labels = RowLabels::SomeLeftOut;
        }
    }
    Ok(labels)
}

/// How a step reads a data set for a head; `None` for one label a row, if any.
fn way<'p>(
    plan: &Plan,
    step: &'p PlannedStep,
    data: &ArtifactId,
) -> Option<(Task, MoreColumns<'p>)> {
    match step.uses.as_str() {
        "slm:train" => {
            let names = names(step, "records");
            let place = names.iter().position(|name| *name == data.to_string())?;
            let asked = heads::of_step(With(&step.with), &names).ok()?;
            let head = asked.iter().find(|head| head.inputs.contains(&place))?;
            Some((head.task, heads::UNITS))
        }
        "slm:evaluate" => {
            let model = names(step, "model").pop()?;
            let group = text(step, "group_column");
            let more = MoreColumns {
                unit: false,
                group: (!group.is_empty()).then_some(group),
            };
            // Of a model from elsewhere nothing is known here: most choose one label.
            let task = trained_task(plan, &model, text(step, "head"));
            let task = task.unwrap_or(Task::SingleLabel);
            Some((task, more))
        }
        _ => None,
    }
}

fn text<'p>(step: &'p PlannedStep, param: &str) -> &'p str {
    step.with.get(param).and_then(Value::as_str).unwrap_or("")
}

/// The task of a head of a model that the plan trains.
fn trained_task(plan: &Plan, model: &str, head: &str) -> Option<Task> {
    let (maker, _) = model.split_once('.')?;
    let maker = plan.steps.iter().find(|step| step.name.as_str() == maker)?;
    let asked = heads::of_step(With(&maker.with), &names(maker, "records")).ok()?;
    match head {
        "" => asked.first().map(|head| head.task),
        _ => asked
            .iter()
            .find(|it| it.name == head)
            .map(|head| head.task),
    }
}

/// What a port of a step reads, as a workflow writes it.
fn names(step: &PlannedStep, port: &str) -> Vec<String> {
    let reads = step
        .inputs
        .iter()
        .filter(|input| input.port.as_str() == port);
    let artifacts = reads.flat_map(|input| &input.artifacts);
    artifacts.map(ToString::to_string).collect()
}
