//! The parameters of a step: known, typed, in range, defaults filled in.

use serde_json::{Map, Value as Json};

use crate::catalog::{ParamSpec, StepSignature};
use crate::diagnostics::Report;
use crate::error::Problem;
use crate::near::Choices;
use crate::together::{Clash, Together, TogetherCheck};
use crate::tree::Value;
use crate::value;
use crate::workflow::Step;

/// Every parameter of the signature that has a sound value, in the signature's order.
pub(super) fn resolve(
    step: &Step,
    signature: &StepSignature,
    report: &mut Report,
) -> Map<String, Json> {
    let mut meant = Vec::new();
    for (name, _) in &step.with {
        if signature.with.iter().any(|spec| spec.name == name.value) {
            continue;
        }
        let choices = Choices::of(&name.value, signature.with.iter().map(|spec| &spec.name));
        meant.extend(choices.near.clone());
        let problem = Problem::UnknownParam {
            step: step.name.value.clone(),
            uses: signature.uses.clone(),
            param: name.value.clone(),
            choices,
        };
        report.error(name.place, problem);
    }
    let values = signature.with.iter().filter_map(|spec| {
        // A mistyped name is one mistake, not two.
        let missing = !meant.contains(&spec.name);
        let value = resolve_one(step, signature, spec, missing, report)?;
        Some((spec.name.clone(), value))
    });
    values.collect()
}

fn resolve_one(
    step: &Step,
    signature: &StepSignature,
    spec: &ParamSpec,
    report_missing: bool,
    report: &mut Report,
) -> Option<Json> {
    let given = step.with.iter().find(|(name, _)| name.value == spec.name);
    let Some((_, node)) = given else {
        if spec.default.is_none() && report_missing {
            let problem = Problem::MissingParam {
                step: step.name.value.clone(),
                uses: signature.uses.clone(),
                param: spec.name.clone(),
                help: spec.help.clone(),
            };
            report.error(step.name.place, problem);
        }
        return spec.default.clone();
    };
    if node.value == Value::Unreadable {
        return None;
    }
    let path = format!("steps.{}.with.{}", step.name.value, spec.name);
    value::param(node, &spec.kind, &path)
        .and_then(|value| looked_at(spec, value, path, node.from_param.as_deref()))
        .map_err(|problem| report.error(node.place, problem))
        .ok()
}

/// Parameters that are each fine, beside each other and beside what the step reads.
pub(super) fn together(
    step: &Step,
    check: TogetherCheck,
    given: &Together<'_>,
    report: &mut Report,
) {
    let Err(Clash { param, why }) = check(given) else {
        return;
    };
    let node = step.with.iter().find(|(name, _)| name.value == param);
    let path = format!("steps.{}.with.{param}", step.name.value);
    let place = node.map_or(step.name.place, |(_, node)| node.place);
    report.error(place, Problem::Clash { path, why });
}

fn looked_at(
    spec: &ParamSpec,
    value: Json,
    path: String,
    from_param: Option<&str>,
) -> Result<Json, Problem> {
    match (spec.check, value.as_str()) {
        (Some(check), Some(text)) => match check(text) {
            Ok(()) => Ok(value),
            Err(why) => {
                let from = from_param.map(|name| format!(" (from `params.{name}`)"));
                let why = why + &from.unwrap_or_default();
                Err(Problem::UnusableText { path, why })
            }
        },
        _ => Ok(value),
    }
}
