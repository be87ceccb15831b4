//! Elementwise functions written so that the compiler can vectorise them.
//!
//! `exp` is a polynomial of its own: the software one of wasm costs ten times as
//! much, and the same source gives the same bits on every machine.

/// e^x to about 3e-7 relative, for every finite x; saturates instead of overflowing.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    // x - whole * ln 2 in two parts, so that the remainder keeps its low bits.
    let rest = (x - whole * 0.693_359_4) + whole * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * rest + 1.398_199_9e-3;
    p = p * rest + 8.333_452e-3;
    p = p * rest + 4.166_579_6e-2;
    p = p * rest + 1.666_666_5e-1;
    p = p * rest + 0.5;
    let value = p * rest * rest + rest + 1.0;
    let bits = (shifted.to_bits() << 23).wrapping_add(0x3f80_0000);
    value * f32::from_bits(bits)
}

/// Applies `function` to each number, four vectors at a time: where functions have more constants
/// than a processor has registers, they are loaded once for sixteen numbers.
#[inline(always)]
fn apply(row: &mut [f32], function: impl Fn(f32) -> f32) {
    let (chunks, rest) = row.as_chunks_mut::<16>();
    for chunk in chunks {
        for value in chunk {
            *value = function(*value);
        }
    }
    for value in rest {
        *value = function(*value);
    }
}

/// `1 / (1 + e^-x)` of each number.
pub fn sigmoid(row: &mut [f32]) {
    apply(row, |x| 1.0 / (1.0 + exp(-x)));
}

/// Turns a row of scores into probabilities; returns ln of the sum of exponentials.
pub fn softmax(row: &mut [f32]) -> f32 {
    let highest = highest(row);
    apply(row, |value| exp(value - highest));
    let sum = sum(row);
    let scale = 1.0 / sum;
    for value in row.iter_mut() {
        *value *= scale;
    }
    highest + sum.ln()
}

/// The larger of two numbers; the first where either is NaN.
///
/// Unlike `f32::max`, which looks for NaN on both sides, it is one vector instruction of wasm.
#[inline(always)]
pub fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// The largest number, in eight lanes; minus infinity of none.
fn highest(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 8];
    let (chunks, rest) = values.as_chunks::<8>();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, *value);
        }
    }
    lanes
        .into_iter()
        .chain(rest.iter().copied())
        .fold(f32::NEG_INFINITY, larger)
}

/// `x * Phi(x)` for each number, with `Phi` the normal distribution function.
///
/// The error function is good to 1.5e-7 (Abramowitz and Stegun, "Handbook of Mathematical
/// Functions", 1964, 7.1.26).
pub fn gelu(values: &mut [f32]) {
    apply(values, |value| {
        let x = value.abs() * std::f32::consts::FRAC_1_SQRT_2;
        let t = 1.0 / (1.0 + 0.327_591_1 * x);
        let mut p = 1.061_405_4;
        p = p * t - 1.453_152;
        p = p * t + 1.421_413_7;
        p = p * t - 0.284_496_74;
        p = p * t + 0.254_829_6;
        let erf = 1.0 - p * t * exp(-x * x);
        value * (0.5 * (1.0 + erf.copysign(value)))
    });
}

/// The sum, in eight lanes.
pub fn sum(values: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 8];
    let chunks = values.chunks_exact(8);
    let rest: f32 = chunks.remainder().iter().sum();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// The inner product, in eight lanes.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 8];
    let (chunks_a, chunks_b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = chunks_a
        .remainder()
        .iter()
        .zip(chunks_b.remainder())
        .map(|(x, y)| x * y)
        .sum();
    for (x, y) in chunks_a.zip(chunks_b) {
        for lane in 0..8 {
            lanes[lane] += x[lane] * y[lane];
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// `y += alpha * x`.
pub fn add_scaled(y: &mut [f32], alpha: f32, x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += alpha * x;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_to_the_library_over_its_whole_range() {
        for step in -8700..8800 {
            let x = step as f32 * 0.01;
            let (own, library) = (f64::from(exp(x)), f64::from(x).exp());
            assert!(
                (own / library - 1.0).abs() < 1e-6,
                "exp({x}) = {own}, library {library}"
            );
        }
        assert!(exp(-1e9) < 1e-37 && exp(1e9).is_finite());
    }

    #[test]
    fn the_highest_is_found_wherever_it_stands() {
        for len in [1, 7, 8, 9, 40] {
            for at in 0..len {
                let mut row: Vec<f32> = (0..len).map(|i| -(i as f32)).collect();
                row[at] = 3.5;
                assert_eq!(highest(&row), 3.5, "{at} of {len}");
            }
        }
        assert_eq!(highest(&[]), f32::NEG_INFINITY);
        assert_eq!(highest(&[f32::NAN, 1.0]), 1.0);
    }

    #[test]
    fn gelu_agrees_with_the_normal_distribution() {
        let known = [
            (-3.0, -0.004_049_694),
            (-1.0, -0.158_655_25),
            (0.0, 0.0),
            (0.5, 0.345_731_23),
            (4.0, 3.999_873_3),
        ];
        for (x, expected) in known {
            let mut row = [x];
            gelu(&mut row);
            assert!((row[0] - expected).abs() < 1e-6, "gelu({x}) = {}", row[0]);
        }
    }

    #[test]
    fn softmax_sums_to_one_and_returns_the_normaliser() {
        let mut row = vec![1.0, 2.0, 3.0, -100.0, 0.5, 0.0, 0.1, 0.2, 0.3];
        let normaliser = softmax(&mut row);
        assert!((sum(&row) - 1.0).abs() < 1e-6);
        assert!((row[2].ln() - (3.0 - normaliser)).abs() < 1e-5);
    }

    #[test]
    fn dot_and_sum_agree_with_plain_loops() {
        let a: Vec<f32> = (0..29).map(|i| i as f32 * 0.5).collect();
        let plain: f32 = a.iter().map(|x| x * x).sum();
        assert!((dot(&a, &a) - plain).abs() < 1e-2);
        assert!((sum(&a) - a.iter().sum::<f32>()).abs() < 1e-3);
    }
}
