//! Is `general.alignment` zero? The library that reads the file divides by it.
//!
//! A walk over the metadata that keeps nothing. Whatever else is wrong with them, the library says.
//!
//! # Source
//! The GGUF specification, `docs/gguf.md` of ggml: "File structure". Version 1 counts in 32 bits.

/// Whether the file says that tensors lie at multiples of 0 bytes.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    let mut rest = Rest {
        bytes: bytes.get(4..).unwrap_or_default(),
        wide: true,
    };
    let mut zero = false;
    // Of a key that is there twice either may count.
    rest.walk(&mut zero);
    zero
}

/// What was not walked over yet; `None` at the end of the file.
struct Rest<'a> {
    bytes: &'a [u8],
    /// Lengths have 64 bits.
    wide: bool,
}

impl<'a> Rest<'a> {
    fn walk(&mut self, zero: &mut bool) -> Option<()> {
        self.wide = self.number(4)? > 1;
        self.length()?;
        for _ in 0..self.length()? {
            let mut key = self.string()?;
            // The library takes zeros at the end of a key for its end.
            while let [shorter @ .., 0] = key {
                key = shorter;
            }
            let kind = self.number(4)?;
            if key == b"general.alignment" && kind <= 5 {
                *zero |= self.number(width(kind)?)? == 0;
            } else {
                self.skip(kind)?;
            }
        }
        Some(())
    }

    fn skip(&mut self, kind: u64) -> Option<()> {
        match kind {
            8 => self.string().map(|_| ()),
            9 => {
                let (kind, length) = (self.number(4)?, self.length()?);
                match width(kind) {
                    Some(width) => self.take(width.checked_mul(length)?).map(|_| ()),
                    // Lists of lists are not in use.
                    None if kind == 8 => (0..length).try_for_each(|_| self.string().map(|_| ())),
                    None => None,
                }
            }
            _ => self.take(width(kind)?).map(|_| ()),
        }
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        self.take(length)
    }

    fn length(&mut self) -> Option<usize> {
        let bytes = if self.wide { 8 } else { 4 };
        usize::try_from(self.number(bytes)?).ok()
    }

    fn number(&mut self, bytes: usize) -> Option<u64> {
        let taken = self.take(bytes)?;
        let byte = |(place, byte): (usize, &u8)| u64::from(*byte) << (8 * place);
        Some(taken.iter().enumerate().map(byte).sum())
    }

    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(bytes)?;
        self.bytes = rest;
        Some(taken)
    }
}

/// Bytes of a plain value of that kind.
fn width(kind: u64) -> Option<usize> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}
