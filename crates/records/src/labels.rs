//! The declared labels: public, ordered, never read from private rows.
//!
//! The set of labels that happen to occur in private data is itself private, so it is an input.
//! A row whose label is not declared is set aside; how many there are is told to nobody.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Error, Record, Result};

/// The longest label, in bytes.
pub const LABEL_BYTES_MAX: usize = 256;

/// Distinct labels in a fixed order; a label's position is its class number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct LabelSet {
    names: Vec<String>,
    positions: HashMap<String, usize>,
}

/// Whether a label can be one of a [`LabelSet`]. `place` is where it stands; the message
/// quotes the label.
///
/// # Errors
/// [`Error::Labels`] if it is empty, too long, holds a line break or a tab, or has spaces around it.
pub fn check_label(place: &str, label: &str) -> Result<()> {
    let refuse = |problem: String, remedy| {
        Err(Error::Labels {
            place: place.to_owned(),
            problem,
            remedy,
        })
    };
    if label.trim().is_empty() {
        return refuse("the label is empty".to_owned(), "remove it or name it");
    }
    if label.trim() != label || label.chars().any(char::is_control) {
        return refuse(
            format!(
                "`{}` has spaces around it or control characters",
                label.trim()
            ),
            "remove them",
        );
    }
    if label.len() > LABEL_BYTES_MAX {
        return refuse(
            format!(
                "the label is {} bytes long, more than {LABEL_BYTES_MAX}",
                label.len()
            ),
            "shorten it",
        );
    }
    Ok(())
}

/// Rows whose label is declared, with their class, and the others.
///
/// The others may be left out of a sandboxed step: units are sampled by independent coins and sums
/// divided by a public figure, so that a unit that is left out and one that contributes zero give
/// the same release.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeclaredRows {
    /// Rows with a declared label and its position in the label set.
    pub declared: Vec<(Record, usize)>,
    /// Rows with another label, or none.
    pub undeclared: Vec<Record>,
}

impl LabelSet {
    /// A label set from a list, such as the one in a workflow.
    ///
    /// # Errors
    /// [`Error::Labels`] if the list is empty, or a label is empty, too long, holds a line break or
    /// a tab, has spaces around it, or stands twice.
    pub fn new(names: impl IntoIterator<Item = impl Into<String>>) -> Result<Self> {
        let numbered = names
            .into_iter()
            .enumerate()
            .map(|(i, name)| (format!("label {}", i + 1), name.into()));
        Self::build(numbered, "the list of labels")
    }

    /// Reads a labels file: one label a line, UTF-8, blank lines refused except at the end.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Read`], [`Error::NotUtf8`], and [`Error::Labels`] with the line.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|source| Error::read(path, source))?;
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            let good = &bytes[..error.valid_up_to()];
            Error::NotUtf8 {
                path: path.to_owned(),
                line: 1 + good.iter().filter(|&&b| b == b'\n').count() as u64,
                offset: good.len() as u64,
            }
        })?;
        let text = text.trim_start_matches('\u{feff}').trim_end();
        let place = format!("`{}`", path.display());
        let numbered = text
            .lines()
            .enumerate()
            .map(|(i, name)| (format!("{place} line {}", i + 1), name.to_owned()));
        Self::build(numbered, &place)
    }

    fn build(numbered: impl Iterator<Item = (String, String)>, whole: &str) -> Result<Self> {
        let mut names: Vec<String> = Vec::new();
        let mut positions = HashMap::new();
        for (place, name) in numbered {
            check_label(&place, &name)?;
            if let Some(first) = positions.insert(name.clone(), names.len()) {
                return Err(Error::Labels {
                    place,
                    problem: format!("`{name}` stands there already as label {}", first + 1),
                    remedy: "remove one of them",
                });
            }
            names.push(name);
        }
        if names.is_empty() {
            return Err(Error::Labels {
                place: whole.to_owned(),
                problem: "there are no labels".to_owned(),
                remedy: "declare every label the data may have, one a line",
            });
        }
        Ok(Self { names, positions })
    }

    /// The labels in their order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How many labels there are, at least one.
    #[allow(clippy::len_without_is_empty)] // never empty by construction
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// The class number of a label, if it is declared.
    pub fn position(&self, label: &str) -> Option<usize> {
        self.positions.get(label).copied()
    }

    /// The class number of a record's label, if it has one that is declared.
    pub fn position_of(&self, record: &Record) -> Option<usize> {
        self.position(record.label.as_deref()?)
    }

    /// Separates rows with a declared label from the others, keeping their order.
    pub fn split(&self, records: impl IntoIterator<Item = Record>) -> DeclaredRows {
        let mut rows = DeclaredRows::default();
        for record in records {
            match self.position_of(&record) {
                Some(class) => rows.declared.push((record, class)),
                None => rows.undeclared.push(record),
            }
        }
        rows
    }
}

impl TryFrom<Vec<String>> for LabelSet {
    type Error = Error;

    fn try_from(names: Vec<String>) -> Result<Self> {
        Self::new(names)
    }
}

impl From<LabelSet> for Vec<String> {
    fn from(labels: LabelSet) -> Self {
        labels.names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8]) -> Result<LabelSet> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        LabelSet::read(file.path())
    }

    #[test]
    fn a_labels_file_keeps_its_order() {
        let labels = read("\u{feff}billing\r\nappointment \u{e0} faire\n\n".as_bytes()).unwrap();
        assert_eq!(labels.names(), ["billing", "appointment \u{e0} faire"]);
        assert_eq!(labels.position("billing"), Some(0));
        assert_eq!(labels.position("delay"), None);
    }

    #[test]
    fn a_bad_labels_file_is_refused_with_its_line() {
        let message = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
        assert!(message(b"a\nb\na\n").contains("line 3: `a` stands there already as label 1"));
        assert!(message(b"a\n\nb\n").contains("line 2: the label is empty"));
        assert!(message(b"\n\n").contains("there are no labels"));
        assert!(message(b"a\n b\n").contains("line 2: `b` has spaces"));
        assert!(message(b"a\nb\xff\n").contains("line 2: byte 3"));
        assert!(message("x".repeat(257).as_bytes()).contains("257 bytes long"));
    }

    #[test]
    fn rows_with_undeclared_labels_are_set_aside_not_lost() {
        let labels = LabelSet::new(["x", "y"]).unwrap();
        let none = Record {
            label: None,
            ..Record::labelled("d", "")
        };
        let rows = labels.split([
            Record::labelled("a", "y"),
            Record::labelled("b", "z"),
            Record::labelled("c", "x"),
            none.clone(),
        ]);
        let classes: Vec<usize> = rows.declared.iter().map(|(_, class)| *class).collect();
        assert_eq!(classes, [1, 0]);
        assert_eq!(rows.undeclared, [Record::labelled("b", "z"), none]);
    }

    #[test]
    fn a_label_set_is_checked_when_it_is_deserialised() {
        let good: LabelSet = serde_json::from_str(r#"["a","b"]"#).unwrap();
        assert_eq!(serde_json::to_string(&good).unwrap(), r#"["a","b"]"#);
        assert!(serde_json::from_str::<LabelSet>(r#"["a","a"]"#).is_err());
    }
}
