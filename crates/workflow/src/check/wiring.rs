//! Connects the steps of a workflow with their signatures: ports, arities, types, labels.

use serde_json::{Map, Value as Json};

use crate::artifact::ArtifactId;
use crate::catalog::{Arity, PortSpec, PortType, StepSignature};
use crate::diagnostics::Report;
use crate::error::{Problem, Wanted};
use crate::name::SiteName;
use crate::near::Choices;
use crate::source::{Located, Place};
use crate::together::{Origin, ReadArtifact, Together};
use crate::workflow::{Labels, Read, Step};

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

    /// Whether every input was found and every parameter is fine by itself.
    fn is_sound(&self) -> bool {
        let params = |signature: &StepSignature| signature.with.len() == self.with.len();
        !self.incomplete && self.signature.is_some_and(params)
    }

    /// What it reads, with what is known of the steps that make it.
    fn read_from<'w>(&'w self, scope: Scope<'w>, all: &'w [Wired<'w>]) -> Vec<ReadArtifact<'w>> {
        self.read_with(scope, |id| {
            let ArtifactId::Output { step, .. } = id else {
                return Origin::Unknown;
            };
            let maker = all.iter().find(|one| one.step.name.value == *step);
            match maker.and_then(|maker| Some((maker, maker.signature?))) {
                Some((maker, signature)) if maker.is_sound() => Origin::Step {
                    uses: &signature.uses,
                    with: &maker.with,
                    reads: maker.read_with(scope, |_| Origin::Unknown),
                },
                _ => Origin::Unknown,
            }
        })
    }

    /// What it reads; `made` says where what is no data set comes from.
    fn read_with<'w>(
        &'w self,
        scope: Scope<'w>,
        made: impl Fn(&ArtifactId) -> Origin<'w>,
    ) -> Vec<ReadArtifact<'w>> {
        let source = |(port, source): (&'w PortSpec, &WiredSource<'_>)| ReadArtifact {
            port: port.name.as_str(),
            holds: source.holds,
            name: source.id.to_string(),
            origin: match source.id {
                ArtifactId::Data(name) => match scope.data(name) {
                    None => Origin::Unknown,
                    Some(data) => Origin::Data {
                        labels: match data.labels.value() {
                            Some(Labels::List(labels)) => Some(labels.as_slice()),
                            _ => None,
                        },
                        private: data.private.value().copied().unwrap_or(true),
                    },
                },
                other => made(other),
            },
        };
        self.sources().map(source).collect()
    }
}

pub(super) fn wire<'a>(scope: Scope<'a>, report: &mut Report) -> Vec<Wired<'a>> {
    for data in &scope.workflow.data {
        scope.site(&data.site, report);
    }
    let steps = scope.workflow.steps.iter();
    let wired: Vec<Wired<'a>> = steps.map(|step| wire_step(scope, step, report)).collect();
    for one in wired.iter().filter(|one| one.is_sound()) {
        let Some(check) = one.signature.and_then(|signature| signature.together) else {
            continue;
        };
        let given = Together {
            with: &one.with,
            reads: &one.read_from(scope, &wired),
        };
        params::together(one.step, check, &given, report);
    }
    wired
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
