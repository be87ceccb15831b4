//! `check`, `plan`, `graph`: everything about a workflow that needs no run.

use noisegate_steps::outlook::Outlook;
use noisegate_steps::resolve::{self, RowLabels};
use noisegate_steps::slm;
use noisegate_workflow::{ArtifactId, Plan, PlannedExport};
use serde_json::json;

use crate::args::{CheckWhich, Place, Which};
use crate::commands::{budget, exports};
use crate::exit::Exit;
use crate::project::{self, Project};
use crate::show;

/// Proves the workflow and says so.
pub fn check(place: &Place, check: &CheckWhich) -> Result<(), Exit> {
    let which = &check.which;
    let project = open(place, which)?;
    let plan = &project.checked.plan;
    is_ready(place, &project)?;
    let outlook = budget::outlook(place, &project)?;
    let read = if check.rows {
        rows(place, &project)?
    } else {
        Vec::new()
    };
    if which.json {
        let left_out = |(name, labels): &(String, RowLabels)| {
            (*labels == RowLabels::SomeLeftOut).then(|| name.clone())
        };
        show::json_line(&json!({
            "diagnostics": [], "workflow": plan.workflow, "budget": outlook,
            "rows_read": read.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            "rows_left_out": read.iter().filter_map(left_out).collect::<Vec<_>>(),
        }))?;
        return verdict(&outlook);
    }
    println!(
        "{}: {} steps on {} sites; no private data leaves but through the gate",
        plan.workflow,
        plan.steps.len(),
        plan.sites.len()
    );
    outlook.iter().for_each(|one| print!("{}", one.line()));
    for (name, labels) in &read {
        println!(
            "every row of data set `{name}` can be read{}",
            told(*labels)
        );
    }
    verdict(&outlook)
}

/// The exit code of a workflow that is right: 3 where a run of it would be refused.
fn verdict(outlook: &[Outlook]) -> Result<(), Exit> {
    match budget::is_refused(outlook) {
        true => Err(Exit::Silent(3)),
        false => Ok(()),
    }
}

/// What a row whose label is not declared means; how many there are is told to nobody.
fn told(labels: RowLabels) -> &'static str {
    match labels {
        RowLabels::NoneLeftOut => "",
        RowLabels::SomeLeftOut => {
            ", but rows whose label is not one of `labels`, letter for letter, occur: every step \
             leaves them out"
        }
    }
}

/// Reads every data set as its steps would, and drops what it read.
fn rows(place: &Place, project: &Project) -> Result<Vec<(String, RowLabels)>, Exit> {
    let plan = &project.checked.plan;
    let resolved = resolve::resolve(plan, &project.folder, &project.plugins, &place.home)
        .map_err(|lacks| Exit::Wrong(lacks.join("\nnoisegate: ")))?;
    let mut problems = Vec::new();
    let mut read = Vec::new();
    for data in &plan.data {
        let Some(input) = resolved.get(&ArtifactId::Data(data.name.clone())) else {
            continue;
        };
        match slm::try_rows(&project.checked.plan, input) {
            Ok(labels) => read.push((data.name.to_string(), labels)),
            Err(problem) => problems.push(problem.to_string()),
        }
    }
    if problems.is_empty() {
        return Ok(read);
    }
    Err(Exit::Wrong(problems.join("\nnoisegate: ")))
}

/// Shows what a run would do.
pub fn plan(place: &Place, which: &Which) -> Result<(), Exit> {
    let project = open(place, which)?;
    let plan = &project.checked.plan;
    is_ready(place, &project)?;
    let outlook = budget::outlook(place, &project)?;
    if which.json {
        let mut value = serde_json::to_value(plan).map_err(Exit::failed)?;
        value["outlook"] = serde_json::to_value(&outlook).map_err(Exit::failed)?;
        return show::json_line(&value);
    }
    print!("{}{}", describe(plan), exported(&project));
    if !outlook.is_empty() {
        println!();
    }
    outlook.iter().for_each(|one| print!("{}", one.line()));
    Ok(())
}

/// Prints the graph in Graphviz' language.
pub fn graph(place: &Place, which: &Which) -> Result<(), Exit> {
    let project = open(place, which)?;
    let plan = &project.checked.plan;
    if which.json {
        return show::json_line(&json!({ "workflow": plan.workflow, "dot": plan.to_dot() }));
    }
    print!("{}", plan.to_dot());
    Ok(())
}

fn open(place: &Place, which: &Which) -> Result<Project, Exit> {
    let project = project::open(place, which)?;
    let plan = &project.checked.plan;
    let misused = resolve::private_in_public(plan, &project.folder, &place.home);
    if !misused.is_empty() {
        return Err(Exit::Wrong(misused.join("\nnoisegate: ")));
    }
    if !which.json && !project.checked.warnings.list.is_empty() {
        show::diagnostics(&project.checked.warnings, false);
    }
    Ok(project)
}

/// Where the exports go.
fn exported(project: &Project) -> String {
    let exports = project.checked.plan.exports.iter();
    let line = |export: &PlannedExport| {
        let path = export.path.resolve(&project.folder).display().to_string();
        let path = show::plain_line(&path);
        format!("\na run writes `{}` to `{path}`\n", export.from)
    };
    exports.map(line).collect()
}

/// What a run would find before its first step: guests that are as pinned, and where exports go.
fn is_ready(place: &Place, project: &Project) -> Result<(), Exit> {
    let plan = &project.checked.plan;
    let unfit = resolve::unfit_guests(plan, &project.folder, &project.plugins, &place.home);
    if !unfit.is_empty() {
        return Err(Exit::Wrong(unfit.join("\nnoisegate: ")));
    }
    exports::check(project, &place.home)
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
    for step in plan.steps.iter().filter(|step| !step.sends_to.is_empty()) {
        text.push_str(&format!(
            "\nstep `{}` sends what it reads, all of it public, to {}\n",
            step.name,
            step.sends_to.join(", ")
        ));
    }
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
