//! Warnings: a workflow that may run, but is probably not what was meant.

use crate::artifact::ArtifactId;
use crate::catalog::{Placement, PortType};
use crate::diagnostics::Report;
use crate::error::Problem;
use crate::name::{DataName, StepName};
use crate::workflow::{FilePath, Workflow};

use super::scope::data_set;
use super::wiring::{Wired, WiredSource};

pub(super) fn look(workflow: &Workflow, steps: &[Wired<'_>], report: &mut Report) {
    for data in &workflow.data {
        let read = steps.iter().flat_map(|step| step.sources());
        let id = ArtifactId::Data(data.name.value.clone());
        let all_wired = steps.iter().all(|step| !step.incomplete);
        if all_wired && read.into_iter().all(|(_, source)| *source.id != id) {
            let data_name = data.name.value.clone();
            report.warning(
                data.name.place,
                Problem::UnusedData { data: data_name },
                Vec::new(),
            );
        }
    }
    for step in steps {
        judged_on_training_data(workflow, steps, step, report);
    }
}

/// A step that makes nothing but a report about a model, from rows that the model was trained on.
fn judged_on_training_data(
    workflow: &Workflow,
    steps: &[Wired<'_>],
    judge: &Wired<'_>,
    report: &mut Report,
) {
    let makes = judge
        .signature
        .map_or(&[][..], |signature| &signature.makes);
    if makes.is_empty() || makes.iter().any(|output| output.makes != PortType::Report) {
        return;
    }
    for (_, model) in judge.sources().filter(|(_, source)| is_model(source)) {
        let ArtifactId::Output { step: trainer, .. } = model.id else {
            continue;
        };
        let Some(trainer) = steps.iter().find(|step| step.step.name.value == *trainer) else {
            continue;
        };
        for (judged_by, source) in data_read(judge) {
            let seen = learned_from(steps, trainer, &mut Vec::new())
                .into_iter()
                .find(|(trained_on, _)| same_rows(workflow, trained_on, judged_by));
            let Some((_, trained)) = seen else { continue };
            let problem = Problem::JudgedOnTrainingData {
                step: judge.step.name.value.clone(),
                model: model.id.clone(),
                data: judged_by.clone(),
            };
            let see = format!(
                "step `{}` trained it on these rows",
                trainer.step.name.value
            );
            report.warning(source.place, problem, vec![(see, trained.place)]);
        }
    }
}

fn is_model(source: &WiredSource<'_>) -> bool {
    matches!(
        source.holds,
        PortType::Classifier | PortType::LanguageModel | PortType::Encoder
    )
}

fn data_read<'a>(step: &'a Wired<'_>) -> impl Iterator<Item = (&'a DataName, &'a WiredSource<'a>)> {
    step.sources().filter_map(|(_, source)| match source.id {
        ArtifactId::Data(name) => Some((name, source)),
        _ => None,
    })
}

/// The data sets that a step reads, itself or through host steps before it, each with the step's own
/// input through which it came. What a guest releases is noised, and stands for no row.
fn learned_from<'a>(
    steps: &'a [Wired<'_>],
    step: &'a Wired<'_>,
    passed: &mut Vec<&'a StepName>,
) -> Vec<(&'a DataName, &'a WiredSource<'a>)> {
    let mut found: Vec<_> = data_read(step).collect();
    for (_, source) in step.sources() {
        let ArtifactId::Output { step: maker, .. } = source.id else {
            continue;
        };
        let maker = steps.iter().find(|step| step.step.name.value == *maker);
        let hosted = |maker: &&Wired<'_>| {
            let placement = maker.signature.map(|signature| signature.placement);
            placement == Some(Placement::Host)
        };
        let Some(maker) = maker.filter(hosted) else {
            continue;
        };
        let name = &maker.step.name.value;
        if passed.contains(&name) {
            continue;
        }
        passed.push(name);
        let before = learned_from(steps, maker, passed);
        found.extend(before.into_iter().map(|(data, _)| (data, source)));
    }
    found
}

/// The same data set, or two that point at the same file.
fn same_rows(workflow: &Workflow, one: &DataName, other: &DataName) -> bool {
    let path = |name| -> Option<&FilePath> { data_set(workflow, name)?.path.value() };
    let same_file = |other: &FilePath| path(one).is_some_and(|one| one.same_file(other));
    one == other || path(other).is_some_and(same_file)
}
