//! A workflow that was proven: what runs where, on what, and what it costs.
//!
//! ```text
//! data.notes ──records──> synthesise ──samples──> augment ──> …
//!  private to clinic        guest, charged          host, sees released artifacts only
//! ```
//!
//! Only `check` makes a plan, so one that exists keeps the promise: every reference resolves, no
//! cycle, every private artifact stays on its site, every charge fits its budget. A plan read back
//! from JSON is as trustworthy as that JSON: read it to show a run, check the workflow to run it.

use std::collections::{BTreeMap, BTreeSet};

use noisegate_privacy::{Delta, Epsilon};
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::Dfs;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::artifact::ArtifactId;
use crate::catalog::{Placement, PortType, Weight};
use crate::label::Label;
use crate::name::{DataName, ExportName, PortName, SiteName, StepName, WorkflowName};
use crate::workflow::{FilePath, Format, Labels, Unit};

/// Everything the engine needs to run a workflow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The name of the workflow.
    pub workflow: WorkflowName,
    /// Its line for people; empty if there is none.
    pub help: String,
    /// The workflow file, as it was given.
    pub file: String,
    /// The value of every workflow parameter.
    pub params: Map<String, Json>,
    /// All declared sites.
    pub sites: Vec<SiteName>,
    /// All declared data sets.
    pub data: Vec<PlannedData>,
    /// In an order in which they may run one by one; ties in the order of the file.
    pub steps: Vec<PlannedStep>,
    /// Data sets, step outputs and the plugins that are read.
    pub artifacts: Vec<Artifact>,
    /// What is written out.
    pub exports: Vec<PlannedExport>,
    /// What this run spends on each private data set that a guest reads.
    pub spending: Vec<Spending>,
}

/// A data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedData {
    /// Its name.
    pub name: DataName,
    /// The site that owns it.
    pub site: SiteName,
    /// The file with its rows.
    pub path: FilePath,
    /// `None`: by the ending of the path.
    pub format: Option<Format>,
    /// Whether its rows are secret.
    pub private: bool,
    /// Present if a guest reads it and it is private.
    pub unit: Option<Unit>,
    /// A public figure for the number of units; present if a guest reads it and it is private.
    pub units_public: Option<u64>,
    /// The public label set.
    pub labels: Option<Labels>,
    /// The column that holds the text.
    pub text_column: String,
    /// The column that holds the label.
    pub label_column: String,
    /// The most that may ever be spent on it, over all runs.
    pub budget: Option<Budget>,
}

/// The most that may ever be spent on a data set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// Over all runs.
    pub epsilon: Epsilon,
    /// Over all runs.
    pub delta: Delta,
}

/// A step with everything resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// Its name.
    pub name: StepName,
    /// The kind of step.
    pub uses: String,
    /// Native code, or a sandboxed guest.
    pub placement: Placement,
    /// Where it runs.
    pub site: SiteName,
    /// Ports in the order of the signature; optional ports that are not used are left out.
    pub inputs: Vec<Input>,
    /// One per output port, in the order of the signature.
    pub outputs: Vec<ArtifactId>,
    /// Every parameter of the signature, defaults filled in.
    pub with: Map<String, Json>,
    /// What its gate spends; `None` if it reads nothing private through a gate.
    pub charge: Option<Charge>,
    /// Addresses to which it sends what it reads, all of it public.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sends_to: Vec<String>,
    /// What it takes to run.
    pub weight: Weight,
    /// The steps whose outputs it reads.
    pub after: Vec<StepName>,
}

/// What one input port reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// The port.
    pub port: PortName,
    /// At least one, in the order of the file.
    pub artifacts: Vec<ArtifactId>,
}

/// What one step spends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Charge {
    /// The target its noise is calibrated for.
    pub epsilon: Epsilon,
    /// The target its noise is calibrated for.
    pub delta: Delta,
    /// Charged in full to each of these data sets.
    pub data: Vec<DataName>,
}

/// One artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Its name.
    pub id: ArtifactId,
    /// What it is.
    pub holds: PortType,
    /// Who may see it.
    pub label: Label,
    /// Where it comes to be; `None` for plugins, which are on every site.
    pub site: Option<SiteName>,
}

/// An artifact to be written out; its label is public.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedExport {
    /// Its name.
    pub name: ExportName,
    /// What is written.
    pub from: ArtifactId,
    /// Where to.
    pub path: FilePath,
}

/// What one run spends on one data set, by simple addition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spending {
    /// The data set.
    pub data: DataName,
    /// Sum over the steps that read it.
    pub epsilon: f64,
    /// Sum over the steps that read it.
    pub delta: f64,
    /// What may be spent over all runs.
    pub budget: Budget,
}

impl Plan {
    /// The step of that name.
    pub fn step(&self, name: &StepName) -> Option<&PlannedStep> {
        self.steps.iter().find(|step| step.name == *name)
    }

    /// The data set of that name.
    pub fn data(&self, name: &DataName) -> Option<&PlannedData> {
        self.data.iter().find(|data| data.name == *name)
    }

    /// The artifact of that name.
    pub fn artifact(&self, id: &ArtifactId) -> Option<&Artifact> {
        self.artifacts.iter().find(|artifact| artifact.id == *id)
    }

    /// The steps that are not done but wait for none that is not; in plan order.
    ///
    /// The caller leaves out those that it has already begun.
    pub fn ready_after(&self, done: &BTreeSet<StepName>) -> Vec<&PlannedStep> {
        self.steps
            .iter()
            .filter(|step| !done.contains(&step.name))
            .filter(|step| step.after.iter().all(|before| done.contains(before)))
            .collect()
    }

    /// The steps whose outputs reach `name`, directly or through others, in plan order.
    pub fn upstream_of(&self, name: &StepName) -> Vec<&PlannedStep> {
        let reaches = |step: &&PlannedStep| self.downstream_of(&step.name).contains(name);
        self.steps.iter().filter(reaches).collect()
    }

    /// The steps that cannot run if `name` fails, in plan order.
    pub fn downstream_of(&self, name: &StepName) -> Vec<StepName> {
        let (graph, nodes) = self.graph();
        let Some(&start) = nodes.get(name) else {
            return Vec::new();
        };
        let mut reached = BTreeSet::new();
        let mut search = Dfs::new(&graph, start);
        while let Some(node) = search.next(&graph) {
            reached.insert(&graph[node]);
        }
        let names = self.steps.iter().map(|step| &step.name);
        names
            .filter(|other| *other != name && reached.contains(other))
            .cloned()
            .collect()
    }

    /// Steps as nodes, an edge from each step to each that reads from it.
    fn graph(&self) -> (DiGraph<StepName, ()>, BTreeMap<StepName, NodeIndex>) {
        let mut graph = DiGraph::new();
        let mut nodes = BTreeMap::new();
        for step in &self.steps {
            nodes.insert(step.name.clone(), graph.add_node(step.name.clone()));
        }
        for step in &self.steps {
            for before in step.after.iter().filter_map(|before| nodes.get(before)) {
                graph.add_edge(*before, nodes[&step.name], ());
            }
        }
        (graph, nodes)
    }
}
