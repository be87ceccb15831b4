//! Parameters of a step, given as text.

use std::collections::BTreeMap;

use noisegate_engine::StepFailure;
use noisegate_workflow::{Clash, ParamKind, ParamSpec, ReadArtifact, StepSignature, Together};
use serde_json::{Map, Value, json};

use crate::slm::bad_input;

/// Every parameter of a step: what was given as text, checked, and the defaults of the rest.
/// `reads` says what the step reads, where its parameters depend on that.
///
/// # Errors
/// [`StepFailure::BadInput`] with the parameter, its value, and what would be right.
pub fn parameters(
    signature: &StepSignature,
    given: &BTreeMap<String, String>,
    reads: &[ReadArtifact<'_>],
) -> Result<Map<String, Value>, StepFailure> {
    let mut with = Map::new();
    for spec in &signature.with {
        let value = match given.get(&spec.name) {
            Some(text) => parse(spec, text)?,
            None => spec.default.clone().unwrap_or(Value::Null),
        };
        with.insert(spec.name.clone(), value);
    }
    let given = Together { with: &with, reads };
    match signature.together.map(|check| check(&given)) {
        Some(Err(Clash { param, why })) => Err(bad_input(format!("`{param}`: {why}"))),
        _ => Ok(with),
    }
}

fn parse(spec: &ParamSpec, text: &str) -> Result<Value, StepFailure> {
    let wrong = |expected: String| {
        bad_input(format!(
            "`{}` is `{text}`; it must be {expected}",
            spec.name
        ))
    };
    match &spec.kind {
        ParamKind::Int { min, max } => match text.parse::<i64>() {
            Ok(value) if (*min..=*max).contains(&value) => Ok(json!(value)),
            _ => Err(wrong(format!("a whole number from {min} to {max}"))),
        },
        ParamKind::Float { min, max } => match text.parse::<f64>() {
            Ok(value) if (*min..=*max).contains(&value) => Ok(json!(value)),
            _ => Err(wrong(format!("a number from {min} to {max}"))),
        },
        ParamKind::Bool => match text.parse::<bool>() {
            Ok(value) => Ok(json!(value)),
            Err(_) => Err(wrong("`true` or `false`".to_owned())),
        },
        ParamKind::Text => match spec.check.map(|check| check(text)) {
            Some(Err(why)) => Err(bad_input(format!("`{}`: {why}", spec.name))),
            _ => Ok(json!(text)),
        },
        ParamKind::Choice(choices) if choices.iter().any(|choice| choice == text) => {
            Ok(json!(text))
        }
        ParamKind::Choice(choices) => Err(wrong(format!("one of `{}`", choices.join("`, `")))),
    }
}
