//! A flat little-endian encoding for contexts: what the public side hands to
//! every fresh private instance, so that nothing has to be parsed there.
//!
//! No versions and no optional fields: writer and reader are the same component.

/// Appends numbers and bytes.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// One u32.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// One f32.
    pub fn f32(&mut self, value: f32) -> &mut Self {
        self.u32(value.to_bits())
    }

    /// Bytes, with their length before them.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.u32(bytes.len() as u32);
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Several u32, with their count before them.
    pub fn u32s(&mut self, values: &[u32]) -> &mut Self {
        self.u32(values.len() as u32);
        for &value in values {
            self.u32(value);
        }
        self
    }

    /// What was written.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads what [`Writer`] wrote, in the same order; panics where it cannot.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (head, rest) = self.rest.split_at(length);
        self.rest = rest;
        head
    }

    /// One u32.
    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().expect("four bytes were taken"))
    }

    /// One u32 as an index or a size.
    pub fn size(&mut self) -> usize {
        self.u32() as usize
    }

    /// One f32.
    pub fn f32(&mut self) -> f32 {
        f32::from_bits(self.u32())
    }

    /// Bytes with their length before them, borrowed.
    pub fn bytes(&mut self) -> &'a [u8] {
        let length = self.size();
        self.take(length)
    }

    /// Several u32 with their count before them.
    pub fn u32s(&mut self) -> Vec<u32> {
        let count = self.size();
        (0..count).map(|_| self.u32()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back() {
        let mut writer = Writer::default();
        writer.u32(7).f32(-0.5).bytes(b"abc").u32s(&[1, 2]);
        let bytes = writer.finish();
        let mut reader = Reader::new(&bytes);
        assert_eq!((reader.u32(), reader.f32()), (7, -0.5));
        assert_eq!((reader.bytes(), reader.u32s()), (&b"abc"[..], vec![1, 2]));
    }
}
