//! What each released record weighs in training.

use std::collections::HashMap;

use noisegate_slm::{Example, Head, Target};

/// A released record never weighs more than this many times `released_weight`, however rare its
/// label is among the released ones.
const FACTOR_MAX: f32 = 4.0;

/// Gives each label of a single-label head the share among released records that it has among
/// private ones.
///
/// Who asks a language model for as many texts of every label shifts the labels' shares, and a
/// classifier that learns from them expects the rare ones too often. This weighs the shift out
/// again: factor `P(label) / R(label)`, for the shares `P` among private and `R` among released
/// records, at most 4. A label that no private record has gets the factor 0.
///
/// The factors come from private records and end in a model that is private to their site.
///
/// # Source
/// Importance weighting under label shift: Saerens, Latinne and Decaestecker, "Adjusting the
/// outputs of a classifier to new a priori probabilities", 2002, equation 2.4, for weights instead
/// of outputs.
pub(super) fn as_private(examples: &mut [Example], heads: &[Head]) {
    for head in 0..heads.len() {
        let private = Shares::of(examples, head, false);
        let released = Shares::of(examples, head, true);
        if private.total == 0.0 {
            continue;
        }
        let of_head = |it: &&mut Example| it.head == head && it.synthetic;
        for example in examples.iter_mut().filter(of_head) {
            let factor = |label: &str| {
                let factor = private.share(label) / released.share(label);
                factor.min(FACTOR_MAX)
            };
            match &example.target {
                Target::Label(label) => example.weight *= factor(label),
                Target::Shares(shares) => {
                    let mean = shares.iter().filter(|(_, share)| *share > 0.0);
                    example.weight *= mean
                        .map(|(label, share)| share * factor(label))
                        .sum::<f32>();
                }
                _ => {}
            }
        }
    }
}

struct Shares {
    counts: HashMap<String, f32>,
    total: f32,
}

impl Shares {
    fn of(examples: &[Example], head: usize, synthetic: bool) -> Self {
        let mut counts = HashMap::new();
        let mut total = 0.0;
        let mut count = |label: &str, share: f32| {
            *counts.entry(label.to_owned()).or_insert(0.0) += share;
            total += share;
        };
        let these = |it: &&Example| it.head == head && it.synthetic == synthetic;
        for example in examples.iter().filter(these) {
            match &example.target {
                Target::Label(label) => count(label, 1.0),
                Target::Shares(shares) => shares
                    .iter()
                    .for_each(|(label, share)| count(label, *share)),
                _ => {}
            }
        }
        Self { counts, total }
    }

    fn share(&self, label: &str) -> f32 {
        self.counts.get(label).copied().unwrap_or(0.0) / self.total.max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples(synthetic: bool, labels: &str) -> Vec<Example> {
        let example = |label: char| Example {
            text: String::new(),
            target: Target::Label(label.to_string()),
            head: 0,
            unit: None,
            weight: if synthetic { 0.5 } else { 1.0 },
            synthetic,
        };
        labels.chars().map(example).collect()
    }

    fn weights(private: &str, released: &str) -> Vec<f32> {
        let mut all = examples(false, private);
        all.extend(examples(true, released));
        let head = Head::single(["a", "b", "c"]);
        as_private(&mut all, &[head]);
        assert!(all[..private.len()].iter().all(|it| it.weight == 1.0));
        all[private.len()..].iter().map(|it| it.weight).collect()
    }

    #[test]
    fn labels_weigh_as_among_private_records() {
        // Three in four are `a`; among the released, one in two.
        assert_eq!(weights("aaab", "aabb"), [0.75, 0.75, 0.25, 0.25]);
    }

    #[test]
    fn one_released_record_of_a_common_label_does_not_outweigh_the_rest() {
        let weights = weights("aaaaaaaab", "abbbbbbbbbbbbbbbbb");
        assert_eq!(weights[0], 0.5 * FACTOR_MAX);
    }

    #[test]
    fn a_share_of_a_label_counts_as_that_much_of_it() {
        let mut all = examples(false, "aaab");
        all.extend(examples(true, "ab"));
        let shares = [("a", 0.5), ("b", 0.5)].map(|(label, share)| (label.to_owned(), share));
        all.push(Example {
            target: Target::Shares(shares.to_vec()),
            ..all[4].clone()
        });
        as_private(&mut all, &[Head::single(["a", "b"])]);
        // Halves of both labels are released: factors 1.5 and 0.5, and their mean.
        let weights: Vec<f32> = all[4..].iter().map(|it| it.weight).collect();
        assert_eq!(weights, [0.75, 0.25, 0.5]);
    }

    #[test]
    fn a_label_without_private_records_weighs_nothing_and_without_any_private_record_all_stays() {
        assert_eq!(weights("aa", "ac"), [1.0, 0.0]);
        assert_eq!(weights("", "ac"), [0.5, 0.5]);
    }
}
