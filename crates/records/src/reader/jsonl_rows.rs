//! JSON Lines: one object a line, blank lines skipped.

use std::fmt;
use std::io::{BufRead, BufReader, Read};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::{LIST_SEPARATOR, LabelForm, Place};
use crate::source::{RowBudget, Utf8Guard};
use crate::{Columns, Record, Result};

const BUFFER_BYTES: usize = 64 << 10;

pub(super) struct JsonlRows {
    bytes: BufReader<Utf8Guard<Box<dyn Read + Send>>>,
    budget: RowBudget,
    columns: Columns,
    pub(super) line: u64,
    buffer: Vec<u8>,
}

impl JsonlRows {
    pub(super) fn new(bytes: Box<dyn Read + Send>, columns: Columns, place: &Place) -> Self {
        let budget = RowBudget::new((place.row_bytes_max + BUFFER_BYTES) as u64);
        let guard = Utf8Guard::new(bytes, budget.clone());
        Self {
            bytes: BufReader::with_capacity(BUFFER_BYTES, guard),
            budget,
            columns,
            line: 0,
            buffer: Vec::new(),
        }
    }

    pub(super) fn next_row(&mut self, place: &Place) -> Result<Option<Record>> {
        loop {
            self.budget.refill();
            self.buffer.clear();
            self.line += 1;
            let count = self
                .bytes
                .read_until(b'\n', &mut self.buffer)
                .map_err(|source| place.io_error(self.line, source))?;
            if count == 0 {
                return Ok(None);
            }
            let mut row = self.buffer.as_slice();
            if self.line == 1 {
                row = row.strip_prefix(b"\xef\xbb\xbf").unwrap_or(row);
            }
            let row = row.trim_ascii();
            if row.len() > place.row_bytes_max {
                return Err(place.too_long(self.line));
            }
            if !row.is_empty() {
                return self.parse(row, place).map(Some);
            }
        }
    }

    fn parse(&self, row: &[u8], place: &Place) -> Result<Record> {
        let line = self.line;
        // serde_json's own message may quote a value; only its column is passed on.
        let mut json = serde_json::Deserializer::from_slice(row);
        let cells = Wanted(&self.columns).deserialize(&mut json);
        let cells = cells
            .and_then(|cells| json.end().map(|()| cells))
            .map_err(|error| {
                let problem = match error.classify() {
                    serde_json::error::Category::Data => "the row is not a JSON object".to_owned(),
                    serde_json::error::Category::Eof => {
                        "the JSON ends early, a bracket or quote is not closed".to_owned()
                    }
                    _ => format!("not valid JSON at column {}", error.column()),
                };
                place.malformed(line, problem)
            })?;
        if let Some(column) = cells.twice {
            return Err(place.double_column(line, column));
        }
        let take = |column: &str, role| {
            let found = cells.values.iter().find(|(name, _)| *name == column);
            // Two roles may name the same column, so it is copied.
            let value = found.map(|(_, value)| value.clone());
            value.ok_or_else(|| place.missing_column(line, column, role))
        };
        let text = match take(&self.columns.text, "text")? {
            Value::String(text) => text,
            _ => {
                let problem = format!("`{}` is not a string", self.columns.text);
                return Err(place.malformed(line, problem));
            }
        };
        let cell = |column: &Option<String>, role| -> Result<Option<Option<String>>> {
            let Some(column) = column else {
                return Ok(None);
            };
            let labels = match role {
                "label" => place.labels,
                _ => LabelForm::One,
            };
            match take(column, role)? {
                Value::Number(cell) if labels == LabelForm::Number => {
                    Ok(Some(Some(cell.to_string())))
                }
                Value::Array(cells) if labels == LabelForm::Many => {
                    let joined = joined(&cells).map_err(|problem| {
                        place.malformed(line, format!("`{column}` {problem}"))
                    })?;
                    Ok(Some(Some(joined)))
                }
                Value::String(cell) => Ok(Some(Some(cell))),
                Value::Number(cell) if !cell.is_f64() => Ok(Some(Some(cell.to_string()))),
                Value::Null => Ok(Some(None)),
                _ => {
                    let problem = format!("`{column}` is neither a string, an integer nor null");
                    Err(place.malformed(line, problem))
                }
            }
        };
        let label = cell(&self.columns.label, "label")?;
        let unit = cell(&self.columns.unit, "unit")?;
        let group = match &self.columns.group {
            None => None,
            Some(column) => match take(column, "group")? {
                Value::String(group) => Some(group).filter(|group| !group.is_empty()),
                Value::Null => None,
                Value::Array(_) | Value::Object(_) => {
                    let problem = format!("`{column}` is a list or an object");
                    return Err(place.malformed(line, problem));
                }
                number => Some(number.to_string()),
            },
        };
        let record = place.record(line, text, label.flatten(), unit)?;
        Ok(Record { group, ..record })
    }
}

/// The labels of a list, as one string.
fn joined(cells: &[Value]) -> std::result::Result<String, &'static str> {
    let label = |cell: &Value| match cell {
        Value::String(label) if !label.contains(LIST_SEPARATOR) => Ok(label.clone()),
        Value::String(_) => Err("has a label with `;` in it, which stands between labels"),
        _ => Err("is a list with something that is no string"),
    };
    let labels: Vec<String> = cells
        .iter()
        .map(label)
        .collect::<std::result::Result<_, _>>()?;
    Ok(labels.join(&LIST_SEPARATOR.to_string()))
}

/// Reads the columns that are wanted out of an object, and passes over the others.
#[derive(Clone, Copy)]
struct Wanted<'a>(&'a Columns);

/// What an object holds of the columns that are wanted.
struct Cells<'a> {
    values: Vec<(&'a str, Value)>,
    twice: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    fn named(self, key: &str) -> Option<&'a str> {
        let Columns {
            text,
            label,
            unit,
            group,
        } = self.0;
        [Some(text), label.as_ref(), unit.as_ref(), group.as_ref()]
            .into_iter()
            .flatten()
            .find(|column| *column == key)
            .map(String::as_str)
    }
}

impl<'a, 'de> DeserializeSeed<'de> for Wanted<'a> {
    type Value = Cells<'a>;

    fn deserialize<D: Deserializer<'de>>(
        self,
        json: D,
    ) -> std::result::Result<Cells<'a>, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'a, 'de> Visitor<'de> for Wanted<'a> {
    type Value = Cells<'a>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(
        self,
        mut object: M,
    ) -> std::result::Result<Cells<'a>, M::Error> {
        let mut cells = Cells {
            values: Vec::new(),
            twice: None,
        };
        while let Some(key) = object.next_key::<String>()? {
            let Some(column) = self.named(&key) else {
                object.next_value::<IgnoredAny>()?;
                continue;
            };
            if cells.values.iter().any(|(name, _)| *name == column) {
                cells.twice = Some(column);
            }
            cells.values.push((column, object.next_value()?));
        }
        Ok(cells)
    }
}
