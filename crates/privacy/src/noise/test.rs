//! The tables against independent values, and goodness of fit.

use super::fixed::{COLUMN_BITS, STRIPS, multiply};
use super::*;

/// exp(-y) to 128 fractional bits, computed with mpmath at 200 bits: `floor(exp(-y) * 2**128)`.
const EXP_REFERENCE: [(u128, u128); 4] = [
    (
        0x55555555555555555555555555555555,
        0xb76e989179752689c5984c9c50ebe4c9,
    ),
    (
        0xffbe76c8b4395810624dd2f1a9fbe76c,
        0x5e4577ed2637f56aa1dc944e79045cfb,
    ),
    (
        0x10000000000000000000000,
        0xffffffffff00000000007fffffffffd5,
    ),
    (
        0x1ffffffb1b9668cacd887b44a377bf14,
        0xe1eb512bbd511420a311da0917062334,
    ),
];

#[test]
fn the_exponential_is_within_its_stated_error() {
    for (y, expected) in EXP_REFERENCE {
        let error = exp_negative(y).abs_diff(expected);
        assert!(error < 1 << 9, "exp_negative({y:#x}) is off by {error}");
    }
    assert_eq!(
        exp_negative(0),
        u128::MAX - 2,
        "products of almost 1, each rounded down"
    );
}

/// floor(2^120 w_i / W), computed with mpmath at 500 bits: what the table should hold but for rounding.
#[test]
fn the_strip_weights_are_within_their_stated_error() {
    let weights = fixed::Alias::column_weights();
    for (strip, expected) in [
        (0, 64_673_103_758_113_762_111_365_553_663_303_141),
        (1, 64_546_912_376_222_731_532_601_290_055_205_261),
        (16, 39_226_220_288_072_332_076_604_144_945_718_715),
        (100, 213_014_714_405_388_526_729_179_787),
        (255, 0u128),
    ] {
        // Strip 0 also gets what rounding down took from the other 255.
        assert!(
            weights[strip].abs_diff(expected) < 256,
            "strip {strip}: {}",
            weights[strip]
        );
    }
}

#[test]
fn the_high_product_is_exact() {
    assert_eq!(multiply(u128::MAX, u128::MAX), u128::MAX - 1);
    assert_eq!(multiply(1 << 127, 0x1234 << 100), 0x1234 << 99);
    assert_eq!(multiply(u128::MAX, 1), 0);
    assert_eq!(multiply((1 << 64) + 1, (1 << 64) - 1), 0);
    assert_eq!(multiply((1 << 64) + 1, 1 << 64), 1);
}

#[test]
fn the_alias_table_draws_every_strip_with_its_exact_weight() {
    let mut drawn = [0u128; STRIPS];
    for column in 0..STRIPS {
        let threshold = ALIAS.threshold[column];
        assert!(threshold <= 1 << COLUMN_BITS);
        drawn[column] += threshold;
        drawn[ALIAS.alias[column] as usize] += (1 << COLUMN_BITS) - threshold;
    }
    let weights = fixed::Alias::column_weights();
    assert_eq!(drawn, weights);
    assert_eq!(weights.iter().sum::<u128>(), 1 << (COLUMN_BITS + 8));
    let sum: f64 = (0..STRIPS).map(|i| (-((i * i) as f64) / 512.0).exp()).sum();
    for (i, weight) in weights.iter().enumerate() {
        let ideal = (-((i * i) as f64) / 512.0).exp() / sum * 2f64.powi(120);
        assert!(
            (*weight as f64 - ideal).abs() <= 1e-12 * ideal + 2.0,
            "strip {i}"
        );
    }
}

/// Mass of the standard normal between a and b, by Simpson's rule.
fn normal_mass(a: f64, b: f64) -> f64 {
    let steps = 200;
    let h = (b - a) / f64::from(steps);
    let density = |x: f64| (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt();
    (0..=steps)
        .map(|i| {
            let weight = if i == 0 || i == steps {
                1.0
            } else if i % 2 == 1 {
                4.0
            } else {
                2.0
            };
            weight * density(a + f64::from(i) * h)
        })
        .sum::<f64>()
        * h
        / 3.0
}

/// Chi-square of counts against expectations, as a z-score (Wilson and Hilferty, 1931).
fn chi_square_z(cells: &[(f64, f64)]) -> f64 {
    let degrees = (cells.len() - 1) as f64;
    let chi: f64 = cells
        .iter()
        .map(|(seen, expected)| (seen - expected).powi(2) / expected)
        .sum();
    ((chi / degrees).cbrt() - (1.0 - 2.0 / (9.0 * degrees))) / (2.0 / (9.0 * degrees)).sqrt()
}

/// Body (256 cells of 1/32), both tails (beyond 4, 4.5, 5), low byte, neighbouring draws.
/// Every check is a z-score below 6.5: false alarm under 1e-9 in all. (The seed is fixed, so it
/// either passes for ever or never.) `examples/noise_fit.rs` runs the same over 1e8 draws.
#[test]
fn two_million_draws_fit_floor_of_the_normal() {
    let mut source = NoiseSource::from_seed_for_tests([7; 32]);
    let n = 2_000_000;
    let mut draws = vec![0i64; n];
    source.fill(&mut draws);
    let unit = 2f64.powi(NOISE_SCALE_BITS as i32);

    let cell = |d: &i64| (*d >> (NOISE_SCALE_BITS - 5)).clamp(-128, 127);
    let mut body = vec![(0.0, 0.0); 256];
    draws
        .iter()
        .for_each(|d| body[(cell(d) + 128) as usize].0 += 1.0);
    for (i, entry) in body.iter_mut().enumerate() {
        let low = (i as f64 - 128.0) / 32.0;
        let (low, high) = (
            if i == 0 { -9.0 } else { low },
            if i == 255 { 9.0 } else { low + 1.0 / 32.0 },
        );
        entry.1 = n as f64 * normal_mass(low, high);
    }
    assert!(
        chi_square_z(&body).abs() < 6.5,
        "body {}",
        chi_square_z(&body)
    );

    for (beyond, sign) in [
        (4.0, 1),
        (4.0, -1),
        (4.5, 1),
        (4.5, -1),
        (5.0, 1),
        (5.0, -1),
    ] {
        let expected = n as f64 * normal_mass(beyond, 12.0);
        let seen = draws
            .iter()
            .filter(|d| (**d * sign) as f64 > beyond * unit)
            .count() as f64;
        // Poisson tail: 6.5 standard deviations plus a little for its skew.
        assert!(
            (seen - expected).abs() < 6.5 * expected.sqrt() + 7.0,
            "beyond {beyond}: {seen} of {expected}"
        );
    }

    for shift in [0, 8, 16] {
        let mut low = vec![(0.0, n as f64 / 256.0); 256];
        draws
            .iter()
            .for_each(|d| low[(d >> shift) as usize & 0xff].0 += 1.0);
        if shift < 16 {
            assert!(
                chi_square_z(&low).abs() < 6.5,
                "byte at {shift}: {}",
                chi_square_z(&low)
            );
        }
    }

    let mean: f64 = draws.iter().map(|d| *d as f64 / unit).sum::<f64>() / n as f64;
    let square: f64 = draws
        .iter()
        .map(|d| (*d as f64 / unit).powi(2))
        .sum::<f64>()
        / n as f64;
    let lag: f64 = draws
        .windows(2)
        .map(|w| w[0] as f64 * w[1] as f64 / unit / unit)
        .sum::<f64>()
        / n as f64;
    let sigma = 1.0 / (n as f64).sqrt();
    assert!(mean.abs() < 6.5 * sigma, "mean {mean}");
    assert!(
        (square - 1.0).abs() < 6.5 * 2f64.sqrt() * sigma,
        "variance {square}"
    );
    assert!(lag.abs() < 6.5 * sigma, "neighbours correlate: {lag}");
}

#[test]
fn two_sources_differ_and_one_source_never_repeats_itself() {
    let draw = |source: &mut NoiseSource| {
        let mut out = [0i64; 8];
        source.fill(&mut out);
        out
    };
    let (mut a, mut b) = (
        NoiseSource::from_os().unwrap(),
        NoiseSource::from_os().unwrap(),
    );
    let first = draw(&mut a);
    assert_ne!(first, draw(&mut a), "noise reused");
    assert_ne!(first, draw(&mut b), "one key for two sources");
}

#[test]
fn a_long_vector_has_the_same_noise_on_any_number_of_cores() {
    let len = 3 * PART + 5;
    let mut all = vec![1i64; len];
    NoiseSource::from_seed_for_tests([5; 32]).add_to(&mut all);
    let mut source = NoiseSource::from_seed_for_tests([5; 32]);
    let mut parts = vec![1i64; len];
    for part in parts.chunks_mut(PART) {
        source.child().add_part(part);
    }
    assert!(all == parts);
    for (first, second) in [(0, 1), (1, 2), (2, 3)] {
        let begin = |part: usize| &all[part * PART..][..5];
        assert_ne!(begin(first), begin(second), "one key for two parts");
    }
    let mut after = [0; 5];
    source.fill(&mut after);
    assert_ne!(after[..], all[..5], "a part's key for what comes next");
}

#[test]
fn a_block_never_falls_short() {
    let mut source = NoiseSource::from_seed_for_tests([3; 32]);
    let mut accepted = [0i64; CANDIDATES];
    for _ in 0..50 {
        let count = source.block(&mut accepted);
        // The mean is 4246.5 and the standard deviation 10.2.
        assert!((4170..4320).contains(&count), "{count} accepted");
    }
}

#[test]
fn a_debug_print_shows_no_key() {
    assert_eq!(
        format!("{:?}", NoiseSource::from_seed_for_tests([1; 32])),
        "NoiseSource { stream: Stream(secret) }"
    );
}
