//! Batched decoding with a cache of keys and values, one token a row and step.
//!
//! Rows are independent sequences at positions of their own, so that a finished one
//! makes room for the next at once. A row is fed its control code token by token,
//! which needs no second code path for prompts.

use noisegate_guest_sdk::kernels::gather;
use noisegate_guest_sdk::maths::{add_scaled, dot, softmax};

use crate::model::{Model, add_to_rows};
use crate::ops::{Rotary, gated, rms_norm};
use crate::shape::{Matrix, Shape};

/// One row of a decoding step.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Which cache it uses.
    pub slot: usize,
    /// The token to feed.
    pub token: u32,
    /// Its position, from 0.
    pub position: usize,
    /// The label that conditions the row.
    pub label: usize,
}

/// Keys and values of every slot: `[layers][slots][positions][2 kv]`.
pub struct Cache {
    slots: usize,
    positions: usize,
    width: usize,
    layers: Vec<Vec<f32>>,
    rotary: Rotary,
}

impl Cache {
    /// Room for `slots` sequences of `positions` tokens.
    pub fn new(shape: &Shape, slots: usize, positions: usize) -> Self {
        let width = 2 * shape.kv_width();
        Cache {
            slots,
            positions,
            width,
            layers: vec![vec![0.0; slots * positions * width]; shape.layers],
            rotary: Rotary::new(positions, shape.head_dim, shape.rope_theta),
        }
    }

    /// The rows of one slot up to and including `position`.
    fn seen(&self, layer: usize, row: &Row) -> &[f32] {
        let start = row.slot * self.positions * self.width;
        &self.layers[layer][start..start + (row.position + 1) * self.width]
    }

    fn put(&mut self, layer: usize, row: &Row, keys_and_values: &[f32]) {
        assert!(
            row.slot < self.slots && row.position < self.positions,
            "a row outside of its cache"
        );
        let start = (row.slot * self.positions + row.position) * self.width;
        self.layers[layer][start..start + self.width].copy_from_slice(keys_and_values);
    }
}

/// Vectors and biases of all labels, read once.
pub struct Conditioning {
    vectors: Vec<Vec<Option<Vec<f32>>>>,
    biases: Vec<Option<Vec<f32>>>,
}

impl Conditioning {
    /// Reads them from the model.
    pub fn new(model: Model<'_>) -> Self {
        let labels = 0..model.plan.labels;
        let of_layer = |layer| {
            labels
                .clone()
                .map(|label| model.label_vector(layer, label))
                .collect()
        };
        Conditioning {
            vectors: (0..=model.shape.layers).map(of_layer).collect(),
            biases: labels
                .clone()
                .map(|label| model.label_bias(label))
                .collect(),
        }
    }

    fn add_vectors(&self, layer: usize, rows: &[Row], x: &mut [f32]) {
        let width = x.len() / rows.len();
        for (row, x) in rows.iter().zip(x.chunks_exact_mut(width)) {
            if let Some(vector) = &self.vectors[layer][row.label] {
                add_to_rows(x, vector);
            }
        }
    }
}

/// Feeds one token to each row; returns the logits, `[rows, vocab]`.
pub fn step(
    model: Model<'_>,
    conditioning: &Conditioning,
    cache: &mut Cache,
    rows: &[Row],
) -> Vec<f32> {
    let shape = model.shape;
    let tokens: Vec<u32> = rows.iter().map(|row| row.token).collect();
    let mut x = gather(model.at(0), shape.hidden, &tokens);
    for layer in 0..shape.layers {
        conditioning.add_vectors(layer, rows, &mut x);
        let (normed, _) = rms_norm(&x, &model.norm(shape.norm1(layer)), shape.norm_eps);
        let qkv = model.apply(layer, Matrix::Qkv, &normed);
        let gathered = attend(shape, cache, layer, rows, qkv);
        add_scaled(&mut x, 1.0, &model.apply(layer, Matrix::Out, &gathered));
        let (normed, _) = rms_norm(&x, &model.norm(shape.norm2(layer)), shape.norm_eps);
        let inner = gated(&model.apply(layer, Matrix::GateUp, &normed), shape.ff);
        add_scaled(&mut x, 1.0, &model.apply(layer, Matrix::Down, &inner));
    }
    conditioning.add_vectors(shape.layers, rows, &mut x);
    let (h, _) = rms_norm(&x, &model.norm(shape.final_norm()), shape.norm_eps);
    let mut logits = model.logits(&h);
    for (row, logits) in rows.iter().zip(logits.chunks_exact_mut(shape.vocab)) {
        if let Some(bias) = &conditioning.biases[row.label] {
            add_to_rows(logits, bias);
        }
    }
    logits
}

/// Attention of each row over its own past.
fn attend(
    shape: &Shape,
    cache: &mut Cache,
    layer: usize,
    rows: &[Row],
    mut qkv: Vec<f32>,
) -> Vec<f32> {
    let (width, q_width, kv_width) = (shape.head_dim, shape.q_width(), shape.kv_width());
    let scale = 1.0 / (width as f32).sqrt();
    let mut gathered = vec![0.0; rows.len() * q_width];
    let stacked = qkv
        .chunks_exact_mut(q_width + 2 * kv_width)
        .zip(gathered.chunks_exact_mut(q_width));
    for (row, (qkv, gathered)) in rows.iter().zip(stacked) {
        cache
            .rotary
            .turn(&mut qkv[..q_width + kv_width], row.position, false);
        cache.put(layer, row, &qkv[q_width..]);
        let seen = cache.seen(layer, row);
        for (head, (query, out)) in qkv
            .chunks_exact(width)
            .zip(gathered.chunks_exact_mut(width))
            .enumerate()
        {
            let shared = head / (shape.heads / shape.kv_heads) * width;
            let past = || seen.chunks_exact(2 * kv_width);
            let mut weights: Vec<f32> = past()
                .map(|kv| scale * dot(query, &kv[shared..shared + width]))
                .collect();
            softmax(&mut weights);
            for (weight, kv) in weights.iter().zip(past()) {
                add_scaled(out, *weight, &kv[kv_width + shared..][..width]);
            }
        }
    }
    gathered
}
