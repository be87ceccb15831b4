//! One record's loss and its gradient with respect to what is trained.
//!
//! ```text
//!   tokens -> embed -> [+vector, norm, attention, norm, mlp] * layers -> +vector, norm -> head + bias
//!                 <---------------- gradients, down to the first trained layer -----------------
//! ```
//!
//! The loss is the mean cross-entropy over the text's tokens (control code left
//! out), so it depends on this record alone. Gradients go straight into the
//! accumulator; nothing frozen gets one.

use noisegate_guest_sdk::Accum;
use noisegate_guest_sdk::kernels::{At, Product, gather, gemm_acc, gemm_w, scatter_add};
use noisegate_guest_sdk::maths::softmax;

use crate::attention::{self, Attention};
use crate::context::Sequence;
use crate::model::{Model, add_to_rows};
use crate::ops::{Rotary, gated, gated_backward, rms_norm, rms_norm_backward};
use crate::shape::Matrix;

/// What a layer's backward pass needs.
struct Layer {
    input: Vec<f32>,
    inverse1: Vec<f32>,
    normed1: Vec<f32>,
    attention: Attention,
    middle: Vec<f32>,
    inverse2: Vec<f32>,
    normed2: Vec<f32>,
    gate_up: Vec<f32>,
    gated: Vec<f32>,
}

/// A model and an accumulator: the two ends of a gradient.
#[derive(Clone, Copy)]
struct Pass<'a> {
    model: Model<'a>,
    label: usize,
    into: &'a Accum,
}

/// Adds `weight` times the gradient of the record's loss to `into`; returns the loss in nats per token.
pub fn add_gradient(model: Model<'_>, sequence: &Sequence, weight: f32, into: &Accum) -> f32 {
    let pass = Pass {
        model,
        label: sequence.label,
        into,
    };
    let shape = model.shape;
    let inputs = &sequence.tokens[..sequence.tokens.len() - 1];
    let rotary = Rotary::new(inputs.len(), shape.head_dim, shape.rope_theta);
    let mut x = gather(model.at(0), shape.hidden, inputs);
    let mut layers = Vec::with_capacity(shape.layers);
    for layer in 0..shape.layers {
        let cache = pass.forward(layer, &rotary, &mut x);
        if layer >= model.plan.first_layer {
            layers.push(cache);
        }
    }
    pass.add_vector(shape.layers, &mut x);
    let (loss, mut dx) = pass.head(&x, sequence, weight);
    pass.vector_gradient(shape.layers, &dx);
    for (layer, cache) in (model.plan.first_layer..shape.layers).zip(&layers).rev() {
        pass.backward(layer, &rotary, cache, &mut dx);
        pass.vector_gradient(layer, &dx);
    }
    if let Some(offset) = model.plan.base_gradient(shape, 0) {
        scatter_add(into, offset, shape.hidden, inputs, &dx);
    }
    loss
}

impl Pass<'_> {
    fn add_vector(&self, layer: usize, x: &mut [f32]) {
        if let Some(vector) = self.model.label_vector(layer, self.label) {
            add_to_rows(x, &vector);
        }
    }

    fn vector_gradient(&self, layer: usize, dx: &[f32]) {
        let Model { shape, plan, .. } = self.model;
        if let Some(offset) = plan.vector(shape, layer, self.label) {
            let sums = column_sums(dx, shape.hidden, plan.scales.vector);
            self.into.add((plan.base_len(shape) + offset) as u64, &sums);
        }
    }

    /// Runs a layer; `x` becomes its output.
    fn forward(&self, layer: usize, rotary: &Rotary, x: &mut [f32]) -> Layer {
        let Model { shape, .. } = self.model;
        self.add_vector(layer, x);
        let input = x.to_vec();
        let (normed1, inverse1) = rms_norm(x, &self.model.norm(shape.norm1(layer)), shape.norm_eps);
        let attention = attention::forward(
            shape,
            rotary,
            self.model.apply(layer, Matrix::Qkv, &normed1),
        );
        add(
            x,
            &self.model.apply(layer, Matrix::Out, &attention.gathered),
        );
        let middle = x.to_vec();
        let (normed2, inverse2) = rms_norm(x, &self.model.norm(shape.norm2(layer)), shape.norm_eps);
        let gate_up = self.model.apply(layer, Matrix::GateUp, &normed2);
        let gated = gated(&gate_up, shape.ff);
        add(x, &self.model.apply(layer, Matrix::Down, &gated));
        Layer {
            input,
            inverse1,
            normed1,
            attention,
            middle,
            inverse2,
            normed2,
            gate_up,
            gated,
        }
    }

    /// The loss, and the gradient with respect to the last layer's output.
    fn head(&self, x: &[f32], sequence: &Sequence, weight: f32) -> (f32, Vec<f32>) {
        let Model { shape, plan, .. } = self.model;
        let (d, vocab) = (shape.hidden, shape.vocab);
        // The token at `prefix - 1` is the first that predicts text; without a prefix the first token is given.
        let from = sequence.prefix.max(1) - 1;
        let targets = &sequence.tokens[from + 1..];
        let rows = &x[from * d..];
        let norm = self.model.norm(shape.final_norm());
        let (h, inverse) = rms_norm(rows, &norm, shape.norm_eps);
        let mut logits = self.model.logits(&h);
        if let Some(bias) = self.model.label_bias(self.label) {
            add_to_rows(&mut logits, &bias);
        }
        let scale = weight / targets.len() as f32;
        let mut loss = 0.0;
        for (row, &target) in logits.chunks_exact_mut(vocab).zip(targets) {
            let score = row[target as usize];
            loss += softmax(row) - score;
            row[target as usize] -= 1.0;
            row.iter_mut().for_each(|p| *p *= scale);
        }
        let d_logits = logits;
        let backward = Product::plain(targets.len(), vocab, d);
        if let Some(offset) = plan.bias(shape, self.label) {
            let sums = column_sums(&d_logits, vocab, plan.scales.bias);
            self.into.add((plan.base_len(shape) + offset) as u64, &sums);
        }
        if let Some(offset) = plan.base_gradient(shape, shape.head()) {
            let product = Product::plain(vocab, targets.len(), d).with_trans_a();
            gemm_acc(self.into, offset, &d_logits, &h, product);
        }
        let mut dx = vec![0.0; x.len()];
        if plan.first_layer < shape.layers || plan.vectors {
            let dh = gemm_w(&d_logits, self.model.at(shape.head()), backward);
            self.norm_backward(shape.final_norm(), &dh, rows, &inverse, &mut dx[from * d..]);
        }
        (loss / targets.len() as f32, dx)
    }

    /// Runs a layer backwards; `dx` goes from its output to its input.
    fn backward(&self, layer: usize, rotary: &Rotary, cache: &Layer, dx: &mut [f32]) {
        let Model { shape, .. } = self.model;
        let d_gated = self.linear_backward(layer, Matrix::Down, dx, &cache.gated);
        let d_gate_up = gated_backward(&d_gated, &cache.gate_up, shape.ff);
        let d_normed2 = self.linear_backward(layer, Matrix::GateUp, &d_gate_up, &cache.normed2);
        self.norm_backward(
            shape.norm2(layer),
            &d_normed2,
            &cache.middle,
            &cache.inverse2,
            dx,
        );
        let d_gathered = self.linear_backward(layer, Matrix::Out, dx, &cache.attention.gathered);
        let d_qkv = attention::backward(shape, rotary, &cache.attention, &d_gathered);
        let d_normed1 = self.linear_backward(layer, Matrix::Qkv, &d_qkv, &cache.normed1);
        self.norm_backward(
            shape.norm1(layer),
            &d_normed1,
            &cache.input,
            &cache.inverse1,
            dx,
        );
    }

    /// Adds a matrix' gradient (or its B's) to the accumulator; returns that of its input.
    fn linear_backward(&self, layer: usize, matrix: Matrix, dy: &[f32], x: &[f32]) -> Vec<f32> {
        let Model { shape, plan, .. } = self.model;
        let (output, input) = shape.size(matrix);
        let rows = dy.len() / output;
        if let Some(offset) = plan.base_gradient(shape, shape.matrix(layer, matrix)) {
            gemm_acc(
                self.into,
                offset,
                dy,
                x,
                Product::plain(output, rows, input).with_trans_a(),
            );
        }
        if let Some(offset) = plan.lora_gradient(shape, layer, matrix) {
            let a = At {
                tensor: self.model.lora_inputs,
                offset: plan.lora_input(shape, layer, matrix),
            };
            let mut low = gemm_w(x, a, Product::plain(rows, input, plan.rank).with_trans_b());
            low.iter_mut().for_each(|value| *value *= plan.scales.lora);
            gemm_acc(
                self.into,
                offset,
                dy,
                &low,
                Product::plain(output, rows, plan.rank).with_trans_a(),
            );
        }
        self.model.apply_backward(layer, matrix, dy)
    }

    fn norm_backward(&self, offset: usize, dy: &[f32], x: &[f32], inverse: &[f32], dx: &mut [f32]) {
        let gradient = self.model.plan.base_gradient(self.model.shape, offset);
        let weight = self.model.norm(offset);
        let d_weight = rms_norm_backward(dy, x, inverse, &weight, dx, gradient.is_some());
        if let (Some(offset), Some(d_weight)) = (gradient, d_weight) {
            self.into.add(offset as u64, &d_weight);
        }
    }
}

fn add(sum: &mut [f32], values: &[f32]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += value;
    }
}

fn column_sums(rows: &[f32], width: usize, scale: f32) -> Vec<f32> {
    let mut sums = vec![0.0; width];
    for row in rows.chunks_exact(width) {
        add(&mut sums, row);
    }
    sums.iter_mut().for_each(|sum| *sum *= scale);
    sums
}
