//! Everything that can go wrong with records: place, problem, remedy.
//!
//! Deliberately absent: the rows themselves. A message names file, line and column, never a value.

use std::io;
use std::path::{Path, PathBuf};

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong with a file of records, a set of labels or a list of predictions.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file does not exist.
    #[error("`{}` does not exist; check the path of the data set", path.display())]
    Missing {
        /// The path asked for.
        path: PathBuf,
    },
    /// The file exists but holds no rows.
    #[error("`{}` holds no rows; a data set needs at least one", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The extension says nothing about the format.
    #[error("`{}` has no known extension; name it `.jsonl` or `.csv` (then `.zst` or `.gz` if compressed), or give the format", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// A row that cannot be read as a record.
    #[error("`{}` line {line}: {problem}; mend or remove this row", path.display())]
    MalformedRow {
        /// The file.
        path: PathBuf,
        /// The line the row starts on, from 1.
        line: u64,
        /// What is wrong, without the row's content.
        problem: String,
    },
    /// A column that was asked for is not there.
    #[error("`{}` line {line}: no column `{column}`; name the column that holds the {role} (a CSV file begins with a header line, a JSON object has the column's name as a key)", path.display())]
    MissingColumn {
        /// The file.
        path: PathBuf,
        /// The line that lacks it, from 1 (the header line of a CSV file).
        line: u64,
        /// The column asked for.
        column: String,
        /// What the column is for: `text`, `label` or `unit`.
        role: &'static str,
    },
    /// A column that is there twice: which of the two is meant, such as the patient that a row
    /// counts for, is not guessed at.
    #[error("`{}` line {line}: `{column}` is there twice; keep one of the two, or rename one", path.display())]
    DoubleColumn {
        /// The file.
        path: PathBuf,
        /// The line, from 1 (the header line of a CSV file).
        line: u64,
        /// The column.
        column: String,
    },
    /// Bytes that are not UTF-8.
    #[error("`{}` line {line}: byte {offset} of the (uncompressed) file is not UTF-8; convert the file to UTF-8", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// Offset of the first bad byte in the uncompressed file, from 0.
        offset: u64,
    },
    /// A row longer than the bound.
    #[error("`{}` line {line}: the row is longer than {bytes_max} bytes; split the text, or check for a missing line break or an unclosed quote", path.display())]
    RowTooLong {
        /// The file.
        path: PathBuf,
        /// The line the row starts on, from 1.
        line: u64,
        /// The bound.
        bytes_max: usize,
    },
    /// A compressed file that ends early.
    #[error("`{}` ends in the middle of its {compression} data, after line {line}; copy or compress it again", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// `zstd` or `gzip`.
        compression: &'static str,
        /// The last line that could be read, 0 if none.
        line: u64,
    },
    /// A compressed file that cannot be unpacked.
    #[error("`{}` is not valid {compression} data after line {line}; check that its extension fits, or compress it again", path.display())]
    CorruptCompression {
        /// The file.
        path: PathBuf,
        /// `zstd` or `gzip`.
        compression: &'static str,
        /// The last line that could be read, 0 if none.
        line: u64,
        /// What the decompressor said.
        #[source]
        source: io::Error,
    },
    /// Reading failed for another reason.
    #[error("cannot read `{}`; check that it is a readable file", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The disk is full. Nothing stands under the final name.
    #[error("the disk is full while writing `{}`; free some space and run again, nothing half written was left", path.display())]
    DiskFull {
        /// The file that was to be written.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Writing failed for another reason. Nothing stands under the final name.
    #[error("cannot write `{}`; check that its folder exists and can be written to", path.display())]
    Write {
        /// The file that was to be written.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A label set that cannot be used.
    #[error("{place}: {problem}; {remedy}")]
    Labels {
        /// Where: a file and line, or the list.
        place: String,
        /// What is wrong. Labels are public, so it may quote one.
        problem: String,
        /// How to mend it.
        remedy: &'static str,
    },
    /// A record that names no privacy unit although records are grouped by one.
    #[error(
        "record {index} names no privacy unit; read the file with a unit column, or group by record"
    )]
    NoUnit {
        /// Position in the list, from 0.
        index: usize,
    },
    /// An option outside its range.
    #[error("`{option}` is {given}; it must be {expected}")]
    Option {
        /// The option.
        option: &'static str,
        /// What was given.
        given: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// Predictions that cannot be scored.
    #[error("prediction {index}: {problem}; score predictions made with the same {classes} labels")]
    Prediction {
        /// Position in the list, from 0.
        index: usize,
        /// What is wrong.
        problem: &'static str,
        /// How many labels there are.
        classes: usize,
    },
    /// No predictions, or two lists of different length.
    #[error(
        "cannot compare {left} predictions with {right}; both models must answer the same rows, at least one"
    )]
    Pairing {
        /// Length of the first list.
        left: usize,
        /// Length of the second list.
        right: usize,
    },
}

impl Error {
    /// A read error of the operating system, told apart by kind.
    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { path },
            _ => Self::Read { path, source },
        }
    }

    /// A write error of the operating system, told apart by kind.
    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::DiskFull { path, source },
            _ => Self::Write { path, source },
        }
    }
}
