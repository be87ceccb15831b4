//! `--set key=value`: values put into the tree before anything is read from it.
//!
//! | key | sets |
//! |---|---|
//! | `params.epsilon` | the value of the parameter `epsilon` |
//! | `data.train` | `data.train.path` |
//! | `exports.model` | `exports.model.path` |
//! | `steps.train.with.epochs` | that key, and so on for any key of a section that is there |
//!
//! An override changes a workflow but never adds a section to it: a mistyped `data.trian=…` is an
//! error, not a new data set. Nor does it make private data public: that takes the file itself. A value stays untyped text until somebody reads it, so that
//! `data.train.path=2020` is a path.

use std::str::FromStr;

use crate::diagnostics::Report;
use crate::error::{Problem, Thing};
use crate::near::Choices;
use crate::source::{Located, Place, Source};
use crate::tree::{Node, Table, Value};

/// One `key=value` given from outside the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// Dotted, such as `data.train.path`.
    pub key: String,
    /// Untyped.
    pub value: String,
}

/// The text is not `key=value`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not `key=value`; write for example `params.epsilon=3` or `data.train=rows.jsonl`"
)]
pub struct OverrideError(pub String);

impl FromStr for Override {
    type Err = OverrideError;

    fn from_str(text: &str) -> Result<Self, OverrideError> {
        match text.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => Ok(Self {
                key: key.trim().to_owned(),
                value: value.trim().to_owned(),
            }),
            _ => Err(OverrideError(text.to_owned())),
        }
    }
}

impl Override {
    /// The text that diagnostics show and point into.
    pub(crate) fn source(&self) -> Source {
        Source::new("--set", format!("{}={}", self.key, self.value))
    }
}

/// A value for a workflow parameter, given from outside.
pub(crate) struct ParamOverride {
    pub name: Located<String>,
    pub node: Node,
}

/// Puts all overrides into the tree; hands back those that set parameters.
pub(crate) fn apply(
    root: &mut Table,
    overrides: &[Override],
    report: &mut Report,
) -> Vec<ParamOverride> {
    let mut params = Vec::new();
    for (index, one) in overrides.iter().enumerate() {
        let source = index + 1;
        let key = Place {
            source,
            start: 0,
            end: one.key.len(),
        };
        let value = Place {
            source,
            start: one.key.len() + 1,
            end: one.key.len() + 1 + one.value.len(),
        };
        let node = Node::new(value, Value::Bare(one.value.clone()));
        let segments: Vec<&str> = one.key.split('.').collect();
        let outcome = match segments.as_slice() {
            ["params", name] => {
                params.push(ParamOverride {
                    name: Located {
                        value: (*name).to_owned(),
                        place: key,
                    },
                    node,
                });
                Ok(())
            }
            [section @ ("data" | "exports"), name] => {
                set(root, &[section, name, "path"], key, node)
            }
            segments => set(root, segments, key, node),
        };
        if let Err(problem) = outcome {
            report.error(key, problem);
        }
    }
    params
}

fn set(root: &mut Table, segments: &[&str], key: Place, node: Node) -> Result<(), Problem> {
    let Some((last, sections)) = segments.split_last() else {
        return Err(unsettable(segments));
    };
    let mut table = root;
    for (depth, segment) in sections.iter().enumerate() {
        must_exist(table, segments, depth)?;
        if table.get(segment).is_none() {
            let name = Located {
                value: (*segment).to_owned(),
                place: key,
            };
            table
                .entries
                .push((name, Node::new(key, Value::Table(Table::default()))));
        }
        table = match table.get_mut(segment).map(|node| &mut node.value) {
            Some(Value::Table(inner)) => inner,
            _ => return Err(unsettable(segments)),
        };
    }
    if sections.is_empty() || (sections.len() == 1 && sections[0] != "workflow") {
        return Err(unsettable(segments));
    }
    match table.get_mut(last) {
        Some(old) if is_private(old, segments) => return Err(unsettable(segments)),
        Some(old) => *old = node,
        None => {
            let name = Located {
                value: (*last).to_owned(),
                place: key,
            };
            table.entries.push((name, node));
        }
    }
    Ok(())
}

/// Top sections and the things named in them must be there; deeper tables may be born.
fn must_exist(table: &Table, segments: &[&str], depth: usize) -> Result<(), Problem> {
    let segment = segments[depth];
    if depth == 0 && segment == "sites" {
        return Err(unsettable(segments));
    }
    let sections = ["workflow", "params", "data", "steps", "exports"];
    if depth == 0 && !sections.contains(&segment) {
        return Err(Problem::UnknownKey {
            section: "a workflow".to_owned(),
            key: segment.to_owned(),
            choices: Choices::of(segment, sections),
        });
    }
    if depth != 1 || table.get(segment).is_some() {
        return Ok(());
    }
    let thing = match segments[0] {
        "params" => return Err(unsettable(segments)),
        "data" => Thing::DataSet,
        "exports" => Thing::Export,
        "steps" => Thing::Step,
        _ => return Ok(()),
    };
    Err(Problem::Unknown {
        thing,
        name: segment.to_owned(),
        choices: Choices::of(segment, table.keys()),
    })
}

/// `private` of a data set, unless it is plainly `false`.
fn is_private(old: &Node, segments: &[&str]) -> bool {
    matches!(segments, ["data", _, "private"]) && old.value != Value::Bool(false)
}

fn unsettable(segments: &[&str]) -> Problem {
    Problem::Unsettable {
        key: segments.join("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;

    fn applied(file: &str, set: &str) -> (Table, Report) {
        let mut report = Report::default();
        let mut root = tree::parse(file, &mut report);
        let one: Override = set.parse().expect("key=value");
        apply(&mut root, &[one], &mut report);
        (root, report)
    }

    #[test]
    fn a_data_set_alone_means_its_path() {
        let (root, report) = applied("[data.train]\npath = 'a'\n", "data.train=b=c.jsonl");
        assert!(!report.has_errors());
        let Value::Table(data) = &root.get("data").expect("data").value else {
            panic!("data is a table");
        };
        let Value::Table(train) = &data.get("train").expect("train").value else {
            panic!("train is a table");
        };
        let path = train.get("path").expect("path");
        assert_eq!(path.value, Value::Bare("b=c.jsonl".to_owned()));
        assert!(path.place.is_override());
    }

    #[test]
    fn an_override_neither_adds_a_section_nor_publishes_data() {
        for set in [
            "data.trian=b",
            "steps.x.with.y=1",
            "dta.train=b",
            "nothing=1",
            "data.train.path.deep=1",
            "data.train.private=false",
            "params.a.b=1",
        ] {
            let (_, report) = applied("[data.train]\npath = 'a'\nprivate = true\n", set);
            assert!(report.has_errors(), "{set}");
        }
        let by_a_parameter = "[data.train]\npath = 'a'\nprivate = '{{ params.x }}'\n";
        let (_, report) = applied(by_a_parameter, "data.train.private=false");
        assert!(report.has_errors());
    }

    #[test]
    fn a_text_without_an_equals_sign_is_no_override() {
        assert!("epsilon".parse::<Override>().is_err());
        assert!("=3".parse::<Override>().is_err());
    }
}
