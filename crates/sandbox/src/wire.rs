//! Plain bytes between the parent and its workers.
//!
//! ```text
//! parent ──header (kind, length) over a socket──> worker      and back
//!        ──payload through a memory file, the `board`──>
//! ```
//! One message at a time, in one direction at a time. The parent writes messages to the
//! board and reads them from it by position, into memory of its own: what a worker changes
//! in it afterwards changes nothing that the parent has read. Contributions are read
//! through a mapping ([`crate::board`]); a board cannot be shrunk.
//!
//! A worker may have been taken over by its guest, so the parent believes
//! nothing here: a length is compared with a bound before anything is
//! allocated, and every count with the bytes that are left. Sizes are
//! u64, little-endian; lists of floats are their bytes.
//!
//! Not here: what the messages mean ([`crate::messages`]).

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

/// Bytes that are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed message")]
pub struct Malformed;

impl From<Malformed> for io::Error {
    fn from(malformed: Malformed) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, malformed)
    }
}

/// Length of a [`Header`] on the socket.
pub(crate) const HEADER_BYTES: usize = 16;

/// Changes whenever a message does; both ends are the same program, so a
/// difference means that something else was started.
const MAGIC: u32 = 0x6e67_7702;

/// Announces a payload on the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Which message.
    pub(crate) kind: u32,
    /// Bytes of its payload.
    pub(crate) len: u64,
}

impl Header {
    pub(crate) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.kind.to_le_bytes());
        bytes[8..].copy_from_slice(&self.len.to_le_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8; HEADER_BYTES]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.u32()? != MAGIC {
            return Err(Malformed);
        }
        Ok(Header {
            kind: reader.u32()?,
            len: reader.u64()?,
        })
    }
}

/// One end of the line between a parent and a worker.
pub(crate) struct Line<Socket> {
    pub(crate) socket: Socket,
    pub(crate) board: File,
}

impl<Socket: Read + Write> Line<Socket> {
    /// Sends a message whose payload is `parts`, one after the other.
    pub(crate) fn post(&mut self, kind: u32, parts: &[&[u8]]) -> io::Result<()> {
        let mut len = 0;
        for part in parts {
            self.board.write_all_at(part, len)?;
            len += part.len() as u64;
        }
        self.announce(kind, len)
    }

    /// Sends a message whose payload is on the board already.
    pub(crate) fn announce(&mut self, kind: u32, len: u64) -> io::Result<()> {
        self.socket.write_all(&Header { kind, len }.to_bytes())
    }

    /// Reads the whole payload that `header` announces.
    ///
    /// # Errors
    /// If it is longer than `bytes_max`, or not there.
    pub(crate) fn payload(&self, header: Header, bytes_max: u64) -> io::Result<Vec<u8>> {
        let len = usize::try_from(header.len).map_err(|_| Malformed)?;
        if header.len > bytes_max {
            return Err(Malformed.into());
        }
        let mut payload = vec![0; len];
        self.board.read_exact_at(&mut payload, 0)?;
        Ok(payload)
    }
}

/// Floats from their bytes; a rest of less than four is left out.
pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    let mut floats = vec![0.0_f32; bytes.len() / 4];
    let whole = &bytes[..floats.len() * 4];
    bytemuck::cast_slice_mut(&mut floats).copy_from_slice(whole);
    floats
}

/// Builds a payload.
#[derive(Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.u64(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    pub(crate) fn text(&mut self, value: &str) -> &mut Self {
        self.bytes(value.as_bytes())
    }
}

/// Takes a payload apart; borrows from it and allocates nothing.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        Reader(payload)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = usize::try_from(self.u64()?).map_err(|_| Malformed)?;
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }

    /// A count of things that take at least `bytes_each` each: no more than fit.
    pub(crate) fn count(&mut self, bytes_each: usize) -> Result<usize, Malformed> {
        let count = usize::try_from(self.u32()?).map_err(|_| Malformed)?;
        match count.checked_mul(bytes_each) {
            Some(bytes) if bytes <= self.0.len() => Ok(count),
            _ => Err(Malformed),
        }
    }

    /// That nothing is left.
    pub(crate) fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(Malformed)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }
}
