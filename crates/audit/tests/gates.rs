//! The true gate and broken ones, attacked: `noisegate_privacy`'s sum is never
//! refuted over 20 games, and every mutant is.
//!
//! Seeds are fixed. A sound gate is called refuted with chance 1/1000 a game, so
//! 20 games of each of three mechanisms raise a false alarm with chance 6 %, once and for all.

use noisegate_audit::{Claim, Findings, Mechanism, Played, Verdict, findings};
use noisegate_privacy::{
    ClipBound, Delta, GaussianSum, GaussianSumSpec, NoiseMultiplier, NoiseSource, PoissonSampler,
    SamplingRate,
};

const DELTA: f64 = 1e-5;
const CLIP: f64 = 0.5;
/// What a canary says before the gate clips it, in clip bounds.
const RAW: f64 = 20.0;

#[derive(Clone, Copy, PartialEq)]
enum Gate {
    True,
    NoClip,
    /// Noise of a fifth of the declared scale.
    WrongScale,
    /// Every step adds the same noise.
    NoiseOfTheStepReused,
    /// Every run adds the same noise: a constant seed.
    NoiseOfTheRunReused,
}

fn mechanism(noise_multiplier: f64, sampling_rate: f64, steps: u64) -> Mechanism {
    Mechanism {
        noise_multiplier,
        sampling_rate,
        steps,
    }
}

fn spec(of: &Mechanism, lanes: usize) -> GaussianSumSpec {
    GaussianSumSpec {
        dimension: lanes,
        clip: ClipBound::new(CLIP).unwrap(),
        noise_multiplier: NoiseMultiplier::new(of.noise_multiplier).unwrap(),
        sampling_rate: SamplingRate::new(of.sampling_rate).unwrap(),
        units_public: 100,
    }
}

/// One run of a gate: shape `[steps, lanes]`, in clip bounds.
fn run(gate: Gate, of: &Mechanism, took_part: &[bool], seed: u8) -> Vec<Vec<f64>> {
    let declared = spec(of, took_part.len());
    let mut used = declared.clone();
    if gate == Gate::WrongScale {
        used.noise_multiplier = NoiseMultiplier::new(of.noise_multiplier / 5.0).unwrap();
    }
    let noise_seed = if gate == Gate::NoiseOfTheRunReused {
        0
    } else {
        seed
    };
    let mut noise = NoiseSource::from_seed_for_tests([noise_seed; 32]);
    let mut sampler = PoissonSampler::from_seed_for_tests([seed ^ 0x55; 32]);
    let to_clips = of.sampling_rate * 100.0 / CLIP;
    let step = |_| {
        if gate == Gate::NoiseOfTheStepReused {
            noise = NoiseSource::from_seed_for_tests([noise_seed; 32]);
        }
        let mut sum = GaussianSum::new(&used).unwrap();
        let mut raw = vec![0.0; took_part.len()];
        for (lane, _) in took_part
            .iter()
            .enumerate()
            .filter(|(_, took_part)| **took_part)
        {
            if !sampler.includes(used.sampling_rate) {
                continue;
            }
            raw[lane] += RAW;
            let mut contribution = vec![0.0; took_part.len()];
            contribution[lane] = (RAW * CLIP) as f32;
            sum.add(&contribution);
        }
        let released = sum.release(&mut noise);
        let lanes = released.value().iter().zip(&raw);
        lanes
            .map(|(value, raw)| match gate {
                // The true noise, on a sum that was not clipped.
                Gate::NoClip => f64::from(*value) * to_clips + raw - (raw / RAW),
                _ => f64::from(*value) * to_clips,
            })
            .collect()
    };
    (0..of.steps).map(step).collect()
}

/// Enough to refute a claim of epsilon 4.4 by any of the mutants.
const LANES: usize = 2500;

fn claim(of: &Mechanism) -> Claim {
    let events = spec(of, LANES).events(of.steps);
    Claim::of(&events, Delta::new(DELTA).unwrap()).unwrap()
}

fn audit(gate: Gate, of: &Mechanism, claim: &Claim, seed: u8) -> Findings {
    let lanes = if gate == Gate::True { LANES / 3 } else { LANES };
    let half = SamplingRate::new(0.5).unwrap();
    let mut coins = PoissonSampler::from_seed_for_tests([seed ^ 0xaa; 32]);
    let took_part: Vec<bool> = (0..lanes).map(|_| coins.includes(half)).collect();
    let played = Played {
        released: run(gate, of, &took_part, seed),
        control: run(gate, of, &vec![false; lanes], seed.wrapping_add(100)),
        took_part,
    };
    findings(&played, of, claim, 0.95).unwrap()
}

/// The three mechanisms: one plain release, DP-SGD at about epsilon 8, DP-SGD at about epsilon 1.
fn mechanisms() -> [Mechanism; 3] {
    [
        mechanism(3.0, 1.0, 1),
        mechanism(0.9, 0.1, 20),
        mechanism(3.0, 0.2, 20),
    ]
}

#[test]
fn the_true_gate_is_not_refuted_over_twenty_games() {
    for of in mechanisms() {
        let (mut above, claim) = (0, claim(&of));
        for seed in 1..=20 {
            let found = audit(Gate::True, &of, &claim, seed);
            assert_ne!(
                found.verdict,
                Verdict::Refuted,
                "{of:?}, seed {seed}: {found:?}"
            );
            above += u32::from(found.verdict == Verdict::Doubtful);
        }
        // At 5 % each, 6 or more of 20 doubtful ones have chance 3e-4.
        assert!(above < 6, "{of:?}: {above} of 20 doubtful");
    }
}

#[test]
fn a_gate_that_does_not_clip_is_refuted() {
    for of in mechanisms() {
        let found = audit(Gate::NoClip, &of, &claim(&of), 1);
        assert_eq!(found.verdict, Verdict::Refuted, "{of:?}: {found:?}");
    }
}

#[test]
fn a_gate_with_a_fifth_of_the_noise_is_refuted() {
    for of in mechanisms() {
        let found = audit(Gate::WrongScale, &of, &claim(&of), 1);
        assert_eq!(found.verdict, Verdict::Refuted, "{of:?}: {found:?}");
    }
}

/// With every unit in every step, the same noise on the same sum says nothing new: no breach.
#[test]
fn a_gate_that_adds_the_same_noise_in_every_step_is_refuted_where_batches_differ() {
    for of in &mechanisms()[1..] {
        let found = audit(Gate::NoiseOfTheStepReused, of, &claim(of), 1);
        assert_eq!(found.verdict, Verdict::Refuted, "{of:?}: {found:?}");
    }
}

#[test]
fn a_gate_that_adds_the_same_noise_in_every_run_is_refuted() {
    for of in mechanisms() {
        let found = audit(Gate::NoiseOfTheRunReused, &of, &claim(&of), 1);
        assert_eq!(found.verdict, Verdict::Refuted, "{of:?}: {found:?}");
    }
}

#[test]
fn findings_survive_a_trip_through_json() {
    let of = mechanisms()[0];
    let found = audit(Gate::True, &of, &claim(&of), 3);
    let text = serde_json::to_string(&found).unwrap();
    let again: Findings = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (again.verdict, again.evidence.len()),
        (found.verdict, found.evidence.len())
    );
    assert_eq!(again.evidence[0].game, found.evidence[0].game);
}
