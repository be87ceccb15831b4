//! How each type of value is read: references, budgets, units, labels, paths.
//!
//! The plain ones (text, numbers, names) stand with the trait in `section.rs`.

use noisegate_privacy::{Delta, Epsilon};

use crate::artifact::ArtifactId;
use crate::diagnostics::Report;
use crate::error::Problem;
use crate::section::{self, Decode, Field, Section};
use crate::tree::{self, Node, Value};
use crate::value;
use crate::workflow::{FilePath, Format, Labels, PrivacyPair, RelativeTo, Unit};

impl Decode for ArtifactId {
    fn decode(node: &Node, path: &str, report: &mut Report) -> Option<Self> {
        if node.value == Value::Unreadable {
            return None;
        }
        let text = String::decode(node, path, report)?;
        let id = text.parse().ok();
        if id.is_none() {
            report.error(node.place, Problem::BadReference { text });
        }
        id
    }
}

impl Decode for PrivacyPair {
    fn decode(node: &Node, path: &str, report: &mut Report) -> Option<Self> {
        let mut section = Section::open(path.to_owned(), node.place, node, report);
        let epsilon = section.required("epsilon", "how much one unit may show; smaller is safer");
        let delta = section.required("delta", "the chance that the promise fails");
        section.close();
        match (epsilon, delta) {
            (Field::Given(epsilon), Field::Given(delta)) => Some(Self { epsilon, delta }),
            _ => None,
        }
    }
}

impl Decode for Epsilon {
    fn decode(node: &Node, path: &str, report: &mut Report) -> Option<Self> {
        let number = f64::decode(node, path, report)?;
        let epsilon = Epsilon::new(number).ok();
        if epsilon.is_none() {
            out_of_range(node, path, format!("{number:?}"), "more than 0", report);
        }
        epsilon
    }
}

impl Decode for Delta {
    fn decode(node: &Node, path: &str, report: &mut Report) -> Option<Self> {
        let number = f64::decode(node, path, report)?;
        let delta = Delta::new(number).ok();
        if delta.is_none() {
            out_of_range(
                node,
                path,
                format!("{number:?}"),
                "more than 0 and less than 1",
                report,
            );
        }
        delta
    }
}

/// A number of things: a whole number from 1.
impl Decode for u64 {
    fn decode(node: &Node, path: &str, report: &mut Report) -> Option<Self> {
        let number = i64::decode(node, path, report)?;
        let count = u64::try_from(number).ok().filter(|count| *count > 0);
        if count.is_none() {
            out_of_range(node, path, number.to_string(), "1 or more", report);
        }
        count
    }
}

fn out_of_range(node: &Node, path: &str, found: String, range: &str, report: &mut Report) {
    let (path, range) = (path.to_owned(), range.to_owned());
    report.error(node.place, Problem::OutOfRange { path, found, range });
}

impl Decode for Unit {
    fn decode(node: &Node, path: &str, report: &mut Report) -> Option<Self> {
        Some(match non_empty(node, path, report)? {
            text if text == "record" => Unit::Record,
            // The ledger notes it beside the cap.
            column if column.len() > UNIT_BYTES_MAX || column.chars().any(char::is_control) => {
                let why = format!(
                    "the name of a unit's column has at most {UNIT_BYTES_MAX} bytes and no control characters"
                );
                report.error(
                    node.place,
                    Problem::UnusableText {
                        path: path.to_owned(),
                        why,
                    },
                );
                return None;
            }
            column => Unit::Column(column),
        })
    }
}

const UNIT_BYTES_MAX: usize = 256;

/// The name of a column.
pub(crate) struct Column(pub String);

impl Decode for Column {
    fn decode(node: &Node, path: &str, report: &mut Report) -> Option<Self> {
        non_empty(node, path, report).map(Self)
    }
}

impl Decode for Format {
    fn decode(node: &Node, path: &str, report: &mut Report) -> Option<Self> {
        section::choice(node, path, &Format::ALL, report)
    }
}

impl Decode for FilePath {
    fn decode(node: &Node, path: &str, report: &mut Report) -> Option<Self> {
        let text = non_empty(node, path, report)?;
        let relative_to = match node.given_outside {
            true => RelativeTo::WorkingFolder,
            false => RelativeTo::WorkflowFile,
        };
        Some(Self { text, relative_to })
    }
}

/// Why no row could have a label, if so; as a file of labels is read.
fn unusable(label: &str) -> Option<String> {
    if label.trim() != label || label.chars().any(char::is_control) {
        let label = label.trim();
        return Some(format!(
            "the label `{label}` has spaces around it or control characters"
        ));
    }
    (label.len() > LABEL_BYTES_MAX).then(|| {
        format!(
            "a label has {} bytes, more than {LABEL_BYTES_MAX}",
            label.len()
        )
    })
}

const LABEL_BYTES_MAX: usize = 256;

impl Decode for Labels {
    /// A list, or the path of a labels file. From `--set` also `a,b,c`.
    fn decode(node: &Node, path: &str, report: &mut Report) -> Option<Self> {
        let labels: Vec<String> = match &node.value {
            Value::List(_) => Vec::decode(node, path, report)?,
            Value::Bare(text) if text.starts_with('[') => {
                let parsed = tree::parse_value(text).unwrap_or_else(|| Value::Bare(text.clone()));
                Vec::decode(&Node::new(node.place, parsed), path, report)?
            }
            Value::Bare(text) if text.contains(',') => text
                .split(',')
                .map(|label| label.trim().to_owned())
                .collect(),
            _ if value::text(node).is_some() => {
                return FilePath::decode(node, path, report).map(Labels::File);
            }
            _ => {
                section::wrong_type(
                    node,
                    path,
                    "a list of labels or the path of a labels file",
                    report,
                );
                return None;
            }
        };
        if labels.iter().any(|label| label.trim().is_empty()) {
            let path = path.to_owned();
            report.error(node.place, Problem::EmptyEntry { path });
            return None;
        }
        if let Some(why) = labels.iter().find_map(|label| unusable(label)) {
            let path = path.to_owned();
            report.error(node.place, Problem::UnusableText { path, why });
            return None;
        }
        let repeated = (1..labels.len()).find(|&at| labels[..at].contains(&labels[at]));
        if let Some(at) = repeated {
            let (path, value) = (path.to_owned(), labels[at].clone());
            report.error(node.place, Problem::Repeated { path, value });
            return None;
        }
        if labels.is_empty() {
            report.error(
                node.place,
                Problem::Empty {
                    path: path.to_owned(),
                },
            );
            return None;
        }
        Some(Labels::List(labels))
    }
}

fn non_empty(node: &Node, path: &str, report: &mut Report) -> Option<String> {
    let text = String::decode(node, path, report)?;
    if text.trim().is_empty() {
        report.error(
            node.place,
            Problem::Empty {
                path: path.to_owned(),
            },
        );
        return None;
    }
    Some(text)
}
