//! What the sandbox costs: the gradient of one unit in it, against the same code native.
//!
//! `cargo run --release -p noisegate-sandbox --example native_ratio [key=value …]`
//!
//! All weights of a decoder of 4.5 M parameters are trained (the packaged base model's first
//! four layers) on sequences of 64 tokens; `key=value` changes a parameter of the guest.
//! The two sides alternate, on one core's worth of work each, and medians are printed:
//!
//! - *sandbox*: one jailed worker runs the packaged `dp-generator.wasm`. A unit's time is that
//!   of a query of 26 units less that of one of 2, by 24: the unit's message, a fresh instance,
//!   `contribute` (reading the context, tokenising, the gradient), the contribution's way
//!   through the memory file, and the parent's clip and sum.
//! - *native*: the crate `dp-generator`, compiled into this program: a fresh accumulator and
//!   `contribute` with the same arguments; its kernels are plain calls of the matrix product
//!   that the host's kernels call. Then the same clip and sum, timed apart.
//!
//! The ratio is (sandbox - clip) / native: everything that the wall adds is in it.

use std::error::Error;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use dp_generator::public::Generator;
use noisegate_guest_sdk as guest;
use noisegate_guest_sdk::{Accum, ClientStep, Tensor, Turn};
use noisegate_privacy::{ClipBound, GaussianSum, GaussianSumSpec, NoiseMultiplier, SamplingRate};
use noisegate_sandbox::{Guest, Progress, Randomness, Session, Unit};

#[path = "generator/mod.rs"]
mod generator;

use generator::{Case, declaration, unit};

const ROUNDS: usize = 7;
const FEW: usize = 2;
const MANY: usize = 26;
/// The first query also brings the base model to the worker; the second is timed.
const QUERIES: u32 = 3;

fn main() -> Result<(), Box<dyn Error>> {
    noisegate_sandbox::serve_workers();
    let full = [
        "base_layers=4",
        "train=full",
        "optimiser=sgd",
        "template={text}",
        "max_tokens=65",
        "label_vectors=false",
        "label_bias=false",
    ];
    let arguments = full.iter().map(|it| (*it).to_owned());
    let case = Case::new(arguments.chain(std::env::args().skip(1)))?;
    let guest = case.guest(Some(1))?;
    let mut native = Native::start(&case)?;
    println!("{} parameters", native.dim);
    let [mut sandbox, mut gradient, mut clip] = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        let units = (MANY - FEW) as f64;
        sandbox.push((query_ms(&case, &guest, MANY)? - query_ms(&case, &guest, FEW)?) / units);
        let (gradient_ms, clip_ms) = native.run(MANY - FEW)?;
        gradient.push(gradient_ms);
        clip.push(clip_ms);
    }
    let (sandbox, gradient, clip) = (median(sandbox), median(gradient), median(clip));
    println!("sandbox   {sandbox:7.2} ms a unit, clip and sum included");
    println!("native    {gradient:7.2} ms a unit, and {clip:.2} ms for clip and sum");
    println!("ratio     {:7.3}", (sandbox - clip) / gradient);
    Ok(())
}

/// Milliseconds of one query, behind the gate.
fn query_ms(case: &Case, guest: &Guest, units: usize) -> Result<f64, Box<dyn Error>> {
    let session = Session::start(
        guest,
        &case.config(QUERIES, units),
        &case.base()?,
        declaration(QUERIES, units)?,
    )?;
    let units: Vec<Unit> = (0..units).map(unit).collect();
    let mut asked = Vec::new();
    let mut note = |progress| {
        if let Progress::Query { .. } = progress {
            asked.push(Instant::now());
        }
    };
    let never = AtomicBool::new(false);
    drop(session.run(&units, Randomness::from_os()?, &mut note, &never)?);
    Ok((asked[2] - asked[1]).as_secs_f64() * 1e3)
}

/// The guest's code in this process.
struct Native {
    dim: usize,
    context: Vec<u8>,
    tensors: Vec<Tensor>,
}

impl Native {
    fn start(case: &Case) -> Result<Self, Box<dyn Error>> {
        let files = case.base()?.into_iter().map(|file| guest::File {
            name: file.name,
            data: file.data,
        });
        let config = case.config(QUERIES, MANY);
        let (mut step, setup) = <Generator as ClientStep>::start(&config, files.collect())?;
        let Turn::Ask(query) = step.turn() else {
            return Err("the guest asks nothing".into());
        };
        let tensors = setup.tensors.iter().chain(&query.tensors);
        Ok(Native {
            dim: setup.dim as usize,
            context: setup.context,
            tensors: tensors.map(|values| Tensor::new(values)).collect(),
        })
    }

    /// Milliseconds a unit of the gradient, and of clip and sum.
    fn run(&mut self, units: usize) -> Result<(f64, f64), Box<dyn Error>> {
        let mut sum = GaussianSum::new(&GaussianSumSpec {
            dimension: self.dim,
            clip: ClipBound::new(1.0)?,
            noise_multiplier: NoiseMultiplier::new(1.0)?,
            sampling_rate: SamplingRate::ONE,
            units_public: units as u64,
        })?;
        let tensors: Vec<&Tensor> = self.tensors.iter().collect();
        let (mut gradient_ms, mut clip_ms) = (0.0, 0.0);
        for index in 0..units {
            let records = unit(index)
                .records
                .into_iter()
                .map(|record| guest::TextRecord {
                    text: record.text,
                    label: record.label,
                });
            let unit = guest::Unit {
                records: records.collect(),
            };
            let started = Instant::now();
            let into = Accum::zero(self.dim);
            <Generator as ClientStep>::contribute(&unit, &self.context, &[], &tensors, &into);
            let contribution = into.into_values();
            gradient_ms += started.elapsed().as_secs_f64() * 1e3;
            let started = Instant::now();
            sum.add(&contribution);
            clip_ms += started.elapsed().as_secs_f64() * 1e3;
        }
        Ok((gradient_ms / units as f64, clip_ms / units as f64))
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
