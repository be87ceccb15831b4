//! One labelled text, and the names of the columns it comes from.
//!
//! Fields a workflow does not name are dropped at the edge: what is not held cannot leak.

use serde::{Deserialize, Serialize};

/// One row: a text, perhaps its label, perhaps the privacy unit it belongs to.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Record {
    /// The text, as it stands in the file.
    pub text: String,
    /// The label; `None` if no label column was named, or the cell is empty or null.
    pub label: Option<String>,
    /// The privacy unit, such as a patient; `None` if no unit column was named.
    pub unit: Option<String>,
    /// The subgroup, such as a ward; `None` if no group column was named, or the cell is empty or
    /// null.
    pub group: Option<String>,
}

impl Record {
    /// A record with a label and no unit.
    pub fn labelled(text: impl Into<String>, label: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            label: Some(label.into()),
            unit: None,
            group: None,
        }
    }
}

/// Shows sizes only: a record that ends up in a log line must not take its text there.
impl std::fmt::Debug for Record {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Record")
            .field("text_bytes", &self.text.len())
            .field("has_label", &self.label.is_some())
            .field("has_unit", &self.unit.is_some())
            .finish()
    }
}

/// Which columns of a file to read or write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    /// The column that holds the text.
    pub text: String,
    /// The column that holds the label, if labels are wanted.
    pub label: Option<String>,
    /// The column that names the privacy unit, such as `patient_id`.
    pub unit: Option<String>,
    /// The column whose values are scored apart, such as `ward`. It is read, never written.
    pub group: Option<String>,
}

/// `text` and `label`, every record its own unit.
impl Default for Columns {
    fn default() -> Self {
        Self {
            text: "text".to_owned(),
            label: Some("label".to_owned()),
            unit: None,
            group: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_printed_for_debugging_shows_no_text() {
        let record = Record::labelled("a secret diagnosis", "symptoms");
        let shown = format!("{record:?}");
        assert!(!shown.contains("secret") && !shown.contains("symptoms"));
        assert!(shown.contains("18"));
    }
}
