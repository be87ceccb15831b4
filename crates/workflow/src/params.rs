//! Workflow parameters: what `[params]` declares, and the value each has in this run.
//!
//! ```toml
//! [params]
//! epsilon = { type = "float", default = 8.0, min = 0.01, max = 10.0, help = "privacy budget" }
//! ```
//!
//! Where they are put in is `placeholder.rs`. A parameter never refers to another.

use serde_json::Value as Json;

use crate::catalog::ParamKind;
use crate::diagnostics::Report;
use crate::error::{Problem, Thing};
use crate::name::ParamName;
use crate::near::Choices;
use crate::overrides::ParamOverride;
use crate::section::{self, Decode, Field, Section};
use crate::source::Located;
use crate::tree::Node;
use crate::value;

/// A workflow parameter and the value it has in this run.
#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    /// The name under `[params]`.
    pub name: Located<ParamName>,
    /// Its type and bounds.
    pub kind: ParamKind,
    /// The value: from `--set`, else the default. `None` if neither is sound; then it is reported.
    pub value: Option<Json>,
    /// One line for people.
    pub help: String,
    /// Whether the value came with `--set`.
    pub is_set: bool,
}

/// Reads `[params]` and settles every value.
pub(crate) fn read(
    entries: &[(Located<String>, Node)],
    overrides: Vec<ParamOverride>,
    report: &mut Report,
) -> Vec<Param> {
    for one in &overrides {
        let known = entries.iter().map(|(name, _)| &name.value);
        if known.clone().all(|name| *name != one.name.value) {
            let choices = Choices::of(&one.name.value, known);
            let name = one.name.value.clone();
            let thing = Thing::Param;
            report.error(
                one.name.place,
                Problem::Unknown {
                    thing,
                    name,
                    choices,
                },
            );
        }
    }
    entries
        .iter()
        .filter_map(|(name, node)| {
            let given = overrides
                .iter()
                .rev()
                .find(|one| one.name.value == name.value);
            declaration(name, node, given.map(|one| &one.node), report)
        })
        .collect()
}

fn declaration(
    written: &Located<String>,
    node: &Node,
    given: Option<&Node>,
    report: &mut Report,
) -> Option<Param> {
    let name: Located<ParamName> = section::name(written, report)?;
    let path = format!("params.{}", name.value);
    let mut section = Section::open(path.clone(), name.place, node, report);
    let kind: Field<Type> = section.required("type", "`float`, `int`, `bool` or `text`");
    let default: Field<Node> = section.optional("default");
    let bounds = (section.optional("min"), section.optional("max"));
    let choices: Field<Vec<String>> = section.optional("choices");
    let help: Field<String> = section.optional("help");
    section.close();

    let help = help.value().cloned().unwrap_or_default();
    let is_set = given.is_some();
    let kind = kind
        .value()
        .and_then(|kind| kind.bounded(&path, bounds, choices, report));
    let Some(kind) = kind else {
        let kind = ParamKind::Text;
        return Some(Param {
            name,
            kind,
            value: None,
            help,
            is_set,
        });
    };
    // The default must be sound even where an override hides it.
    let default = match default.value() {
        Some(node) => settle(node, &kind, &format!("{path}.default"), report),
        None if default.is_absent() && !is_set => {
            report.error(
                name.place,
                Problem::ParamWithoutValue {
                    name: name.value.to_string(),
                },
            );
            None
        }
        None => None,
    };
    let value = match given {
        Some(node) => settle(node, &kind, &path, report),
        None => default,
    };
    Some(Param {
        name,
        kind,
        value,
        help,
        is_set,
    })
}

fn settle(node: &Node, kind: &ParamKind, path: &str, report: &mut Report) -> Option<Json> {
    value::param(node, kind, path)
        .map_err(|problem| report.error(node.place, problem))
        .ok()
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Type {
    Float,
    Int,
    Bool,
    Text,
}

impl Decode for Type {
    fn decode(node: &Node, path: &str, report: &mut Report) -> Option<Self> {
        let all = [
            ("float", Type::Float),
            ("int", Type::Int),
            ("bool", Type::Bool),
            ("text", Type::Text),
        ];
        section::choice(node, path, &all, report)
    }
}

/// The default is read once the type is known.
impl Decode for Node {
    fn decode(node: &Node, _: &str, _: &mut Report) -> Option<Self> {
        Some(node.clone())
    }
}

impl Type {
    fn bounded(
        self,
        path: &str,
        (min, max): (Field<Node>, Field<Node>),
        choices: Field<Vec<String>>,
        report: &mut Report,
    ) -> Option<ParamKind> {
        let mut misplaced = |key: &'static str, place| {
            let section = path.to_owned();
            report.error(place, Problem::MisplacedKey { section, key });
        };
        if !matches!(self, Type::Float | Type::Int) {
            for (key, bound) in [("min", &min), ("max", &max)] {
                if let Some(bound) = bound.given() {
                    misplaced(key, bound.place);
                }
            }
        }
        if let (false, Some(choices)) = (self == Type::Text, choices.given()) {
            misplaced("choices", choices.place);
        }
        let bound = |field: &Field<Node>| field.value().cloned();
        let (min, max) = (bound(&min), bound(&max));
        match self {
            Type::Bool => Some(ParamKind::Bool),
            Type::Text => Some(match choices.value() {
                Some(choices) => ParamKind::Choice(choices.clone()),
                None => ParamKind::Text,
            }),
            Type::Int => {
                let min = min.map_or(Some(i64::MIN), |node| {
                    Decode::decode(&node, &format!("{path}.min"), report)
                })?;
                let max = max.map_or(Some(i64::MAX), |node| {
                    Decode::decode(&node, &format!("{path}.max"), report)
                })?;
                Some(ParamKind::Int { min, max })
            }
            Type::Float => {
                let min = min.map_or(Some(f64::MIN), |node| {
                    Decode::decode(&node, &format!("{path}.min"), report)
                })?;
                let max = max.map_or(Some(f64::MAX), |node| {
                    Decode::decode(&node, &format!("{path}.max"), report)
                })?;
                Some(ParamKind::Float { min, max })
            }
        }
    }
}
