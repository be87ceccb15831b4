//! The forward pass: token ids to states to one vector.
//!
//! ```text
//!   x = norm(words + positions)
//!   each layer: x = norm(x + out(attention(qkv(x))))
//!               x = norm(x + down(gelu(up(x))))
//! ```
//!
//! Several sequences lie below each other in one matrix; only attention looks at each alone,
//! so nothing is padded.
//!
//! # Source
//! Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language
//! Understanding", 2019; the layer is that of Vaswani et al., "Attention Is All You Need",
//! 2017, section 3.1.

use super::shape::Shape;
use crate::Tensor;
use crate::kernels::{At, Product, gather, gemm, gemm_w};
use crate::maths::{dot, gelu, softmax, sum};

/// The last layer's states of all sequences, `[tokens, hidden]`.
pub(super) fn states(shape: &Shape, weights: &Tensor, sequences: &[Vec<u32>]) -> Vec<f32> {
    let hidden = shape.hidden;
    let at = |offset| At {
        tensor: weights,
        offset,
    };
    let ids: Vec<u32> = sequences.concat();
    let positions: Vec<u32> = sequences
        .iter()
        .flat_map(|sequence| 0..sequence.len() as u32)
        .collect();
    let mut x = gather(at(0), hidden, &ids);
    add(
        &mut x,
        &gather(at(shape.positions_at()), hidden, &positions),
    );
    let norm = weights.read(shape.norm_at() as u64, 2 * hidden as u32);
    layer_norm(&mut x, &norm, shape.norm_eps);
    for layer in 0..shape.layers {
        let layer = shape.layer(layer);
        let small = weights.read(layer.small as u64, layer.small_len as u32);
        let (qkv_bias, small) = small.split_at(3 * hidden);
        let (out_bias, small) = small.split_at(hidden);
        let (norm1, small) = small.split_at(2 * hidden);
        let (up_bias, small) = small.split_at(shape.ff);
        let (down_bias, norm2) = small.split_at(hidden);
        let linear = |x: &[f32], offset: usize, bias: &[f32]| {
            let (tokens, width) = (ids.len(), x.len() / ids.len());
            let product = Product::plain(tokens, width, bias.len());
            let mut y = gemm_w(x, at(offset), product);
            y.chunks_exact_mut(bias.len())
                .for_each(|row| add(row, bias));
            y
        };
        let qkv = linear(&x, layer.qkv, qkv_bias);
        let mixed = attention(shape, &qkv, sequences);
        add(&mut x, &linear(&mixed, layer.out, out_bias));
        layer_norm(&mut x, norm1, shape.norm_eps);
        let mut inner = linear(&x, layer.up, up_bias);
        gelu(&mut inner);
        add(&mut x, &linear(&inner, layer.down, down_bias));
        layer_norm(&mut x, norm2, shape.norm_eps);
    }
    x
}

/// The mean of all rows, scaled to an L2 norm of one.
pub(super) fn pooled(states: &[f32], hidden: usize) -> Vec<f32> {
    let mut pooled = vec![0.0; hidden];
    states
        .chunks_exact(hidden)
        .for_each(|row| add(&mut pooled, row));
    let norm = dot(&pooled, &pooled).sqrt();
    if norm > 0.0 {
        pooled.iter_mut().for_each(|value| *value /= norm);
    }
    pooled
}

fn add(y: &mut [f32], x: &[f32]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
}

/// Each row to mean zero and variance one, then times the weight, plus the bias.
///
/// # Source
/// Ba, Kiros and Hinton, "Layer Normalization", 2016, eq. 4.
fn layer_norm(x: &mut [f32], norm: &[f32], eps: f32) {
    let (weight, bias) = norm.split_at(norm.len() / 2);
    let width = weight.len() as f32;
    for row in x.chunks_exact_mut(weight.len()) {
        let mean = sum(row) / width;
        row.iter_mut().for_each(|value| *value -= mean);
        let scale = 1.0 / (dot(row, row) / width + eps).sqrt();
        for ((value, weight), bias) in row.iter_mut().zip(weight).zip(bias) {
            *value = *value * scale * weight + bias;
        }
    }
}

/// What each token gathered from its sequence: `[tokens, hidden]`.
///
/// - `qkv`: stacked q, k, v, `[tokens, 3 hidden]`.
fn attention(shape: &Shape, qkv: &[f32], sequences: &[Vec<u32>]) -> Vec<f32> {
    let (hidden, width) = (shape.hidden, shape.hidden / shape.heads);
    let scale = 1.0 / (width as f32).sqrt();
    let mut mixed = vec![0.0; qkv.len() / 3];
    let (mut qkv, mut rest) = (qkv, mixed.as_mut_slice());
    for tokens in sequences.iter().map(Vec::len) {
        let (own, after) = qkv.split_at(tokens * 3 * hidden);
        let (into, rest_after) = rest.split_at_mut(tokens * hidden);
        (qkv, rest) = (after, rest_after);
        for head in 0..shape.heads {
            let columns = |start: usize| {
                let mut narrow = Vec::with_capacity(tokens * width);
                for row in own.chunks_exact(3 * hidden) {
                    narrow.extend_from_slice(&row[start + head * width..][..width]);
                }
                narrow
            };
            let (q, k, v) = (columns(0), columns(hidden), columns(2 * hidden));
            let mut scores = gemm(&q, &k, Product::plain(tokens, width, tokens).with_trans_b());
            for row in scores.chunks_exact_mut(tokens) {
                row.iter_mut().for_each(|score| *score *= scale);
                softmax(row);
            }
            let gathered = gemm(&scores, &v, Product::plain(tokens, tokens, width));
            let rows = into.chunks_exact_mut(hidden);
            for (row, values) in rows.zip(gathered.chunks_exact(width)) {
                row[head * width..][..width].copy_from_slice(values);
            }
        }
    }
    mixed
}
