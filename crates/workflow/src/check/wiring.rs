//! Connects the steps of a workflow with their signatures: ports, arities, types, labels.

use serde_json::{Map, Value as Json};

use crate::artifact::ArtifactId;
use crate::catalog::{Arity, PortSpec, PortType, StepSignature, Together};
use crate::diagnostics::Report;
use crate::error::{Problem, Wanted};
use crate::name::SiteName;
use crate::near::Choices;
use crate::source::{Located, Place};
use crate::workflow::{Read, Step};

use super::params;
use super::scope::Scope;

/// A step with what could be found out about it.
pub(super) struct Wired<'a> {
    pub step: &'a Step,
    /// `None` if the kind of step is unknown.
    pub signature: Option<&'a StepSignature>,
    /// `None` if the site is unknown.
    pub site: Option<&'a SiteName>,
    /// Ports in the order of the signature, only those that read something.
    pub inputs: Vec<WiredInput<'a>>,
    /// Every parameter that is sound.
    pub with: Map<String, Json>,
    /// Some input could not be resolved, so nothing may be concluded from its absence.
    pub incomplete: bool,
}

/// What one port reads.
pub(super) struct WiredInput<'a> {
    pub port: &'a PortSpec,
    pub sources: Vec<WiredSource<'a>>,
}

/// One artifact that a port reads.
pub(super) struct WiredSource<'a> {
    pub id: &'a ArtifactId,
    pub place: Place,
    pub holds: PortType,
}

impl<'a> Wired<'a> {
    /// Every port with every artifact it reads.
    pub fn sources(&self) -> impl Iterator<Item = (&'a PortSpec, &WiredSource<'a>)> {
        let inputs = self.inputs.iter();
        inputs.flat_map(|input| input.sources.iter().map(move |source| (input.port, source)))
    }
}

pub(super) fn wire<'a>(scope: Scope<'a>, report: &mut Report) -> Vec<Wired<'a>> {
    for data in &scope.workflow.data {
        scope.site(&data.site, report);
    }
    let steps = scope.workflow.steps.iter();
    steps.map(|step| wire_step(scope, step, report)).collect()
}

fn wire_step<'a>(scope: Scope<'a>, step: &'a Step, report: &mut Report) -> Wired<'a> {
    let mut wired = Wired {
        step,
        signature: scope.signature(step, report),
        site: scope.site(&step.site, report),
        inputs: Vec::new(),
        with: Map::new(),
        incomplete: false,
    };
    let ports = wired
        .signature
        .map_or(&[][..], |signature| &signature.reads);
    let leads_nowhere = |read: &&Read| ports.iter().all(|port| port.name != read.port.value);
    for read in step.reads.iter().filter(leads_nowhere) {
        wired.incomplete = true;
        for reference in &read.references {
            scope.resolve(reference, report);
        }
    }
    let Some(signature) = wired.signature else {
        wired.incomplete = true;
        return wired;
    };
    let mut meant = Vec::new();
    for read in step.reads.iter().filter(leads_nowhere) {
        let choices = unknown_port(step, signature, read, report);
        meant.extend(choices.near);
    }
    for port in ports {
        let port = Port { scope, step, port };
        match step
            .reads
            .iter()
            .find(|read| read.port.value == port.port.name)
        {
            Some(read) => {
                let sources = port.read(read, report);
                wired.incomplete |= read.unreadable || sources.len() < read.references.len();
                wired.inputs.push(WiredInput {
                    port: port.port,
                    sources,
                });
            }
            // A mistyped name is one mistake, not two.
            None if meant.contains(&port.port.name) => {}
            None => wired.incomplete |= port.left_open(signature, report),
        }
    }
    wired.with = params::resolve(step, signature, report);
    let sound = !wired.incomplete && wired.with.len() == signature.with.len();
    if let (Some(check), true) = (signature.together, sound) {
        let sources = wired.sources();
        let reads: Vec<_> = sources
            .map(|(port, source)| (port.name.as_str(), source.holds))
            .collect();
        let given = Together {
            with: &wired.with,
            reads: &reads,
        };
        params::together(step, check, &given, report);
    }
    wired
}

fn unknown_port(
    step: &Step,
    signature: &StepSignature,
    read: &Read,
    report: &mut Report,
) -> Choices {
    let port = read.port.value.clone();
    let choices = Choices::of(&port, signature.reads.iter().map(|known| &known.name));
    let problem = Problem::UnknownPort {
        step: step.name.value.clone(),
        uses: signature.uses.clone(),
        port,
        choices: choices.clone(),
    };
    report.error(read.port.place, problem);
    choices
}

/// An input port of one step.
struct Port<'a> {
    scope: Scope<'a>,
    step: &'a Step,
    port: &'a PortSpec,
}

impl<'a> Port<'a> {
    /// True, and reported, if the port may not be left open.
    fn left_open(&self, signature: &StepSignature, report: &mut Report) -> bool {
        if self.port.arity == Arity::Optional {
            return false;
        }
        let problem = Problem::MissingPort {
            step: self.step.name.value.clone(),
            uses: signature.uses.clone(),
            port: self.port.name.clone(),
            wanted: self.wanted(),
        };
        report.error(self.step.name.place, problem);
        true
    }

    /// Everything that is read here and could be resolved.
    fn read(&self, read: &'a Read, report: &mut Report) -> Vec<WiredSource<'a>> {
        let (step, port) = (self.step.name.value.clone(), self.port.name.clone());
        match read.references.len() {
            0 if !read.unreadable => {
                report.error(read.port.place, Problem::NoInputs { step, port });
            }
            given if given > 1 && self.port.arity != Arity::Many => {
                report.error(
                    read.port.place,
                    Problem::TooManyInputs { step, port, given },
                );
            }
            _ => {}
        }
        let mut sources: Vec<WiredSource<'a>> = Vec::new();
        for reference in &read.references {
            let Some(holds) = self.scope.resolve(reference, report) else {
                continue;
            };
            let (id, place) = (&reference.value, reference.place);
            if sources.iter().any(|source| source.id == id) {
                report.error(place, self.same_input_twice(id));
            }
            if !self.port.accepts.contains(&holds) {
                report.error(place, self.wrong_type(id, holds));
            }
            self.labelled(reference, report);
            sources.push(WiredSource { id, place, holds });
        }
        sources
    }

    fn wanted(&self) -> Wanted {
        Wanted {
            accepts: self.port.accepts.clone(),
            candidates: self.scope.candidates(&self.port.accepts, self.step),
        }
    }

    fn same_input_twice(&self, id: &ArtifactId) -> Problem {
        Problem::SameInputTwice {
            step: self.step.name.value.clone(),
            port: self.port.name.clone(),
            artifact: id.clone(),
        }
    }

    fn wrong_type(&self, id: &ArtifactId, holds: PortType) -> Problem {
        Problem::WrongPortType {
            step: self.step.name.value.clone(),
            port: self.port.name.clone(),
            artifact: id.clone(),
            holds,
            wanted: Box::new(self.wanted()),
        }
    }

    /// A port that needs labels may only read data sets that declare them.
    fn labelled(&self, reference: &Located<ArtifactId>, report: &mut Report) {
        let data = match &reference.value {
            ArtifactId::Data(name) if self.port.labelled => self.scope.data(name),
            _ => None,
        };
        let Some(data) = data.filter(|data| data.labels.is_absent()) else {
            return;
        };
        let problem = Problem::MissingLabels {
            step: self.step.name.value.clone(),
            port: self.port.name.clone(),
            data: data.name.value.clone(),
        };
        let see = format!("`data.{}` is declared here", data.name.value);
        report.error_with(reference.place, problem, vec![(see, data.name.place)]);
    }
}
