//! Rows into a file: written beside it, made durable, then moved to its name.
//!
//! ```text
//! write(record)… ─> JSONL / CSV ─> plain / zstd / gzip ─> AtomicFile ─finish─> final name
//! ```
//!
//! A writer that is dropped without [`RecordWriter::finish`] leaves nothing behind.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use flate2::write::GzEncoder;
use serde_json::{Map, Value};

use crate::{AtomicFile, Columns, Compression, Error, FileKind, Format, Record, Result};

/// How to write a file of records.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    /// The columns to write. A label or unit column that is not named is left out.
    pub columns: Columns,
    /// Format and compression; `None` reads them off the extension.
    pub kind: Option<FileKind>,
}

/// Writes all records to `path`, whole or not at all.
///
/// # Errors
/// [`Error::UnknownFormat`], [`Error::DiskFull`], [`Error::Write`].
pub fn write_all<'a>(
    path: &Path,
    records: impl IntoIterator<Item = &'a Record>,
    options: &WriteOptions,
) -> Result<()> {
    let mut writer = RecordWriter::create(path, options)?;
    for record in records {
        writer.write(record)?;
    }
    writer.finish()
}

/// A file of records being written.
pub struct RecordWriter {
    encoder: Encoder<AtomicFile>,
    path: std::path::PathBuf,
}

impl RecordWriter {
    /// Starts a file that will replace `path` when finished.
    ///
    /// # Errors
    /// [`Error::UnknownFormat`], [`Error::DiskFull`], [`Error::Write`].
    pub fn create(path: &Path, options: &WriteOptions) -> Result<Self> {
        let kind = match options.kind {
            Some(kind) => kind,
            None => FileKind::of_path(path)?,
        };
        let file = AtomicFile::create(path)?;
        let encoder = Encoder::new(file, kind, options.columns.clone())
            .map_err(|source| Error::write(path, source))?;
        Ok(Self {
            encoder,
            path: path.to_owned(),
        })
    }

    /// Adds one row. An absent label or unit becomes `null` (JSONL) or an empty cell (CSV).
    ///
    /// # Errors
    /// [`Error::DiskFull`], [`Error::Write`].
    pub fn write(&mut self, record: &Record) -> Result<()> {
        self.encoder
            .write(record)
            .map_err(|source| Error::write(&self.path, source))
    }

    /// Makes the file durable and moves it to its name.
    ///
    /// # Errors
    /// [`Error::DiskFull`], [`Error::Write`]; then nothing has changed under the final name.
    pub fn finish(self) -> Result<()> {
        self.encoder
            .finish()
            .map_err(|source| Error::write(&self.path, source))?
            .commit()
    }
}

/// Turns records into bytes of one kind.
struct Encoder<W: Write> {
    packer: Packer<W>,
    format: Format,
    columns: Columns,
    row: Vec<u8>,
}

enum Packer<W: Write> {
    Plain(BufWriter<W>),
    Zstd(zstd::Encoder<'static, BufWriter<W>>),
    Gzip(GzEncoder<BufWriter<W>>),
}

impl<W: Write> Encoder<W> {
    fn new(out: W, kind: FileKind, columns: Columns) -> io::Result<Self> {
        const ZSTD_LEVEL: i32 = 9;
        let out = BufWriter::new(out);
        let packer = match kind.compression {
            Compression::Plain => Packer::Plain(out),
            Compression::Zstd => Packer::Zstd(zstd::Encoder::new(out, ZSTD_LEVEL)?),
            Compression::Gzip => Packer::Gzip(GzEncoder::new(out, flate2::Compression::default())),
        };
        let mut encoder = Self {
            packer,
            format: kind.format,
            columns,
            row: Vec::new(),
        };
        if encoder.format == Format::Csv {
            let header = [
                Some(encoder.columns.text.clone()),
                encoder.columns.label.clone(),
                encoder.columns.unit.clone(),
            ];
            encoder.put_csv(header.iter().flatten().map(String::as_str))?;
        }
        Ok(encoder)
    }

    fn write(&mut self, record: &Record) -> io::Result<()> {
        let optional = [
            (self.columns.label.clone(), &record.label),
            (self.columns.unit.clone(), &record.unit),
        ];
        let named = optional
            .into_iter()
            .filter_map(|(column, cell)| Some((column?, cell.as_deref())));
        match self.format {
            Format::Csv => {
                let cells: Vec<&str> = std::iter::once(record.text.as_str())
                    .chain(named.map(|(_, cell)| cell.unwrap_or_default()))
                    .collect();
                self.put_csv(cells.into_iter())
            }
            Format::Jsonl => {
                let mut object = Map::new();
                object.insert(self.columns.text.clone(), record.text.as_str().into());
                for (column, cell) in named {
                    object.insert(column, cell.map_or(Value::Null, Value::from));
                }
                self.row.clear();
                serde_json::to_writer(&mut self.row, &object)?;
                self.row.push(b'\n');
                self.put_row()
            }
        }
    }

    fn put_csv<'a>(&mut self, cells: impl Iterator<Item = &'a str>) -> io::Result<()> {
        self.row.clear();
        let mut writer = csv::Writer::from_writer(&mut self.row);
        writer
            .write_record(cells.map(str::as_bytes))
            .map_err(io::Error::other)?;
        writer.flush()?;
        drop(writer);
        self.put_row()
    }

    fn put_row(&mut self) -> io::Result<()> {
        match &mut self.packer {
            Packer::Plain(out) => out.write_all(&self.row),
            Packer::Zstd(out) => out.write_all(&self.row),
            Packer::Gzip(out) => out.write_all(&self.row),
        }
    }

    /// Ends the compressed stream and hands the target back, flushed.
    fn finish(self) -> io::Result<W> {
        let out = match self.packer {
            Packer::Plain(out) => out,
            Packer::Zstd(out) => out.finish()?,
            Packer::Gzip(out) => out.finish()?,
        };
        out.into_inner().map_err(io::IntoInnerError::into_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_named_and_has_a_remedy() {
        let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else {
            eprintln!("skipped: this system has no /dev/full");
            return;
        };
        for compression in [Compression::Plain, Compression::Zstd, Compression::Gzip] {
            let kind = FileKind {
                format: Format::Jsonl,
                compression,
            };
            let target = full.try_clone().unwrap();
            let mut encoder = Encoder::new(target, kind, Columns::default()).unwrap();
            encoder
                .write(&Record::labelled("a text", "a label"))
                .unwrap();
            let source = encoder.finish().unwrap_err();
            let error = Error::write(Path::new("out.jsonl"), source);
            assert!(
                matches!(error, Error::DiskFull { .. }),
                "{compression:?} {error:?}"
            );
            assert!(error.to_string().contains("free some space"));
        }
    }
}
