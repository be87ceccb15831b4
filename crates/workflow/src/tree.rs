//! A workflow file as a tree of values that know where they were written.
//!
//! ```text
//! text ──toml──> Node ──overrides──> Node ──placeholders──> Node ──read──> Workflow
//! ```
//!
//! Entries keep the order of the file. Nothing here knows what a key means; `read` does.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostics::Report;
use crate::error::Problem;
use crate::source::{Located, Place};

/// A value as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it was written.
    pub place: Place,
    /// What was written.
    pub value: Value,
    /// Whether a workflow parameter was put in here, and which.
    pub from_param: Option<String>,
    /// Whether the value came with `--set`, itself or through a parameter.
    pub given_outside: bool,
}

/// The kinds of value a workflow may hold.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A quoted string.
    Text(String),
    /// The value of a `--set`, whose type is decided by whoever reads it.
    Bare(String),
    /// A whole number.
    Int(i64),
    /// A number with a point or an exponent.
    Float(f64),
    /// `true` or `false`.
    Bool(bool),
    /// `[…]`
    List(Vec<Node>),
    /// `{…}` or `[…]` headers.
    Table(Table),
    /// A date or time, which no key of a workflow takes.
    Date,
    /// Already reported; readers pass over it in silence.
    Unreadable,
}

/// A table in the order in which its keys first appear.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// Keys are unique: TOML sees to that.
    pub entries: Vec<(Located<String>, Node)>,
}

impl Table {
    /// The value under `key`.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|(_, node)| node)
    }

    pub(crate) fn entry(&self, key: &str) -> Option<&(Located<String>, Node)> {
        self.entries.iter().find(|(name, _)| name.value == key)
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.entries
            .iter_mut()
            .find(|(name, _)| name.value == key)
            .map(|(_, node)| node)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(name, _)| name.value.as_str())
    }
}

impl Node {
    pub(crate) fn new(place: Place, value: Value) -> Self {
        Self {
            place,
            value,
            from_param: None,
            given_outside: place.is_override(),
        }
    }

    /// What the value is, for messages: `a text`, `an integer`.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Text(_) | Value::Bare(_) => "a text",
            Value::Int(_) => "an integer",
            Value::Float(_) => "a number",
            Value::Bool(_) => "true or false",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
            Value::Date => "a date",
            Value::Unreadable => "unreadable",
        }
    }

    /// The value and, when a workflow parameter stands here, its name: for messages.
    pub(crate) fn described(&self) -> String {
        let value = match &self.value {
            Value::Text(text) | Value::Bare(text) => format!("the text `{text}`"),
            Value::Int(number) => format!("the integer `{number}`"),
            Value::Float(number) => format!("the number `{number:?}`"),
            Value::Bool(truth) => format!("`{truth}`"),
            _ => self.kind().to_owned(),
        };
        match &self.from_param {
            Some(param) => format!("{value} from `params.{param}`"),
            None => value,
        }
    }
}

/// Reads TOML. Every syntax error is reported; the tree is only whole if there was none.
pub(crate) fn parse(text: &str, report: &mut Report) -> Table {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut repeated_until = 0;
    for error in errors {
        let place = Place::in_file(error.span().unwrap_or(0..0));
        let detail = error.message().to_owned();
        let problem = if detail.contains("duplicate key") {
            if place.start < repeated_until {
                continue;
            }
            repeated_until = end_of_repeated_section(text, place.start);
            let name = text.get(place.start..place.end).unwrap_or_default();
            Problem::DuplicateName {
                name: name.to_owned(),
            }
        } else {
            Problem::Syntax { detail }
        };
        report.error(place, problem);
    }
    table(document.get_ref(), report)
}

/// Every key below a repeated header is repeated too; the header alone is worth a message.
///
/// The offset at which the next section begins, or 0 if what is repeated is no header.
fn end_of_repeated_section(text: &str, at: usize) -> usize {
    let (before, after) = text.split_at(text.floor_char_boundary(at));
    let line = before.rsplit('\n').next().unwrap_or_default();
    if !line.trim_start().starts_with('[') {
        return 0;
    }
    after
        .find("\n[")
        .map_or(text.len(), |next| before.len() + next)
}

fn table(entries: &DeTable<'_>, report: &mut Report) -> Table {
    let mut entries: Vec<_> = entries
        .iter()
        .map(|(key, value)| {
            let name = Located {
                value: key.get_ref().to_string(),
                place: Place::in_file(key.span()),
            };
            (name, node(value, report))
        })
        .collect();
    // `toml` sorts by name; people read, and expect errors, in the order of the file.
    entries.sort_by_key(|(name, _)| name.place);
    Table { entries }
}

fn node(value: &Spanned<DeValue<'_>>, report: &mut Report) -> Node {
    let place = Place::in_file(value.span());
    let value = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Boolean(truth) => Value::Bool(*truth),
        DeValue::Datetime(_) => Value::Date,
        DeValue::Array(items) => Value::List(items.iter().map(|item| node(item, report)).collect()),
        DeValue::Table(entries) => Value::Table(table(entries, report)),
        DeValue::Integer(digits) => match i64::from_str_radix(digits.as_str(), digits.radix()) {
            Ok(number) => Value::Int(number),
            Err(_) => too_large(digits.as_str(), place, report),
        },
        DeValue::Float(digits) => match digits.as_str().parse::<f64>() {
            Ok(number) if number.is_finite() => Value::Float(number),
            _ => too_large(digits.as_str(), place, report),
        },
    };
    Node::new(place, value)
}

fn too_large(digits: &str, place: Place, report: &mut Report) -> Value {
    report.error(
        place,
        Problem::NotANumber {
            digits: digits.to_owned(),
        },
    );
    Value::Unreadable
}

/// Reads one TOML value, such as the right side of a `--set`. `None` if it is none.
pub(crate) fn parse_value(text: &str) -> Option<Value> {
    let value = DeValue::parse(text).ok()?;
    let mut report = Report::default();
    let node = node(&value, &mut report);
    (!report.has_errors()).then_some(node.value)
}
