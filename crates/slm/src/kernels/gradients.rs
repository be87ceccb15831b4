//! Gradients of GELU, softmax and layer normalisation, one pass over memory each.

use multiversion::multiversion;

/// `dx = dy (Phi(x) + x phi(x))`: the gradient of the exact GELU.
///
/// Source: Hendrycks, Gimpel, "Gaussian Error Linear Units", 2016; the normal distribution after
/// Abramowitz, Stegun, "Handbook of Mathematical Functions", 7.1.26, whose error is 1.5e-7.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq", "x86_64+avx2"))]
pub(super) fn gelu(dx: &mut [f32], dy: &[f32], x: &[f32]) {
    const DENSITY: f32 = 0.398_942_3;
    for ((dx, dy), x) in dx.iter_mut().zip(dy).zip(x) {
        let x = *x;
        let bell = exp(-0.5 * x * x);
        let t = 1.0 / (1.0 + 0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2 * x.abs());
        let series = 1.061_405_4 * t - 1.453_152_1;
        let series = (series * t + 1.421_413_8) * t - 0.284_496_74;
        let tail = 0.5 * (series * t + 0.254_829_6) * t * bell;
        let below = if x < 0.0 { tail } else { 1.0 - tail };
        *dx = dy * (below + x * DENSITY * bell);
    }
}

/// `e^x` for `x <= 0`, to about 1e-7 relative; 0 far below.
///
/// Source: Moshier, "Methods and Programs for Mathematical Functions", 1989 (Cephes `expf`).
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Adding it rounds to an integer, which then stands in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.max(-87.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4 * r + 1.398_199_9e-3;
    let p = (p * r + 8.333_452e-3) * r + 4.166_579_6e-2;
    let p = (p * r + 0.166_666_65) * r + 0.5;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    (p * r * r + r + 1.0) * power
}

/// `dx = y (dy - sum(dy y))` for each row of `width`.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq", "x86_64+avx2"))]
pub(super) fn softmax(dx: &mut [f32], dy: &[f32], y: &[f32], width: usize) {
    let rows = dy.chunks_exact(width).zip(y.chunks_exact(width));
    for (dx, (dy, y)) in dx.chunks_exact_mut(width).zip(rows) {
        let along = dot(dy, y);
        for ((dx, dy), y) in dx.iter_mut().zip(dy).zip(y) {
            *dx = y * (dy - along);
        }
    }
}

/// What layer normalisation is told and told back, for some rows.
pub(super) struct Norm<'r> {
    pub dy: &'r [f32],
    pub x: &'r [f32],
    pub scale: &'r [f32],
    /// One a row.
    pub mean: &'r [f32],
    /// One a row.
    pub inverse: &'r [f32],
}

/// With `h = (x - mean) r` and `d = dy scale`: `dx = r (d - mean(d) - h mean(d h))`; adds
/// `sum(dy h)` to `sums[..width]` and `sum(dy)` to the rest.
///
/// Source: Ba, Kiros, Hinton, "Layer Normalization", 2016.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq", "x86_64+avx2"))]
pub(super) fn layer_norm(dx: &mut [f32], sums: &mut [f32], norm: &Norm<'_>) {
    let width = norm.scale.len();
    let (of_scale, of_bias) = sums.split_at_mut(width);
    let rows = norm.dy.chunks_exact(width).zip(norm.x.chunks_exact(width));
    let statistics = norm.mean.iter().zip(norm.inverse);
    for ((dx, (dy, x)), (mean, inverse)) in dx.chunks_exact_mut(width).zip(rows).zip(statistics) {
        // `dx` holds `h` for now.
        for ((h, x), (dy, (s, b))) in dx
            .iter_mut()
            .zip(x)
            .zip(dy.iter().zip(of_scale.iter_mut().zip(of_bias.iter_mut())))
        {
            *h = (x - mean) * inverse;
            *s += dy * *h;
            *b += dy;
        }
        let mean_d = dot(dy, norm.scale) / width as f32;
        let along = dot3(dy, norm.scale, dx) / width as f32;
        for ((dx, dy), scale) in dx.iter_mut().zip(dy).zip(norm.scale) {
            *dx = inverse * (dy * scale - mean_d - *dx * along);
        }
    }
}

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    let mut sums = [0.0f32; 16];
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

#[inline(always)]
fn dot3(a: &[f32], b: &[f32], c: &[f32]) -> f32 {
    let (a, a_rest) = a.as_chunks::<16>();
    let (b, b_rest) = b.as_chunks::<16>();
    let (c, c_rest) = c.as_chunks::<16>();
    let mut sums = [0.0f32; 16];
    for ((a, b), c) in a.iter().zip(b).zip(c) {
        for (((sum, a), b), c) in sums.iter_mut().zip(a).zip(b).zip(c) {
            *sum += a * b * c;
        }
    }
    let rest = a_rest.iter().zip(b_rest).zip(c_rest);
    sums.iter().sum::<f32>() + rest.map(|((a, b), c)| a * b * c).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_of_gelu_is_right_to_a_millionth() {
        let x: Vec<f32> = (-2000..=2000).map(|i| i as f32 * 0.01).collect();
        let mut dx = vec![0.0; x.len()];
        gelu(&mut dx, &vec![1.0; x.len()], &x);
        for (x, dx) in x.iter().zip(dx) {
            let x = f64::from(*x);
            let phi = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
            let exact = cumulative(x) + x * phi;
            assert!((exact - f64::from(dx)).abs() < 1e-6, "{x}: {dx} vs {exact}");
        }
    }

    /// The normal distribution by Simpson's rule.
    fn cumulative(x: f64) -> f64 {
        let steps = 2000;
        let h = x / f64::from(steps);
        let at = |i: i32| (-0.5 * (h * f64::from(i)).powi(2)).exp();
        let inner: f64 = (1..steps)
            .map(|i| at(i) * if i % 2 == 1 { 4.0 } else { 2.0 })
            .sum();
        0.5 + (at(0) + inner + at(steps)) * h / 3.0 / (2.0 * std::f64::consts::PI).sqrt()
    }

    #[test]
    fn the_exponential_is_right_and_never_wild() {
        for i in 0..=20_000 {
            let x = -0.01 * i as f32;
            let (ours, exact) = (f64::from(exp(x)), f64::from(x).exp());
            assert!(
                (ours - exact).abs() <= 3e-7 * exact + 1e-37,
                "{x}: {ours} vs {exact}"
            );
        }
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
    }
}
