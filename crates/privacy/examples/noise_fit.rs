//! Goodness of fit over 1e8 draws: `cargo run --release -p noisegate-privacy --example noise_fit`.
//!
//! Compares with floor(N(0, 4^24)): 1024 cells of the body, tails from 4 to 6
//! deviations on both sides, the three low bytes, mean, variance, kurtosis,
//! neighbouring draws. Prints a z-score for each; the run fails beyond 6, which
//! for a true sampler happens with probability below 1e-7.

use noisegate_privacy::NoiseSource;
use std::process::ExitCode;

const DRAWS: usize = 100_000_000;
const CHUNK: usize = 1_000_000;
const CELLS: usize = 1024;

fn main() -> ExitCode {
    let mut source = NoiseSource::from_os().expect("entropy");
    let unit = 2f64.powi(24);
    let n = DRAWS as f64;
    let mut draws = vec![0i64; CHUNK];
    let mut body = vec![0u64; CELLS];
    let mut bytes = vec![[0u64; 256]; 3];
    let tails = [4.0, 4.5, 5.0, 5.5, 6.0];
    let mut beyond = vec![[0u64; 2]; tails.len()];
    let (mut mean, mut square, mut fourth, mut lag) = (0.0, 0.0, 0.0, 0.0);
    for _ in 0..DRAWS / CHUNK {
        source.fill(&mut draws);
        let mut previous = 0.0;
        for draw in &draws {
            // Cells of 1/128: shift 24 - 7.
            body[((draw >> 17) + CELLS as i64 / 2).clamp(0, CELLS as i64 - 1) as usize] += 1;
            for (i, counts) in bytes.iter_mut().enumerate() {
                counts[(draw >> (8 * i)) as usize & 0xff] += 1;
            }
            for (count, tail) in beyond.iter_mut().zip(tails) {
                // floor(x) >= k iff x >= k, and floor(x) < -k iff x < -k, for an integer k.
                let edge = (tail * unit) as i64;
                count[0] += u64::from(*draw >= edge);
                count[1] += u64::from(*draw < -edge);
            }
            let x = *draw as f64 / unit;
            mean += x;
            square += x * x;
            fourth += x.powi(4);
            lag += x * previous;
            previous = x;
        }
    }

    let mut scores = Vec::new();
    let expected: Vec<f64> = (0..CELLS)
        .map(|i| {
            let low = (i as f64 - CELLS as f64 / 2.0) / 128.0;
            let from = if i == 0 { -10.0 } else { low };
            let to = if i == CELLS - 1 {
                10.0
            } else {
                low + 1.0 / 128.0
            };
            n * normal_mass(from, to)
        })
        .collect();
    scores.push((
        "body, 1024 cells".to_owned(),
        chi_square_z(&body, &expected),
    ));
    // The third byte repeats every 256 * 2^16 = one deviation: not uniform, so only two bytes are.
    for (i, counts) in bytes.iter().take(2).enumerate() {
        scores.push((format!("byte {i}"), chi_square_z(counts, &[n / 256.0; 256])));
    }
    for (counts, tail) in beyond.iter().zip(tails) {
        let expected = n * normal_mass(tail, tail + 6.0);
        for (count, side) in counts.iter().zip(["above", "below minus"]) {
            let z = 2.0 * ((*count as f64 + 0.25).sqrt() - expected.sqrt());
            scores.push((format!("{side} {tail}: {count}, expected {expected:.2}"), z));
        }
    }
    scores.push(("mean".to_owned(), mean / n.sqrt()));
    scores.push(("variance".to_owned(), (square / n - 1.0) * (n / 2.0).sqrt()));
    scores.push((
        "fourth moment".to_owned(),
        (fourth / n - 3.0) * (n / 96.0).sqrt(),
    ));
    scores.push(("neighbours".to_owned(), lag / n.sqrt()));
    for (name, z) in &scores {
        println!("{z:+7.3}  {name}");
    }
    let worst = scores.iter().map(|(_, z)| z.abs()).fold(0.0, f64::max);
    println!("{DRAWS} draws, worst z-score {worst:.3}");
    if worst < 6.0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Mass of the standard normal between a and b, by Simpson's rule.
fn normal_mass(a: f64, b: f64) -> f64 {
    const STEPS: u32 = 400;
    let h = (b - a) / f64::from(STEPS);
    let density = |x: f64| (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt();
    let weight = |i: u32| {
        if i == 0 || i == STEPS {
            1.0
        } else {
            f64::from(2 + 2 * (i % 2))
        }
    };
    (0..=STEPS)
        .map(|i| weight(i) * density(a + f64::from(i) * h))
        .sum::<f64>()
        * h
        / 3.0
}

/// Chi-square as a z-score (Wilson and Hilferty, 1931).
fn chi_square_z(seen: &[u64], expected: &[f64]) -> f64 {
    let degrees = (seen.len() - 1) as f64;
    let chi: f64 = seen
        .iter()
        .zip(expected)
        .map(|(s, e)| (*s as f64 - e).powi(2) / e)
        .sum();
    ((chi / degrees).cbrt() - (1.0 - 2.0 / (9.0 * degrees))) / (2.0 / (9.0 * degrees)).sqrt()
}
