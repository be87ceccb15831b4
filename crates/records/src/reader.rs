//! Rows out of a file, one at a time: `for record in RecordReader::open(path, &options)?`.
//!
//! The reader stops at the first fault: a data set with a bad row is mended, not guessed at.
//! Rows ahead of the fault have been handed out by then, so act on them only after the end.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::source::{self, Fault};
use crate::{Columns, Compression, Error, FileKind, Format, Record, Result};

mod csv_rows;
mod jsonl_rows;

/// The longest row, in bytes of the uncompressed file, unless the options say otherwise: 1 MiB.
pub const ROW_BYTES_MAX: usize = 1 << 20;

/// What the cells of the label column hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LabelForm {
    /// One label: a string or an integer.
    #[default]
    One,
    /// Any number of labels: a JSON array of strings, or one string with [`LIST_SEPARATOR`] between
    /// them, which is how [`Record::label`] holds them.
    Many,
    /// A number, within the range of an f32.
    Number,
}

/// Stands between the labels of a row that has several.
pub const LIST_SEPARATOR: char = ';';

/// The number in a cell; `None` if it is none, or none that a model could say.
pub fn number(cell: &str) -> Option<f64> {
    let number: f64 = cell.trim().parse().ok()?;
    (number as f32).is_finite().then_some(number)
}

/// How to read a file of records.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// Which columns to keep.
    pub columns: Columns,
    /// Format and compression; `None` reads them off the extension.
    pub kind: Option<FileKind>,
    /// What the cells of the label column hold.
    pub labels: LabelForm,
    /// The longest row allowed, in bytes.
    pub row_bytes_max: usize,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            columns: Columns::default(),
            kind: None,
            labels: LabelForm::One,
            row_bytes_max: ROW_BYTES_MAX,
        }
    }
}

/// Reads a whole file.
///
/// # Errors
/// Every [`Error`] about reading; [`Error::Empty`] if there are no rows.
pub fn read_all(path: &Path, options: &ReadOptions) -> Result<Vec<Record>> {
    RecordReader::open(path, options)?.collect()
}

/// A file of records, read row by row in bounded memory.
///
/// Yields at least one item: a file without rows yields [`Error::Empty`]. After an error it yields
/// nothing more.
pub struct RecordReader {
    rows: Rows,
    place: Place,
    any: bool,
    done: bool,
}

/// What an error message needs to know about the file.
#[derive(Debug, Clone)]
struct Place {
    path: PathBuf,
    compression: Compression,
    row_bytes_max: usize,
    labels: LabelForm,
}

enum Rows {
    Jsonl(jsonl_rows::JsonlRows),
    Csv(csv_rows::CsvRows),
}

impl RecordReader {
    /// Opens a file.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::UnknownFormat`], and for CSV whatever is wrong with the header
    /// row: [`Error::MissingColumn`], [`Error::NotUtf8`], [`Error::Truncated`] and so on.
    pub fn open(path: &Path, options: &ReadOptions) -> Result<Self> {
        let kind = match options.kind {
            Some(kind) => kind,
            None => FileKind::of_path(path)?,
        };
        let bytes = source::open(path, kind.compression)?;
        Self::build(path, bytes, kind, options)
    }

    /// Reads rows from any stream; `name` stands in error messages.
    ///
    /// # Errors
    /// As [`RecordReader::open`]. The kind is that of the options, else that of `name`'s extension.
    pub fn from_read(
        name: &Path,
        bytes: impl Read + Send + 'static,
        options: &ReadOptions,
    ) -> Result<Self> {
        let kind = match options.kind {
            Some(kind) => kind,
            None => FileKind::of_path(name)?,
        };
        let bytes =
            source::unpack(bytes, kind.compression).map_err(|source| Error::read(name, source))?;
        Self::build(name, bytes, kind, options)
    }

    /// The line on which the last row began, from 1; 0 before the first.
    pub fn line(&self) -> u64 {
        match &self.rows {
            Rows::Jsonl(rows) => rows.line,
            Rows::Csv(rows) => rows.line,
        }
    }

    fn build(
        path: &Path,
        bytes: Box<dyn Read + Send>,
        kind: FileKind,
        options: &ReadOptions,
    ) -> Result<Self> {
        let place = Place {
            path: path.to_owned(),
            compression: kind.compression,
            row_bytes_max: options.row_bytes_max,
            labels: options.labels,
        };
        let columns = options.columns.clone();
        let rows = match kind.format {
            Format::Jsonl => Rows::Jsonl(jsonl_rows::JsonlRows::new(bytes, columns, &place)),
            Format::Csv => Rows::Csv(csv_rows::CsvRows::new(bytes, columns, &place)?),
        };
        Ok(Self {
            rows,
            place,
            any: false,
            done: false,
        })
    }
}

impl Iterator for RecordReader {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let row = match &mut self.rows {
            Rows::Jsonl(rows) => rows.next_row(&self.place),
            Rows::Csv(rows) => rows.next_row(&self.place),
        };
        match row {
            Ok(Some(record)) => {
                self.any = true;
                Some(Ok(record))
            }
            Ok(None) => {
                self.done = true;
                (!self.any).then(|| {
                    Err(Error::Empty {
                        path: self.place.path.clone(),
                    })
                })
            }
            Err(error) => {
                self.done = true;
                Some(Err(error))
            }
        }
    }
}

impl Place {
    /// An I/O error while the row on `line` was being read.
    fn io_error(&self, line: u64, source: io::Error) -> Error {
        let path = self.path.clone();
        if let Some(fault) = source.get_ref().and_then(|e| e.downcast_ref::<Fault>()) {
            return match *fault {
                Fault::NotUtf8 { line, offset } => Error::NotUtf8 { path, line, offset },
                Fault::RowTooLong => self.too_long(line),
            };
        }
        let compression = match self.compression {
            Compression::Plain => return Error::read(&path, source),
            Compression::Zstd => "zstd",
            Compression::Gzip => "gzip",
        };
        let line = line - 1;
        match source.kind() {
            io::ErrorKind::UnexpectedEof => Error::Truncated {
                path,
                compression,
                line,
            },
            _ if source.raw_os_error().is_some() => Error::Read { path, source },
            _ => Error::CorruptCompression {
                path,
                compression,
                line,
                source,
            },
        }
    }

    fn malformed(&self, line: u64, problem: impl Into<String>) -> Error {
        Error::MalformedRow {
            path: self.path.clone(),
            line,
            problem: problem.into(),
        }
    }

    fn too_long(&self, line: u64) -> Error {
        Error::RowTooLong {
            path: self.path.clone(),
            line,
            bytes_max: self.row_bytes_max,
        }
    }

    fn missing_column(&self, line: u64, column: &str, role: &'static str) -> Error {
        Error::MissingColumn {
            path: self.path.clone(),
            line,
            column: column.to_owned(),
            role,
        }
    }

    fn double_column(&self, line: u64, column: &str) -> Error {
        Error::DoubleColumn {
            path: self.path.clone(),
            line,
            column: column.to_owned(),
        }
    }

    /// A record from its cells, once they are text.
    fn record(
        &self,
        line: u64,
        text: String,
        label: Option<String>,
        unit: Option<Option<String>>,
    ) -> Result<Record> {
        let unit = match unit {
            Some(None) => return Err(self.malformed(line, "the unit is empty")),
            Some(Some(unit)) if unit.is_empty() => {
                return Err(self.malformed(line, "the unit is empty"));
            }
            Some(unit) => unit,
            None => None,
        };
        let label = label.filter(|label| !label.is_empty());
        let wrong = |cell: &String| self.labels == LabelForm::Number && number(cell).is_none();
        if label.as_ref().is_some_and(wrong) {
            return Err(self.malformed(line, "the label is no number, such as `2.5`"));
        }
        Ok(Record {
            text,
            label,
            unit,
            group: None,
        })
    }
}
