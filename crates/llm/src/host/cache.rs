//! Keys and values of the texts being computed, one slot each, appended in place.
//!
//! Per layer, slot and head: keys `[head, capacity]` (so that the scores of a query are sums of
//! contiguous rows), values `[capacity, head]`.

use crate::architecture::Architecture;

/// Tokens whose keys are moved at a time: a row of theirs is a cache line.
const TOKENS: usize = 16;

/// Rotated keys and values of successive tokens, each `[kv_heads * head]`.
pub(super) struct Rows<'a> {
    /// Numbers from one token to the next.
    pub(super) row: usize,
    /// From the first token's keys on.
    pub(super) keys: &'a [f32],
    /// From the first token's values on.
    pub(super) values: &'a [f32],
    pub(super) count: usize,
}

/// A cache of `slots` texts of up to `capacity` tokens.
pub(super) struct Cache {
    /// Per layer; see above.
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
    slots: usize,
    capacity: usize,
    kv_heads: usize,
    head: usize,
}

/// One slot of one layer.
#[derive(Clone, Copy)]
pub(super) struct SlotView<'a> {
    keys: &'a [f32],
    values: &'a [f32],
    pub(super) capacity: usize,
    head: usize,
}

impl SlotView<'_> {
    /// `[head, capacity]`.
    #[inline(always)]
    pub(super) fn keys(&self, kv_head: usize) -> &[f32] {
        let size = self.head * self.capacity;
        &self.keys[kv_head * size..(kv_head + 1) * size]
    }

    /// `[capacity, head]`.
    #[inline(always)]
    pub(super) fn values(&self, kv_head: usize) -> &[f32] {
        let size = self.head * self.capacity;
        &self.values[kv_head * size..(kv_head + 1) * size]
    }
}

impl Cache {
    pub(super) fn new(architecture: &Architecture, slots: usize, capacity: usize) -> Self {
        // Rows whose distance is a power of two would compete for the same cache lines.
        let capacity = capacity.next_multiple_of(16) + 16;
        let size = slots * architecture.kv_width() * capacity;
        let layers = architecture.layers.len();
        Self {
            keys: (0..layers).map(|_| vec![0.0; size]).collect(),
            values: (0..layers).map(|_| vec![0.0; size]).collect(),
            slots,
            capacity,
            kv_heads: architecture.kv_heads,
            head: architecture.head,
        }
    }

    fn slot_size(&self) -> usize {
        self.kv_heads * self.head * self.capacity
    }

    pub(super) fn slot(&self, layer: usize, slot: usize) -> SlotView<'_> {
        let range = slot * self.slot_size()..(slot + 1) * self.slot_size();
        SlotView {
            keys: &self.keys[layer][range.clone()],
            values: &self.values[layer][range],
            capacity: self.capacity,
            head: self.head,
        }
    }

    /// Appends tokens from a position on.
    pub(super) fn put(&mut self, layer: usize, slot: usize, position: usize, rows: &Rows<'_>) {
        assert!(
            position + rows.count <= self.capacity && slot < self.slots,
            "beyond the cache"
        );
        let size = self.slot_size();
        let range = slot * size..(slot + 1) * size;
        let keys = &mut self.keys[layer][range.clone()];
        // A key's numbers go far apart, each to its row: some tokens together, or each number
        // would bring a cache line of its own.
        for first in (0..rows.count).step_by(TOKENS) {
            let tokens = TOKENS.min(rows.count - first);
            let from = &rows.keys[first * rows.row..];
            for (index, to) in keys.chunks_exact_mut(self.capacity).enumerate() {
                let to = &mut to[position + first..][..tokens];
                for (token, to) in to.iter_mut().enumerate() {
                    *to = from[token * rows.row + index];
                }
            }
        }
        let values = &mut self.values[layer][range];
        for token in 0..rows.count {
            let from = &rows.values[token * rows.row..][..self.kv_heads * self.head];
            for (kv_head, value) in from.chunks_exact(self.head).enumerate() {
                let at = (kv_head * self.capacity + position + token) * self.head;
                values[at..at + self.head].copy_from_slice(value);
            }
        }
    }

    /// Copies the first `length` tokens of one slot to another.
    pub(super) fn copy_prefix(&mut self, from: usize, to: usize, length: usize) {
        if from == to {
            return;
        }
        let (size, capacity, head) = (self.slot_size(), self.capacity, self.head);
        for keys in &mut self.keys {
            for row in 0..size / capacity {
                let at = from * size + row * capacity;
                keys.copy_within(at..at + length, to * size + row * capacity);
            }
        }
        for values in &mut self.values {
            for kv_head in 0..self.kv_heads {
                let at = from * size + kv_head * capacity * head;
                let there = to * size + kv_head * capacity * head;
                values.copy_within(at..at + length * head, there);
            }
        }
    }
}
