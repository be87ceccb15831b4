//! Sensitivity of the true sum, and broken gates that must be caught.

use super::*;
use proptest::prelude::*;

fn spec(dimension: usize, z: f64, rate: f64, units_public: u64) -> GaussianSumSpec {
    GaussianSumSpec {
        dimension,
        clip: ClipBound::new(1.0).unwrap(),
        noise_multiplier: NoiseMultiplier::new(z).unwrap(),
        sampling_rate: SamplingRate::new(rate).unwrap(),
        units_public,
    }
}

fn noise() -> NoiseSource {
    NoiseSource::from_seed_for_tests([1; 32])
}

/// L2 distance that one unit moves an un-noised result by, over the clip bound: at most 1 in a sound gate.
fn moved(gate: impl Fn(&[Vec<f32>]) -> Vec<f64>, units: &[Vec<f32>], removed: usize) -> f64 {
    let mut neighbour = units.to_vec();
    neighbour.remove(removed);
    gate(units)
        .iter()
        .zip(gate(&neighbour))
        .map(|(a, b)| (a - b).powi(2))
        .sum::<f64>()
        .sqrt()
}

/// The gate itself, before its noise, in clip bounds.
fn gate(units: &[Vec<f32>]) -> Vec<f64> {
    let mut sum = GaussianSum::new(&spec(units[0].len(), 1.0, 1.0, 100)).unwrap();
    units.iter().for_each(|unit| sum.add(unit));
    let bound = sum.lattice.clip_units() as f64;
    sum.sums.iter().map(|v| *v as f64 / bound).collect()
}

proptest! {
    #[test]
    fn no_unit_moves_the_sum_by_more_than_the_clip_bound(
        units in prop::collection::vec(prop::collection::vec(any::<u32>().prop_map(f32::from_bits), 5), 2..6),
    ) {
        for removed in 0..units.len() {
            prop_assert!(moved(gate, &units, removed) <= 1.0 + 1e-12);
        }
    }

    #[test]
    fn the_sum_does_not_depend_on_order_or_on_how_it_is_split(
        units in prop::collection::vec(prop::collection::vec(-2f32..2.0, 4), 1..8), cut in 0usize..8,
    ) {
        let spec = spec(4, 1.3, 0.5, 10);
        let sum_of = |units: &[Vec<f32>]| {
            let mut sum = GaussianSum::new(&spec).unwrap();
            units.iter().for_each(|unit| sum.add(unit));
            sum
        };
        let reversed: Vec<Vec<f32>> = units.iter().rev().cloned().collect();
        let (left, right) = units.split_at(cut.min(units.len()));
        let mut merged = sum_of(right);
        merged.merge(sum_of(left)).unwrap();
        prop_assert_eq!(&*sum_of(&units).sums, &*merged.sums);
        prop_assert_eq!(&*sum_of(&units).sums, &*sum_of(&reversed).sums);
    }
}

#[test]
fn mutant_no_clip_is_caught() {
    let no_clip = |units: &[Vec<f32>]| {
        let mut out = vec![0.0; units[0].len()];
        units.iter().for_each(|unit| {
            out.iter_mut()
                .zip(unit)
                .for_each(|(o, x)| *o += f64::from(*x))
        });
        out
    };
    let units = [vec![0.1, 0.2], vec![30.0, 40.0]];
    assert!(moved(gate, &units, 1) <= 1.0);
    assert!(moved(no_clip, &units, 1) > 1.0);
}

#[test]
fn mutant_clip_per_coordinate_is_caught() {
    let per_coordinate = |units: &[Vec<f32>]| {
        let mut out = vec![0.0; units[0].len()];
        units.iter().for_each(|unit| {
            out.iter_mut()
                .zip(unit)
                .for_each(|(o, x)| *o += f64::from(x.clamp(-1.0, 1.0)))
        });
        out
    };
    let units = [vec![0.0; 9], vec![5.0; 9]];
    assert!(moved(gate, &units, 1) <= 1.0);
    assert!(moved(per_coordinate, &units, 1) > 2.9);
}

/// Once other units have brought a float sum to 2^23, rounding to even makes one unit decide how the
/// next is rounded: removing a unit of length 1 moves the sum by 2.
/// (Casacuberta et al., "Widespread Underestimation of Sensitivity in Differentially Private Libraries", 2022.)
#[test]
fn mutant_float_sum_is_caught() {
    let float_sum = |units: &[Vec<f32>]| {
        let start = 8_388_608.0f32;
        vec![f64::from(
            units.iter().fold(start, |sum, unit| sum + unit[0]),
        )]
    };
    let units = [vec![1.0], vec![0.5]];
    assert!(moved(gate, &units, 0) <= 1.0);
    assert!(
        moved(float_sum, &units, 0) > 1.0,
        "the neighbour's half was rounded away"
    );
}

#[test]
fn mutant_normalising_by_the_batch_size_is_caught() {
    let by_batch = |units: &[Vec<f32>]| {
        gate(units)
            .iter()
            .map(|v| v / units.len() as f64)
            .collect::<Vec<f64>>()
    };
    // In units of clip / (q N) with a public q N of 2, one unit may move the mean by 1/2.
    let by_public = |units: &[Vec<f32>]| gate(units).iter().map(|v| v / 2.0).collect::<Vec<f64>>();
    let units = [vec![1.0], vec![-1.0]];
    assert!(moved(by_public, &units, 1) <= 0.5);
    assert!(moved(by_batch, &units, 1) > 0.5);
}

/// The released value is in the right scale: 2000 units at the bound, noise 3 in units of the bound;
/// 8 deviations over three values, false alarm 4e-15. A scale wrong by 2 % would show.
#[test]
fn mutant_wrong_scale_is_caught() {
    let spec = spec(3, 3.0, 0.5, 4000);
    let mut sum = GaussianSum::new(&spec).unwrap();
    (0..2000).for_each(|_| sum.add(&[0.6, -0.8, 0.0]));
    let released = sum.release(&mut noise());
    for (value, expected) in released.value().iter().zip([0.6, -0.8, 0.0]) {
        assert!(
            (value - expected).abs() < 8.0 * 3.0 / 2000.0,
            "{value} for {expected}"
        );
    }
    assert_eq!(released.charge(), spec.events(1));
}

/// The noise itself, over 200,000 coordinates: its deviation is z clip / (q N) within 1 % (6 deviations of
/// the estimate; false alarm 2e-9). Noise sized for a smaller bound, or by the variance, would show.
#[test]
fn mutant_wrong_noise_scale_is_caught() {
    let (z, expected_units) = (2.5, 50.0);
    let released = GaussianSum::new(&spec(200_000, z, 0.5, 100))
        .unwrap()
        .release(&mut noise());
    let variance = released
        .value()
        .iter()
        .map(|v| f64::from(*v).powi(2))
        .sum::<f64>()
        / 200_000.0;
    assert!(
        (variance.sqrt() * expected_units / z - 1.0).abs() < 0.01,
        "{}",
        variance.sqrt()
    );
}

#[test]
fn mutant_noise_reused_is_caught() {
    let mut source = noise();
    let release = |source: &mut NoiseSource| {
        GaussianSum::new(&spec(4, 1.0, 1.0, 1))
            .unwrap()
            .release(source)
    };
    let (first, second) = (release(&mut source), release(&mut source));
    assert_ne!(first.value(), second.value());
    // What the mutant does: a second source from the same seed subtracts the noise away.
    assert_eq!(first.value(), release(&mut noise()).value());
}

#[test]
fn a_sum_that_wraps_is_still_the_sum_modulo_two_to_the_64() {
    let mut sum = GaussianSum::new(&spec(1, 1.0, 1.0, 1)).unwrap();
    sum.sums[0] = i64::MAX;
    sum.add(&[1.0]);
    assert_eq!(sum.sums[0], i64::MIN + (1 << 24) - 1);
}

#[test]
fn sizes_that_are_not_proven_to_fit_are_refused() {
    let refused = |spec: GaussianSumSpec| GaussianSum::new(&spec).err().unwrap().to_string();
    assert!(refused(spec(0, 1.0, 1.0, 1)).contains("the dimension is zero"));
    assert!(refused(spec(1, 1.0, 1.0, 0)).contains("the number of units is zero"));
    assert!(refused(spec(1, 1.0, 1.0, 1 << 40)).contains("at most `274877906944`"));
    assert!(refused(spec(1, 1e-3, 1.0, 1)).contains("multipliers from 2^-5 to 2^16"));
}

#[test]
fn a_specification_with_a_bad_number_does_not_parse() {
    let good = r#"{"dimension":2,"clip":1.0,"noise_multiplier":1.0,"sampling_rate":0.5,"units_public":10}"#;
    assert!(serde_json::from_str::<GaussianSumSpec>(good).is_ok());
    for (from, to) in [
        ("\"clip\":1.0", "\"clip\":0"),
        ("0.5", "1.5"),
        ("\"dimension\"", "\"dim\""),
    ] {
        assert!(serde_json::from_str::<GaussianSumSpec>(&good.replace(from, to)).is_err());
    }
}
