//! SHA-256 of files and of records, to pin what a result was computed from.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::{Compression, Error, Record, Result, source};

/// SHA-256 of a file's bytes as they stand on disk.
///
/// # Errors
/// [`Error::Missing`], [`Error::Read`].
pub fn digest_file(path: &Path) -> Result<[u8; 32]> {
    let file = File::open(path).map_err(|source| Error::read(path, source))?;
    digest(path, BufReader::new(file))
}

fn digest(path: &Path, mut reader: impl Read) -> Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = reader
            .read(&mut buffer)
            .map_err(|source| Error::read(path, source))?;
        if count == 0 {
            return Ok(hasher.finalize().into());
        }
        hasher.update(&buffer[..count]);
    }
}

/// SHA-256 of a file's bytes once they are unpacked: the same for the same rows, however packed.
///
/// # Errors
/// [`Error::Missing`], [`Error::Read`], which a damaged package gives too.
pub fn digest_unpacked(path: &Path, compression: Compression) -> Result<[u8; 32]> {
    digest(path, source::open(path, compression)?)
}

/// SHA-256 of records in their order, independent of file format and compression.
///
/// Computed from what was read rather than from the file, so that a file changed in between cannot
/// pass for the old one. Each field is preceded by a presence byte and its length, so that no two
/// different lists give the same bytes.
pub fn digest_records(records: &[Record]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(b"noisegate records 1\n");
    for record in records {
        for field in [
            Some(record.text.as_str()),
            record.label.as_deref(),
            record.unit.as_deref(),
        ] {
            hasher.update([u8::from(field.is_some())]);
            let bytes = field.unwrap_or_default().as_bytes();
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        }
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_a_character_between_fields_changes_the_digest() {
        let one = [Record::labelled("ab", "c")];
        let two = [Record::labelled("a", "bc")];
        let none = [Record {
            label: None,
            ..Record::labelled("ab", "")
        }];
        let empty = [Record::labelled("ab", "")];
        let digests = [&one, &two, &none, &empty].map(|r| digest_records(r));
        for (i, a) in digests.iter().enumerate() {
            assert!(digests[..i].iter().all(|b| b != a));
        }
    }

    #[test]
    fn a_packed_file_has_the_digest_of_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let rows = b"{\"text\":\"a\",\"label\":\"b\"}\n";
        let (half, rest) = rows.split_at(9);
        let mut gzip = Vec::new();
        // Two members one after the other are one file, as for `gzip -d`.
        for part in [half, rest] {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            std::io::Write::write_all(&mut encoder, part).unwrap();
            gzip.extend(encoder.finish().unwrap());
        }
        let zstd = zstd::encode_all(&rows[..], 19).unwrap();
        let path = folder.path().join("rows");
        for (bytes, compression) in [
            (rows.to_vec(), Compression::Plain),
            (gzip.clone(), Compression::Gzip),
            (zstd, Compression::Zstd),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let digest = digest_unpacked(&path, compression).unwrap();
            assert_eq!(digest[..], Sha256::digest(rows)[..]);
        }
        std::fs::write(&path, &gzip[..gzip.len() - 4]).unwrap();
        assert!(digest_unpacked(&path, Compression::Gzip).is_err());
    }

    #[test]
    fn a_file_digest_is_plain_sha256() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"abc").unwrap();
        let hex: String = digest_file(file.path())
            .unwrap()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            hex,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
