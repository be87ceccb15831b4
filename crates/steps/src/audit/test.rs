//! The true gate in the true sandbox, attacked.

use super::*;
use noisegate_privacy::{GaussianSumSpec, NoiseSource};

fn declaration(noise_multiplier: f64, sampling_rate: f64, steps: u32) -> Declaration {
    Declaration {
        mechanism: noisegate_sandbox::Mechanism::GaussianSum {
            clip: ClipBound::new(0.25).unwrap(),
        },
        noise_multiplier: NoiseMultiplier::new(noise_multiplier).unwrap(),
        sampling_rate: SamplingRate::new(sampling_rate).unwrap(),
        units_public: 300,
        steps,
    }
}

fn options(canaries: usize) -> Options {
    Options {
        canaries,
        confidence: 0.95,
        cores: 2,
    }
}

fn chances(seed: u8) -> Chances {
    let randomness = |salt: u8| Randomness {
        noise: NoiseSource::from_seed_for_tests([seed ^ salt; 32]),
        sampler: PoissonSampler::from_seed_for_tests([seed ^ salt ^ 1; 32]),
    };
    Chances {
        coins: PoissonSampler::from_seed_for_tests([seed ^ 0xf0; 32]),
        game: randomness(0x40),
        control: randomness(0x80),
    }
}

fn as_charged(declaration: Declaration) -> Audited {
    let spec = GaussianSumSpec {
        dimension: 1000,
        clip: ClipBound::new(declaration.mechanism.sensitivity()).unwrap(),
        noise_multiplier: declaration.noise_multiplier,
        sampling_rate: declaration.sampling_rate,
        units_public: declaration.units_public,
    };
    Audited {
        step: "synthesise".to_owned(),
        events: spec.events(declaration.steps.into()),
        declaration,
        delta: Delta::new(1e-5).unwrap(),
    }
}

#[test]
fn a_canary_reaches_its_own_lane_at_the_clip_bound() {
    // The least noise there is: 1/32 of the clip bound.
    let played = play(&declaration(1.0 / 32.0, 1.0, 2), &options(40), chances(1)).unwrap();
    assert!(played.took_part.contains(&true) && played.took_part.contains(&false));
    for step in &played.released {
        for (value, took_part) in step.iter().zip(&played.took_part) {
            let expected = f64::from(u8::from(*took_part));
            assert!(
                (value - expected).abs() < 8.0 / 32.0,
                "{value} for {expected}"
            );
        }
    }
    assert!(
        played
            .control
            .iter()
            .flatten()
            .all(|value| value.abs() < 8.0 / 32.0)
    );
}

/// Fixed seeds; 20 sound audits are called refuted with chance 2 % once and for all.
#[test]
fn the_true_gate_is_not_refuted_over_twenty_audits() {
    let of = as_charged(declaration(1.0, 0.2, 5));
    for seed in 1..=20 {
        let record = audit(&of, &options(400), chances(seed)).unwrap();
        assert_ne!(
            record.findings.verdict,
            Verdict::Refuted,
            "seed {seed}: {record:?}"
        );
    }
}

/// Votes go through the same attack, and with little noise a canary's vote is seen.
#[test]
fn the_true_gate_of_votes_is_not_refuted_and_its_canaries_reach_their_lanes() {
    let votes = |noise_multiplier| Declaration {
        mechanism: noisegate_sandbox::Mechanism::Votes { per_unit: 1 },
        ..declaration(noise_multiplier, 1.0, 2)
    };
    let played = play(&votes(1.0 / 32.0), &options(40), chances(1)).unwrap();
    for (value, took_part) in played.released[0].iter().zip(&played.took_part) {
        let expected = f64::from(u8::from(*took_part));
        assert!(
            (value - expected).abs() < 8.0 / 32.0,
            "{value} for {expected}"
        );
    }
    let record = audit(&as_charged(votes(1.0)), &options(400), chances(2)).unwrap();
    assert_ne!(record.findings.verdict, Verdict::Refuted, "{record:?}");
    let text = text(&record);
    assert!(text.contains("counts as zero was not attacked"), "{text}");
}

/// Two mutants through the sandbox itself: noise for a smaller multiplier than was charged, and
/// the same noise in the game and its control.
#[test]
fn a_gate_unlike_its_charge_is_refuted() {
    let mut wrong_scale = as_charged(declaration(4.0, 0.5, 5));
    wrong_scale.declaration.noise_multiplier = NoiseMultiplier::new(0.5).unwrap();
    let record = audit(&wrong_scale, &options(2000), chances(1)).unwrap();
    assert_eq!(record.findings.verdict, Verdict::Refuted, "{record:?}");

    let reused = as_charged(declaration(4.0, 0.5, 5));
    let mut same = chances(1);
    same.control.noise = NoiseSource::from_seed_for_tests([1 ^ 0x40; 32]);
    let record = audit(&reused, &options(2000), same).unwrap();
    assert_eq!(record.findings.verdict, Verdict::Refuted, "{record:?}");
}

#[test]
fn the_text_says_that_an_audit_certifies_nothing() {
    let record = audit(
        &as_charged(declaration(2.0, 1.0, 1)),
        &options(64),
        chances(4),
    )
    .unwrap();
    let text = text(&record);
    assert!(text.contains("does not certify"), "{text}");
}

#[test]
fn too_few_canaries_and_too_many_are_refused_with_the_range() {
    for canaries in [0, 15, NUMBERS_MAX] {
        let refused = play(&declaration(1.0, 1.0, 2), &options(canaries), chances(1)).unwrap_err();
        assert!(
            refused.to_string().contains("from 16 to 16777216"),
            "{refused}"
        );
    }
}
