//! A workflow file, checked and turned into a plan.
//!
//! ```text
//! workflow.toml ──parse──> Workflow ──check──> Plan
//!   + --set values          as written,          proven: ports, labels, budgets,
//!                           with places          order, everything resolved
//! ```
//!
//! Every error is found in one go, each with file, line, column and a remedy. [`load`] does both
//! steps at once and is what a command line wants; start reading there, then in `read.rs` and
//! `check/mod.rs`.
//!
//! Deliberately absent: this crate opens no file (it is handed text, and hands back paths), knows
//! no step (a [`Catalog`] tells it), runs nothing, and prints nothing. It is the only crate that
//! knows the graph library.
//!
//! ```
//! use noisegate_workflow::{Catalog, PortSpec, PortType, Source, StepSignature, load};
//!
//! let catalog = Catalog {
//!     steps: vec![
//!         StepSignature::host("text:count", "counts words")
//!             .reads(PortSpec::one("records", PortType::Records))
//!             .makes("report", PortType::Report),
//!     ],
//!     plugins: Vec::new(),
//! };
//! let text = r#"
//!     [workflow]
//!     name = "words"
//!     [sites.home]
//!     [data.news]
//!     site = "home"
//!     path = "news.jsonl"
//!     private = true
//!     [steps.count]
//!     uses = "text:count"
//!     site = "home"
//!     reads = { records = "data.news" }
//! "#;
//! let refused = load(Source::new("words.toml", text), &[], &catalog).expect_err("private");
//! assert_eq!(refused.list[0].code(), "private-data-unreleased");
//! assert!(refused.is_policy());
//! ```

#![forbid(unsafe_code)]

mod artifact;
mod catalog;
mod catalog_builders;
mod check;
mod decode;
mod diagnostics;
mod error;
mod label;
mod name;
mod near;
mod overrides;
mod params;
mod placeholder;
mod plan;
mod read;
mod remedy;
mod section;
mod show;
mod source;
mod together;
mod tree;
mod value;
mod workflow;

pub use artifact::{ArtifactId, ReferenceError};
pub use catalog::{
    Arity, Catalog, Cores, OutputSpec, ParamKind, ParamSpec, Placement, PluginSignature, PortSpec,
    PortType, StepSignature, TextCheck, Weight,
};
pub use diagnostics::{Diagnostic, Diagnostics, Related, Severity};
pub use error::{Problem, Setting, Spent, Thing, Wanted};
pub use label::Label;
pub use name::{
    DataName, ExportName, NAME_BYTES_MAX, NameError, ParamName, PluginName, PortName, SiteName,
    StepName, WorkflowName,
};
pub use near::Choices;
pub use noisegate_privacy::{Delta, Epsilon};
pub use overrides::{Override, OverrideError};
pub use params::Param;
pub use plan::{
    Artifact, Budget, Charge, Input, Plan, PlannedData, PlannedExport, PlannedStep, Spending,
};
pub use section::Field;
pub use show::StepSummary;
pub use source::{Located, Location, Place, Source};
pub use together::{Clash, Origin, ReadArtifact, Together, TogetherCheck};
pub use tree::{Node, Table, Value};
pub use workflow::{
    DataSet, Export, FilePath, Format, Labels, PrivacyPair, Read, RelativeTo, Step, Unit, Workflow,
};

use diagnostics::Report;

/// A proven workflow, and what is doubtful about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// What will run.
    pub plan: Plan,
    /// What should be looked at first.
    pub warnings: Diagnostics,
}

/// Reads and checks a workflow.
///
/// # Errors
/// Everything that is wrong with it, in the order of the file. Only text that is not TOML hides
/// later errors.
pub fn load(
    source: Source,
    overrides: &[Override],
    catalog: &Catalog,
) -> Result<Checked, Diagnostics> {
    let sources = sources(&source, overrides);
    let mut report = Report::default();
    let plan = read::workflow(source, overrides, &mut report)
        .and_then(|workflow| check::plan(&workflow, catalog, &mut report));
    settle(plan, report, &sources)
}

/// Reads a workflow without looking at what its steps are.
///
/// # Errors
/// Everything that is wrong with the text: syntax, keys, types, names, parameters, overrides.
pub fn parse(source: Source, overrides: &[Override]) -> Result<Workflow, Diagnostics> {
    let sources = sources(&source, overrides);
    let mut report = Report::default();
    let workflow = read::workflow(source, overrides, &mut report);
    match workflow {
        Some(workflow) if !report.has_errors() => Ok(workflow),
        _ => Err(report.finish(&sources)),
    }
}

/// Checks a workflow against the steps and plugins there are.
///
/// # Errors
/// Everything that keeps it from running as promised: references, ports, parameters, cycles,
/// private data that would leave its site, budgets.
pub fn check(workflow: &Workflow, catalog: &Catalog) -> Result<Checked, Diagnostics> {
    let mut report = Report::default();
    let plan = check::plan(workflow, catalog, &mut report);
    settle(plan, report, &workflow.sources)
}

fn sources(source: &Source, overrides: &[Override]) -> Vec<Source> {
    let mut sources = vec![source.clone()];
    sources.extend(overrides.iter().map(Override::source));
    sources
}

fn settle(plan: Option<Plan>, report: Report, sources: &[Source]) -> Result<Checked, Diagnostics> {
    let diagnostics = report.finish(sources);
    match plan {
        Some(plan) => Ok(Checked {
            plan,
            warnings: diagnostics,
        }),
        None => Err(diagnostics),
    }
}
