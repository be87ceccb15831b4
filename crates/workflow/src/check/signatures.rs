//! The signatures that a workflow uses: one that cannot be used is the caller's mistake, or its
//! plugin's, and said as such. What no step uses stops nobody.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use crate::catalog::{ParamKind, ParamSpec, StepSignature};
use crate::diagnostics::Report;
use crate::error::Problem;
use crate::name::{ParamName, PortName};

use super::scope::Scope;

pub(super) fn check(scope: Scope<'_>, report: &mut Report) {
    let mut seen = BTreeSet::new();
    for uses in scope.workflow.steps.iter().filter_map(|it| it.uses.given()) {
        let kinds = scope.catalog.steps.iter();
        let mut found = kinds.filter(|kind| kind.uses == uses.value);
        let Some(step) = found.next().filter(|_| seen.insert(&uses.value)) else {
            continue;
        };
        let twice = found.next().map(|_| "it is described twice".to_owned());
        if let Some(detail) = twice.or_else(|| fault(step)) {
            let (uses, place) = (step.uses.clone(), uses.place);
            let manifest = step.manifest.clone();
            let problem = Problem::BadSignature {
                uses,
                detail,
                manifest,
            };
            report.error(place, problem);
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
    let default = param.default.as_ref().filter(|_| !sound)?;
    let name = &param.name;
    Some(format!(
        "`{default}`, the default of `{name}`, is not one of its values"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Catalog, PortSpec, PortType};
    use crate::{Diagnostics, Source, load};

    /// Of a workflow with one step that uses `uses`.
    fn refused(uses: &str, steps: &[StepSignature]) -> Option<Diagnostics> {
        let catalog = Catalog {
            steps: steps.to_vec(),
            plugins: Vec::new(),
        };
        let text = format!(
            "[workflow]\nname = \"w\"\n[sites.s]\n[steps.one]\nuses = \"{uses}\"\nsite = \"s\"\n"
        );
        load(Source::new("w.toml", text), &[], &catalog).err()
    }

    fn faults(step: StepSignature) -> bool {
        let refused = refused("a:b", &[step]);
        let list = refused.map(|it| it.list).unwrap_or_default();
        list.iter().any(|one| one.code() == "bad-signature")
    }

    #[test]
    fn what_is_wrong_with_a_plugin_names_its_manifest_and_stops_its_users_alone() {
        let mut bad = StepSignature::guest("guest:tally", "")
            .with(ParamSpec::int("votes_per_unit", 1, 1000).default(0));
        bad.manifest = Some("plugins/tally/plugin.toml".to_owned());
        let steps = [StepSignature::host("a:b", ""), bad];
        assert_eq!(refused("a:b", &steps), None);
        let text = refused("guest:tally", &steps).unwrap().render();
        assert!(
            text.contains(
                "w.toml:5:8: error[bad-signature]: the step kind `guest:tally` cannot be used: `0`, the default of `votes_per_unit`, is not one of its values\n  \
             remedy: mend `plugins/tally/plugin.toml`; the workflow is not to blame\n"
            ),
            "{text}"
        );
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
