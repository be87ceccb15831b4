//! The forward pass on a CPU, for small models above all: own buffers, no tensors, no padding.
//!
//! ```text
//! segments (any tokens of any slots) ─ embed ─ [ norm ─ qkv ─ rope ─ cache ─ attention ─ + ─ norm
//!   ─ gated layer ─ + ] x layers ─ norm ─> hidden states of the tokens asked for ─> logits
//! ```
//! One call computes tokens of many texts, each at its own place in its own slot: prompts, single
//! tokens and continuations mix freely, and every text's numbers depend on its own tokens alone
//! (up to rounding: a product of another height may add in another order).
//!
//! For a model of a few million parameters a tensor library spends more on allocation, layout and
//! masks than on arithmetic; here a step is six matrix products a layer and loops between them.
//! Here are the numbers, laid out for it; start reading at [`Session::forward`] in `session.rs`.

mod attention;
mod cache;
pub(crate) mod kernels;
pub(crate) mod matmul;
mod panels;
mod session;

use std::sync::Arc;

pub(crate) use self::session::Session;
use crate::architecture::Architecture;
use crate::decoder::{Decoder, Linear};
use crate::weight::Weight;

/// A decoder on the CPU; cloning is cheap.
#[derive(Debug, Clone)]
pub(crate) struct HostNetwork {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    architecture: Architecture,
    /// The numbers, with every matrix of f32 turned to `[in, out]`; the embedding stays
    /// `[vocab, hidden]` and is empty where the output layer serves for it.
    decoder: Decoder,
    /// Output layer, `[hidden, vocab]`.
    head: Linear,
    /// Cosines and sines per table, `[context, dims / 2]` each.
    rotary: Vec<(Vec<f32>, Vec<f32>)>,
}

/// Tokens of one text to compute.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment<'a> {
    /// Slot of the text.
    pub(crate) slot: usize,
    /// Tokens already in the slot.
    pub(crate) position: usize,
    pub(crate) tokens: &'a [u32],
    /// How many of the last tokens' hidden states are asked for.
    pub(crate) keep: usize,
}

impl HostNetwork {
    pub(crate) fn new(architecture: Architecture, mut decoder: Decoder) -> Self {
        let (hidden, vocab) = (architecture.hidden, architecture.vocab);
        let turn = |linear: &mut Linear, columns: usize| {
            turned(&mut linear.weight, columns);
        };
        for layer in &mut decoder.layers {
            turn(&mut layer.qkv, hidden);
            turn(&mut layer.output, architecture.query_width());
            turn(&mut layer.gate_up, hidden);
            turn(&mut layer.down, architecture.intermediate);
        }
        let head = match decoder.head.take() {
            Some(mut head) => {
                turn(&mut head, hidden);
                head
            }
            None => {
                let mut weight = std::mem::take(&mut decoder.embedding);
                turned(&mut weight, hidden);
                Linear { weight, bias: None }
            }
        };
        debug_assert_eq!(head.weight.len(), hidden * vocab);
        let rotary = architecture.rotary.iter().map(|table| {
            let angles = (0..architecture.context)
                .flat_map(|p| table.frequencies.iter().map(move |f| p as f64 * f));
            let part = |a: f64| (a.cos() * table.amplitude, a.sin() * table.amplitude);
            angles
                .map(part)
                .map(|(cos, sin)| (cos as f32, sin as f32))
                .unzip()
        });
        Self {
            inner: Arc::new(Inner {
                rotary: rotary.collect(),
                head,
                decoder,
                architecture,
            }),
        }
    }

    pub(crate) fn architecture(&self) -> &Architecture {
        &self.inner.architecture
    }

    /// Numbers in all.
    pub(crate) fn parameters(&self) -> usize {
        self.inner.decoder.parameters(&self.inner.architecture)
    }

    /// The numbers as they were given, `[out, in]`.
    pub(crate) fn decoder(&self) -> Decoder {
        let (a, mut decoder) = (&self.inner.architecture, self.inner.decoder.clone());
        let kv = a.query_width() + 2 * a.kv_width();
        let up = a.intermediate * (1 + usize::from(a.gated));
        for layer in &mut decoder.layers {
            for (linear, out) in [
                (&mut layer.qkv, kv),
                (&mut layer.output, a.hidden),
                (&mut layer.gate_up, up),
                (&mut layer.down, a.hidden),
            ] {
                turned(&mut linear.weight, out);
            }
        }
        let mut head = self.inner.head.weight.clone();
        turned(&mut head, a.vocab);
        if decoder.embedding.is_empty() {
            decoder.embedding = head;
        } else {
            let bias = self.inner.head.bias.clone();
            decoder.head = Some(Linear { weight: head, bias });
        }
        decoder
    }

    /// Room for `slots` texts of up to `capacity` tokens.
    ///
    /// - `threads`: of the matrix products; a small model is better served by one session per
    ///   thread.
    pub(crate) fn session(&self, slots: usize, capacity: usize, threads: usize) -> Session<'_> {
        Session::new(&self.inner, slots, capacity, threads)
    }
}

/// `[rows, columns]` to `[columns, rows]`; panels are laid out for both.
fn turned(weight: &mut Weight, columns: usize) {
    if let Weight::Full(numbers) = weight {
        *numbers = transposed(numbers, columns);
    }
}

/// `[rows, columns]` to `[columns, rows]`, in tiles that stay in the first-level cache.
fn transposed(matrix: &[f32], columns: usize) -> Vec<f32> {
    const TILE: usize = 32;
    let rows = matrix.len() / columns;
    let mut out = vec![0.0; matrix.len()];
    for top in (0..rows).step_by(TILE) {
        for left in (0..columns).step_by(TILE) {
            for row in top..rows.min(top + TILE) {
                for column in left..columns.min(left + TILE) {
                    out[column * rows + row] = matrix[row * columns + column];
                }
            }
        }
    }
    out
}
