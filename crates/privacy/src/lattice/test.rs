//! The laws of the clip, and what it does to hostile vectors.

use super::*;
use proptest::prelude::*;

fn lattice(clip: f64, z: f64) -> Lattice {
    Lattice::new(
        ClipBound::new(clip).unwrap(),
        NoiseMultiplier::new(z).unwrap(),
    )
    .unwrap()
}

fn clipped(lattice: &Lattice, contribution: &[f32]) -> Vec<i64> {
    let mut sums = vec![0; contribution.len()];
    lattice.add_clipped(contribution, &mut sums);
    sums
}

fn squares_of(v: &[i64]) -> u128 {
    v.iter().map(|x| u128::from(x.unsigned_abs()).pow(2)).sum()
}

proptest! {
    /// Any bit pattern is a contribution: the guest is hostile.
    #[test]
    fn no_clipped_contribution_is_longer_than_the_bound(
        bits in prop::collection::vec(any::<u32>(), 1..40),
        clip in 1e-6f64..1e6,
        z in 0.04f64..1000.0,
    ) {
        let contribution: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
        let lattice = lattice(clip, z);
        let out = clipped(&lattice, &contribution);
        prop_assert!(squares_of(&out) <= u128::from(lattice.clip_units()).pow(2));
        if contribution.iter().any(|x| !x.is_finite()) {
            prop_assert!(out.iter().all(|v| *v == 0));
        }
    }

    #[test]
    fn no_moderate_contribution_is_longer_than_the_bound_and_few_are_much_shorter(
        contribution in prop::collection::vec(-3f32..3.0, 1..200),
        z in 0.05f64..50.0,
    ) {
        let lattice = lattice(1.0, z);
        let out = clipped(&lattice, &contribution);
        prop_assert!(squares_of(&out) <= u128::from(lattice.clip_units()).pow(2));
        let norm = contribution.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let kept = (squares_of(&out) as f64).sqrt() / lattice.clip_units() as f64;
        // Each coordinate loses at most two units (lattice, shrink), the norm ceil one more.
        let loss = (2.0 * (out.len() as f64).sqrt() + 2.0) / lattice.clip_units() as f64;
        prop_assert!(kept >= norm.min(1.0) * (1.0 - 1e-12) - loss, "kept {kept} of {norm}");
    }

    /// factor / 2^shift * norm <= bound, in integers; and not much less.
    #[test]
    fn the_shrink_never_exceeds_the_exact_quotient(squares in 0u128..(1 << 92), bits in 0u32..92, bound in 256u64..=(1 << 29)) {
        let squares = squares >> bits;
        let shrink = Shrink::new(bound, squares);
        prop_assert!(u128::from(shrink.factor) <= 1 << shrink.shift);
        let norm = squares.isqrt() + u128::from(squares.isqrt().pow(2) < squares);
        if norm > u128::from(bound) {
            prop_assert!(u128::from(shrink.factor) * norm <= u128::from(bound) << shrink.shift);
            prop_assert!((u128::from(shrink.factor) + 1) * norm > u128::from(bound) << shrink.shift);
            prop_assert!(shrink.factor >= 1 << 29 || shrink.shift == 63);
        } else {
            prop_assert_eq!(shrink, Shrink::KEEP);
        }
    }

    /// Against plain sums in 128 bits, over several blocks and a rest.
    #[test]
    fn squares_are_exact(values in prop::collection::vec(any::<f32>().prop_filter("a number", |x| !x.is_nan()), 0..400), scale in 1e-3f64..1e9) {
        let plain = |value: &f32| u128::from(units(*value, scale).unsigned_abs()).pow(2);
        prop_assert_eq!(measure(&values, scale).1, values.iter().map(plain).sum::<u128>());
    }

    /// Another machine, or a step that is resumed on one, must find the same sums.
    #[test]
    fn the_widest_instructions_give_the_bits_of_the_plainest(
        values in prop::collection::vec(-3f32..3.0, 0..400), exponent in -40i32..120, z in 0.05f64..50.0,
    ) {
        let contribution: Vec<f32> = values.iter().map(|x| x * 2f32.powi(exponent)).collect();
        let lattice = lattice(1.0, z);
        let mut plain = vec![0; contribution.len()];
        lattice.add_clipped_here(&contribution, &mut plain);
        prop_assert_eq!(clipped(&lattice, &contribution), plain);
    }

    #[test]
    fn a_shrink_is_a_product_rounded_toward_zero(units in -UNITS_MAX..=UNITS_MAX, factor in any::<u32>(), shift in 31u32..64) {
        let exact = (i128::from(units) * i128::from(factor)) / (1i128 << shift);
        prop_assert_eq!(i128::from(Shrink { factor, shift }.apply(units)), exact);
    }

    /// Direction survives clipping, however large the vector: cosine above 1 - 1e-9.
    #[test]
    fn a_huge_contribution_keeps_its_direction(
        direction in prop::collection::vec(-1f32..1.0, 2..20),
        exponent in 0i32..120,
    ) {
        let norm = direction.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        prop_assume!(norm > 0.1);
        let contribution: Vec<f32> = direction.iter().map(|x| x * 2f32.powi(exponent)).collect();
        let out = clipped(&lattice(1e-3, 1.0), &contribution);
        let dot: f64 = out.iter().zip(&direction).map(|(v, x)| *v as f64 * f64::from(*x)).sum();
        prop_assert!(dot / norm / (squares_of(&out) as f64).sqrt() > 1.0 - 1e-9);
    }

    #[test]
    fn the_clip_bound_is_never_rounded_up(z in 0.04f64..60000.0) {
        let units = clip_units(NoiseMultiplier::new(z).unwrap()).unwrap();
        prop_assert!((units as f64).mul_add(z, -16_777_216.0) <= 0.0);
        prop_assert!((units as f64 + 2.0) * z > 16_777_216.0);
    }
}

#[test]
fn a_contribution_within_the_bound_is_kept_exactly() {
    let lattice = lattice(1.0, 1.0);
    assert_eq!(clipped(&lattice, &[0.5, -0.25]), [1 << 23, -(1 << 22)]);
    assert_eq!(clipped(&lattice, &[1.0]), [1 << 24]);
    assert_eq!(clipped(&lattice, &[-2.0]), [-(1 << 24)]);
    // Rescaling and shrinking cost a unit of 2^-24.
    assert_eq!(clipped(&lattice, &[f32::MAX]), [(1 << 24) - 1]);
    assert_eq!(clipped(&lattice, &[f32::MIN_POSITIVE]), [0]);
}

#[test]
fn nan_infinity_and_a_wrong_length_are_the_zero_vector() {
    let lattice = lattice(1.0, 1.0);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(clipped(&lattice, &[0.5, bad, 0.5]), [0, 0, 0]);
    }
    let mut sums = [5, 5];
    for contribution in [&[0.1f32][..], &[0.1, 0.2, 0.3], &[]] {
        lattice.add_clipped(contribution, &mut sums);
    }
    assert_eq!(sums, [5, 5]);
}

#[test]
fn a_multiplier_that_leaves_no_lattice_is_refused() {
    let clip = ClipBound::new(1.0).unwrap();
    for z in [1e-9, 0.03, 70_000.0, 1e300] {
        let refused = Lattice::new(clip, NoiseMultiplier::new(z).unwrap());
        assert!(
            matches!(refused, Err(PrivacyError::LatticeTooCoarse { .. })),
            "{z}"
        );
    }
}

#[test]
fn the_longest_vector_of_the_largest_values_cannot_overflow() {
    let largest = u64::from(UNITS_MAX.unsigned_abs());
    assert!((SQUARES as u64).checked_mul(largest * largest).is_some());
    assert_eq!(
        measure(&[-f32::MAX; 1000], 1.0).1,
        1000 * u128::from(largest * largest)
    );
    let worst = u128::from(DIMENSION_MAX) * u128::from(largest * largest);
    assert_eq!(worst, 1 << 92);
    let shrink = Shrink::new(1 << 29, worst);
    assert!(u64::from(shrink.factor).checked_mul(largest).is_some());
    assert_eq!(
        Shrink::new(256, worst).apply(UNITS_MAX),
        0,
        "2^30 2^8 / 2^46"
    );
}
