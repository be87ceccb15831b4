//! How long a value takes: `cargo run --release -p noisegate-privacy --example accountant_speed`.
//!
//! Prints the best of several runs of the full accountant for typical and extreme schedules.

use noisegate_privacy::{Delta, Event, accountant};
use std::time::Instant;

fn main() {
    let cases = [
        ("typical", 0.01, 1.0, 1_000, 1e-5),
        ("typical", 0.004, 1.1, 14_063, 1e-5),
        ("typical", 0.05, 1.5, 1_000, 1e-6),
        ("typical", 0.01, 1.1, 10_000, 1e-6),
        ("typical", 0.0256, 0.6, 500, 1e-5),
        ("extreme", 1e-8, 0.3, 1_000_000, 1e-12),
        ("extreme", 1e-8, 1000.0, 1_000_000, 1e-12),
        ("extreme", 1e-4, 1.0, 1_000_000, 1e-10),
        ("extreme", 0.5, 0.3, 1_000_000, 1e-12),
        ("extreme", 0.01, 1000.0, 1_000_000, 1e-12),
    ];
    for (kind, q, sigma, steps, delta) in cases {
        let events = [Event::SampledGaussian { q, sigma, steps }];
        let delta = Delta::new(delta).expect("in range");
        let (mut best, mut bound) = (f64::INFINITY, None);
        for _ in 0..5 {
            let start = Instant::now();
            bound = Some(accountant::epsilon(&events, delta));
            best = best.min(start.elapsed().as_secs_f64() * 1e3);
        }
        println!(
            "{kind}: q {q}, sigma {sigma}, {steps} steps, delta {}: {best:.1} ms: {bound:?}",
            delta.get()
        );
    }
}
