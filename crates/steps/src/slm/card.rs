//! The model card: what a trained model read, what that cost, and who may see the model.
//!
//! All of it comes from the plan, which `check` proved; the data themselves are not looked at.

use std::collections::BTreeMap;

use noisegate_engine::StepContext;
use noisegate_slm::{Head, Summary};
use noisegate_workflow::{Label, Plan, PlannedStep};

/// The `README.md` of a model's folder.
pub(super) fn card(context: &StepContext<'_>, heads: &[Head], summary: &Summary) -> String {
    let step = context.step;
    let heads: Vec<String> = heads.iter().map(head).collect();
    format!(
        "# A model trained by noisegate\n\n\
         Made by step `{}` (`{}`) on site `{}`, in run `{}`.\n\n\
         ## Who may see it\n\n{}\n\n\
         ## Trained on\n\n{}\n\n\
         ## Privacy of the released data\n\n{}\n\n\
         ## Heads\n\n{}\n\n\
         ## Training\n\n{} parameters, {} steps, last mean loss {:.4}.\n\n\
         Parameters of the step: `{}`\n",
        step.name,
        step.uses,
        step.site,
        context.run,
        audience(context.plan, step),
        sources(context.plan, step),
        privacy(context.plan, step),
        heads.join("\n"),
        summary.parameters,
        summary.steps,
        summary.loss,
        serde_json::Value::Object(step.with.clone()),
    )
}

fn head(head: &Head) -> String {
    format!(
        "- `{}` ({}): `{}`",
        head.name,
        head.task.name(),
        head.labels.join("`, `")
    )
}

/// The model's own label.
fn audience(plan: Option<&Plan>, step: &PlannedStep) -> String {
    let Some(plan) = plan else {
        return "**No label**: it was made by hand, outside a workflow. It may repeat what it was \
                trained on; treat it as private to whoever owns the files below."
            .to_owned();
    };
    let labels = step.outputs.iter().filter_map(|id| plan.artifact(id));
    match labels.map(|artifact| &artifact.label).next() {
        Some(Label::Public) => "**public**: all it read is public or was released by the gate of \
                                a guest step."
            .to_owned(),
        Some(private) => format!(
            "**{private}**: it read private records, may repeat them, and is not differentially \
             private with respect to them."
        ),
        None => format!("**private to {}**", step.site),
    }
}

/// What it read, each with its label.
fn sources(plan: Option<&Plan>, step: &PlannedStep) -> String {
    let label = |id| match plan.and_then(|plan| plan.artifact(id)) {
        Some(artifact) => artifact.label.to_string(),
        None => "none".to_owned(),
    };
    let mut lines = vec![
        "| port | source | label |".to_owned(),
        "|---|---|---|".to_owned(),
    ];
    for input in &step.inputs {
        for id in &input.artifacts {
            lines.push(format!("| {} | `{id}` | {} |", input.port, label(id)));
        }
    }
    lines.join("\n")
}

/// The charge of every gate that the released data came through, and their sums by data set.
fn privacy(plan: Option<&Plan>, step: &PlannedStep) -> String {
    let Some(plan) = plan else {
        return "Not known here: the ledger of the site that released them says what they cost."
            .to_owned();
    };
    let mut lines = vec![
        "| released by | from | epsilon | delta |".to_owned(),
        "|---|---|---|---|".to_owned(),
    ];
    let mut spent: BTreeMap<String, (usize, f64, f64)> = BTreeMap::new();
    for gate in plan.upstream_of(&step.name) {
        let Some(charge) = &gate.charge else {
            continue;
        };
        let (epsilon, delta) = (charge.epsilon.get(), charge.delta.get());
        for data in &charge.data {
            lines.push(format!(
                "| `{}` | `data.{data}` | {epsilon} | {delta} |",
                gate.name
            ));
            let sum = spent.entry(data.to_string()).or_default();
            *sum = (sum.0 + 1, sum.1 + epsilon, sum.2 + delta);
        }
    }
    if spent.is_empty() {
        return "Nothing it read was released from private records.".to_owned();
    }
    for (data, (_, epsilon, delta)) in spent.iter().filter(|(_, (charges, ..))| *charges > 1) {
        lines.push(format!(
            "| together | `data.{data}` | {epsilon} | {delta} |"
        ));
    }
    lines.push(
        "\nThese bound what the released data say about one unit of a data set; the ledger of its \
         site holds the charges. They do not bound what the model says about records that it read \
         directly."
            .to_owned(),
    );
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use noisegate_workflow::{Catalog, ParamSpec, PortSpec, PortType, Source, StepSignature, load};

    use super::*;

    const WORKFLOW: &str = r#"
[workflow]
name = "cards"

[sites.clinic]

[data.notes]
site = "clinic"
path = "notes.jsonl"
private = true
unit = "record"
units_public = 3000
labels = ["billing", "delay"]
budget = { epsilon = 4.0, delta = 1e-5 }

[steps.one]
uses = "guest:generator"
site = "clinic"
reads = { records = "data.notes" }
privacy = { epsilon = 2.0, delta = 1e-6 }
with = { steps = 1 }

[steps.two]
uses = "guest:generator"
site = "clinic"
reads = { records = "data.notes" }
privacy = { epsilon = 1.0, delta = 1e-6 }
with = { steps = 2 }

[steps.open]
uses = "slm:train"
site = "clinic"
reads = { records = ["one.samples", "two.samples"] }

[steps.closed]
uses = "slm:train"
site = "clinic"
reads = { records = ["data.notes", "one.samples"] }

[steps.local]
uses = "slm:train"
site = "clinic"
reads = { records = "data.notes" }
"#;

    fn plan() -> Plan {
        let generator = StepSignature::guest("guest:generator", "writes records")
            .reads(
                PortSpec::one("records", PortType::Records)
                    .private()
                    .labelled(),
            )
            .makes("samples", PortType::Records)
            .with(ParamSpec::int("steps", 1, 10));
        let catalog = Catalog {
            steps: vec![generator, super::super::train_signature()],
            plugins: Vec::new(),
        };
        match load(Source::new("cards.toml", WORKFLOW), &[], &catalog) {
            Ok(checked) => checked.plan,
            Err(errors) => panic!("{errors}"),
        }
    }

    fn step<'p>(plan: &'p Plan, name: &str) -> &'p PlannedStep {
        plan.step(&name.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_model_of_released_data_is_public_and_says_what_they_cost() {
        let plan = plan();
        let step = step(&plan, "open");
        assert!(audience(Some(&plan), step).starts_with("**public**"));
        let sources = sources(Some(&plan), step);
        assert!(
            sources.contains("| records | `two.samples` | public |"),
            "{sources}"
        );
        let privacy = privacy(Some(&plan), step);
        for line in [
            "| `one` | `data.notes` | 2 | 0.000001 |",
            "| `two` | `data.notes` | 1 | 0.000001 |",
            "| together | `data.notes` | 3 | 0.000002 |",
        ] {
            assert!(privacy.contains(line), "{privacy}");
        }
    }

    #[test]
    fn a_model_of_private_records_is_private_to_their_site() {
        let plan = plan();
        let closed = step(&plan, "closed");
        assert!(audience(Some(&plan), closed).starts_with("**private to clinic**"));
        let sources = sources(Some(&plan), closed);
        assert!(
            sources.contains("| records | `data.notes` | private to clinic |"),
            "{sources}"
        );
        let of_one_charge = privacy(Some(&plan), closed);
        assert!(of_one_charge.contains("| `one` |") && !of_one_charge.contains("together"));
        let of_none = privacy(Some(&plan), step(&plan, "local"));
        assert_eq!(
            of_none,
            "Nothing it read was released from private records."
        );
    }

    #[test]
    fn a_model_made_by_hand_has_no_label() {
        let plan = plan();
        let step = step(&plan, "open");
        assert!(audience(None, step).starts_with("**No label**"));
        assert!(sources(None, step).contains("| none |"));
        assert!(privacy(None, step).starts_with("Not known here"));
    }
}
