//! `check`, `plan`, `graph`: everything about a workflow that needs no run.

use noisegate_workflow::Plan;
use serde_json::json;

use crate::args::{Place, Which};
use crate::exit::Exit;
use crate::project::{self, Project};
use crate::show;

/// Proves the workflow and says so.
pub fn check(place: &Place, which: &Which) -> Result<(), Exit> {
    let project = open(place, which)?;
    let plan = &project.checked.plan;
    if which.json {
        return show::json_line(&json!({ "diagnostics": [], "workflow": plan.workflow }));
    }
    println!(
        "{}: {} steps on {} sites; no private data leaves but through the gate",
        plan.workflow,
        plan.steps.len(),
        plan.sites.len()
    );
    Ok(())
}

/// Shows what a run would do.
pub fn plan(place: &Place, which: &Which) -> Result<(), Exit> {
    let project = open(place, which)?;
    let plan = &project.checked.plan;
    if which.json {
        return show::json_line(plan);
    }
    print!("{}", describe(plan));
    Ok(())
}

/// Prints the graph in Graphviz' language.
pub fn graph(place: &Place, which: &Which) -> Result<(), Exit> {
    let project = open(place, which)?;
    print!("{}", project.checked.plan.to_dot());
    Ok(())
}

fn open(place: &Place, which: &Which) -> Result<Project, Exit> {
    let project = project::open(place, which)?;
    if !which.json && !project.checked.warnings.list.is_empty() {
        show::diagnostics(&project.checked.warnings, false);
    }
    Ok(project)
}

/// Steps, labels and budget as text.
fn describe(plan: &Plan) -> String {
    let mut rows = vec![
        [
            "step", "uses", "site", "reads", "makes", "label", "epsilon", "delta",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for step in &plan.steps {
        let reads: Vec<String> = step
            .inputs
            .iter()
            .flat_map(|input| &input.artifacts)
            .map(ToString::to_string)
            .collect();
        let makes: Vec<String> = step.outputs.iter().map(ToString::to_string).collect();
        let labels: Vec<String> = step
            .outputs
            .iter()
            .filter_map(|id| plan.artifact(id))
            .map(|artifact| artifact.label.to_string())
            .collect();
        let (epsilon, delta) = match &step.charge {
            Some(charge) => (
                charge.epsilon.get().to_string(),
                format!("{:e}", charge.delta.get()),
            ),
            None => ("-".to_owned(), "-".to_owned()),
        };
        rows.push(vec![
            step.name.to_string(),
            step.uses.clone(),
            step.site.to_string(),
            reads.join(", "),
            makes.join(", "),
            labels.join(", "),
            epsilon,
            delta,
        ]);
    }
    let mut text = show::table(&rows);
    for spending in &plan.spending {
        text.push_str(&format!(
            "\na run charges data set `{}` epsilon {} at delta {:e}; its lifetime budget is epsilon {} at delta {:e}\n",
            spending.data,
            spending.epsilon,
            spending.delta,
            spending.budget.epsilon.get(),
            spending.budget.delta.get()
        ));
    }
    text
}
