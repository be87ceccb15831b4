//! Where names are looked up: sites, step kinds, data sets, step outputs, plugins.

use crate::artifact::ArtifactId;
use crate::catalog::{Catalog, PortType, StepSignature};
use crate::diagnostics::Report;
use crate::error::{Problem, Thing};
use crate::name::{DataName, SiteName};
use crate::near::Choices;
use crate::section::Field;
use crate::source::Located;
use crate::workflow::{DataSet, Step, Workflow};

/// Everything a name may mean in one workflow.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub workflow: &'a Workflow,
    pub catalog: &'a Catalog,
}

impl<'a> Scope<'a> {
    /// The site of a data set or step; reports one that is not declared.
    pub fn site(&self, site: &'a Field<SiteName>, report: &mut Report) -> Option<&'a SiteName> {
        let Located { value: site, place } = site.given()?;
        let known = || self.workflow.sites.iter().map(|one| &one.name.value);
        if known().any(|name| name == site) {
            return Some(site);
        }
        report.error(*place, unknown(Thing::Site, site.as_str(), known()));
        None
    }

    /// The kind of a step; reports one that does not exist.
    pub fn signature(&self, step: &Step, report: &mut Report) -> Option<&'a StepSignature> {
        let Located { value: uses, place } = step.uses.given()?;
        let found = self.kind(step);
        if found.is_none() {
            let known = self.catalog.steps.iter().map(|kind| &kind.uses);
            report.error(*place, unknown(Thing::StepKind, uses, known));
        }
        found
    }

    fn kind(&self, step: &Step) -> Option<&'a StepSignature> {
        let uses = step.uses.value()?;
        self.catalog.steps.iter().find(|kind| kind.uses == *uses)
    }

    /// The data set of that name.
    pub fn data(&self, name: &DataName) -> Option<&'a DataSet> {
        data_set(self.workflow, name)
    }

    /// What the artifact holds; reports a name that leads nowhere.
    ///
    /// `None` without a report if it comes from a step of an unknown kind.
    pub fn resolve(&self, artifact: &Located<ArtifactId>, report: &mut Report) -> Option<PortType> {
        match self.lookup(&artifact.value) {
            Ok(holds) => holds,
            Err(problem) => {
                report.error(artifact.place, problem);
                None
            }
        }
    }

    fn lookup(&self, id: &ArtifactId) -> Result<Option<PortType>, Problem> {
        match id {
            ArtifactId::Data(name) => {
                let known = self.workflow.data.iter().map(|data| &data.name.value);
                let found = self.data(name).map(|_| PortType::Records);
                found
                    .map(Some)
                    .ok_or_else(|| unknown(Thing::DataSet, name.as_str(), known))
            }
            ArtifactId::Plugin(name) => {
                let plugins = &self.catalog.plugins;
                let found = plugins.iter().find(|plugin| plugin.name == name.as_str());
                let known = plugins.iter().map(|plugin| &plugin.name);
                found
                    .map(|plugin| Some(plugin.holds))
                    .ok_or_else(|| unknown(Thing::Plugin, name.as_str(), known))
            }
            ArtifactId::Output { step: name, port } => {
                let steps = &self.workflow.steps;
                let Some(step) = steps.iter().find(|step| step.name.value == *name) else {
                    let known = steps.iter().map(|step| &step.name.value);
                    return Err(unknown(Thing::Step, name.as_str(), known));
                };
                let Some(kind) = self.kind(step) else {
                    return Ok(None);
                };
                let found = kind
                    .makes
                    .iter()
                    .find(|output| output.name == port.as_str());
                found
                    .map(|output| Some(output.makes))
                    .ok_or_else(|| Problem::UnknownOutput {
                        step: name.clone(),
                        port: port.to_string(),
                        choices: Choices::of(
                            port.as_str(),
                            kind.makes.iter().map(|output| &output.name),
                        ),
                    })
            }
        }
    }

    /// Artifacts of this workflow that hold one of these types, for remedies; not those of `step`.
    pub fn candidates(&self, accepts: &[PortType], step: &Step) -> Vec<String> {
        let data = self
            .workflow
            .data
            .iter()
            .map(|data| format!("data.{}", data.name.value));
        let outputs = self
            .workflow
            .steps
            .iter()
            .filter(|other| other.name != step.name)
            .flat_map(|other| {
                let makes = self.kind(other).map_or(&[][..], |kind| &kind.makes);
                makes
                    .iter()
                    .filter(|output| accepts.contains(&output.makes))
                    .map(|output| format!("{}.{}", other.name.value, output.name))
            });
        let plugins = self
            .catalog
            .plugins
            .iter()
            .filter(|plugin| accepts.contains(&plugin.holds));
        data.filter(|_| accepts.contains(&PortType::Records))
            .chain(outputs)
            .chain(plugins.map(|plugin| format!("plugin:{}", plugin.name)))
            .collect()
    }
}

/// The data set of that name.
pub(super) fn data_set<'a>(workflow: &'a Workflow, name: &DataName) -> Option<&'a DataSet> {
    workflow.data.iter().find(|data| data.name.value == *name)
}

fn unknown<S: AsRef<str>>(thing: Thing, name: &str, known: impl IntoIterator<Item = S>) -> Problem {
    Problem::Unknown {
        thing,
        name: name.to_owned(),
        choices: Choices::of(name, known),
    }
}
