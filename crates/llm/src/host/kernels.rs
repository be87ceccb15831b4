//! Element-wise kernels of the host network, compiled for the widest vectors of the machine.
//!
//! `multiversion` picks the instruction set at run time; a function that a kernel calls must be
//! inlined to profit, hence the attributes. No libm call stands in a loop.

use multiversion::multiversion;

use crate::architecture::{Activation, NormKind};
use crate::decoder::Norm;
use crate::pretrain::kernels::exp;

const LANES: usize = 16;

/// Sum over lanes and remainder of what `each` makes of every number.
#[inline(always)]
fn sum(x: &[f32], each: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += each(*x);
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|x| each(*x)).sum::<f32>()
}

#[inline(always)]
fn maximum(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = if *x > *lane { *x } else { *lane };
        }
    }
    let top = |top: f32, x: &f32| if *x > top { *x } else { top };
    rest.iter()
        .fold(lanes.iter().fold(f32::NEG_INFINITY, top), top)
}

/// Norms every row of `x`, `[rows, gain]`, into `out`.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq", "x86_64+avx2"))]
pub(super) fn norm(kind: NormKind, eps: f32, norm: &Norm, x: &[f32], out: &mut [f32]) {
    let width = norm.gain.len();
    for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        out.copy_from_slice(x);
        norm_row(kind, eps, norm, out);
    }
}

/// The same for one row in place; for kernels.
#[inline(always)]
pub(super) fn norm_row(kind: NormKind, eps: f32, norm: &Norm, x: &mut [f32]) {
    let count = x.len() as f32;
    if kind == NormKind::Layer {
        let mean = sum(x, |x| x) / count;
        x.iter_mut().for_each(|x| *x -= mean);
    }
    let inverse = 1.0 / (sum(x, |x| x * x) / count + eps).sqrt();
    for (x, gain) in x.iter_mut().zip(&norm.gain) {
        *x *= inverse * gain;
    }
    if let Some(bias) = &norm.bias {
        x.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias);
    }
}

/// Norms every row of `x` in place.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq", "x86_64+avx2"))]
pub(super) fn norm_in_place(kind: NormKind, eps: f32, norm: &Norm, x: &mut [f32]) {
    for row in x.chunks_exact_mut(norm.gain.len()) {
        norm_row(kind, eps, norm, row);
    }
}

/// `out += x`.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq", "x86_64+avx2"))]
pub(super) fn add(out: &mut [f32], x: &[f32]) {
    out.iter_mut().zip(x).for_each(|(out, x)| *out += x);
}

/// Adds `bias` to every row.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq", "x86_64+avx2"))]
pub(super) fn add_bias(x: &mut [f32], bias: &[f32]) {
    for row in x.chunks_exact_mut(bias.len()) {
        row.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias);
    }
}

#[inline(always)]
fn tanh(x: f32) -> f32 {
    // (e^2x - 1) / (e^2x + 1); `exp` clamps, so large arguments give +-1.
    let e = exp(2.0 * x);
    (e - 1.0) / (e + 1.0)
}

#[inline(always)]
fn activate(kind: Activation, x: f32) -> f32 {
    match kind {
        Activation::Silu => x / (1.0 + exp(-x)),
        Activation::GeluTanh => {
            let inner = 0.797_884_6 * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + tanh(inner))
        }
    }
}

/// `out = act(gate) * up`; a row of `gate_up` is gate then up.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq", "x86_64+avx2"))]
pub(super) fn gate(kind: Activation, gate_up: &[f32], width: usize, out: &mut [f32]) {
    let rows = gate_up.chunks_exact(2 * width);
    for (row, out) in rows.zip(out.chunks_exact_mut(width)) {
        let (gate, up) = row.split_at(width);
        // The match stands outside the loop, so that the loop is one straight vector body.
        match kind {
            Activation::Silu => gated(out, gate, up, |x| activate(Activation::Silu, x)),
            Activation::GeluTanh => gated(out, gate, up, |x| activate(Activation::GeluTanh, x)),
        }
    }
}

#[inline(always)]
fn gated(out: &mut [f32], gate: &[f32], up: &[f32], act: impl Fn(f32) -> f32) {
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        *out = act(*gate) * up;
    }
}

/// `x = act(x)`.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq", "x86_64+avx2"))]
pub(super) fn activate_all(kind: Activation, x: &mut [f32]) {
    match kind {
        Activation::Silu => x
            .iter_mut()
            .for_each(|x| *x = activate(Activation::Silu, *x)),
        Activation::GeluTanh => {
            x.iter_mut()
                .for_each(|x| *x = activate(Activation::GeluTanh, *x));
        }
    }
}

/// `cap * tanh(x / cap)`; for kernels.
#[inline(always)]
pub(super) fn cap(x: &mut [f32], cap: f32) {
    x.iter_mut().for_each(|x| *x = cap * tanh(*x / cap));
}

/// Softmax in place; for kernels.
#[inline(always)]
pub(super) fn softmax(x: &mut [f32]) {
    let top = maximum(x);
    let mut lanes = [0f32; LANES];
    let mut total = 0.0;
    let (chunks, rest) = x.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *x = exp(*x - top);
            *lane += *x;
        }
    }
    for x in rest {
        *x = exp(*x - top);
        total += *x;
    }
    let inverse = 1.0 / (total + lanes.iter().sum::<f32>());
    x.iter_mut().for_each(|x| *x *= inverse);
}

/// Log-likelihood of `target` under `logits`, in nats.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq", "x86_64+avx2"))]
pub(crate) fn log_likelihood(logits: &[f32], target: usize) -> f64 {
    let top = maximum(logits);
    let total = sum(logits, |x| exp(x - top));
    f64::from(logits[target] - top) - f64::from(total).ln()
}

/// Sum of a slice.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq", "x86_64+avx2"))]
pub(crate) fn total(x: &[f32]) -> f32 {
    sum(x, |x| x)
}

/// `exp((x - max) * scale)` of every logit; 0 where that is below e^-80.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq", "x86_64+avx2"))]
pub(crate) fn weights(logits: &[f32], scale: f32, out: &mut Vec<f32>) {
    out.clear();
    out.resize(logits.len(), 0.0);
    let top = maximum(logits);
    for (out, x) in out.iter_mut().zip(logits) {
        let power = (x - top) * scale;
        *out = if power > -80.0 { exp(power) } else { 0.0 };
    }
}

/// Caps all logits.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq", "x86_64+avx2"))]
pub(super) fn cap_all(x: &mut [f32], limit: f32) {
    cap(x, limit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_agree_with_their_definitions() {
        let x: Vec<f32> = (0..37).map(|i| (i as f32 - 18.0) / 4.0).collect();
        let exact =
            |x: f64| 0.5 * x * (1.0 + (0.797_884_560_8 * (x + 0.044_715 * x * x * x)).tanh());
        let mut gelu = x.clone();
        activate_all(Activation::GeluTanh, &mut gelu);
        for (x, y) in x.iter().zip(&gelu) {
            assert!(
                (f64::from(*y) - exact(f64::from(*x))).abs() < 1e-5,
                "gelu({x})"
            );
        }
        let mut weights = x.clone();
        softmax(&mut weights);
        assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        let total: f64 = x.iter().map(|x| f64::from(*x).exp()).sum();
        let expected = f64::from(x[5]) - total.ln();
        assert!((log_likelihood(&x, 5) - expected).abs() < 1e-5);
        assert!((f64::from(weights[5]).ln() - expected).abs() < 1e-4);
    }

    #[test]
    fn a_layer_norm_has_mean_zero_and_deviation_one() {
        let norm_of = Norm {
            gain: vec![1.0; 20],
            bias: Some(vec![0.5; 20]),
        };
        let mut x: Vec<f32> = (0..40).map(|i| (i * i % 17) as f32).collect();
        norm_in_place(NormKind::Layer, 0.0, &norm_of, &mut x);
        for row in x.chunks(20) {
            assert!((row.iter().sum::<f32>() / 20.0 - 0.5).abs() < 1e-5);
            let variance = row.iter().map(|x| (x - 0.5) * (x - 0.5)).sum::<f32>() / 20.0;
            assert!((variance - 1.0).abs() < 1e-4);
        }
    }
}
