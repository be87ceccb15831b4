//! Every artifact of a run: its label, and everywhere it went.

use std::collections::BTreeMap;

use noisegate_workflow::{ArtifactId, Plan};
use serde::Serialize;

/// One artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Flow {
    /// `data.NAME`, `STEP.PORT` or `plugin:NAME`.
    pub name: String,
    /// `public` or `private to SITE`.
    pub label: String,
    /// The site where it came to be; nothing for plugins, which are on every site.
    pub site: Option<String>,
    /// The steps that read it, as `STEP on SITE`.
    pub read_by: Vec<String>,
    /// Where it was written out.
    pub exported_to: Vec<String>,
    /// SHA-256; of public artifacts alone.
    pub digest: Option<String>,
}

/// All artifacts of a plan.
///
/// - `digests`: of stored results, by name.
#[must_use]
pub fn flows(plan: &Plan, digests: &BTreeMap<String, String>) -> Vec<Flow> {
    let flow = |artifact: &noisegate_workflow::Artifact| {
        let name = artifact.id.to_string();
        Flow {
            label: artifact.label.to_string(),
            site: artifact.site.as_ref().map(ToString::to_string),
            read_by: readers(plan, &artifact.id),
            exported_to: exports(plan, &artifact.id),
            digest: digests
                .get(&name)
                .filter(|_| artifact.label.is_public())
                .cloned(),
            name,
        }
    };
    plan.artifacts.iter().map(flow).collect()
}

fn readers(plan: &Plan, id: &ArtifactId) -> Vec<String> {
    let reads = plan.steps.iter().filter(|step| {
        let mut artifacts = step.inputs.iter().flat_map(|input| &input.artifacts);
        artifacts.any(|artifact| artifact == id)
    });
    reads
        .map(|step| format!("{} on {}", step.name, step.site))
        .collect()
}

fn exports(plan: &Plan, id: &ArtifactId) -> Vec<String> {
    let exports = plan.exports.iter().filter(|export| export.from == *id);
    exports.map(|export| export.name.to_string()).collect()
}
