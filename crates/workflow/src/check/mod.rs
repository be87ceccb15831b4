//! Proves a workflow, or says all that is wrong with it.
//!
//! ```text
//! wiring   every port, type, parameter and reference
//! order    no cycles; an order to run in
//! labels   private artifacts stay on their site, only the gate lowers a label
//! budget   every release is stated, and fits
//! exports  only what is public goes out
//! network  served models get what is public only, at addresses that the site allows
//! files    one file is not private here and public there
//! ```
//!
//! All of these run, whatever the ones before found; each passes over what was already reported.
//! If all are content, `doubts` adds warnings and `build` makes the plan.

mod budget;
mod build;
mod doubts;
mod exports;
mod files;
mod labels;
mod network;
mod order;
mod params;
mod scope;
mod signatures;
mod wiring;

use crate::catalog::Catalog;
use crate::diagnostics::Report;
use crate::error::Problem;
use crate::plan::Plan;
use crate::source::Place;
use crate::workflow::Workflow;

use scope::Scope;

/// The plan, if nothing in the whole report is an error.
pub(crate) fn plan(workflow: &Workflow, catalog: &Catalog, report: &mut Report) -> Option<Plan> {
    // Steps that could not be read at all have been reported.
    if workflow.steps.is_empty() && !report.has_errors() {
        report.error(Place::default(), Problem::EmptyWorkflow);
    }
    let scope = Scope { workflow, catalog };
    signatures::check(scope, report);
    let steps = wiring::wire(scope, report);
    let order = order::order(&workflow.steps, report);
    let labels = labels::flow(workflow, &steps, &order, report);
    let charges = budget::check(workflow, &steps, &labels, report);
    exports::check(scope, &labels, report);
    network::check(scope, &steps, &labels, report);
    files::check(workflow, &charges, report);
    if report.has_errors() {
        return None;
    }
    doubts::look(workflow, &steps, report);
    let proven = build::Proven {
        workflow,
        catalog,
        steps: &steps,
        order: &order,
        labels: &labels,
        charges,
    };
    proven.plan()
}
