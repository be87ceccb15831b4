//! Which rows train together: shuffled, but alike in length, so that little is padded.

use crate::random::Stream;

/// Lengths for which a session is opened; a batch is padded to the next of them.
const LENGTHS: [usize; 12] = [8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512];

/// Batches sorted by length together: larger means less padding and less randomness.
const WINDOW: usize = 32;

/// Rows that train together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// Indices of the examples.
    pub rows: Vec<usize>,
    /// Tokens each row is padded to.
    pub length: usize,
}

/// The batches of one epoch: every row once, the last batch may be short.
pub(super) fn epoch(
    lengths: &[usize],
    size: usize,
    length_max: usize,
    seed: u64,
    epoch: usize,
) -> Vec<Batch> {
    let mut stream = Stream::new(seed, SHUFFLES + epoch as u64);
    let mut order = stream.shuffled(lengths.len());
    for window in order.chunks_mut(size * WINDOW) {
        window.sort_by_key(|&row| lengths[row]);
    }
    let batches = in_order(&order, lengths, size, length_max);
    let places = stream.shuffled(batches.len());
    places.into_iter().map(|i| batches[i].clone()).collect()
}

/// Batches of rows in the given order.
pub(super) fn in_order(
    order: &[usize],
    lengths: &[usize],
    size: usize,
    length_max: usize,
) -> Vec<Batch> {
    let batch = |rows: &[usize]| {
        let longest = rows.iter().map(|&row| lengths[row]).max().unwrap_or(1);
        Batch {
            rows: rows.to_vec(),
            length: rounded(longest, length_max),
        }
    };
    order.chunks(size).map(batch).collect()
}

/// The next session length that holds `longest` tokens.
fn rounded(longest: usize, length_max: usize) -> usize {
    LENGTHS
        .into_iter()
        .find(|&length| length >= longest)
        .unwrap_or(longest)
        .min(length_max)
}

/// First stream number of the shuffles; see [`Stream`].
const SHUFFLES: u64 = 1 << 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_holds_every_row_once_and_pads_enough() {
        let lengths: Vec<usize> = (0..1003).map(|i| 3 + (i * 37) % 120).collect();
        let batches = epoch(&lengths, 16, 100, 5, 0);
        let mut rows: Vec<usize> = batches.iter().flat_map(|b| b.rows.clone()).collect();
        rows.sort_unstable();
        assert_eq!(rows, (0..1003).collect::<Vec<_>>());
        assert_eq!(batches.iter().filter(|b| b.rows.len() < 16).count(), 1);
        for batch in &batches {
            assert!(
                batch
                    .rows
                    .iter()
                    .all(|&r| lengths[r].min(100) <= batch.length)
            );
        }
        assert_ne!(batches, epoch(&lengths, 16, 100, 5, 1));
        assert_eq!(batches, epoch(&lengths, 16, 100, 5, 0));
    }

    #[test]
    fn alike_lengths_are_batched_together() {
        let lengths: Vec<usize> = (0..2048).map(|i| 3 + (i * 37) % 120).collect();
        let batches = epoch(&lengths, 16, 128, 5, 0);
        let padded: usize = batches.iter().map(|b| b.length * b.rows.len()).sum();
        let real: usize = lengths.iter().sum();
        assert!((padded as f64) < 1.25 * real as f64, "{padded} vs {real}");
    }
}
