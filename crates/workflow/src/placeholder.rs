//! `"{{ params.epsilon }}"`: workflow parameters put into the strings of a workflow.
//!
//! A string that is one placeholder and nothing else becomes the typed value; inside a longer
//! string the value is written out as text. Nothing else can stand in a placeholder: there are no
//! expressions, and keys are never filled.

use serde_json::Value as Json;

use crate::diagnostics::Report;
use crate::error::{Problem, Thing};
use crate::near::Choices;
use crate::params::Param;
use crate::tree::{Node, Table, Value};

/// Puts parameters into every string of the tree except `[params]` itself.
pub(crate) fn fill_all(root: &mut Table, params: &[Param], report: &mut Report) {
    for (name, node) in &mut root.entries {
        if name.value != "params" {
            fill(node, params, report);
        }
    }
}

fn fill(node: &mut Node, params: &[Param], report: &mut Report) {
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| fill(item, params, report)),
        Value::Table(table) => {
            for (_, inner) in &mut table.entries {
                fill(inner, params, report);
            }
        }
        Value::Text(text) if text.contains("{{") => match filled(text, params) {
            Ok(filled) => {
                node.value = filled.value;
                node.from_param = filled.whole.map(|param| param.name.value.to_string());
                node.given_outside |= filled.leading.is_some_and(|param| param.is_set);
            }
            Err(problem) => {
                node.value = Value::Unreadable;
                report.error(node.place, problem);
            }
        },
        _ => {}
    }
}

struct Filled<'a> {
    value: Value,
    /// The parameter, if the string is nothing but its placeholder.
    whole: Option<&'a Param>,
    /// The parameter the string begins with: it decides what a path is relative to.
    leading: Option<&'a Param>,
}

fn filled<'a>(text: &str, params: &'a [Param]) -> Result<Filled<'a>, Problem> {
    let malformed = || Problem::BadPlaceholder {
        text: text.to_owned(),
    };
    let mut out = Filled {
        value: Value::Unreadable,
        whole: None,
        leading: None,
    };
    let (mut written, mut readable, mut rest) = (String::new(), true, text);
    while let Some((before, after)) = rest.split_once("{{") {
        let (inside, after) = after.split_once("}}").ok_or_else(malformed)?;
        let name = inside.trim().strip_prefix("params.");
        let param = find(name.ok_or_else(malformed)?, params)?;
        if before.is_empty() && rest.len() == text.len() {
            out.leading = Some(param);
            out.whole = Some(param).filter(|_| after.is_empty());
        }
        written.push_str(before);
        match &param.value {
            Some(Json::String(text)) => written.push_str(text),
            Some(other) => written.push_str(&other.to_string()),
            // Its declaration is already reported.
            None => readable = false,
        }
        rest = after;
    }
    written.push_str(rest);
    out.value = match out.whole.map(|param| &param.value) {
        _ if !readable => Value::Unreadable,
        Some(Some(value)) => typed(value),
        _ => Value::Text(written),
    };
    Ok(out)
}

fn find<'a>(name: &str, params: &'a [Param]) -> Result<&'a Param, Problem> {
    let found = params
        .iter()
        .find(|param| param.name.value.as_str() == name);
    found.ok_or_else(|| Problem::Unknown {
        thing: Thing::Param,
        name: name.to_owned(),
        choices: Choices::of(name, params.iter().map(|param| &param.name.value)),
    })
}

fn typed(value: &Json) -> Value {
    match value {
        Json::Bool(truth) => Value::Bool(*truth),
        Json::String(text) => Value::Text(text.clone()),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Value::Int(whole),
            None => number.as_f64().map_or(Value::Unreadable, Value::Float),
        },
        _ => Value::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params;
    use crate::tree;

    fn after(text: &str) -> (Option<Value>, bool) {
        let file = format!(
            "[params]\nrate = {{ type = 'float', default = 8.0 }}\nword = {{ type = 'text', default = 'low' }}\n[data]\nx = '{text}'\n"
        );
        let mut report = Report::default();
        let mut root = tree::parse(&file, &mut report);
        let Value::Table(entries) = root.get("params").expect("params").value.clone() else {
            panic!("params is a table");
        };
        let params = params::read(&entries.entries, Vec::new(), &mut report);
        fill_all(&mut root, &params, &mut report);
        let Value::Table(data) = &root.get("data").expect("data").value else {
            panic!("data is a table");
        };
        (
            data.get("x").map(|node| node.value.clone()),
            report.has_errors(),
        )
    }

    #[test]
    fn a_placeholder_alone_keeps_its_type() {
        assert_eq!(after("{{ params.rate }}"), (Some(Value::Float(8.0)), false));
        assert_eq!(
            after("{{params.word}}"),
            (Some(Value::Text("low".to_owned())), false)
        );
    }

    #[test]
    fn a_placeholder_in_a_longer_string_becomes_text() {
        let path = Value::Text("out/low-8.0.csv".to_owned());
        assert_eq!(
            after("out/{{ params.word }}-{{ params.rate }}.csv"),
            (Some(path), false)
        );
    }

    #[test]
    fn what_is_no_parameter_is_refused() {
        for text in ["{{ params.rat }}", "{{ rate }}", "{{ params.rate", "{{}}"] {
            assert_eq!(after(text), (Some(Value::Unreadable), true), "{text}");
        }
    }
}
