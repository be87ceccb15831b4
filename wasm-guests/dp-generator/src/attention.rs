//! Causal attention over one whole sequence, forwards and backwards.
//!
//! Heads are taken out of the stacked rows first: a head's columns reach over all of them;
//! products then see rows without gaps.
//! Several query heads may share one key-value head.

use std::ops::Range;

use noisegate_guest_sdk::kernels::{Product, gemm};
use noisegate_guest_sdk::maths::{dot, softmax};

use crate::ops::Rotary;
use crate::shape::Shape;

/// What the backward pass needs.
pub struct Attention {
    /// `[tokens, head_dim]` after the rotation, of each head.
    queries: Vec<Vec<f32>>,
    /// The same of each key-value head.
    keys: Vec<Vec<f32>>,
    /// Values of each key-value head.
    values: Vec<Vec<f32>>,
    /// Attention weights of each head: `[tokens, tokens]`, zero above the diagonal.
    weights: Vec<Vec<f32>>,
    /// What each token gathered: `[tokens, q]`.
    pub gathered: Vec<f32>,
}

/// The heads of width `width` that lie side by side in columns of wider rows.
fn heads(wide: &[f32], stride: usize, columns: Range<usize>, width: usize) -> Vec<Vec<f32>> {
    let head = |start: usize| {
        let mut narrow = Vec::with_capacity(wide.len() / stride * width);
        for row in wide.chunks_exact(stride) {
            narrow.extend_from_slice(&row[start..start + width]);
        }
        narrow
    };
    columns.step_by(width).map(head).collect()
}

/// Adds a narrow matrix onto columns of a wide one.
fn add_columns(wide: &mut [f32], stride: usize, start: usize, narrow: &[f32], width: usize) {
    for (row, values) in wide
        .chunks_exact_mut(stride)
        .zip(narrow.chunks_exact(width))
    {
        for (sum, value) in row[start..start + width].iter_mut().zip(values) {
            *sum += value;
        }
    }
}

/// Rotates queries and keys of every row.
fn rotate(shape: &Shape, rotary: &Rotary, qkv: &mut [f32], backward: bool) {
    let turned = shape.q_width() + shape.kv_width();
    for (position, row) in qkv.chunks_exact_mut(turned + shape.kv_width()).enumerate() {
        rotary.turn(&mut row[..turned], position, backward);
    }
}

/// Attention of one sequence; `qkv` before the rotation, `[tokens, q + 2 kv]`.
pub fn forward(shape: &Shape, rotary: &Rotary, mut qkv: Vec<f32>) -> Attention {
    rotate(shape, rotary, &mut qkv, false);
    let (width, q, kv) = (shape.head_dim, shape.q_width(), shape.kv_width());
    let stride = q + 2 * kv;
    let tokens = qkv.len() / stride;
    let queries = heads(&qkv, stride, 0..q, width);
    let keys = heads(&qkv, stride, q..q + kv, width);
    let values = heads(&qkv, stride, q + kv..stride, width);
    let scale = 1.0 / (width as f32).sqrt();
    let mut gathered = vec![0.0; tokens * q];
    let mut weights = Vec::with_capacity(shape.heads);
    for (head, query) in queries.iter().enumerate() {
        let shared = shared(shape, head);
        let product = Product::plain(tokens, width, tokens).with_trans_b();
        let mut scores = gemm(query, &keys[shared], product);
        for (at, row) in scores.chunks_exact_mut(tokens).enumerate() {
            let (seen, unseen) = row.split_at_mut(at + 1);
            seen.iter_mut().for_each(|score| *score *= scale);
            softmax(seen);
            unseen.fill(0.0);
        }
        let product = Product::plain(tokens, tokens, width);
        let mixed = gemm(&scores, &values[shared], product);
        add_columns(&mut gathered, q, head * width, &mixed, width);
        weights.push(scores);
    }
    Attention {
        queries,
        keys,
        values,
        weights,
        gathered,
    }
}

/// The gradient with respect to `qkv` before the rotation.
pub fn backward(shape: &Shape, rotary: &Rotary, cache: &Attention, d_gathered: &[f32]) -> Vec<f32> {
    let (width, q, kv) = (shape.head_dim, shape.q_width(), shape.kv_width());
    let stride = q + 2 * kv;
    let tokens = d_gathered.len() / q;
    let scale = 1.0 / (width as f32).sqrt();
    let mut d_qkv = vec![0.0; tokens * stride];
    let mixed = heads(d_gathered, q, 0..q, width);
    for (head, (weights, d_mixed)) in cache.weights.iter().zip(&mixed).enumerate() {
        let shared = shared(shape, head);
        let down = Product::plain(tokens, tokens, width);
        let d_value = gemm(weights, d_mixed, down.with_trans_a());
        let across = Product::plain(tokens, width, tokens).with_trans_b();
        let mut d_scores = gemm(d_mixed, &cache.values[shared], across);
        for (d_row, row) in d_scores
            .chunks_exact_mut(tokens)
            .zip(weights.chunks_exact(tokens))
        {
            let mean = dot(d_row, row);
            for (d, weight) in d_row.iter_mut().zip(row) {
                *d = weight * (*d - mean) * scale;
            }
        }
        let d_query = gemm(&d_scores, &cache.keys[shared], down);
        let d_key = gemm(&d_scores, &cache.queries[head], down.with_trans_a());
        let of_shared = q + shared * width;
        for (start, values) in [
            (head * width, d_query),
            (of_shared, d_key),
            (of_shared + kv, d_value),
        ] {
            add_columns(&mut d_qkv, stride, start, &values, width);
        }
    }
    rotate(shape, rotary, &mut d_qkv, true);
    d_qkv
}

/// Which key-value head a query head reads.
fn shared(shape: &Shape, head: usize) -> usize {
    head / (shape.heads / shape.kv_heads)
}
