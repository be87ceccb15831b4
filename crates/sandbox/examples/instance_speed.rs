//! What a fresh instance for every privacy unit costs.
//!
//! `cargo run --release -p noisegate-sandbox --example instance_speed`
//!
//! Prints microseconds for instantiate + call + clip + drop, for a trivial guest and
//! for one with a 16 MiB memory image that is written to in each unit, on one
//! worker and on two; then what the gate adds for long contributions.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use noisegate_privacy::{ClipBound, NoiseMultiplier, NoiseSource, PoissonSampler, SamplingRate};
use noisegate_sandbox::{
    Declaration, Guest, Limits, Mechanism, Randomness, Session, TextRecord, Unit,
};

#[path = "../tests/sandbox/support.rs"]
mod support;

use support::Text;

fn main() {
    noisegate_sandbox::serve_workers();
    for threads in [1, 2] {
        measure("trivial contribution", &Text::default(), threads, 100_000);
        measure("16 MiB image, 1 MiB touched", &image(256), threads, 10_000);
        measure("16 MiB image, 64 KiB touched", &image(16), threads, 30_000);
        let long = Text {
            dim: 4 << 20,
            ..Text::default()
        };
        measure("4 Mi numbers, trivial", &long, threads, 100);
    }
}

/// Reads the image and writes a word on each of the first `pages` 4 KiB pages.
fn image(pages: u32) -> Text {
    let touch = format!(
        "(loop $l
            (i32.store (i32.add (i32.const 0x100000) (local.get $i)) (i32.const 1))
            (local.set $i (i32.add (local.get $i) (i32.const 4096)))
            (br_if $l (i32.lt_u (local.get $i) (i32.const {}))))",
        pages * 4096
    );
    let filled = "w".repeat(16 << 20);
    Text {
        contribute: touch + support::COUNT,
        fields: format!("(data (i32.const 0x10000) \"{filled}\")"),
        pages: 300,
        ..Text::default()
    }
}

fn measure(what: &str, text: &Text, threads: usize, count: usize) {
    let limits = Limits {
        threads,
        component_bytes_max: 64 << 20,
        ..Limits::default()
    };
    let compile = Instant::now();
    let guest = Guest::load(&text.component(), None, &limits).expect("the guest is honest");
    let compile_ms = compile.elapsed().as_millis();
    let record = TextRecord {
        text: "a text".repeat(20),
        label: "label".to_owned(),
    };
    let units: Vec<Unit> = (0..count)
        .map(|_| Unit {
            records: vec![record.clone()],
        })
        .collect();
    // Twice, so that the allocator's slots are warm; an empty run is taken off.
    let run = |units: &[Unit]| {
        let session = Session::start(&guest, "{}", &[], declaration()).expect("it starts");
        let (start, cpu) = (Instant::now(), cpu_seconds());
        let never = AtomicBool::new(false);
        let files = session
            .run(units, randomness(), &mut |_| {}, &never)
            .expect("it runs");
        assert_eq!(files.value().len(), 1);
        (start.elapsed().as_secs_f64(), cpu_seconds() - cpu)
    };
    run(&units);
    let ((none, none_cpu), (all, all_cpu)) = (run(&[]), run(&units));
    let each_us = |seconds: f64| seconds / count as f64 * 1e6;
    println!(
        "{what:32} {threads} workers: {:9.2} us a unit on the clock, {:9.2} us of CPU; \
         empty query {:.1} ms; compile {compile_ms} ms",
        each_us(all - none),
        each_us(all_cpu - none_cpu),
        none * 1e3,
    );
}

/// Processor time of all threads and ended workers so far, in ticks of 10 ms (Linux; else zero):
/// on a busy machine it says more than the clock.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = |field: usize| -> f64 {
        after_name
            .split_whitespace()
            .nth(field)
            .and_then(|it| it.parse().ok())
            .unwrap_or(0.0)
    };
    // Fields 14 to 17 of proc_pid_stat(5): user and system, its own and of the workers
    // that have ended; two fields stand before the name's end.
    (11..15).map(ticks).sum::<f64>() / 100.0
}

fn declaration() -> Declaration {
    Declaration {
        mechanism: Mechanism::GaussianSum {
            clip: ClipBound::new(1.0).expect("valid"),
        },
        noise_multiplier: NoiseMultiplier::new(1.0).expect("valid"),
        sampling_rate: SamplingRate::ONE,
        units_public: 1000,
        steps: 1,
    }
}

fn randomness() -> Randomness {
    Randomness {
        noise: NoiseSource::from_seed_for_tests([1; 32]),
        sampler: PoissonSampler::from_seed_for_tests([2; 32]),
    }
}
