//! The promise, told as stories: neighbouring data differ in noised values alone,
//! and nobody tells them apart better than the accountant says.
//!
//! Mutants of the gate and who catches them:
//!
//! | mutant | caught here | caught elsewhere |
//! |---|---|---|
//! | no clip | yes | `privacy` (sensitivity), `audit` (gates) |
//! | wrong noise scale | yes | `privacy` (distribution), `audit` (gates) |
//! | noise reused | yes | `privacy`, `audit` (control, spread) |
//! | shuffled fixed batches | yes | `privacy` (batch sizes) |
//! | float sum, division by the batch size | | `privacy` (sensitivity) |

#[path = "parts/agree.rs"]
mod agree;

use std::sync::atomic::AtomicBool;

use noisegate_audit::{Attack, Claim, Mechanism, log_likelihood_ratio};
use noisegate_privacy::{
    ClipBound, Delta, GaussianSum, GaussianSumSpec, NoiseMultiplier, NoiseSource, PoissonSampler,
    SamplingRate,
};
use noisegate_sandbox::{
    Declaration, File, Guest, Limits, Progress, Randomness, Session, TextRecord, Unit,
};
use noisegate_tests::gated;
use serde_json::Value;

noisegate_sandbox::serve_workers_in_tests!();

fn unit(text: &str) -> Unit {
    Unit {
        records: vec![TextRecord {
            text: text.to_owned(),
            label: "billing".to_owned(),
        }],
    }
}

fn declaration(sampling_rate: f64) -> Declaration {
    Declaration {
        mechanism: noisegate_sandbox::Mechanism::GaussianSum {
            clip: ClipBound::new(2.0).unwrap(),
        },
        noise_multiplier: NoiseMultiplier::new(1.5).unwrap(),
        sampling_rate: SamplingRate::new(sampling_rate).unwrap(),
        units_public: 10,
        steps: 4,
    }
}

/// All that a step tells the world, under recorded randomness.
#[derive(Debug, PartialEq)]
struct Told {
    /// Name and size of every file: everything about it but the noised values.
    files: Vec<(String, usize)>,
    progress: Vec<Progress>,
    charge: String,
}

fn replay(units: &[Unit], sampling_rate: f64) -> (Told, Vec<Vec<f32>>) {
    let limits = Limits {
        threads: 2,
        ..Limits::default()
    };
    let guest = Guest::load(&gated::counter(), None, &limits).unwrap();
    let shape = File {
        name: "base/shape".to_owned(),
        data: gated::shape(gated::LANES, 4),
    };
    let session = Session::start(&guest, "{}", &[shape], declaration(sampling_rate)).unwrap();
    let recorded = Randomness {
        noise: NoiseSource::from_seed_for_tests([3; 32]),
        sampler: PoissonSampler::from_seed_for_tests([4; 32]),
    };
    let (mut progress, never) = (Vec::new(), AtomicBool::new(false));
    let released = session
        .run(units, recorded, &mut |event| progress.push(event), &never)
        .unwrap();
    let told = Told {
        files: released
            .value()
            .iter()
            .map(|file| (file.name.clone(), file.data.len()))
            .collect(),
        progress,
        charge: serde_json::to_string(released.charge()).unwrap(),
    };
    let floats = |file: &File| {
        let numbers = file.data.as_chunks::<4>().0.iter();
        numbers.map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    let values = released.value().iter().map(floats).collect();
    (told, values)
}

/// Record-play ("record-play", arXiv 2602.17454): the same coins and noise, one unit more or less.
#[test]
fn neighbouring_data_differ_in_the_noised_values_alone_whichever_unit_is_removed() {
    let texts = ["a", "two words", "", "ümlaut", "\u{0}", "0123456789"];
    let all: Vec<Unit> = texts.iter().map(|text| unit(text)).collect();
    for sampling_rate in [1.0, 0.4] {
        let (told, values) = replay(&all, sampling_rate);
        for removed in 0..all.len() {
            let mut fewer = all.clone();
            fewer.remove(removed);
            let (told_without, values_without) = replay(&fewer, sampling_rate);
            assert_eq!(told, told_without, "unit {removed} at rate {sampling_rate}");
            if sampling_rate < 1.0 {
                // Its coins fall to the units after it, so values differ by more than one unit.
                continue;
            }
            for (with, without) in values.iter().zip(&values_without) {
                let moved = with
                    .iter()
                    .zip(without)
                    .map(|(a, b)| f64::from(a - b).powi(2));
                // Clip 2 over 10 public units.
                let moved = moved.sum::<f64>().sqrt();
                assert!(moved > 0.1 && moved <= 0.2 + 1e-6, "{moved}");
            }
        }
        let mut more = all.clone();
        more.push(unit("one more"));
        assert_eq!(told, replay(&more, sampling_rate).0);
    }
}

/// What a whole run leaves behind, without times, digests and noise: a neighbour leaves the same.
#[test]
fn a_run_on_neighbouring_data_leaves_the_same_log_ledger_and_output_behind() {
    let row = |text: &str| format!("{{\"text\":\"{text}\",\"label\":\"billing\"}}\n");
    let rows: String = (0..12).map(|i| row(&format!("note {i}"))).collect();
    let longer = format!("{rows}{}", row(&"quite another one ".repeat(30)));
    let left = |rows: &str| {
        let story = gated::story(rows);
        let told = gated::tell(&story, &["run", "gated.toml", "--json"]);
        assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
        let run = gated::tell(&story, &["runs", "--json"]).out;
        let run: Vec<String> = serde_json::from_str(&run).unwrap();
        let events = story
            .path()
            .join("home/runs")
            .join(&run[0])
            .join("events.jsonl");
        let events = std::fs::read_to_string(events).unwrap();
        let events: Vec<Value> = events
            .lines()
            .map(|line| public(serde_json::from_str(line).unwrap()))
            .collect();
        let ledger = gated::tell(&story, &["ledger", "export"]).out;
        let ledger = public(serde_json::from_str(&ledger).unwrap());
        let size = std::fs::metadata(story.path().join("out/counts.bin"))
            .unwrap()
            .len();
        let home = story.path().display().to_string();
        let text = format!("{events:?}\n{ledger}\n{size}");
        text.replace(&home, "HOME").replace(&run[0], "RUN")
    };
    let (with, without) = (left(&longer), left(&rows));
    assert_eq!(with, without);
    assert!(with.contains("charged"), "{with}");
}

/// A JSON value without what differs from run to run on any data.
fn public(value: Value) -> Value {
    const VARIES: [&str; 14] = [
        "at_ms",
        "seconds",
        "digest",
        "hash",
        "previous",
        "time_ms",
        "session",
        "public_key",
        "ledger",
        "data",
        "output",
        "head",
        "head_signature",
        "parameters",
    ];
    match value {
        Value::Object(fields) => {
            let kept = fields
                .into_iter()
                .filter(|(name, _)| !VARIES.contains(&name.as_str()));
            Value::Object(kept.map(|(name, value)| (name, public(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(public).collect()),
        other => other,
    }
}

/// Twenty rows of each of two people: one clip bound a person, not one a row.
#[test]
fn all_rows_of_one_person_together_are_clipped_to_one_bound() {
    let rows: String = (0..40)
        .map(|i| {
            let person = if i % 2 == 0 { "ann" } else { "ben" };
            format!("{{\"text\":\"note {i}\",\"label\":\"delay\",\"person\":\"{person}\"}}\n")
        })
        .collect();
    let story = gated::story(&rows);
    let mut arguments = vec!["run", "gated.toml"];
    for set in [
        "data.notes.unit=person",
        "data.notes.budget.epsilon=10",
        "steps.count.privacy.epsilon=10",
        "steps.count.with.sampling_rate=1",
    ] {
        arguments.extend(["--set", set]);
    }
    let told = gated::tell(&story, &arguments);
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    let bytes = std::fs::read(story.path().join("out/counts.bin")).unwrap();
    let first = f32::from_le_bytes(*bytes.first_chunk().unwrap());
    // Clip 1 over 20 public units. At epsilon 10 in three queries the noise is below 0.9 clip bounds,
    // so 8 off have chance 1e-18; counted by rows it would be 40.
    let people = f64::from(first) * 20.0;
    assert!((people - 2.0).abs() < 8.0, "{people}");
}

#[derive(Clone, Copy, PartialEq)]
enum Gate {
    True,
    NoClip,
    WrongScale,
    NoiseReused,
    Shuffled,
}

/// Games of one unit in a gate of its own: there or not by a coin; the best test says which.
/// Returns the share of right guesses.
fn distinguish(gate: Gate, of: &Mechanism, games: u32) -> f64 {
    let half = SamplingRate::new(0.5).unwrap();
    let rate = SamplingRate::new(of.sampling_rate).unwrap();
    let mut coins = PoissonSampler::from_seed_for_tests([11; 32]);
    let mut sampler = PoissonSampler::from_seed_for_tests([12; 32]);
    let mut noise = NoiseSource::from_seed_for_tests([13; 32]);
    let scale = if gate == Gate::WrongScale { 0.25 } else { 1.0 };
    let spec = GaussianSumSpec {
        dimension: 1,
        clip: ClipBound::new(1.0).unwrap(),
        noise_multiplier: NoiseMultiplier::new(of.noise_multiplier * scale).unwrap(),
        sampling_rate: rate,
        units_public: 1,
    };
    let mut right = 0;
    for game in 0..games {
        let there = coins.includes(half);
        if gate == Gate::NoiseReused {
            noise = NoiseSource::from_seed_for_tests([13; 32]);
        }
        let mut score = 0.0;
        for step in 0..of.steps {
            let mut sum = GaussianSum::new(&spec).unwrap();
            // A shuffled epoch holds every unit exactly once.
            let sampled = match gate {
                Gate::Shuffled => u64::from(game) % of.steps == step,
                _ => sampler.includes(rate),
            };
            let raw = if there && sampled { 6.0 } else { 0.0 };
            sum.add(&[raw]);
            let released = f64::from(sum.release(&mut noise).value()[0]) * of.sampling_rate;
            score += match gate {
                Gate::NoClip => log_likelihood_ratio(
                    released + f64::from(raw.max(1.0)) - 1.0,
                    of.noise_multiplier,
                    of.sampling_rate,
                ),
                // Whoever ran the gate once without the unit knows the noise.
                Gate::NoiseReused => released - alone(&spec),
                _ => log_likelihood_ratio(released, of.noise_multiplier, of.sampling_rate),
            };
        }
        let threshold = if gate == Gate::NoiseReused { 0.5 } else { 0.0 };
        right += u32::from((score > threshold) == there);
    }
    f64::from(right) / f64::from(games)
}

/// What the gate that reuses its noise releases of nobody.
fn alone(spec: &GaussianSumSpec) -> f64 {
    let mut noise = NoiseSource::from_seed_for_tests([13; 32]);
    let released = GaussianSum::new(spec).unwrap().release(&mut noise);
    f64::from(released.value()[0]) * spec.sampling_rate.get()
}

/// The share of right guesses that the accountant's curve allows: (e^eps + delta) / (1 + e^eps) at
/// each of its points. By Hoeffding's inequality, independent games exceed it by `margin` with
/// chance 1e-9 at most.
fn allowed(of: &Mechanism, games: u32) -> f64 {
    let spec = GaussianSumSpec {
        dimension: 1,
        clip: ClipBound::new(1.0).unwrap(),
        noise_multiplier: NoiseMultiplier::new(of.noise_multiplier).unwrap(),
        sampling_rate: SamplingRate::new(of.sampling_rate).unwrap(),
        units_public: 1,
    };
    let claim = Claim::of(&spec.events(of.steps), Delta::new(1e-5).unwrap()).unwrap();
    let at =
        |(epsilon, delta): &(f64, f64)| (1.0 + delta * (-epsilon).exp()) / (1.0 + (-epsilon).exp());
    let share = claim.curve.iter().map(at).fold(1.0, f64::min);
    let margin = ((1e9f64).ln() / (2.0 * f64::from(games))).sqrt();
    share + margin
}

const PLAIN: Mechanism = Mechanism {
    noise_multiplier: 1.5,
    sampling_rate: 1.0,
    steps: 1,
};
const SAMPLED: Mechanism = Mechanism {
    noise_multiplier: 0.25,
    sampling_rate: 0.1,
    steps: 10,
};

#[test]
fn an_attack_over_thousands_of_gate_runs_never_beats_the_claim() {
    assert_eq!(Attack::of(&PLAIN).len(), 2);
    for (of, games) in [(PLAIN, 4000), (SAMPLED, 1000)] {
        let (right, allowed) = (distinguish(Gate::True, &of, games), allowed(&of, games));
        assert!(right <= allowed, "{of:?}: {right} right, {allowed} allowed");
        // The attack is no straw man: it comes close to what is allowed.
        assert!(
            right > allowed - 0.2,
            "{of:?}: {right} right, {allowed} allowed"
        );
    }
}

#[test]
fn mutants_of_the_gate_are_told_apart_better_than_the_claim_allows() {
    let (plain, sampled) = (allowed(&PLAIN, 2000), allowed(&SAMPLED, 1000));
    for (gate, of, games, allowed, name) in [
        (Gate::NoClip, PLAIN, 2000, plain, "no clip"),
        (Gate::WrongScale, PLAIN, 2000, plain, "wrong scale"),
        (Gate::NoiseReused, PLAIN, 2000, plain, "noise reused"),
        (Gate::Shuffled, SAMPLED, 1000, sampled, "shuffled batches"),
    ] {
        let right = distinguish(gate, &of, games);
        assert!(right > allowed, "{name}: {right} right, {allowed} allowed");
    }
}
