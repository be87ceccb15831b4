//! Element-wise kernels of the fused training step, over plain `f32` slices.
//!
//! Written so that the compiler turns them into vector code on any CPU: fixed-width chunks, no
//! libm calls, no fused multiply-add that the target may lack, so that all machines compute the
//! same. `multiversion` picks the widest vectors at run time; a function that a kernel calls must
//! be inlined to profit. Nothing here knows about tensors.

use multiversion::multiversion;

/// Lanes of the explicit accumulators; sums are reassociated to this width.
const LANES: usize = 16;

/// e^x with a relative error below 2e-7 on [-87, 88]; clamped outside.
///
/// Cody-Waite reduction and the degree-5 polynomial of Cephes `expf` (Moshier, 1992).
#[inline(always)]
#[allow(clippy::excessive_precision)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low mantissa bits.
    const ROUND: f32 = 12_582_912.0;
    let x = if x > 88.0 { 88.0 } else { x };
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_375 + n * 2.121_944_4e-4;
    let p = ((((1.987_569_15e-4 * r + 1.398_199_95e-3) * r + 8.333_451_9e-3) * r + 4.166_579_6e-2)
        * r
        + 1.666_666_55e-1)
        * r
        + 5.000_000_1e-1;
    let value = p * r * r + r + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    value * power
}

/// Dot product.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut acc = [0f32; LANES];
    let (ca, cb) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f32 = ca
        .remainder()
        .iter()
        .zip(cb.remainder())
        .map(|(x, y)| x * y)
        .sum();
    for (x, y) in ca.zip(cb) {
        for i in 0..LANES {
            acc[i] += x[i] * y[i];
        }
    }
    acc.iter().sum::<f32>() + tail
}

/// Sum of squares in f64, for norms over a whole gradient.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq", "x86_64+avx2"))]
pub(super) fn sum_of_squares(a: &[f32]) -> f64 {
    a.chunks(4096).map(|c| f64::from(dot(c, c))).sum()
}

#[inline(always)]
fn maximum(row: &[f32]) -> f32 {
    let mut acc = [f32::NEG_INFINITY; LANES];
    let chunks = row.chunks_exact(LANES);
    let tail = chunks
        .remainder()
        .iter()
        .copied()
        .fold(f32::NEG_INFINITY, f32::max);
    for c in chunks {
        for i in 0..LANES {
            acc[i] = if c[i] > acc[i] { c[i] } else { acc[i] };
        }
    }
    acc.iter().copied().fold(tail, f32::max)
}

/// Replaces `row` by e^(row - max) and returns (max, sum).
#[inline(always)]
fn exponentiate(row: &mut [f32], scale: f32) -> (f32, f32) {
    let max = maximum(row) * scale;
    let mut acc = [0f32; LANES];
    let mut chunks = row.chunks_exact_mut(LANES);
    for c in &mut chunks {
        for i in 0..LANES {
            let e = exp(c[i] * scale - max);
            c[i] = e;
            acc[i] += e;
        }
    }
    let mut sum = acc.iter().sum::<f32>();
    for x in chunks.into_remainder() {
        *x = exp(*x * scale - max);
        sum += *x;
    }
    (max, sum)
}

/// Softmax of `scale * scores` over the first `visible` columns of a row; the others become zero.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq", "x86_64+avx2"))]
pub(super) fn masked_softmax(row: &mut [f32], visible: usize, scale: f32) {
    let (seen, hidden) = row.split_at_mut(visible);
    let (_, sum) = exponentiate(seen, scale);
    let inverse = 1.0 / sum;
    seen.iter_mut().for_each(|x| *x *= inverse);
    hidden.fill(0.0);
}

/// Turns a row of logits into `(softmax - one_hot(target)) * scale` and returns the negative
/// log-likelihood of the target, in nats.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq", "x86_64+avx2"))]
pub(crate) fn cross_entropy(row: &mut [f32], target: usize, scale: f32) -> f32 {
    let logit = row[target];
    let (max, sum) = exponentiate(row, 1.0);
    let factor = scale / sum;
    row.iter_mut().for_each(|x| *x *= factor);
    row[target] -= scale;
    max + sum.ln() - logit
}

/// `y = x / rms(x) * gain` row by row; returns 1 / rms of every row.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq", "x86_64+avx2"))]
pub(super) fn rms_norm(x: &[f32], gain: &[f32], eps: f32, y: &mut [f32]) -> Vec<f32> {
    let d = gain.len();
    let mut inverse = Vec::with_capacity(x.len() / d);
    for (x, y) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)) {
        let r = 1.0 / (dot(x, x) / d as f32 + eps).sqrt();
        for ((y, x), g) in y.iter_mut().zip(x).zip(gain) {
            *y = x * r * g;
        }
        inverse.push(r);
    }
    inverse
}

/// Backward of [`rms_norm`]: adds the input gradient to `dx` and the gain gradient to `dgain`.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq", "x86_64+avx2"))]
pub(super) fn rms_norm_backward(
    x: &[f32],
    gain: &[f32],
    inverse: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    dgain: &mut [f32],
) {
    let d = gain.len();
    let mut scaled = vec![0f32; d];
    for (row, r) in inverse.iter().enumerate() {
        let span = row * d..(row + 1) * d;
        let (x, dy, dx) = (&x[span.clone()], &dy[span.clone()], &mut dx[span]);
        for i in 0..d {
            scaled[i] = dy[i] * gain[i];
            dgain[i] += dy[i] * x[i] * r;
        }
        let k = dot(&scaled, x) * r * r * r / d as f32;
        for i in 0..d {
            dx[i] += scaled[i] * r - x[i] * k;
        }
    }
}

/// SwiGLU: `out[i] = silu(gate[i]) * up[i]`; a row of `gate_up` is gate then up.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq", "x86_64+avx2"))]
pub(super) fn swiglu(gate_up: &[f32], width: usize, out: &mut [f32]) {
    for (row, out) in gate_up
        .chunks_exact(2 * width)
        .zip(out.chunks_exact_mut(width))
    {
        let (gate, up) = row.split_at(width);
        for ((o, g), u) in out.iter_mut().zip(gate).zip(up) {
            *o = g * u / (1.0 + exp(-g));
        }
    }
}

/// Backward of [`swiglu`].
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq", "x86_64+avx2"))]
pub(super) fn swiglu_backward(gate_up: &[f32], width: usize, dout: &[f32], dgate_up: &mut [f32]) {
    let rows = gate_up
        .chunks_exact(2 * width)
        .zip(dout.chunks_exact(width));
    for ((row, dout), drow) in rows.zip(dgate_up.chunks_exact_mut(2 * width)) {
        let (gate, up) = row.split_at(width);
        let (dgate, dup) = drow.split_at_mut(width);
        for i in 0..width {
            let sigmoid = 1.0 / (1.0 + exp(-gate[i]));
            let silu = gate[i] * sigmoid;
            dup[i] = dout[i] * silu;
            dgate[i] = dout[i] * up[i] * (sigmoid + silu * (1.0 - sigmoid));
        }
    }
}

/// Cosines and sines of the rotary embedding, each `[positions, head / 2]`.
#[derive(Debug, Clone)]
pub(super) struct Rotary {
    pub(super) cos: Vec<f32>,
    pub(super) sin: Vec<f32>,
    half: usize,
}

impl Rotary {
    pub(super) fn new(positions: usize, head: usize, theta: f64) -> Self {
        let half = head / 2;
        let angles = (0..positions).flat_map(|p| {
            (0..half).map(move |i| p as f64 * theta.powf(-2.0 * i as f64 / head as f64))
        });
        let (cos, sin) = angles.map(|a| (a.cos() as f32, a.sin() as f32)).unzip();
        Self { cos, sin, half }
    }

    /// Rotates one head at one position, in the half-split convention of Hugging Face.
    /// `direction` is 1 forward and -1 backward (a rotation's transpose is its inverse).
    #[inline]
    pub(super) fn turn(&self, from: &[f32], position: usize, direction: f32, to: &mut [f32]) {
        let half = self.half;
        let cos = &self.cos[position * half..(position + 1) * half];
        let sin = &self.sin[position * half..(position + 1) * half];
        let (a, b) = from.split_at(half);
        let (to_a, to_b) = to.split_at_mut(half);
        for i in 0..half {
            let s = sin[i] * direction;
            to_a[i] = a[i] * cos[i] - b[i] * s;
            to_b[i] = b[i] * cos[i] + a[i] * s;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_agrees_with_the_standard_library() {
        for i in -8600..=8700 {
            let x = i as f32 / 100.0;
            let relative = (f64::from(exp(x)) / f64::from(x).exp() - 1.0).abs();
            assert!(relative < 3e-7, "exp({x}) is off by {relative}");
        }
    }

    #[test]
    fn a_softmax_row_sums_to_one_and_hides_the_future() {
        let mut row = [1.0, 2.0, 3.0, 400.0];
        masked_softmax(&mut row, 3, 0.5);
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert_eq!(row[3], 0.0);
    }

    #[test]
    fn turning_back_undoes_a_turn() {
        let rotary = Rotary::new(8, 4, 10_000.0);
        let (mut there, mut back) = ([0.0; 4], [0.0; 4]);
        rotary.turn(&[1.0, -2.0, 3.0, 0.5], 7, 1.0, &mut there);
        rotary.turn(&there, 7, -1.0, &mut back);
        for (a, b) in back.iter().zip([1.0, -2.0, 3.0, 0.5]) {
            assert!((a - b).abs() < 1e-5);
        }
    }
}
