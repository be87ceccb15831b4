//! CSV with a header row; a quoted cell may hold line breaks.
//!
//! Rows with more or fewer cells than the header are refused: they usually mean a quote is missing.

use std::io::Read;

use super::Place;
use crate::source::{RowBudget, Utf8Guard};
use crate::{Columns, Record, Result};

const BUFFER_BYTES: usize = 64 << 10;

pub(super) struct CsvRows {
    rows: csv::Reader<Utf8Guard<Box<dyn Read + Send>>>,
    budget: RowBudget,
    text: usize,
    label: Option<usize>,
    unit: Option<usize>,
    group: Option<usize>,
    row: csv::StringRecord,
    pub(super) line: u64,
}

impl CsvRows {
    pub(super) fn new(
        bytes: Box<dyn Read + Send>,
        columns: Columns,
        place: &Place,
    ) -> Result<Self> {
        let budget = RowBudget::new((place.row_bytes_max + BUFFER_BYTES) as u64);
        let guard = Utf8Guard::new(bytes, budget.clone());
        let mut rows = csv::ReaderBuilder::new()
            .buffer_capacity(BUFFER_BYTES)
            .from_reader(guard);
        let header = rows
            .headers()
            .map_err(|error| csv_error(error, 1, place))?
            .clone();
        if header.is_empty() {
            return Err(crate::Error::Empty {
                path: place.path.clone(),
            });
        }
        let find = |column: &str, role| {
            let mut found = (0..header.len()).filter(|&index| &header[index] == column);
            match (found.next(), found.next()) {
                (Some(index), None) => Ok(index),
                (None, _) => Err(place.missing_column(1, column, role)),
                (Some(_), Some(_)) => Err(place.double_column(1, column)),
            }
        };
        Ok(Self {
            text: find(&columns.text, "text")?,
            label: columns
                .label
                .as_deref()
                .map(|name| find(name, "label"))
                .transpose()?,
            unit: columns
                .unit
                .as_deref()
                .map(|name| find(name, "unit"))
                .transpose()?,
            group: columns
                .group
                .as_deref()
                .map(|name| find(name, "group"))
                .transpose()?,
            rows,
            budget,
            row: csv::StringRecord::new(),
            line: 0,
        })
    }

    pub(super) fn next_row(&mut self, place: &Place) -> Result<Option<Record>> {
        self.budget.refill();
        let start = self.rows.position().clone();
        let more = self
            .rows
            .read_record(&mut self.row)
            .map_err(|error| csv_error(error, start.line(), place))?;
        if !more {
            return Ok(None);
        }
        let line = self
            .row
            .position()
            .map_or(start.line(), csv::Position::line);
        self.line = line;
        let bytes = self.rows.position().byte() - start.byte();
        if bytes > place.row_bytes_max as u64 {
            return Err(place.too_long(line));
        }
        // The csv crate has checked that this row is as long as the header.
        let cell = |index: usize| self.row[index].to_owned();
        let unit = self.unit.map(|index| Some(cell(index)));
        let group = self.group.map(cell).filter(|group| !group.is_empty());
        let record = place.record(line, cell(self.text), self.label.map(cell), unit)?;
        Ok(Some(Record { group, ..record }))
    }
}

fn csv_error(error: csv::Error, line: u64, place: &Place) -> crate::Error {
    let line = error.position().map_or(line, csv::Position::line);
    match error.into_kind() {
        csv::ErrorKind::Io(source) => place.io_error(line, source),
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => place.malformed(
            line,
            format!("the row has {len} cells, the header has {expected_len}"),
        ),
        _ => place.malformed(line, "not valid CSV"),
    }
}
