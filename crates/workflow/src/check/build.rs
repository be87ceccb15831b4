//! Puts a proven workflow together as a plan.
//!
//! Every `?` here stands for something that an earlier check has already reported; with an empty
//! report none of them is taken.

use serde_json::{Map, Value as Json};

use crate::artifact::ArtifactId;
use crate::catalog::{Catalog, OutputSpec, PortType};
use crate::name::PortName;
use crate::plan::{Artifact, Budget, Input, Plan, PlannedData, PlannedExport, PlannedStep};
use crate::workflow::{DataSet, FilePath, RelativeTo, Workflow};

use super::budget::Charges;
use super::labels::Labels;
use super::network;
use super::wiring::Wired;

/// A workflow in which no error was found.
pub(super) struct Proven<'a> {
    pub workflow: &'a Workflow,
    pub catalog: &'a Catalog,
    pub steps: &'a [Wired<'a>],
    pub order: &'a [usize],
    pub labels: &'a Labels,
    pub charges: Charges,
}

impl Proven<'_> {
    pub fn plan(self) -> Option<Plan> {
        let workflow = self.workflow;
        let ordered = || self.order.iter().map(|&index| &self.steps[index]);
        let steps: Option<Vec<PlannedStep>> = ordered().map(|step| self.step(step)).collect();
        let data: Option<Vec<PlannedData>> = workflow.data.iter().map(data_set).collect();
        let exports: Option<Vec<PlannedExport>> = workflow
            .exports
            .iter()
            .map(|export| {
                let path = export.path.given()?;
                // Only a path that was typed as such starts, and may lead, elsewhere.
                let relative_to = match path.place.is_override() {
                    true => RelativeTo::WorkingFolder,
                    false => RelativeTo::WorkflowFile,
                };
                Some(PlannedExport {
                    name: export.name.value.clone(),
                    from: export.from.value()?.clone(),
                    path: FilePath {
                        relative_to,
                        ..path.value.clone()
                    },
                })
            })
            .collect();
        let params: Option<Map<String, Json>> = workflow
            .params
            .iter()
            .map(|param| Some((param.name.value.to_string(), param.value.clone()?)))
            .collect();
        Some(Plan {
            workflow: workflow.name.value()?.clone(),
            help: workflow.help.value().cloned().unwrap_or_default(),
            file: workflow.sources.first()?.file.clone(),
            params: params?,
            sites: workflow
                .sites
                .iter()
                .map(|site| site.name.value.clone())
                .collect(),
            data: data?,
            steps: steps?,
            artifacts: self.artifacts()?,
            exports: exports?,
            spending: self.charges.data,
        })
    }

    fn step(&self, wired: &Wired<'_>) -> Option<PlannedStep> {
        let signature = wired.signature?;
        let name = wired.step.name.value.clone();
        let inputs: Option<Vec<Input>> = wired
            .inputs
            .iter()
            .map(|input| {
                Some(Input {
                    port: input.port.name.parse().ok()?,
                    artifacts: input
                        .sources
                        .iter()
                        .map(|source| source.id.clone())
                        .collect(),
                })
            })
            .collect();
        let mut after = Vec::new();
        for (_, source) in wired.sources() {
            if let ArtifactId::Output { step, .. } = source.id
                && !after.contains(step)
            {
                after.push(step.clone());
            }
        }
        let charged = self.charges.steps.iter().find(|one| one.step == name);
        Some(PlannedStep {
            uses: signature.uses.clone(),
            placement: signature.placement,
            site: wired.site?.clone(),
            inputs: inputs?,
            outputs: signature
                .makes
                .iter()
                .map(|output| id(wired, output))
                .collect::<Option<_>>()?,
            with: wired.with.clone(),
            charge: charged.map(|one| one.charge.clone()),
            weight: signature.weight,
            sends_to: network::addresses(self.catalog, wired),
            after,
            name,
        })
    }

    fn artifacts(&self) -> Option<Vec<Artifact>> {
        let mut artifacts = Vec::new();
        for data in &self.workflow.data {
            let id = ArtifactId::Data(data.name.value.clone());
            let label = self.labels.of(&id);
            let site = Some(data.site.value()?.clone());
            artifacts.push(Artifact {
                id,
                holds: PortType::Records,
                label,
                site,
            });
        }
        for step in self.order.iter().map(|&index| &self.steps[index]) {
            for output in &step.signature?.makes {
                let id = id(step, output)?;
                let label = self.labels.of(&id);
                let site = Some(step.site?.clone());
                artifacts.push(Artifact {
                    id,
                    holds: output.makes,
                    label,
                    site,
                });
            }
        }
        for (_, source) in self.steps.iter().flat_map(|step| step.sources()) {
            let (id, holds) = (source.id.clone(), source.holds);
            if matches!(id, ArtifactId::Plugin(_)) && artifacts.iter().all(|known| known.id != id) {
                let label = self.labels.of(&id);
                artifacts.push(Artifact {
                    id,
                    holds,
                    label,
                    site: None,
                });
            }
        }
        Some(artifacts)
    }
}

fn id(step: &Wired<'_>, output: &OutputSpec) -> Option<ArtifactId> {
    let port: PortName = output.name.parse().ok()?;
    Some(ArtifactId::Output {
        step: step.step.name.value.clone(),
        port,
    })
}

fn data_set(data: &DataSet) -> Option<PlannedData> {
    let column = |field: &crate::section::Field<String>, usual: &str| {
        field.value().cloned().unwrap_or_else(|| usual.to_owned())
    };
    Some(PlannedData {
        name: data.name.value.clone(),
        site: data.site.value()?.clone(),
        path: data.path.value()?.clone(),
        format: data.format.value().copied(),
        private: *data.private.value()?,
        unit: data.unit.value().cloned(),
        units_public: data.units_public.value().copied(),
        labels: data.labels.value().cloned(),
        text_column: column(&data.text_column, "text"),
        label_column: column(&data.label_column, "label"),
        budget: data.budget.value().map(|pair| Budget {
            epsilon: pair.epsilon.value,
            delta: pair.delta.value,
        }),
    })
}
