//! Bytes of a file, unpacked and known to be UTF-8, with faults that remember where they are.
//!
//! ```text
//! file ─> zstd / gzip ─> Utf8Guard ─> rows (JSONL lines or the csv crate)
//! ```
//!
//! The guard sits below the parsers because the csv crate reads ahead and loses exact offsets.
//! Bytes before a fault are delivered first, so every good row ahead of it is still read.
//!
//! Deliberately absent: rows. This file knows bytes and line breaks only.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Compression, Error, Result};

/// Opens `path` and unpacks it.
pub(crate) fn open(path: &Path, compression: Compression) -> Result<Box<dyn Read + Send>> {
    let file = File::open(path).map_err(|source| Error::read(path, source))?;
    unpack(file, compression).map_err(|source| Error::read(path, source))
}

/// Unpacks any byte stream.
pub(crate) fn unpack(
    bytes: impl Read + Send + 'static,
    compression: Compression,
) -> io::Result<Box<dyn Read + Send>> {
    Ok(match compression {
        Compression::Plain => Box::new(bytes),
        Compression::Zstd => Box::new(zstd::Decoder::new(bytes)?),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::new(bytes))),
    })
}

/// Why a stream of bytes cannot go on; travels inside an [`io::Error`].
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub(crate) enum Fault {
    /// A byte that is not UTF-8: line from 1, offset from 0.
    #[error("not UTF-8")]
    NotUtf8 { line: u64, offset: u64 },
    /// The parser asked for more bytes than a row may have.
    #[error("row too long")]
    RowTooLong,
}

/// How many more bytes may be read before the parser has finished the current row.
///
/// The parser refills it after each row; the guard draws from it. A clone shares the count.
#[derive(Debug, Clone)]
pub(crate) struct RowBudget {
    left: Arc<AtomicU64>,
    full: u64,
}

impl RowBudget {
    pub(crate) fn new(full: u64) -> Self {
        Self {
            left: Arc::new(full.into()),
            full,
        }
    }

    pub(crate) fn refill(&self) {
        self.left.store(self.full, Ordering::Relaxed);
    }

    /// Takes `bytes`; false if there were not that many.
    fn draw(&self, bytes: u64) -> bool {
        let left = self.left.load(Ordering::Relaxed);
        self.left
            .store(left.saturating_sub(bytes), Ordering::Relaxed);
        left >= bytes
    }
}

/// Passes bytes on while they are UTF-8 and the current row is not too long.
pub(crate) struct Utf8Guard<R> {
    inner: R,
    budget: RowBudget,
    /// Line breaks and bytes passed on so far.
    lines: u64,
    offset: u64,
    /// The last bytes passed on, if they begin a character that is not complete yet.
    partial: Vec<u8>,
    fault: Option<Fault>,
}

impl<R: Read> Utf8Guard<R> {
    pub(crate) fn new(inner: R, budget: RowBudget) -> Self {
        Self {
            inner,
            budget,
            lines: 0,
            offset: 0,
            partial: Vec::new(),
            fault: None,
        }
    }

    /// How many of `fresh` may be passed on; remembers a fault that follows them.
    fn check(&mut self, fresh: &[u8]) -> usize {
        let carried = self.partial.len();
        let joined = [self.partial.as_slice(), fresh].concat();
        let (good, bad) = match std::str::from_utf8(&joined) {
            Ok(_) => (joined.len(), false),
            Err(error) => (
                error.valid_up_to(),
                error.error_len().is_some() || fresh.is_empty(),
            ),
        };
        let passed = if bad {
            good.saturating_sub(carried)
        } else {
            fresh.len()
        };
        let breaks = fresh[..passed].iter().filter(|&&b| b == b'\n').count() as u64;
        let start = self.offset - carried as u64;
        self.lines += breaks;
        self.offset += passed as u64;
        self.partial = joined[good..].to_vec();
        if bad {
            self.fault = Some(Fault::NotUtf8 {
                line: self.lines + 1,
                offset: start + good as u64,
            });
        }
        passed
    }
}

impl<R: Read> Read for Utf8Guard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.fault.is_none() {
            let count = self.inner.read(buffer)?;
            if !self.budget.draw(count as u64) {
                self.fault = Some(Fault::RowTooLong);
            } else {
                let passed = self.check(&buffer[..count]);
                if passed > 0 || self.fault.is_none() {
                    return Ok(passed);
                }
            }
        }
        match self.fault {
            Some(fault) => Err(io::Error::new(io::ErrorKind::InvalidData, fault)),
            None => Ok(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out one byte at a time, so every character is split.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else {
                return Ok(0);
            };
            buffer[0] = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    fn drain(bytes: &[u8]) -> (Vec<u8>, Option<(u64, u64)>) {
        let mut guard = Utf8Guard::new(Drip(bytes), RowBudget::new(1000));
        let mut out = Vec::new();
        let fault = guard.read_to_end(&mut out).err().map(|error| {
            match error.get_ref().and_then(|e| e.downcast_ref::<Fault>()) {
                Some(Fault::NotUtf8 { line, offset }) => (*line, *offset),
                other => panic!("{other:?}"),
            }
        });
        (out, fault)
    }

    #[test]
    fn characters_split_between_reads_pass() {
        let text = "a\u{e9}\n\u{20ac}\n\u{1f600}".as_bytes();
        assert_eq!(drain(text), (text.to_vec(), None));
    }

    #[test]
    fn a_bad_byte_is_placed_by_line_and_offset() {
        assert_eq!(drain(b"ok\nab\xffcd"), (b"ok\nab".to_vec(), Some((2, 5))));
    }

    #[test]
    fn a_character_cut_off_at_the_end_is_placed_at_its_first_byte() {
        assert_eq!(drain(b"a\n\xe2\x82").1, Some((2, 2)));
    }

    #[test]
    fn a_whole_buffer_gives_the_same_place_as_single_bytes() {
        let bytes = b"ok\n\xc3\xa9\xe2\x28\xa1";
        let mut guard = Utf8Guard::new(&bytes[..], RowBudget::new(1000));
        let mut out = Vec::new();
        let error = guard.read_to_end(&mut out).unwrap_err();
        assert_eq!(out, b"ok\n\xc3\xa9");
        assert!(
            format!("{error:?}").contains("line: 2, offset: 5"),
            "{error:?}"
        );
        assert_eq!(drain(bytes).1, Some((2, 5)));
    }
}
