//! The sensitivity of a vote, and what hostile votes do.

use super::*;
use proptest::prelude::*;

fn spec(bins: usize, bins_per_unit: u32, z: f64) -> VotesSpec {
    VotesSpec {
        bins,
        bins_per_unit,
        noise_multiplier: NoiseMultiplier::new(z).unwrap(),
        sampling_rate: SamplingRate::ONE,
    }
}

proptest! {
    #[test]
    fn no_unit_moves_the_histogram_by_more_than_the_bound(
        marks in prop::collection::vec(0u32..60, 0..30),
        bins_per_unit in 1u32..20,
        z in 0.1f64..100.0,
    ) {
        let spec = spec(50, bins_per_unit, z);
        let mut votes = Votes::new(&spec).unwrap();
        votes.add(&marks);
        let squares: u128 = votes.sums.iter().map(|v| u128::from(v.unsigned_abs()).pow(2)).sum();
        let bound = u128::from(clip_units(spec.noise_multiplier).unwrap()).pow(2);
        prop_assert!(squares <= bound);
    }
}

#[test]
fn a_bin_named_twice_counts_once_and_bad_votes_count_nothing() {
    let mut votes = Votes::new(&spec(3, 2, 1.0)).unwrap();
    votes.add(&[1, 1, 1, 1]);
    votes.add(&[0, 3]);
    votes.add(&[0, 1, 2]);
    votes.add(&[]);
    let mark = votes.mark_units;
    assert_eq!(*votes.sums, [0, mark, 0]);
}

/// 1000 marks with noise of standard deviation z sqrt(K) = 2: 8 deviations, false alarm 1e-15.
#[test]
fn the_estimate_is_in_marks_and_its_charge_is_stated() {
    let mut spec = spec(2, 4, 1.0);
    spec.sampling_rate = SamplingRate::new(0.5).unwrap();
    let mut votes = Votes::new(&spec).unwrap();
    let mut other = Votes::new(&spec).unwrap();
    (0..600).for_each(|_| votes.add(&[1]));
    (0..400).for_each(|_| other.add(&[1]));
    votes.merge(other).unwrap();
    let released = votes.release(&mut NoiseSource::from_seed_for_tests([5; 32]));
    assert!(
        (released.value()[1] - 2000.0).abs() < 8.0 * 4.0,
        "{:?}",
        released.value()
    );
    assert!(released.value()[0].abs() < 8.0 * 4.0);
    assert_eq!(released.charge(), spec.events(1));
}

#[test]
fn sizes_that_make_no_sense_are_refused() {
    assert!(Votes::new(&spec(0, 1, 1.0)).is_err());
    assert!(Votes::new(&spec(1, 0, 1.0)).is_err());
    assert!(matches!(
        mark_units(1000, NoiseMultiplier::new(60_000.0).unwrap()),
        Err(PrivacyError::TooLarge { .. })
    ));
    let mut votes = Votes::new(&spec(2, 1, 1.0)).unwrap();
    assert_eq!(
        votes.merge(Votes::new(&spec(3, 1, 1.0)).unwrap()),
        Err(PrivacyError::MergeMismatch)
    );
}
