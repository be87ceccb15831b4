//! Draws a second on one core, side by side:
//! `cargo run --release --manifest-path benches/noise/Cargo.toml`.
//!
//! - noisegate: floor(N(0, 4^24)), in blocks, 2^-108 from exact (`crates/privacy/src/noise/proof.md`).
//! - opendp: the discrete Gaussian of the same scale, exact, in arbitrary-precision rationals
//!   (Canonne, Kamath and Steinke, 2020), one draw a call: what it offers for integers.
//!
//! The two laws differ by less than 1e-6 in total variation at this scale, so their draws are also
//! held against each other: a chi-square over 64 cells, as a z-score. The run fails beyond 5.
//!
//! Deliberately absent: threads. On a busy machine the best round is the honest one.

use std::process::ExitCode;
use std::time::Instant;

use noisegate_privacy::NoiseSource;
use opendp::traits::samplers::sample_discrete_gaussian;

/// More at once would be drawn on all cores (decision 081).
const OURS: usize = 1 << 18;
const THEIRS: usize = 50_000;
const ROUNDS: usize = 5;
const SCALE: u32 = 1 << 24;
const CELLS: usize = 64;

fn main() -> ExitCode {
    let mut source = NoiseSource::from_os().expect("the system gives entropy");
    let mut draws = vec![0i64; OURS];
    let ours = best(OURS, || source.fill(&mut draws));
    let mut exact = Vec::with_capacity(THEIRS);
    let theirs = best(THEIRS, || {
        exact.clear();
        exact.extend((0..THEIRS).map(|_| {
            let draw = sample_discrete_gaussian(SCALE.into()).expect("opendp draws");
            i64::try_from(draw).expect("a draw of scale 2^24 fits")
        }));
    });
    println!(
        "noisegate  floor(N(0, 4^24))         {:8.2} M draws/s",
        ours / 1e6
    );
    println!(
        "opendp     discrete Gaussian, 2^24   {:8.2} M draws/s",
        theirs / 1e6
    );
    println!("ratio      {:.0}", ours / theirs);
    let z = homogeneity(&draws, &exact);
    println!("same law   chi-square over {CELLS} cells: z = {z:+.2}");
    if z < 5.0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Draws a second in the best round.
fn best(draws: usize, mut run: impl FnMut()) -> f64 {
    let round = |_| {
        let start = Instant::now();
        run();
        draws as f64 / start.elapsed().as_secs_f64()
    };
    (0..ROUNDS).map(round).fold(0.0, f64::max)
}

/// Whether two samples come from one law: chi-square as a z-score (Wilson and Hilferty, 1931).
fn homogeneity(a: &[i64], b: &[i64]) -> f64 {
    let (a, b) = (counts(a), counts(b));
    let (total_a, total_b) = (a.iter().sum::<f64>(), b.iter().sum::<f64>());
    let (ratio_a, ratio_b) = ((total_b / total_a).sqrt(), (total_a / total_b).sqrt());
    let cells = a.iter().zip(&b).filter(|(a, b)| *a + *b > 0.0);
    let chi: f64 = cells
        .clone()
        .map(|(a, b)| (a * ratio_a - b * ratio_b).powi(2) / (a + b))
        .sum();
    let degrees = (cells.count() - 1) as f64;
    let spread = 2.0 / (9.0 * degrees);
    ((chi / degrees).cbrt() - (1.0 - spread)) / spread.sqrt()
}

/// Cells of an eighth of a deviation; the outer ones take the tails.
fn counts(draws: &[i64]) -> Vec<f64> {
    let mut counts = vec![0.0; CELLS];
    for draw in draws {
        let cell = (draw >> 21).clamp(-(CELLS as i64) / 2, CELLS as i64 / 2 - 1);
        counts[(cell + CELLS as i64 / 2) as usize] += 1.0;
    }
    counts
}
