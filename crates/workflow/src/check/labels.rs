//! The way of private data through the graph.
//!
//! | step | may read | its outputs are |
//! |---|---|---|
//! | guest, private side | private data sets of its own site | public: the gate released them |
//! | guest, public side | public artifacts | |
//! | host, ordinary port | public artifacts | public |
//! | host, private port | also what is private to its own site | as private as all it read |
//!
//! This file holds the one line that lowers a label. An artifact that was wrongly read counts as
//! public from there on, so that one wrong arrow gives one error.

use std::collections::BTreeMap;

use crate::artifact::ArtifactId;
use crate::catalog::{Placement, PortSpec, StepSignature};
use crate::diagnostics::Report;
use crate::error::Problem;
use crate::label::Label;
use crate::name::{PortName, SiteName};
use crate::source::Place;
use crate::workflow::Workflow;

use super::wiring::{Wired, WiredSource};

/// The label of every data set and step output, and the private data set it goes back to.
pub(super) struct Labels {
    known: BTreeMap<ArtifactId, Marked>,
}

#[derive(Clone)]
struct Marked {
    label: Label,
    /// A private data set that it was made from, for messages.
    origin: Option<(String, Place)>,
}

const PUBLIC: Marked = Marked {
    label: Label::Public,
    origin: None,
};

impl Labels {
    /// Public for plugins, and for what could not be resolved.
    pub fn of(&self, id: &ArtifactId) -> Label {
        let marked = self.known.get(id);
        marked.map_or(Label::Public, |marked| marked.label.clone())
    }

    /// Where the secret comes from.
    pub fn origin(&self, id: &ArtifactId) -> Vec<(String, Place)> {
        let marked = self.known.get(id);
        marked
            .and_then(|marked| marked.origin.clone())
            .into_iter()
            .collect()
    }

    fn private(&self, id: &ArtifactId) -> Option<&Marked> {
        self.known
            .get(id)
            .filter(|marked| !marked.label.is_public())
    }
}

pub(super) fn flow(
    workflow: &Workflow,
    steps: &[Wired<'_>],
    order: &[usize],
    report: &mut Report,
) -> Labels {
    let mut labels = declared(workflow);
    for step in order.iter().map(|&index| &steps[index]) {
        let Some(signature) = step.signature else {
            continue;
        };
        let read = read(workflow, step, signature, &labels, report);
        let made = match signature.placement {
            // The gate: whatever a guest read, only released values leave its sandbox.
            Placement::Guest => PUBLIC,
            Placement::Host => read,
        };
        for output in &signature.makes {
            if let Ok(port) = output.name.parse::<PortName>() {
                let step = step.step.name.value.clone();
                labels
                    .known
                    .insert(ArtifactId::Output { step, port }, made.clone());
            }
        }
    }
    labels
}

/// Data sets as their owners declare them.
fn declared(workflow: &Workflow) -> Labels {
    let known = workflow.data.iter().map(|data| {
        let id = ArtifactId::Data(data.name.value.clone());
        match (data.private.value(), data.site.value()) {
            (Some(true), Some(owner)) => {
                let origin = format!("`data.{}` is private to `{owner}`", data.name.value);
                let label = Label::private_to(owner.clone());
                (
                    id,
                    Marked {
                        label,
                        origin: Some((origin, data.name.place)),
                    },
                )
            }
            _ => (id, PUBLIC),
        }
    });
    Labels {
        known: known.collect(),
    }
}

/// The join of all that a step reads and may read; the rest is reported.
fn read(
    workflow: &Workflow,
    step: &Wired<'_>,
    signature: &StepSignature,
    labels: &Labels,
    report: &mut Report,
) -> Marked {
    let mut all = PUBLIC;
    for (port, source) in step.sources() {
        let Some(one) = labels.private(source.id) else {
            continue;
        };
        // An owner that is not declared is already reported; where it lies cannot be said.
        let is_declared =
            |owner: &SiteName| workflow.sites.iter().any(|site| site.name.value == *owner);
        let elsewhere = |site: &&SiteName| {
            one.label.owners().iter().all(is_declared) && !one.label.may_be_read_on(site)
        };
        let away_from = step.site.filter(elsewhere);
        let private_read = PrivateRead {
            step,
            signature,
            port,
            source,
            label: &one.label,
        };
        if let Some(problem) = private_read.refusal(away_from) {
            report.error_with(source.place, problem, labels.origin(source.id));
            continue;
        }
        all.label = all.label.join(&one.label);
        all.origin = all.origin.or_else(|| one.origin.clone());
    }
    all
}

/// A step that reads something private.
struct PrivateRead<'a> {
    step: &'a Wired<'a>,
    signature: &'a StepSignature,
    port: &'a PortSpec,
    source: &'a WiredSource<'a>,
    label: &'a Label,
}

impl PrivateRead<'_> {
    /// `away_from`: the step's site, if that is not where the artifact may be.
    fn refusal(&self, away_from: Option<&SiteName>) -> Option<Problem> {
        let artifact = self.source.id.clone();
        let step = self.step.step.name.value.clone();
        let guest = self.signature.placement == Placement::Guest;
        let units = match self.source.id {
            ArtifactId::Data(data) if self.port.accepts_private => Some(data),
            _ => None,
        };
        Some(match (away_from, units) {
            (Some(site), Some(data)) if guest => Problem::GuestOnAnotherSite {
                step,
                site: site.clone(),
                data: data.clone(),
                owner: self.label.owners().first()?.clone(),
            },
            (Some(site), _) => Problem::PrivateDataLeavesSite {
                step,
                site: site.clone(),
                artifact,
                owners: self.label.owners(),
            },
            (None, Some(_)) => return None,
            (None, None) if guest && self.port.accepts_private => {
                Problem::DerivedDataInGuest { step, artifact }
            }
            (None, None) if guest => Problem::PrivateDataOnPublicSide {
                step,
                port: self.port.name.clone(),
                artifact,
                private_ports: self.private_ports(),
            },
            (None, None) if self.port.accepts_private => return None,
            (None, None) => Problem::PrivateDataUnreleased {
                step,
                uses: self.signature.uses.clone(),
                port: self.port.name.clone(),
                artifact,
            },
        })
    }

    fn private_ports(&self) -> Vec<String> {
        let private = self
            .signature
            .reads
            .iter()
            .filter(|port| port.accepts_private);
        private.map(|port| port.name.clone()).collect()
    }
}
