//! What a file's extension says: rows as JSONL or CSV, compressed or not.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated with a header row (RFC 4180 quoting).
    Csv,
}

/// How the file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    Plain,
    /// Zstandard, `.zst`.
    Zstd,
    /// Gzip, `.gz`.
    Gzip,
}

/// Format and compression of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileKind {
    /// How rows are written.
    pub format: Format,
    /// How the file is packed.
    pub compression: Compression,
}

impl FileKind {
    /// Reads the kind off the extension: `.jsonl`, `.ndjson` or `.csv`, then perhaps `.zst` or `.gz`.
    ///
    /// # Errors
    /// [`Error::UnknownFormat`] for any other extension.
    pub fn of_path(path: &Path) -> Result<Self> {
        let unknown = || Error::UnknownFormat {
            path: path.to_owned(),
        };
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(unknown)?
            .to_ascii_lowercase();
        let (rest, compression) = if let Some(rest) = name.strip_suffix(".zst") {
            (rest, Compression::Zstd)
        } else if let Some(rest) = name.strip_suffix(".gz") {
            (rest, Compression::Gzip)
        } else {
            (name.as_str(), Compression::Plain)
        };
        let format = match rest.rsplit_once('.') {
            Some((_, "jsonl" | "ndjson")) => Format::Jsonl,
            Some((_, "csv")) => Format::Csv,
            _ => return Err(unknown()),
        };
        Ok(Self {
            format,
            compression,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_says_format_and_compression() {
        let kind =
            |name: &str| FileKind::of_path(Path::new(name)).map(|k| (k.format, k.compression));
        assert_eq!(
            kind("a/b.train.jsonl.zst").unwrap(),
            (Format::Jsonl, Compression::Zstd)
        );
        assert_eq!(kind("B.CSV.GZ").unwrap(), (Format::Csv, Compression::Gzip));
        assert_eq!(
            kind("x.ndjson").unwrap(),
            (Format::Jsonl, Compression::Plain)
        );
    }

    #[test]
    fn an_unknown_extension_is_refused_with_a_remedy() {
        for name in ["notes.txt", "notes", "notes.zst", ".zst", "/"] {
            let error = FileKind::of_path(Path::new(name)).unwrap_err().to_string();
            assert!(error.contains("name it `.jsonl` or `.csv`"), "{error}");
        }
    }
}
