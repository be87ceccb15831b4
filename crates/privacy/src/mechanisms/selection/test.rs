//! The exact distribution: against the formula, and against epsilon.

use super::*;
use crate::random::Stream;

fn spec(candidates: usize, score_max: u32, epsilon: f64) -> SelectionSpec {
    SelectionSpec {
        candidates,
        score_max,
        epsilon: Epsilon::new(epsilon).unwrap(),
    }
}

/// Permute-and-flip's probabilities, by the definition: over all orders of the untried.
fn exact(scores: &[u32], untried: &[usize], rate: f64, reach: f64, out: &mut Vec<f64>) {
    let best = *scores.iter().max().unwrap();
    for &candidate in untried {
        let here = reach / untried.len() as f64;
        let take = (-rate * f64::from(best - scores[candidate])).exp();
        out[candidate] += here * take;
        let rest: Vec<usize> = untried
            .iter()
            .copied()
            .filter(|c| *c != candidate)
            .collect();
        if take < 1.0 {
            exact(scores, &rest, rate, here * (1.0 - take), out);
        }
    }
}

fn probabilities(scores: &[u32], rate: f64) -> Vec<f64> {
    let mut out = vec![0.0; scores.len()];
    exact(
        scores,
        &(0..scores.len()).collect::<Vec<_>>(),
        rate,
        1.0,
        &mut out,
    );
    out
}

/// All score vectors of three candidates up to 3 and all units up to 2 points: the claim of `proof.md`
/// that one unit, which only ever adds points, changes no probability by more than e^epsilon.
#[test]
fn one_unit_changes_no_probability_by_more_than_e_to_the_epsilon() {
    let (epsilon, score_max) = (0.7f64, 2u32);
    let rate = epsilon / f64::from(score_max);
    let triples = |n: u32| (0..n * n * n).map(move |i| [i % n, i / n % n, i / n / n]);
    for scores in triples(4) {
        let without = probabilities(&scores, rate);
        for points in triples(score_max + 1) {
            let with = probabilities(&[0, 1, 2].map(|i| scores[i] + points[i]), rate);
            for (a, b) in without.iter().zip(&with) {
                assert!(
                    (a / b).ln().abs() <= epsilon + 1e-12,
                    "{scores:?} plus {points:?}"
                );
            }
        }
    }
}

/// Three candidates, 60,000 selections: each frequency within 6 deviations, false alarm 6e-9.
#[test]
fn the_selection_follows_permute_and_flip() {
    let spec = spec(3, 2, 0.75);
    let expected = probabilities(&[4, 3, 0], 0.375);
    let mut noise = NoiseSource::from_seed_for_tests([4; 32]);
    let n = 60_000;
    let mut seen = [0.0; 3];
    for _ in 0..n {
        let mut selection = Selection::new(&spec).unwrap();
        selection.add(&[2, 2, 0]);
        // 9 is cut to 2.
        selection.add(&[9, 1, 0]);
        selection.add(&[1, 1]);
        seen[*selection.release(&mut noise).value()] += 1.0;
    }
    for (count, p) in seen.iter().zip(expected) {
        let deviation = (f64::from(n) * p * (1.0 - p)).sqrt();
        assert!(
            (count - f64::from(n) * p).abs() < 6.0 * deviation,
            "{count} of {n} at {p}"
        );
    }
}

/// 6 deviations over 100,000 coins each: false alarm 1e-8 in all.
#[test]
fn the_exponential_coin_is_fair_to_its_exponent() {
    let mut stream = Stream::from_seed(&[6; 32]);
    for (numerator, denominator) in [
        (0u128, 1u128),
        (1, 3),
        (1, 1),
        (5, 2),
        (123, 100),
        (1 << 40, 3 << 40),
    ] {
        let p = (-(numerator as f64) / denominator as f64).exp();
        let n = 100_000;
        let heads = (0..n)
            .filter(|_| exp_minus(&mut stream, numerator, denominator))
            .count() as f64;
        let n = f64::from(n);
        assert!(
            (heads - n * p).abs() <= 6.0 * (n * p * (1.0 - p)).sqrt(),
            "{heads} at {p}"
        );
    }
}

#[test]
fn a_uniform_integer_stays_below_its_bound() {
    let mut stream = Stream::from_seed(&[6; 32]);
    let mut seen = [0u32; 5];
    (0..5000).for_each(|_| seen[uniform_below(&mut stream, 5) as usize] += 1);
    assert!(
        seen.iter().all(|count| (800..1200).contains(count)),
        "{seen:?}"
    );
    assert_eq!(uniform_below(&mut stream, 1), 0);
}

#[test]
fn a_huge_gap_is_drawn_without_overflow() {
    let mut selection = Selection::new(&spec(2, u32::MAX, 1024.0)).unwrap();
    selection.scores = vec![u128::from(u64::MAX) << 32, 0];
    assert_eq!(
        *selection
            .release(&mut NoiseSource::from_seed_for_tests([4; 32]))
            .value(),
        0
    );
}

#[test]
fn parameters_out_of_range_are_refused() {
    for bad in [
        spec(0, 1, 1.0),
        spec(1, 0, 1.0),
        spec(1, 1, 1e-7),
        spec(1, 1, 1025.0),
    ] {
        assert!(Selection::new(&bad).is_err(), "{bad:?}");
    }
}
