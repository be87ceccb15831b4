//! How fast `dp-generator` trains behind the gate, and where the time goes.
//!
//! `cargo run --release -p noisegate-sandbox --example training_speed [THREADS] [key=value …]`
//!
//! Runs five queries of 64 made-up units on the packaged guest and base model, with the
//! parameters' defaults from `plugin.toml`; `key=value` changes one, such as `train=full`,
//! and `base_layers=5` cuts the base model. A query is everything that a training step is:
//! the weights told to the workers, units run, clipped and summed, noise, the optimiser.

use std::error::Error;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use noisegate_sandbox::{Progress, Randomness, Session, Unit};

#[path = "generator/mod.rs"]
mod generator;

use generator::{Case, declaration, unit};

const UNITS: usize = 64;
const QUERIES: u32 = 5;

fn main() -> Result<(), Box<dyn Error>> {
    noisegate_sandbox::serve_workers();
    let mut arguments = std::env::args().skip(1);
    let threads = arguments.next().map(|it| it.parse()).transpose()?;
    let case = Case::new(arguments)?;
    let loading = Instant::now();
    let guest = case.guest(threads)?;
    println!("load: {:.0} ms", loading.elapsed().as_secs_f64() * 1e3);

    let starting = Instant::now();
    let mut session = Session::start(
        &guest,
        &case.config(QUERIES, UNITS),
        &case.base()?,
        declaration(QUERIES, UNITS)?,
    )?;
    println!(
        "start: {:.0} ms, dim {}",
        starting.elapsed().as_secs_f64() * 1e3,
        session.dim()
    );
    for _ in 0..3 {
        let rehearsing = Instant::now();
        let seen = session.rehearse(&unit(0), &mut |_| {})?;
        println!(
            "one unit: {:.1} ms, {seen:?}",
            rehearsing.elapsed().as_secs_f64() * 1e3
        );
    }

    let units: Vec<Unit> = (0..UNITS).map(unit).collect();
    let mut last = Instant::now();
    let mut report = |progress: Progress| {
        println!(
            "{:8.1} ms, then {progress:?}",
            last.elapsed().as_secs_f64() * 1e3
        );
        last = Instant::now();
    };
    let never = AtomicBool::new(false);
    let running = Instant::now();
    let files = session.run(&units, Randomness::from_os()?, &mut report, &never)?;
    println!(
        "run: {:.1} ms, {} files",
        running.elapsed().as_secs_f64() * 1e3,
        files.value().len()
    );
    Ok(())
}
