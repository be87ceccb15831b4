//! The model as tensors on the host's side of the wall.
//!
//! ```text
//!   setup:  base (flat) | A of LoRA          query:  moved (a slice of flat) | label parameters
//! ```
//!
//! A weight is read from `moved` where that slice covers it, from `base` elsewhere,
//! so forward and backward do not know what is trained.

use noisegate_guest_sdk::Tensor;
use noisegate_guest_sdk::kernels::{At, Product, gemm_w};

use crate::plan::Plan;
use crate::shape::{Matrix, Shape};

/// A view of the weights.
#[derive(Clone, Copy)]
pub struct Model<'a> {
    /// Sizes.
    pub shape: &'a Shape,
    /// What is trained.
    pub plan: &'a Plan,
    /// The base weights.
    pub base: &'a Tensor,
    /// All A of LoRA; empty without.
    pub lora_inputs: &'a Tensor,
    /// The slice of weights that this query moves.
    pub moved: &'a Tensor,
    /// Label vectors, then label biases.
    pub labels: &'a Tensor,
}

impl<'a> Model<'a> {
    /// Where a weight of the flat vector is to be read.
    pub fn at(&self, offset: usize) -> At<'a> {
        let moved = self.plan.moved(self.shape);
        if moved.contains(&offset) {
            At {
                tensor: self.moved,
                offset: offset - moved.start,
            }
        } else {
            At {
                tensor: self.base,
                offset,
            }
        }
    }

    /// `x * W^T`: `[rows, in]` to `[rows, out]`.
    pub fn apply(&self, layer: usize, matrix: Matrix, x: &[f32]) -> Vec<f32> {
        let (output, input) = self.shape.size(matrix);
        let product = Product::plain(x.len() / input, input, output).with_trans_b();
        gemm_w(x, self.at(self.shape.matrix(layer, matrix)), product)
    }

    /// `dy * W`: `[rows, out]` to `[rows, in]`.
    pub fn apply_backward(&self, layer: usize, matrix: Matrix, dy: &[f32]) -> Vec<f32> {
        let (output, input) = self.shape.size(matrix);
        let product = Product::plain(dy.len() / output, output, input);
        gemm_w(dy, self.at(self.shape.matrix(layer, matrix)), product)
    }

    /// The weight of a norm.
    pub fn norm(&self, offset: usize) -> Vec<f32> {
        let at = self.at(offset);
        at.tensor.read(at.offset as u64, self.shape.hidden as u32)
    }

    /// `h * head^T`: `[rows, hidden]` to `[rows, vocab]`, without the label bias.
    pub fn logits(&self, h: &[f32]) -> Vec<f32> {
        let product = Product::plain(
            h.len() / self.shape.hidden,
            self.shape.hidden,
            self.shape.vocab,
        )
        .with_trans_b();
        gemm_w(h, self.at(self.shape.head()), product)
    }

    /// The vector that a label adds before a layer (or, with `layers`, before the final norm).
    pub fn label_vector(&self, layer: usize, label: usize) -> Option<Vec<f32>> {
        let offset = self.plan.vector(self.shape, layer, label)?;
        Some(self.labels.read(offset as u64, self.shape.hidden as u32))
    }

    /// The bias that a label adds to the logits.
    pub fn label_bias(&self, label: usize) -> Option<Vec<f32>> {
        let offset = self.plan.bias(self.shape, label)?;
        Some(self.labels.read(offset as u64, self.shape.vocab as u32))
    }
}

/// Adds one row to every row.
pub fn add_to_rows(rows: &mut [f32], row: &[f32]) {
    for target in rows.chunks_exact_mut(row.len()) {
        for (sum, value) in target.iter_mut().zip(row) {
            *sum += value;
        }
    }
}
