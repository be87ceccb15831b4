//! A plan for people: a table of steps, and a picture in the DOT language.
//!
//! Only text is made here; printing and drawing are left to the caller.

use serde::Serialize;

use crate::artifact::ArtifactId;
use crate::catalog::{Cores, Placement};
use crate::name::SiteName;
use crate::plan::{Plan, PlannedStep};

/// One line of `noisegate plan`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepSummary {
    /// The step.
    pub step: String,
    /// Its kind.
    pub uses: String,
    /// Where it runs.
    pub site: String,
    /// `port = data.notes, …` for each input.
    pub reads: Vec<String>,
    /// `train.model (private to clinic)` for each output.
    pub makes: Vec<String>,
    /// `epsilon 8, delta 1e-5 of data.notes`, or nothing.
    pub spends: Option<String>,
    /// `all cores, 2048 MiB`
    pub takes: String,
}

impl Plan {
    /// The steps in the order in which they may run, in words.
    pub fn describe(&self) -> Vec<StepSummary> {
        self.steps.iter().map(|step| self.summary(step)).collect()
    }

    fn summary(&self, step: &PlannedStep) -> StepSummary {
        let reads = step
            .inputs
            .iter()
            .map(|input| format!("{} = {}", input.port, list(&input.artifacts)));
        let makes = step.outputs.iter().map(|id| match self.artifact(id) {
            Some(artifact) => format!("{id} ({})", artifact.label),
            None => id.to_string(),
        });
        let spends = step.charge.as_ref().map(|charge| {
            let data: Vec<ArtifactId> = charge.data.iter().cloned().map(ArtifactId::Data).collect();
            let (epsilon, delta) = (charge.epsilon.get(), charge.delta.get());
            format!("epsilon {epsilon}, delta {delta:e} of {}", list(&data))
        });
        let cores = match step.weight.cores {
            Cores::One => "one core",
            Cores::All => "all cores",
        };
        StepSummary {
            step: step.name.to_string(),
            uses: step.uses.clone(),
            site: step.site.to_string(),
            reads: reads.collect(),
            makes: makes.collect(),
            spends,
            takes: format!("{cores}, {} MiB", step.weight.memory_bytes >> 20),
        }
    }

    /// The graph in the DOT language: a box per site, guests with a double edge, private ways red.
    ///
    /// Names hold no quotes, so they need no escaping.
    pub fn to_dot(&self) -> String {
        let mut text = format!(
            "digraph \"{}\" {{\n  rankdir=LR;\n  node [shape=box];\n",
            self.workflow
        );
        for (index, site) in self.sites.iter().enumerate() {
            text += &self.site_to_dot(index, site);
        }
        for artifact in &self.artifacts {
            if matches!(artifact.id, ArtifactId::Plugin(_)) {
                text += &format!("  \"{}\" [shape=component];\n", artifact.id);
            }
        }
        for step in &self.steps {
            for input in &step.inputs {
                for artifact in &input.artifacts {
                    text += &self.edge(
                        artifact,
                        &format!("step:{}", step.name),
                        input.port.as_str(),
                    );
                }
            }
        }
        for export in &self.exports {
            let name = format!("export:{}", export.name);
            text += &format!("  \"{name}\" [label=\"{}\" shape=note];\n", export.name);
            text += &self.edge(&export.from, &name, "");
        }
        text + "}\n"
    }

    fn site_to_dot(&self, index: usize, site: &SiteName) -> String {
        let mut text = format!("  subgraph cluster_{index} {{\n    label=\"{site}\";\n");
        for data in self.data.iter().filter(|data| data.site == *site) {
            let id = ArtifactId::Data(data.name.clone());
            text += &format!("    \"{id}\" [shape=cylinder];\n");
        }
        for step in self.steps.iter().filter(|step| step.site == *site) {
            let (name, uses) = (&step.name, step.uses.replace(['"', '\\'], ""));
            let edges = match step.placement {
                Placement::Guest => " peripheries=2",
                Placement::Host => "",
            };
            text += &format!("    \"step:{name}\" [label=\"{name}\\n{uses}\"{edges}];\n");
        }
        text + "  }\n"
    }

    fn edge(&self, from: &ArtifactId, to: &str, port: &str) -> String {
        let start = match from {
            ArtifactId::Output { step, .. } => format!("step:{step}"),
            other => other.to_string(),
        };
        let private = self
            .artifact(from)
            .is_some_and(|artifact| !artifact.label.is_public());
        let color = if private { " color=red" } else { "" };
        format!("  \"{start}\" -> \"{to}\" [label=\"{port}\"{color}];\n")
    }
}

fn list(ids: &[ArtifactId]) -> String {
    let ids: Vec<String> = ids.iter().map(ArtifactId::to_string).collect();
    ids.join(", ")
}
