//! `steps`: what a workflow can name, from the same signatures that `check` proves it by.

use std::path::Path;

use noisegate_steps::{Plugins, catalog};
use noisegate_workflow::{
    Arity, Catalog, ParamKind, ParamSpec, Placement, PortSpec, PortType, StepSignature,
};
use serde_json::{Value, json};

use crate::args::{Place, StepsWhich};
use crate::exit::Exit;
use crate::project;
use crate::show::{self, table};

/// Lists all kinds of step and all packaged models, or tells all of one kind.
pub fn steps(place: &Place, which: &StepsWhich) -> Result<(), Exit> {
    let folder = match &place.plugins {
        Some(given) => given.clone(),
        None => project::plugins_above(Path::new("."))?,
    };
    let plugins = Plugins::scan(&folder).map_err(Exit::wrong)?;
    let catalog = catalog(&plugins);
    let Some(kind) = &which.kind else {
        if which.json {
            let all: Vec<Value> = catalog.steps.iter().map(as_value).collect();
            return show::json_line(&all);
        }
        print!("{}", list(&catalog));
        return Ok(());
    };
    let step = catalog.steps.iter().find(|step| step.uses == *kind);
    let step = step.ok_or_else(|| {
        let known: Vec<&str> = catalog
            .steps
            .iter()
            .map(|step| step.uses.as_str())
            .collect();
        Exit::Wrong(format!(
            "there is no kind of step `{kind}`; there are {}",
            known.join(", ")
        ))
    })?;
    if which.json {
        return show::json_line(&as_value(step));
    }
    print!("{}", one(step));
    Ok(())
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

fn list(catalog: &Catalog) -> String {
    let mut rows = vec![row(["step", "what it does"])];
    rows.extend(
        catalog
            .steps
            .iter()
            .map(|step| row([&step.uses, &step.help])),
    );
    let steps = table(&rows);
    let mut rows = vec![row(["model", "is", "what it is"])];
    rows.extend(catalog.plugins.iter().map(|plugin| {
        let name = format!("plugin:{}", plugin.name);
        row([&name, &plugin.holds.to_string(), &plugin.help])
    }));
    format!(
        "{steps}\n{}\n`noisegate steps KIND` tells what one reads, makes and takes.\n",
        table(&rows)
    )
}

fn one(step: &StepSignature) -> String {
    let mut text = format!("{}: {}\n", show::plain(&step.uses), show::plain(&step.help));
    if step.placement == Placement::Guest {
        text += "A guest in the sandbox: what it releases is noised and charged for; give it `privacy = { epsilon = .., delta = .. }`.\n";
    }
    let mut rows = vec![row(["reads", "takes", "", "what"])];
    rows.extend(step.reads.iter().map(|port| {
        let takes = types(&port.accepts);
        row([&port.name, &takes, &conditions(step, port), &port.help])
    }));
    text += &format!("\n{}", table(&rows));
    let mut rows = vec![row(["makes", "is"])];
    rows.extend(
        step.makes
            .iter()
            .map(|port| row([&port.name, &port.makes.to_string()])),
    );
    text += &format!("\n{}", table(&rows));
    if step.with.is_empty() {
        return text;
    }
    let mut rows = vec![row(["with", "takes", "default", "what"])];
    rows.extend(step.with.iter().map(|param| {
        let default = match &param.default {
            None => "must be given".to_owned(),
            Some(Value::Null) => "left out".to_owned(),
            Some(value) => value.to_string(),
        };
        row([&param.name, &range(&param.kind), &default, &param.help])
    }));
    text + &format!("\n{}", table(&rows))
}

fn types(types: &[PortType]) -> String {
    let names: Vec<String> = types.iter().map(PortType::to_string).collect();
    names.join(" or ")
}

/// How many, and whether they may be private.
fn conditions(step: &StepSignature, port: &PortSpec) -> String {
    let count = match port.arity {
        Arity::One => "one",
        Arity::Optional => "one or none",
        Arity::Many => "one or more",
    };
    let side = match (step.placement, port.accepts_private) {
        (Placement::Guest, true) => "private rows, cut into units",
        (_, true) => "private or public",
        (_, false) => "public",
    };
    format!("{count}, {side}")
}

fn range(kind: &ParamKind) -> String {
    match kind {
        ParamKind::Int { min, max } => format!("{min} to {max}"),
        ParamKind::Float { min, max } => format!("{min:?} to {max:?}"),
        ParamKind::Bool => "true or false".to_owned(),
        ParamKind::Text => "text".to_owned(),
        ParamKind::Choice(choices) => choices.join(" | "),
    }
}

fn as_value(step: &StepSignature) -> Value {
    let port = |port: &PortSpec| {
        json!({
            "name": port.name,
            "accepts": port.accepts,
            "arity": match port.arity {
                Arity::One => "one",
                Arity::Optional => "optional",
                Arity::Many => "many",
            },
            "private": port.accepts_private,
            "help": port.help,
        })
    };
    let param = |param: &ParamSpec| {
        let mut told = match &param.kind {
            ParamKind::Int { min, max } => json!({ "type": "int", "min": min, "max": max }),
            ParamKind::Float { min, max } => json!({ "type": "float", "min": min, "max": max }),
            ParamKind::Bool => json!({ "type": "bool" }),
            ParamKind::Text => json!({ "type": "text" }),
            ParamKind::Choice(choices) => json!({ "type": "choice", "choices": choices }),
        };
        told["name"] = json!(param.name);
        told["required"] = json!(param.default.is_none());
        told["default"] = json!(param.default);
        told["help"] = json!(param.help);
        told
    };
    let made =
        |port: &noisegate_workflow::OutputSpec| json!({ "name": port.name, "is": port.makes });
    json!({
        "uses": step.uses,
        "placement": step.placement,
        "help": step.help,
        "reads": step.reads.iter().map(port).collect::<Vec<_>>(),
        "makes": step.makes.iter().map(made).collect::<Vec<_>>(),
        "with": step.with.iter().map(param).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_told_with_all_that_check_knows_of_it() {
        let step = StepSignature::host("slm:grow", "grows a model")
            .reads(
                PortSpec::many("records", PortType::Records)
                    .private()
                    .help("what to learn from"),
            )
            .reads(PortSpec::optional("base", PortType::Encoder).or(PortType::Classifier))
            .makes("model", PortType::Classifier)
            .with(ParamSpec::int("epochs", 1, 100).help("passes"))
            .with(ParamSpec::float("rate", 0.0, 1.0).default(0.5))
            .with(ParamSpec::choice("mode", &["fast", "slow"]).or_null());
        assert_eq!(
            one(&step),
            "\
slm:grow: grows a model

reads    takes                                                  what
records  records                one or more, private or public  what to learn from
base     encoder or classifier  one or none, public

makes  is
model  classifier

with    takes        default        what
epochs  1 to 100     must be given  passes
rate    0.0 to 1.0   0.5
mode    fast | slow  left out
"
        );
        let value = as_value(&step);
        assert_eq!(value["reads"][1]["arity"], "optional");
        assert_eq!(value["with"][0]["required"], true);
        assert_eq!(value["with"][2]["choices"], json!(["fast", "slow"]));
    }

    #[test]
    fn every_port_and_parameter_of_the_host_steps_says_what_it_is() {
        let catalog = catalog(&Plugins::default());
        assert!(catalog.steps.len() >= 9);
        for step in &catalog.steps {
            let silent =
                |named: &str, help: &str| assert!(!help.is_empty(), "{} {named}", step.uses);
            silent("itself", &step.help);
            step.reads
                .iter()
                .for_each(|port| silent(&port.name, &port.help));
            step.with
                .iter()
                .for_each(|param| silent(&param.name, &param.help));
        }
    }
}
