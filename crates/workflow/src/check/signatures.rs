//! The catalog itself: a signature that cannot be used is the caller's mistake, said as such.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use crate::catalog::{Catalog, ParamKind, ParamSpec, StepSignature};
use crate::diagnostics::Report;
use crate::error::Problem;
use crate::name::{ParamName, PluginName, PortName};
use crate::source::Place;

pub(super) fn check(catalog: &Catalog, report: &mut Report) {
    let mut seen = BTreeSet::new();
    for step in &catalog.steps {
        let twice = (!seen.insert(step.uses.as_str())).then(|| "it is described twice".to_owned());
        if let Some(detail) = twice.or_else(|| fault(step)) {
            let uses = step.uses.clone();
            report.error(Place::default(), Problem::BadSignature { uses, detail });
        }
    }
    for plugin in &catalog.plugins {
        if let Err(error) = plugin.name.parse::<PluginName>() {
            let (uses, detail) = (format!("plugin:{}", plugin.name), error.to_string());
            report.error(Place::default(), Problem::BadSignature { uses, detail });
        }
    }
}

fn fault(step: &StepSignature) -> Option<String> {
    let inputs = || step.reads.iter().map(|port| port.name.as_str());
    let outputs = || step.makes.iter().map(|port| port.name.as_str());
    let params = || step.with.iter().map(|param| param.name.as_str());
    let bad_port = inputs()
        .chain(outputs())
        .find_map(|name| name.parse::<PortName>().err());
    let bad_param = params().find_map(|name| name.parse::<ParamName>().err());
    twice(inputs())
        .or_else(|| twice(outputs()))
        .or_else(|| twice(params()))
        .or_else(|| bad_port.or(bad_param).map(|error| error.to_string()))
        .or_else(|| step.with.iter().find_map(bad_default))
}

fn twice<'a>(mut names: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut seen = BTreeSet::new();
    let name = names.find(|name| !seen.insert(*name))?;
    Some(format!("it describes `{name}` twice"))
}

fn bad_default(param: &ParamSpec) -> Option<String> {
    let sound = match (&param.default, &param.kind) {
        (None | Some(Json::Null), _) => true,
        (Some(default), ParamKind::Bool) => default.is_boolean(),
        (Some(default), ParamKind::Text) => default.is_string(),
        (Some(default), ParamKind::Choice(choices)) => choices
            .iter()
            .any(|choice| Some(choice.as_str()) == default.as_str()),
        (Some(default), ParamKind::Int { min, max }) => default
            .as_i64()
            .is_some_and(|number| (min..=max).contains(&&number)),
        (Some(default), ParamKind::Float { min, max }) => default
            .as_f64()
            .is_some_and(|number| (min..=max).contains(&&number)),
    };
    (!sound).then(|| format!("the default of `{}` is not one of its values", param.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{PortSpec, PortType};

    fn faults(step: StepSignature) -> bool {
        let catalog = Catalog {
            steps: vec![step],
            plugins: Vec::new(),
        };
        let mut report = Report::default();
        check(&catalog, &mut report);
        report.has_errors()
    }

    #[test]
    fn a_signature_that_contradicts_itself_is_refused() {
        let step = || StepSignature::host("a:b", "");
        let records = || PortSpec::one("records", PortType::Records);
        assert!(!faults(
            step().reads(records()).makes("records", PortType::Records)
        ));
        assert!(faults(step().reads(records()).reads(records())));
        assert!(faults(step().makes("Model", PortType::Classifier)));
        assert!(faults(
            step().with(ParamSpec::int("epochs", 1, 9).default(10))
        ));
        assert!(faults(
            step().with(ParamSpec::float("rate", 0.0, 1.0).default("high"))
        ));
        assert!(faults(
            step().with(ParamSpec::choice("order", &["a"]).default("b"))
        ));
        assert!(!faults(step().with(ParamSpec::text("prompt").or_null())));
    }
}
