//! Attention of a few tokens of one text over its cache.
//!
//! ```text
//! many tokens: scores = q K, mixed = softmax(scores) V, block by block as matrix products
//! one token:   the same by hand, as a product of that shape costs more to set up than to compute
//! ```

use gemm::Parallelism;
use multiversion::multiversion;

use super::cache::SlotView;
use super::kernels;
use super::matmul::{Matrix, matmul};
use crate::architecture::Architecture;

/// Queries per block; a block looks at the keys up to its own end only.
const BLOCK: usize = 64;
/// Up to this many queries are computed by hand.
const BY_HAND: usize = 3;

/// What attention reads and writes.
pub(super) struct Attention<'a> {
    pub(super) architecture: &'a Architecture,
    pub(super) window: Option<usize>,
    /// Rotated and scaled queries; a row has `query_row` numbers and starts with the queries.
    pub(super) queries: &'a [f32],
    pub(super) query_row: usize,
    /// Position of the first query in its text.
    pub(super) position: usize,
    pub(super) slot: SlotView<'a>,
}

impl Attention<'_> {
    /// Writes `[count, heads * head]` to `out`.
    pub(super) fn run(&self, count: usize, scores: &mut Vec<f32>, out: &mut [f32]) {
        let group = self.architecture.heads / self.architecture.kv_heads;
        let seen = self.position + count;
        scores.resize(scores.len().max(BLOCK * seen), 0.0);
        for head in 0..self.architecture.heads {
            if count <= BY_HAND {
                let scores = &mut scores[..seen];
                by_hand(self, head, head / group, count, scores, out);
            } else {
                self.by_product(head, head / group, count, scores, out);
            }
        }
    }

    /// First key in sight of the query at a position.
    fn start(&self, position: usize) -> usize {
        self.window
            .map_or(0, |window| (position + 1).saturating_sub(window))
    }

    #[inline(always)]
    fn weigh(&self, scores: &mut [f32]) {
        if let Some(limit) = self.architecture.score_cap {
            kernels::cap(scores, limit);
        }
        kernels::softmax(scores);
    }

    fn by_product(
        &self,
        head: usize,
        kv_head: usize,
        count: usize,
        scores: &mut [f32],
        out: &mut [f32],
    ) {
        let width = self.architecture.head;
        let (keys, values) = (self.slot.keys(kv_head), self.slot.values(kv_head));
        for first in (0..count).step_by(BLOCK) {
            let rows = BLOCK.min(count - first);
            let start = self.start(self.position + first);
            let seen = self.position + first + rows - start;
            let queries = &self.queries[first * self.query_row + head * width..];
            let scores = &mut scores[..rows * seen];
            matmul(
                Matrix::rows(queries, self.query_row),
                Matrix::rows(&keys[start..], self.slot.capacity),
                (scores, seen),
                (rows, width, seen),
                false,
                Parallelism::None,
            );
            weigh_rows(self, first, seen, scores);
            let out_row = self.architecture.query_width();
            matmul(
                Matrix::rows(scores, seen),
                Matrix::rows(&values[start * width..], width),
                (&mut out[first * out_row + head * width..], out_row),
                (rows, seen, width),
                false,
                Parallelism::None,
            );
        }
    }
}

/// The attention of one head by hand, for `count` queries.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq", "x86_64+avx2"))]
fn by_hand(
    attention: &Attention<'_>,
    head: usize,
    kv_head: usize,
    count: usize,
    scores: &mut [f32],
    out: &mut [f32],
) {
    let (architecture, slot) = (attention.architecture, attention.slot);
    let width = architecture.head;
    let (keys, values) = (slot.keys(kv_head), slot.values(kv_head));
    for index in 0..count {
        let position = attention.position + index;
        let start = attention.start(position);
        let scores = &mut scores[start..=position];
        let from = index * attention.query_row + head * width;
        let query = &attention.queries[from..from + width];
        dot_columns(query, keys, slot.capacity, start, scores);
        attention.weigh(scores);
        let to = index * architecture.query_width() + head * width;
        let values = &values[start * width..(position + 1) * width];
        mix(scores, values, &mut out[to..to + width]);
    }
}

/// Makes weights of the scores of a block that begins with the query `first`; rows have `seen`
/// numbers, of the keys from the first in sight of the block on.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq", "x86_64+avx2"))]
fn weigh_rows(attention: &Attention<'_>, first: usize, seen: usize, scores: &mut [f32]) {
    let start = attention.start(attention.position + first);
    for (index, row) in scores.chunks_exact_mut(seen).enumerate() {
        let position = attention.position + first + index;
        let own = attention.start(position);
        let (before, rest) = row.split_at_mut(own - start);
        let (visible, after) = rest.split_at_mut(position + 1 - own);
        before.fill(0.0);
        attention.weigh(visible);
        after.fill(0.0);
    }
}

/// `out[s] = sum_i query[i] * keys[i * capacity + start + s]`.
#[inline(always)]
fn dot_columns(query: &[f32], keys: &[f32], capacity: usize, start: usize, out: &mut [f32]) {
    out.fill(0.0);
    let length = out.len();
    let row = |i: usize| &keys[i * capacity + start..i * capacity + start + length];
    let (quads, rest) = query.as_chunks::<4>();
    for (index, q) in quads.iter().enumerate() {
        let (a, b, c, d) = (
            row(4 * index),
            row(4 * index + 1),
            row(4 * index + 2),
            row(4 * index + 3),
        );
        for s in 0..length {
            out[s] += q[0] * a[s] + q[1] * b[s] + (q[2] * c[s] + q[3] * d[s]);
        }
    }
    for (index, q) in rest.iter().enumerate() {
        let keys = row(4 * quads.len() + index);
        out.iter_mut()
            .zip(keys)
            .for_each(|(out, key)| *out += q * key);
    }
}

/// `out = sum_s weights[s] * values[s, :]`.
#[inline(always)]
fn mix(weights: &[f32], values: &[f32], out: &mut [f32]) {
    let width = out.len();
    out.fill(0.0);
    let (quads, rest) = weights.as_chunks::<4>();
    let mut rows = values.chunks_exact(4 * width);
    for (w, four) in quads.iter().zip(&mut rows) {
        let (ab, cd) = four.split_at(2 * width);
        let ((a, b), (c, d)) = (ab.split_at(width), cd.split_at(width));
        for i in 0..width {
            out[i] += w[0] * a[i] + w[1] * b[i] + (w[2] * c[i] + w[3] * d[i]);
        }
    }
    for (w, value) in rest.iter().zip(rows.remainder().chunks_exact(width)) {
        out.iter_mut()
            .zip(value)
            .for_each(|(out, value)| *out += w * value);
    }
}
