//! Norms, rotary positions and the gated unit, forwards and backwards.
//!
//! Plain functions over rows; nothing here knows about weights on the host's side.

use noisegate_guest_sdk::maths::{self, dot};

/// `y = x / rms(x) * weight` for each row; also returns `1 / rms` of each row.
///
/// # Source
/// Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019, eq. 4.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32) -> (Vec<f32>, Vec<f32>) {
    let width = weight.len();
    let mut y = vec![0.0; x.len()];
    let mut inverse = Vec::with_capacity(x.len() / width);
    for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
        let scale = 1.0 / (dot(x, x) / width as f32 + eps).sqrt();
        for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
            *y = x * scale * w;
        }
        inverse.push(scale);
    }
    (y, inverse)
}

/// Adds the gradient with respect to `x` to `dx`; returns that of the weight if asked for.
pub fn rms_norm_backward(
    dy: &[f32],
    x: &[f32],
    inverse: &[f32],
    weight: &[f32],
    dx: &mut [f32],
    want_weight: bool,
) -> Option<Vec<f32>> {
    let width = weight.len();
    let mut dweight = want_weight.then(|| vec![0.0; width]);
    let mut scaled = vec![0.0; width];
    let rows = dy
        .chunks_exact(width)
        .zip(x.chunks_exact(width))
        .zip(dx.chunks_exact_mut(width))
        .zip(inverse);
    for (((dy, x), dx), &inverse) in rows {
        for ((s, dy), w) in scaled.iter_mut().zip(dy).zip(weight) {
            *s = dy * w * inverse;
        }
        let along = dot(&scaled, x) * inverse * inverse / width as f32;
        for ((dx, s), x) in dx.iter_mut().zip(&scaled).zip(x) {
            *dx += s - along * x;
        }
        if let Some(dweight) = &mut dweight {
            for ((dw, dy), x) in dweight.iter_mut().zip(dy).zip(x) {
                *dw += dy * x * inverse;
            }
        }
    }
    dweight
}

/// Cosines and sines of the rotary angles: `[positions, head_dim / 2]` each.
pub struct Rotary {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rotary {
    /// The angles of the first `positions` positions.
    ///
    /// # Source
    /// Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021, eq. 15;
    /// halves instead of neighbours are paired, as in Hugging Face's Llama.
    pub fn new(positions: usize, head_dim: usize, theta: f32) -> Self {
        let half = head_dim / 2;
        let frequencies: Vec<f32> = (0..half)
            .map(|i| theta.powf(-(2.0 * i as f32) / head_dim as f32))
            .collect();
        let angles = (0..positions)
            .flat_map(|position| frequencies.iter().map(move |f| position as f32 * f));
        let (sin, cos) = angles.map(f32::sin_cos).unzip();
        Rotary { half, cos, sin }
    }

    /// Turns every head of one row at `position`, back again if `backward`.
    pub fn turn(&self, heads: &mut [f32], position: usize, backward: bool) {
        let cos = &self.cos[position * self.half..][..self.half];
        let sin = &self.sin[position * self.half..][..self.half];
        let sign = if backward { -1.0 } else { 1.0 };
        for head in heads.chunks_exact_mut(2 * self.half) {
            let (low, high) = head.split_at_mut(self.half);
            for i in 0..self.half {
                let (a, b) = (low[i], high[i]);
                low[i] = a * cos[i] - sign * b * sin[i];
                high[i] = b * cos[i] + sign * a * sin[i];
            }
        }
    }
}

/// `silu(gate) * up`, where a row of `gate_up` is gate then up.
pub fn gated(gate_up: &[f32], ff: usize) -> Vec<f32> {
    let mut out = vec![0.0; gate_up.len() / 2];
    for (row, out) in gate_up.chunks_exact(2 * ff).zip(out.chunks_exact_mut(ff)) {
        let (gate, up) = row.split_at(ff);
        out.copy_from_slice(gate);
        maths::sigmoid(out);
        for ((out, g), u) in out.iter_mut().zip(gate).zip(up) {
            *out *= g * u;
        }
    }
    out
}

/// The gradient with respect to `gate_up`.
pub fn gated_backward(d_out: &[f32], gate_up: &[f32], ff: usize) -> Vec<f32> {
    let mut d_in = vec![0.0; gate_up.len()];
    let rows = gate_up
        .chunks_exact(2 * ff)
        .zip(d_in.chunks_exact_mut(2 * ff))
        .zip(d_out.chunks_exact(ff));
    for ((row, d_row), d_out) in rows {
        let (gate, up) = row.split_at(ff);
        let (d_gate, d_up) = d_row.split_at_mut(ff);
        d_gate.copy_from_slice(gate);
        maths::sigmoid(d_gate);
        for i in 0..ff {
            let sigmoid = d_gate[i];
            let silu = gate[i] * sigmoid;
            d_up[i] = d_out[i] * silu;
            d_gate[i] = d_out[i] * up[i] * (sigmoid + silu * (1.0 - sigmoid));
        }
    }
    d_in
}
