//! What can be said of the `slm:` steps before a run: told by `check`, as in the run a budget may
//! have been spent.
//!
//! ```text
//! tasks, names and labels of what is read ──> heads of slm:train ──> what its readers may ask
//! ```
//! Deliberately absent: what rows would tell. A label set in a file, and the labels of samples,
//! are not known here.

use noisegate_slm::model::heads as model;
use noisegate_slm::{ClassWeights, Head, Task};
use noisegate_workflow::{Clash, Origin, PortType, ReadArtifact, Together};
use serde_json::{Map, Value};

use super::heads::{self, Asked};
use super::train::class_weights;
use crate::together::{clash, divides};
use crate::with::With;

/// A head that a step will train.
struct Planned {
    name: String,
    task: Task,
    /// `None` where the workflow does not list them.
    labels: Option<Vec<String>>,
    /// What it learns from.
    inputs: Vec<usize>,
}

/// Of `slm:train`.
pub fn train(given: &Together<'_>) -> Result<(), Clash> {
    shape(given)?;
    if given.count("patience") > 0 && given.number("validation_share") == 0.0 {
        return clash(
            "patience",
            "there is no held-out loss to wait for; set `validation_share`, such as 0.1",
        );
    }
    let records: Vec<&ReadArtifact<'_>> = given.of("records").collect();
    let planned = planned(given.with, &records).map_err(|why| Clash {
        param: "tasks",
        why,
    })?;
    released_first(given, &records, &planned)?;
    for head in &planned {
        let Some(labels) = &head.labels else {
            continue;
        };
        let param = if given.text("tasks").is_empty() {
            "task"
        } else {
            "tasks"
        };
        match head.task {
            Task::Number if labels.len() != 1 => {
                return clash(param, heads::one_number(&head.name, labels.len()));
            }
            Task::SingleLabel if labels.len() < 2 => {
                return clash(
                    param,
                    format!(
                        "head `{}` chooses one of its labels, and its data sets declare one; \
                         declare at least two",
                        head.name
                    ),
                );
            }
            _ => {}
        }
    }
    weights(given, &planned)
}

/// What the encoder is made of, or is not.
fn shape(given: &Together<'_>) -> Result<(), Clash> {
    if !given.reads("base", PortType::Encoder) {
        divides(given)?;
        for param in ["lora_rank", "freeze_layers"] {
            if given.count(param) > 0 {
                return clash(
                    param,
                    "an encoder from scratch has learned nothing yet that could be kept; leave it \
                     out, or read a `base`",
                );
            }
        }
        if given.with.get("freeze_embeddings") == Some(&Value::Bool(true)) {
            return clash(
                "freeze_embeddings",
                "embeddings from scratch are random; leave it out, or read a `base`",
            );
        }
        return Ok(());
    }
    for spec in super::train_signature().with {
        let own = SCRATCH.iter().find(|param| **param == spec.name);
        if let Some(param) = own
            && given.with.get(*param) != spec.default.as_ref()
        {
            return clash(
                param,
                "it is for an encoder from scratch, and a base has its own; leave it out",
            );
        }
    }
    Ok(())
}

/// Parameters of an encoder from scratch.
const SCRATCH: [&str; 5] = ["layers", "hidden", "heads", "intermediate", "vocabulary"];

/// The two stages both need records.
fn released_first(
    given: &Together<'_>,
    records: &[&ReadArtifact<'_>],
    planned: &[Planned],
) -> Result<(), Clash> {
    if given.count("released_first") == 0 {
        return Ok(());
    }
    if given.number("released_weight") == 0.0 {
        return clash(
            "released_first",
            "released records that weigh nothing teach nothing; set `released_weight` above 0, or leave it out",
        );
    }
    let private =
        |place: usize| matches!(records[place].origin, Origin::Data { private, .. } if private);
    let (mut released, mut others) = (false, false);
    for (place, record) in records.iter().enumerate() {
        let head = planned.iter().find(|head| head.inputs.contains(&place));
        let beside_private = head.is_some_and(|head| head.inputs.iter().any(|it| private(*it)));
        let is_data = record.name.starts_with("data.");
        match is_data && (private(place) || !beside_private) {
            true => others = true,
            false => released = true,
        }
    }
    match (released, others) {
        (true, true) => Ok(()),
        (false, _) if records.is_empty() => Ok(()),
        (false, _) => clash(
            "released_first",
            "the step reads no released records to train on first; leave it out",
        ),
        (_, false) => clash(
            "released_first",
            "the step reads nothing but released records, so that none are left to train on afterwards; leave it out",
        ),
    }
}

/// Every label that `class_weights` names is one of a head.
fn weights(given: &Together<'_>, planned: &[Planned]) -> Result<(), Clash> {
    let Ok(ClassWeights::Given(weights)) = class_weights(given.text("class_weights")) else {
        return Ok(());
    };
    let whole = |head: &Planned| {
        Some(Head {
            name: head.name.clone(),
            task: head.task,
            labels: head.labels.clone()?,
        })
    };
    let Some(heads) = planned.iter().map(whole).collect::<Option<Vec<Head>>>() else {
        return Ok(());
    };
    let known = model::names(&heads);
    for (label, _) in weights {
        if !known.contains(&label) {
            return clash(
                "class_weights",
                format!(
                    "there is no label `{label}`; the labels are `{}`",
                    known.join("`, `")
                ),
            );
        }
    }
    Ok(())
}

/// The heads that a step with these parameters will train.
fn planned(
    with: &Map<String, Value>,
    records: &[&ReadArtifact<'_>],
) -> Result<Vec<Planned>, String> {
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<String> = records.iter().map(|record| record.name.clone()).collect();
    let asked = heads::of_step(With(with), &names)?;
    let head = |Asked { name, task, inputs }: Asked| Planned {
        labels: declared(&inputs, records),
        name,
        task,
        inputs,
    };
    Ok(asked.into_iter().map(head).collect())
}

/// The labels that the data sets among these inputs declare; `None` if they are not all known.
fn declared(inputs: &[usize], records: &[&ReadArtifact<'_>]) -> Option<Vec<String>> {
    let mut labels = Vec::new();
    for &place in inputs {
        match &records[place].origin {
            Origin::Data { labels: listed, .. } => labels.extend((*listed)?.iter().cloned()),
            // Where there is a data set, samples add no label.
            Origin::Unknown | Origin::Step { .. } => {}
        }
    }
    labels.sort();
    labels.dedup();
    (!labels.is_empty()).then_some(labels)
}

/// The head that a reader of a model asks for; `None` if the model is not made in this workflow, or
/// not all is known of it.
fn head_of(head: &str, model: &ReadArtifact<'_>) -> Result<Option<Planned>, Clash> {
    let Origin::Step { uses, with, reads } = &model.origin else {
        return Ok(None);
    };
    if *uses != "slm:train" {
        return Ok(None);
    }
    let records: Vec<&ReadArtifact<'_>> = reads.iter().filter(|it| it.port == "records").collect();
    // What is wrong with `tasks` is told of the step that has it.
    let Ok(mut planned) = planned(with, &records) else {
        return Ok(None);
    };
    let heads: Vec<Head> = planned
        .iter()
        .map(|head| Head {
            name: head.name.clone(),
            task: head.task,
            labels: Vec::new(),
        })
        .collect();
    let name = (!head.is_empty()).then_some(head);
    match model::find(&heads, name) {
        Ok(place) => Ok(Some(planned.swap_remove(place))),
        Err(error) => Err(Clash {
            param: "head",
            why: format!("of `{}`: {error}", model.name),
        }),
    }
}

/// Of `slm:evaluate`.
pub fn evaluate(given: &Together<'_>) -> Result<(), Clash> {
    let asked = given.text("head");
    let mut heads = Vec::new();
    for model in given.of("model").chain(given.of("baseline")) {
        heads.push(head_of(asked, model)?);
    }
    let Some(records) = given.of("records").next() else {
        return Ok(());
    };
    if !given.text("group_column").is_empty() && matches!(records.origin, Origin::Step { .. }) {
        return clash(
            "group_column",
            "samples that a step made have no such column; evaluate a data set, or leave it out",
        );
    }
    let one_label = |head: &Planned| head.task == Task::SingleLabel;
    if heads.len() > 1 && heads.iter().flatten().any(|head| !one_label(head)) {
        return clash(
            "head",
            "`baseline` compares heads of one label each; leave it out, and compare the intervals of the two reports",
        );
    }
    let Some(Some(head)) = heads.first() else {
        return Ok(());
    };
    let (
        Origin::Data {
            labels: Some(tested),
            ..
        },
        Some(known),
    ) = (&records.origin, &head.labels)
    else {
        return Ok(());
    };
    let unknown: Vec<String> = tested
        .iter()
        .filter(|label| head.task != Task::Number && !known.contains(label))
        .cloned()
        .collect();
    match unknown.as_slice() {
        [] => Ok(()),
        unknown => clash(
            "head",
            format!(
                "`{}` declares what head `{}` was not trained on: `{}`; train on records of every \
                 label, or declare fewer labels",
                records.name,
                head.name,
                unknown.join("`, `")
            ),
        ),
    }
}

/// Of `slm:agree` and `slm:pseudo-label`.
pub fn judges(given: &Together<'_>) -> Result<(), Clash> {
    for model in given.of("model") {
        let head = head_of(given.text("head"), model)?;
        if let Some(head) = head.filter(|head| head.task != Task::SingleLabel) {
            return clash(
                "head",
                format!(
                    "head `{}` of `{}` is a {} one, and samples are judged by heads of one label; \
                     name such a head, or train one with `task = \"single-label\"`",
                    head.name,
                    model.name,
                    head.task.name()
                ),
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
