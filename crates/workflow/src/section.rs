//! Reads one table of the file, key by key, and reports what is left over.
//!
//! ```text
//! let mut section = Section::open("data.notes", node, report);
//! let site: Field<SiteName> = section.required("site", "the site that owns the data");
//! let format: Field<Format> = section.optional("format");
//! section.close();          // whatever was not asked for is an unknown key
//! ```
//!
//! Reading never stops at an error: an unreadable value becomes [`Field::Unreadable`], and the
//! checks pass over it in silence, so that one mistake gives one message.

use std::str::FromStr;

use crate::diagnostics::Report;
use crate::error::Problem;
use crate::name::NameError;
use crate::near::Choices;
use crate::source::{Located, Place};
use crate::tree::{Node, Table, Value};
use crate::value;

/// The value of a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Field<T> {
    /// Not written, and need not be.
    Absent,
    /// Missing or wrong, and already reported.
    Unreadable,
    /// Written, and well formed.
    Given(Located<T>),
}

impl<T> Field<T> {
    /// The value with its place, if it was given.
    pub fn given(&self) -> Option<&Located<T>> {
        match self {
            Field::Given(located) => Some(located),
            _ => None,
        }
    }

    /// The value, if it was given.
    pub fn value(&self) -> Option<&T> {
        self.given().map(|located| &located.value)
    }

    /// Whether nothing was written.
    pub fn is_absent(&self) -> bool {
        matches!(self, Field::Absent)
    }
}

/// A type that can be read out of one value. Reports and gives `None` if it cannot.
pub(crate) trait Decode: Sized {
    fn decode(node: &Node, path: &str, report: &mut Report) -> Option<Self>;
}

pub(crate) struct Section<'t, 'r> {
    path: String,
    place: Place,
    table: Option<&'t Table>,
    asked: Vec<&'static str>,
    report: &'r mut Report,
}

impl<'t, 'r> Section<'t, 'r> {
    /// `path` is the dotted name of the table, `place` where its name stands.
    pub(crate) fn open(path: String, place: Place, node: &'t Node, report: &'r mut Report) -> Self {
        let table = expect_table(node, &path, report);
        Self {
            path,
            place,
            table,
            asked: Vec::new(),
            report,
        }
    }

    fn title(&self) -> String {
        match self.path.as_str() {
            "" => "a workflow".to_owned(),
            path => format!("`[{path}]`"),
        }
    }

    fn entry(&mut self, key: &'static str) -> Option<&'t (Located<String>, Node)> {
        self.asked.push(key);
        self.table?.entry(key)
    }

    pub(crate) fn optional<T: Decode>(&mut self, key: &'static str) -> Field<T> {
        if self.table.is_none() {
            return Field::Unreadable;
        }
        let Some((_, node)) = self.entry(key) else {
            return Field::Absent;
        };
        if node.value == Value::Unreadable {
            return Field::Unreadable;
        }
        match T::decode(node, &format!("{}.{key}", self.path), self.report) {
            Some(value) => Field::Given(Located {
                value,
                place: node.place,
            }),
            None => Field::Unreadable,
        }
    }

    /// Like `optional`, but reports an absent key; `why` says what it is for.
    pub(crate) fn required<T: Decode>(&mut self, key: &'static str, why: &'static str) -> Field<T> {
        let field = self.optional(key);
        if !field.is_absent() {
            return field;
        }
        let section = self.title();
        self.report
            .error(self.place, Problem::MissingKey { section, key, why });
        Field::Unreadable
    }

    /// The entries of an inner table of free names; empty if it is absent.
    pub(crate) fn entries(&mut self, key: &'static str) -> &'t [(Located<String>, Node)] {
        let Some((_, node)) = self.entry(key) else {
            return &[];
        };
        let path = match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        };
        expect_table(node, &path, self.report).map_or(&[], |table| &table.entries)
    }

    /// An inner table with the place of its name.
    pub(crate) fn inner(&mut self, key: &'static str) -> Option<(Place, &'t Node)> {
        self.entry(key).map(|(name, node)| (name.place, node))
    }

    pub(crate) fn close(self) {
        let Some(table) = self.table else { return };
        let title = self.title();
        for (name, _) in &table.entries {
            let key = name.value.as_str();
            if !self.asked.contains(&key) {
                let section = title.clone();
                let choices = Choices::of(key, &self.asked);
                let key = key.to_owned();
                self.report.error(
                    name.place,
                    Problem::UnknownKey {
                        section,
                        key,
                        choices,
                    },
                );
            }
        }
    }
}

pub(crate) fn expect_table<'a>(
    node: &'a Node,
    path: &str,
    report: &mut Report,
) -> Option<&'a Table> {
    match &node.value {
        Value::Table(table) => Some(table),
        Value::Unreadable => None,
        _ => {
            wrong_type(node, path, "a table", report);
            None
        }
    }
}

pub(crate) fn wrong_type(node: &Node, path: &str, wanted: &str, report: &mut Report) {
    let problem = Problem::WrongType {
        path: path.to_owned(),
        wanted: wanted.to_owned(),
        found: node.described(),
    };
    report.error(node.place, problem);
}

/// Reads a name from a key of a table, such as `notes` in `[data.notes]`.
pub(crate) fn name<T: FromStr<Err = NameError>>(
    written: &Located<String>,
    report: &mut Report,
) -> Option<Located<T>> {
    match written.value.parse() {
        Ok(value) => Some(Located {
            value,
            place: written.place,
        }),
        Err(NameError(name)) => {
            report.error(written.place, Problem::BadName { name });
            None
        }
    }
}

/// Reads one of a few words.
pub(crate) fn choice<T: Copy>(
    node: &Node,
    path: &str,
    all: &[(&str, T)],
    report: &mut Report,
) -> Option<T> {
    let word = String::decode(node, path, report)?;
    let found = all.iter().find(|(name, _)| *name == word);
    if found.is_none() {
        let path = path.to_owned();
        let choices = Choices::of(&word, all.iter().map(|(name, _)| name));
        report.error(
            node.place,
            Problem::UnknownChoice {
                path,
                found: word,
                choices,
            },
        );
    }
    found.map(|(_, value)| *value)
}

impl Decode for String {
    fn decode(node: &Node, path: &str, report: &mut Report) -> Option<Self> {
        let text = value::text(node);
        if text.is_none() {
            wrong_type(node, path, "a text", report);
        }
        text
    }
}

impl Decode for bool {
    fn decode(node: &Node, path: &str, report: &mut Report) -> Option<Self> {
        let truth = value::bool(node);
        if truth.is_none() {
            wrong_type(node, path, "true or false", report);
        }
        truth
    }
}

impl Decode for f64 {
    fn decode(node: &Node, path: &str, report: &mut Report) -> Option<Self> {
        let number = value::float(node);
        if number.is_none() {
            wrong_type(node, path, "a number", report);
        }
        number
    }
}

impl Decode for i64 {
    fn decode(node: &Node, path: &str, report: &mut Report) -> Option<Self> {
        let number = value::int(node);
        if number.is_none() {
            wrong_type(node, path, "an integer", report);
        }
        number
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(node: &Node, path: &str, report: &mut Report) -> Option<Self> {
        let Value::List(items) = &node.value else {
            wrong_type(node, path, "a list", report);
            return None;
        };
        // Every bad item is reported, so this is no `collect::<Option<_>>` of a lazy iterator.
        let items: Vec<Option<T>> = items
            .iter()
            .map(|item| T::decode(item, path, report))
            .collect();
        items.into_iter().collect()
    }
}

macro_rules! decode_names {
    ($($name:ident)*) => {$(
        impl Decode for crate::name::$name {
            fn decode(node: &Node, path: &str, report: &mut Report) -> Option<Self> {
                let written = Located {
                    value: String::decode(node, path, report)?,
                    place: node.place,
                };
                name(&written, report).map(|name| name.value)
            }
        }
    )*};
}

decode_names! { WorkflowName SiteName }
