//! The gate's speed: `cargo run --release -p noisegate-privacy --example noise_speed`.
//!
//! Noise in draws a second on one core and on all, and the clip of one unit of 4.2 M coordinates. On a
//! busy machine the best round is the honest one.

use noisegate_privacy::{
    ClipBound, GaussianSum, GaussianSumSpec, NoiseMultiplier, NoiseSource, SamplingRate,
};
use std::time::Instant;

const DIMENSION: usize = 1 << 22;
const ROUNDS: usize = 8;

fn main() {
    let mut source = NoiseSource::from_os().expect("entropy");
    let mut out = vec![0i64; DIMENSION];
    let rate = |seconds: f64| DIMENSION as f64 / seconds / 1e6;
    let seconds = best(|| out.chunks_mut(1 << 18).for_each(|part| source.fill(part)));
    println!("noise on one core: {:.1} M draws/s", rate(seconds));
    let seconds = best(|| source.fill(&mut out));
    println!("noise on all cores: {:.1} M draws/s", rate(seconds));

    let spec = GaussianSumSpec {
        dimension: DIMENSION,
        clip: ClipBound::new(1.0).expect("in range"),
        noise_multiplier: NoiseMultiplier::new(1.0).expect("in range"),
        sampling_rate: SamplingRate::ONE,
        units_public: 1000,
    };
    let mut sum = GaussianSum::new(&spec).expect("in range");
    let contribution: Vec<f32> = out.iter().map(|draw| *draw as f32 * 1e-9).collect();
    let seconds = best(|| sum.add(&contribution));
    println!(
        "clip and add one unit of {DIMENSION} coordinates: {:.1} ms",
        seconds * 1e3
    );
}

fn best(mut run: impl FnMut()) -> f64 {
    let seconds = |run: &mut dyn FnMut()| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    (0..ROUNDS)
        .map(|_| seconds(&mut run))
        .fold(f64::INFINITY, f64::min)
}
