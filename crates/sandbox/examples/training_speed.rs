//! How fast `dp-generator` trains behind the gate, and where the time goes.
//!
//! `cargo run --release -p noisegate-sandbox --example training_speed [THREADS] [key=value …]`
//!
//! Runs three queries of 64 made-up units (about 64 tokens each) on the packaged
//! guest and base model, with the parameters' defaults from `plugin.toml`;
//! `key=value` changes one, such as `train=full`.

use std::error::Error;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use noisegate_privacy::{ClipBound, NoiseMultiplier, SamplingRate};
use noisegate_sandbox::{
    Declaration, Digest, File, Guest, Limits, Mechanism, Progress, Randomness, Session, TextRecord,
    Unit,
};
use serde_json::{Value, json};

const UNITS: usize = 64;
const QUERIES: u32 = 3;

fn main() -> Result<(), Box<dyn Error>> {
    noisegate_sandbox::serve_workers();
    let plugins = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins"));
    let manifest: toml::Table =
        std::fs::read_to_string(plugins.join("dp-generator/plugin.toml"))?.parse()?;
    let mut arguments = std::env::args().skip(1);
    let mut limits = Limits::default();
    if let Some(threads) = arguments.next() {
        limits.threads = threads.parse()?;
    }
    let mut with = defaults(&manifest)?;
    for argument in arguments {
        let (key, value) = argument.split_once('=').ok_or("write key=value")?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        with.insert(key.to_owned(), value);
    }
    with.insert("samples_per_label".to_owned(), Value::from(1));
    if let Some(fuel) = manifest["component"]
        .get("fuel_per_unit")
        .and_then(|it| it.as_integer())
    {
        limits.private.fuel_per_call = u64::try_from(fuel)?;
    }

    let bytes = std::fs::read(plugins.join("dp-generator/dp-generator.wasm"))?;
    let digest = manifest["component"]["sha256"]
        .as_str()
        .ok_or("no digest")?
        .parse::<Digest>()?;
    let loading = Instant::now();
    let guest = Guest::load(&bytes, Some(&digest), &limits)?;
    println!("load: {:.0} ms", loading.elapsed().as_secs_f64() * 1e3);

    let config = json!({
        "with": with,
        "labels": ["billing", "delay"],
        "mechanism": {
            "sampling_rate": 1.0, "noise_multiplier": 1.0, "clip": 1.0, "steps": QUERIES,
            "expected_batch": UNITS as f64,
        },
        "seed": 7,
    });
    let starting = Instant::now();
    let mut session = Session::start(&guest, &config.to_string(), &base(plugins)?, declaration()?)?;
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

fn defaults(manifest: &toml::Table) -> Result<serde_json::Map<String, Value>, Box<dyn Error>> {
    let mut with = serde_json::Map::new();
    for parameter in manifest["with"].as_array().ok_or("`with` is no array")? {
        let name = parameter["name"]
            .as_str()
            .ok_or("a parameter without a name")?;
        with.insert(
            name.to_owned(),
            serde_json::to_value(&parameter["default"])?,
        );
    }
    Ok(with)
}

fn base(plugins: &Path) -> Result<Vec<File>, Box<dyn Error>> {
    let mut files = Vec::new();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        let data = std::fs::read(plugins.join("tiny-lm").join(name))?;
        files.push(File {
            name: format!("base/{name}"),
            data,
        });
    }
    Ok(files)
}

fn unit(index: usize) -> Unit {
    let text =
        format!("I was charged {index} times for my visit and would like the bill ").repeat(8);
    Unit {
        records: vec![TextRecord {
            text,
            label: "billing".to_owned(),
        }],
    }
}

fn declaration() -> Result<Declaration, Box<dyn Error>> {
    Ok(Declaration {
        mechanism: Mechanism::GaussianSum {
            clip: ClipBound::new(1.0)?,
        },
        noise_multiplier: NoiseMultiplier::new(1.0)?,
        sampling_rate: SamplingRate::ONE,
        units_public: UNITS as u64,
        steps: QUERIES,
    })
}
