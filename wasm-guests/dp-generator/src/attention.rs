//! Causal attention over one whole sequence, forwards and backwards.
//!
//! A head is some columns of the stacked rows. Several query heads may share one key-value head.

use noisegate_guest_sdk::kernels::{Product, gemm};
use noisegate_guest_sdk::maths::{dot, softmax};

use crate::ops::Rotary;
use crate::shape::Shape;

/// What the backward pass needs.
pub struct Attention {
    /// Stacked q, k, v after the rotation: `[tokens, q + 2 kv]`.
    qkv: Vec<f32>,
    /// Attention weights of each head: `[tokens, tokens]`, zero above the diagonal.
    weights: Vec<Vec<f32>>,
    /// What each token gathered: `[tokens, q]`.
    pub gathered: Vec<f32>,
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

/// Columns at which the query, key and value of a head start.
fn head_columns(shape: &Shape, head: usize) -> (usize, usize, usize) {
    let shared = head / (shape.heads / shape.kv_heads) * shape.head_dim;
    (
        head * shape.head_dim,
        shape.q_width() + shared,
        shape.q_width() + shape.kv_width() + shared,
    )
}

/// Attention of one sequence; `qkv` before the rotation, `[tokens, q + 2 kv]`.
pub fn forward(shape: &Shape, rotary: &Rotary, mut qkv: Vec<f32>) -> Attention {
    rotate(shape, rotary, &mut qkv, false);
    let (width, stride) = (shape.head_dim, shape.q_width() + 2 * shape.kv_width());
    let tokens = qkv.len() / stride;
    let scale = 1.0 / (width as f32).sqrt();
    let mut gathered = vec![0.0; tokens * shape.q_width()];
    let mut weights = Vec::with_capacity(shape.heads);
    for head in 0..shape.heads {
        let (q, k, v) = head_columns(shape, head);
        let product = Product::plain(tokens, width, tokens)
            .with_trans_b()
            .with_stride_a(stride)
            .with_stride_b(stride);
        let mut scores = gemm(&qkv[q..], &qkv[k..], product);
        for (at, row) in scores.chunks_exact_mut(tokens).enumerate() {
            let (seen, unseen) = row.split_at_mut(at + 1);
            seen.iter_mut().for_each(|score| *score *= scale);
            softmax(seen);
            unseen.fill(0.0);
        }
        let product = Product::plain(tokens, tokens, width).with_stride_b(stride);
        let mixed = gemm(&scores, &qkv[v..], product);
        add_columns(&mut gathered, shape.q_width(), head * width, &mixed, width);
        weights.push(scores);
    }
    Attention {
        qkv,
        weights,
        gathered,
    }
}

/// The gradient with respect to `qkv` before the rotation.
pub fn backward(shape: &Shape, rotary: &Rotary, cache: &Attention, d_gathered: &[f32]) -> Vec<f32> {
    let (width, stride) = (shape.head_dim, shape.q_width() + 2 * shape.kv_width());
    let tokens = cache.qkv.len() / stride;
    let scale = 1.0 / (width as f32).sqrt();
    let mut d_qkv = vec![0.0; cache.qkv.len()];
    for (head, weights) in cache.weights.iter().enumerate() {
        let (at_q, at_k, at_v) = head_columns(shape, head);
        let d_mixed = &d_gathered[head * width..];
        let d_v = gemm(
            weights,
            d_mixed,
            Product::plain(tokens, tokens, width)
                .with_trans_a()
                .with_stride_b(shape.q_width()),
        );
        let mut d_scores = gemm(
            d_mixed,
            &cache.qkv[at_v..],
            Product::plain(tokens, width, tokens)
                .with_trans_b()
                .with_stride_a(shape.q_width())
                .with_stride_b(stride),
        );
        for (d_row, row) in d_scores
            .chunks_exact_mut(tokens)
            .zip(weights.chunks_exact(tokens))
        {
            let mean = dot(d_row, row);
            for (d, weight) in d_row.iter_mut().zip(row) {
                *d = weight * (*d - mean) * scale;
            }
        }
        let d_q = gemm(
            &d_scores,
            &cache.qkv[at_k..],
            Product::plain(tokens, tokens, width).with_stride_b(stride),
        );
        let d_k = gemm(
            &d_scores,
            &cache.qkv[at_q..],
            Product::plain(tokens, tokens, width)
                .with_trans_a()
                .with_stride_b(stride),
        );
        for (start, values) in [(at_q, d_q), (at_k, d_k), (at_v, d_v)] {
            add_columns(&mut d_qkv, stride, start, &values, width);
        }
    }
    rotate(shape, rotary, &mut d_qkv, true);
    d_qkv
}
