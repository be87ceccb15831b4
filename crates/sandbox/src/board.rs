//! A worker's board as memory: a contribution is written where the parent reads it.
//!
//! ```text
//! board: | place 0 | place 1 | …     one place of `dim` numbers for each unit of a batch
//! ```
//! The parent reads it once, into memory of its own ([`View`]), so that nothing a worker
//! does to the board meanwhile or afterwards matters: what counts is what was read.
//! The parent's messages lie at the start of the board too; a worker has read the
//! one it works on before it writes the first place.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapMut, MmapOptions, MmapRaw};

/// The contribution of the unit being run: one place of the board.
pub(crate) struct Contribution {
    board: MmapMut,
    start: usize,
    len: usize,
}

impl Contribution {
    /// Maps the board, which is so long, with an empty place on it.
    pub(crate) fn map(board: &File, bytes: usize) -> io::Result<Self> {
        #[allow(unsafe_code, reason = "mapped memory can change under its reader")]
        // SAFETY: the board belongs to this process and its parent. The parent writes to it
        // only while this process waits for a message, borrowing none of it, and never
        // shortens it; a guest's handle is an index that the kernels check.
        let board = unsafe { MmapOptions::new().len(bytes).map_mut(board)? };
        let (start, len) = (0, 0);
        Ok(Contribution { board, start, len })
    }

    /// Moves to a place of `len` numbers, and makes all of them zero.
    ///
    /// # Errors
    /// If there is no such place on the board.
    pub(crate) fn begin(&mut self, place: usize, len: usize) -> io::Result<()> {
        let bytes = len.checked_mul(4);
        let end = bytes.and_then(|bytes| bytes.checked_mul(place + 1));
        if end.is_none_or(|end| end > self.board.len()) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        (self.start, self.len) = (place * len, len);
        self.clear();
        Ok(())
    }

    /// Makes every number of the place zero.
    pub(crate) fn clear(&mut self) {
        self.numbers_mut().fill(0.0);
    }

    /// The numbers of the place.
    pub(crate) fn numbers(&self) -> &[f32] {
        let bytes = &self.board[4 * self.start..][..4 * self.len];
        bytemuck::cast_slice(bytes)
    }

    /// The numbers of the place, to write to.
    pub(crate) fn numbers_mut(&mut self) -> &mut [f32] {
        let bytes = &mut self.board[4 * self.start..][..4 * self.len];
        bytemuck::cast_slice_mut(bytes)
    }
}

/// Of numbers in memory that others wrote, and of loads from memory that cannot be written to.
const _: () = assert!(cfg!(all(
    target_endian = "little",
    target_pointer_width = "64"
)));

/// The board as the parent sees it: its worker may write to it at any moment.
pub(crate) struct View(MmapRaw);

impl View {
    /// Maps the board, which is so long, to read from.
    ///
    /// # Errors
    /// If it cannot be mapped.
    pub(crate) fn map(board: &File, bytes: usize) -> io::Result<Self> {
        let map = MmapOptions::new().len(bytes).map_raw_read_only(board)?;
        Ok(View(map))
    }

    /// Reads the first numbers of the board, each of them once.
    ///
    /// # Errors
    /// If the board is shorter.
    pub(crate) fn read(&self, into: &mut [f32]) -> io::Result<()> {
        let (pairs, last) = into.as_chunks_mut::<2>();
        let words = self.words();
        if words.len() < pairs.len() + last.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // Whole words: two numbers cost what one does. Relaxed: the worker's message, which
        // came over a socket, is what says that it has written them.
        for (pair, word) in pairs.iter_mut().zip(words) {
            *pair = bytemuck::cast(word.load(Ordering::Relaxed));
        }
        if let ([number], Some(word)) = (last, words.get(pairs.len())) {
            [*number, _] = bytemuck::cast(word.load(Ordering::Relaxed));
        }
        Ok(())
    }

    fn words(&self) -> &[AtomicU64] {
        let words = self.0.len() / size_of::<AtomicU64>();
        #[allow(unsafe_code, reason = "another process writes to what is mapped")]
        // SAFETY: so many bytes are mapped, from the start of a page, for as long as `self`
        // lives. The board is sealed against shrinking, so they stay. This process has no
        // other mapping of it, and only loads, which are atomic: a word that is being written
        // is read as some value, and every value is a good one. The loads are relaxed and
        // no wider than a register, which memory that cannot be written to allows.
        unsafe {
            std::slice::from_raw_parts(self.0.as_ptr().cast(), words)
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    const BYTES: usize = 4 * 3000;

    fn board() -> File {
        let file = memfd::MemfdOptions::default().create("board").unwrap();
        file.as_file().set_len(BYTES as u64).unwrap();
        file.into_file()
    }

    #[test]
    fn every_number_of_a_place_is_zero_whatever_lay_there() {
        let file = board();
        let mut contribution = Contribution::map(&file, BYTES).unwrap();
        for (place, len) in [(0, 3000), (0, 1), (2, 1000), (1, 999), (0, 0)] {
            file.write_all_at(&[0xff; BYTES], 0).unwrap();
            contribution.begin(place, len).unwrap();
            let numbers = contribution.numbers();
            assert_eq!(numbers.len(), len);
            assert!(numbers.iter().all(|number| number.to_bits() == 0));
            let mut bytes = vec![0; BYTES];
            file.read_exact_at(&mut bytes, 0).unwrap();
            let zeros = bytes.iter().filter(|byte| **byte == 0).count();
            assert_eq!(zeros, 4 * len, "nothing beside the place is touched");
        }
    }

    #[test]
    fn what_is_written_to_a_place_lies_on_the_board() {
        let file = board();
        let mut contribution = Contribution::map(&file, BYTES).unwrap();
        contribution.begin(1, 5).unwrap();
        contribution.numbers_mut()[2] = 1.5;
        let mut number = [0; 4];
        file.read_exact_at(&mut number, 4 * 7).unwrap();
        assert_eq!(f32::from_le_bytes(number), 1.5);
    }

    #[test]
    fn the_parent_reads_what_lies_on_the_board() {
        let file = board();
        let view = View::map(&file, BYTES).unwrap();
        let mut contribution = Contribution::map(&file, BYTES).unwrap();
        for len in [0, 1, 2, 3, 2999, 3000] {
            contribution.begin(0, len).unwrap();
            let numbers = contribution.numbers_mut();
            numbers
                .iter_mut()
                .enumerate()
                .for_each(|(i, number)| *number = i as f32 - 7.5);
            let mut read = vec![f32::NAN; len];
            view.read(&mut read).unwrap();
            assert_eq!(read, contribution.numbers());
        }
        let bits = [0x7fc0_1234, 0xff80_0001, 0x8000_0001, 0x8000_0000_u32];
        file.write_all_at(bytemuck::cast_slice(&bits), 0).unwrap();
        let mut read = [0.0; 4];
        view.read(&mut read).unwrap();
        assert_eq!(read.map(f32::to_bits), bits, "whatever the numbers are");
    }

    #[test]
    fn the_parent_reads_nothing_beyond_the_board() {
        let view = View::map(&board(), BYTES).unwrap();
        assert!(view.read(&mut [0.0; 3000]).is_ok());
        assert!(view.read(&mut [0.0; 3001]).is_err());
        assert!(view.read(&mut [0.0; 3002]).is_err());
    }

    #[test]
    fn a_place_beyond_the_board_is_refused() {
        let mut contribution = Contribution::map(&board(), 40).unwrap();
        assert!(contribution.begin(0, 10).is_ok());
        for (place, len) in [
            (0, 11),
            (1, 6),
            (10, 1),
            (1, usize::MAX / 4),
            (0, usize::MAX),
        ] {
            assert!(contribution.begin(place, len).is_err(), "{place}, {len}");
        }
    }
}
