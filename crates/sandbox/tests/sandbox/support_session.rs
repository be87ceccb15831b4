//! Running a whole step in a test: loading, starting, releasing.

use std::sync::atomic::AtomicBool;

use noisegate_privacy::{ClipBound, NoiseMultiplier, NoiseSource, PoissonSampler, SamplingRate};
use noisegate_sandbox::{
    Declaration, File, Guest, Limits, Mechanism, Progress, Randomness, SandboxError, Session,
    TextRecord, Unit,
};

use crate::support::Text;

/// Limits that keep tests quick: two threads and little fuel.
pub fn limits() -> Limits {
    let mut limits = Limits {
        threads: 2,
        ..Limits::default()
    };
    limits.private.fuel_per_call = 20_000_000;
    limits.private.memory_bytes_max = 16 << 20;
    limits.private.host_bytes_max = 16 << 20;
    limits.public.fuel_per_call = 200_000_000;
    limits
}

/// Every unit takes part, clipped to 16, with as little noise as the gate allows.
pub fn declaration(units_public: u64) -> Declaration {
    Declaration {
        mechanism: Mechanism::GaussianSum {
            clip: ClipBound::new(16.0).unwrap(),
        },
        noise_multiplier: NoiseMultiplier::new(1.0 / 32.0).unwrap(),
        sampling_rate: SamplingRate::ONE,
        units_public,
        steps: 10,
    }
}

/// One unit for each text.
pub fn units(texts: &[&str]) -> Vec<Unit> {
    texts.iter().map(|text| unit(text)).collect()
}

/// A unit of one record.
pub fn unit(text: &str) -> Unit {
    let record = TextRecord {
        text: (*text).to_owned(),
        label: "label".to_owned(),
    };
    Unit {
        records: vec![record],
    }
}

/// The same randomness every time.
pub fn randomness() -> Randomness {
    Randomness {
        noise: NoiseSource::from_seed_for_tests([7; 32]),
        sampler: PoissonSampler::from_seed_for_tests([9; 32]),
    }
}

/// A finished step: the guest's files, and all that was said meanwhile.
pub struct Finished {
    pub files: Vec<File>,
    pub said: Vec<Progress>,
}

/// Runs a step with [`limits`], [`randomness`] and this declaration.
pub fn run_with(
    text: &Text,
    units: &[Unit],
    limits: &Limits,
    declaration: Declaration,
) -> Result<Finished, SandboxError> {
    run_bytes(&text.component(), units, limits, declaration)
}

/// As [`run_with`], for a component's bytes.
pub fn run_bytes(
    bytes: &[u8],
    units: &[Unit],
    limits: &Limits,
    declaration: Declaration,
) -> Result<Finished, SandboxError> {
    run_guest(&Guest::load(bytes, None, limits)?, "{}", units, declaration)
}

/// As [`run_bytes`], for a loaded guest and with a configuration.
pub fn run_guest(
    guest: &Guest,
    config: &str,
    units: &[Unit],
    declaration: Declaration,
) -> Result<Finished, SandboxError> {
    let session = Session::start(guest, config, &[], declaration)?;
    let mut said = Vec::new();
    let never = AtomicBool::new(false);
    let files = session.run(units, randomness(), &mut |event| said.push(event), &never)?;
    Ok(Finished {
        files: files.into_value(),
        said,
    })
}

/// As [`run_with`], normalised by one: released values are sums.
pub fn run(text: &Text, units: &[Unit]) -> Result<Finished, SandboxError> {
    run_with(text, units, &limits(), declaration(1))
}

/// The sums behind each released vector, to the nearest whole number: what is
/// released, less what an empty data set releases under the same randomness.
pub fn all_sums(
    text: &Text,
    units: &[Unit],
    limits: &Limits,
    declaration: &Declaration,
) -> Vec<Vec<f32>> {
    let run = |units: &[Unit]| {
        run_with(text, units, limits, declaration.clone()).unwrap_or_else(|error| panic!("{error}"))
    };
    let (noise, noised) = (run(&[]), run(units));
    let scale = declaration.sampling_rate.get() as f32 * declaration.units_public as f32;
    let difference = |(with, without): (&File, &File)| {
        let pairs = floats(with).into_iter().zip(floats(without));
        pairs
            .map(|(with, without)| ((with - without) * scale).round())
            .collect()
    };
    noised
        .files
        .iter()
        .zip(&noise.files)
        .map(difference)
        .collect()
}

/// As [`all_sums`], the first vector, with [`limits`] and [`declaration`].
pub fn sums(text: &Text, units: &[Unit]) -> Vec<f32> {
    all_sums(text, units, &limits(), &declaration(1)).swap_remove(0)
}

/// A file of raw floats.
pub fn floats(file: &File) -> Vec<f32> {
    file.data
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes")))
        .collect()
}
