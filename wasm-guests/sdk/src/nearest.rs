//! Finds the texts nearest to a text: TF-IDF cosine over an inverted index.
//!
//! ```text
//!   public side   Index::build(documents) ──> tensor (postings) + context ──┐
//!   private side  Index::open(context, tensor) <────────────────────────────┘
//!                      └── scores(text): one number a document
//! ```
//!
//! A fresh instance per privacy unit cannot afford to embed every document, nor to
//! copy a dense matrix. The index therefore lies in a tensor on the host's side of the
//! wall, and a private side fetches the postings of its own words alone: the work
//! grows with the text, hardly with the number of documents.
//!
//! Features are words, and pieces of words of four letters, which forgive typing
//! errors. Deliberately absent: a trained embedder. It would have to be downloaded, and
//! costs a thousand times as much for each unit; the mean of the bundled small model's
//! token vectors finds worse neighbours than this (`docs/decisions/025`).
//!
//! # Source
//! Salton and Buckley, "Term-weighting approaches in automatic text retrieval", 1988
//! (their weighting `ltc`).

mod features;

use std::collections::BTreeMap;

use crate::kernels::{At, gather};
use crate::wire::{Reader, Writer};
use crate::{Tensor, maths};

use features::features;

/// Numbers of one posting in the tensor: tag, document, weight.
const POSTING: usize = 3;
/// Numbers of one bucket in the tensor: its first posting, and one past its last.
const BUCKET: usize = 2;
/// Whole numbers are exact in an f32 up to here.
const EXACT_MAX: usize = 1 << 24;

/// What a private side needs of an index, to be handed over as a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    documents: usize,
    bucket_bits: u32,
}

/// An index as the public side makes it.
#[derive(Debug, Clone)]
pub struct Built {
    /// Goes into a setup's or query's tensors.
    pub tensor: Vec<f32>,
    /// Goes into the context, for [`Index::open`].
    pub context: Vec<u8>,
}

/// An index on the private side.
#[derive(Clone, Copy)]
pub struct Index<'a> {
    shape: Shape,
    tensor: &'a Tensor,
}

struct Posting {
    bucket: u32,
    tag: u32,
    document: usize,
    weight: f32,
}

/// Indexes documents, each of one text or several that count as one.
///
/// # Errors
/// A sentence, if there are none or too many for the tensor.
pub fn build(documents: &[Vec<&str>]) -> Result<Built, String> {
    if documents.is_empty() {
        return Err("there is nothing to compare with; give at least one text".to_owned());
    }
    let counted: Vec<BTreeMap<u32, u32>> = documents
        .iter()
        .map(|texts| {
            let mut counts = BTreeMap::new();
            for feature in texts.iter().flat_map(|text| features(text)) {
                *counts.entry(feature).or_insert(0) += 1;
            }
            counts
        })
        .collect();
    let mut frequency: BTreeMap<u32, u32> = BTreeMap::new();
    for feature in counted.iter().flat_map(BTreeMap::keys) {
        *frequency.entry(*feature).or_insert(0) += 1;
    }
    let bucket_bits = (2 * frequency.len())
        .next_power_of_two()
        .ilog2()
        .clamp(1, 20);
    let mut postings = postings(&counted, &frequency, bucket_bits);
    postings.sort_unstable_by_key(|one| (one.bucket, one.tag, one.document));
    let shape = Shape {
        documents: documents.len(),
        bucket_bits,
    };
    if postings.len() * POSTING > EXACT_MAX || documents.len() > EXACT_MAX {
        return Err(format!(
            "{} texts are too many to compare with; give fewer or shorter ones",
            documents.len()
        ));
    }
    let mut context = Writer::default();
    context.u32(shape.documents as u32).u32(shape.bucket_bits);
    Ok(Built {
        tensor: tensor(&postings, bucket_bits),
        context: context.finish(),
    })
}

/// Cosine weights, the query's own inverse frequency multiplied in.
fn postings(
    counted: &[BTreeMap<u32, u32>],
    frequency: &BTreeMap<u32, u32>,
    bucket_bits: u32,
) -> Vec<Posting> {
    let rarity =
        |feature: &u32| ((1 + counted.len()) as f32 / (1 + frequency[feature]) as f32).ln();
    let mut postings = Vec::new();
    for (document, counts) in counted.iter().enumerate() {
        let weights: Vec<f32> = counts
            .iter()
            .map(|(feature, count)| damped(*count) * rarity(feature))
            .collect();
        let norm = maths::dot(&weights, &weights).sqrt();
        for (feature, weight) in counts.keys().zip(weights) {
            let weight = weight * rarity(feature) / norm;
            // A word that nearly every document has says nothing about any.
            if weight > 0.0 && weight.is_finite() {
                let (bucket, tag) = place(*feature, bucket_bits);
                postings.push(Posting {
                    bucket,
                    tag,
                    document,
                    weight,
                });
            }
        }
    }
    postings
}

/// Buckets first, then the postings they point to.
fn tensor(postings: &[Posting], bucket_bits: u32) -> Vec<f32> {
    let mut tensor = Vec::with_capacity((BUCKET << bucket_bits) + POSTING * postings.len());
    let mut at = 0;
    for bucket in 0..1_u32 << bucket_bits {
        let start = at;
        while postings.get(at).is_some_and(|one| one.bucket == bucket) {
            at += 1;
        }
        tensor.extend([start as f32, at as f32]);
    }
    for one in postings {
        tensor.extend([one.tag as f32, one.document as f32, one.weight]);
    }
    tensor
}

/// A feature's bucket, and a tag that tells it from others in the bucket.
fn place(feature: u32, bucket_bits: u32) -> (u32, u32) {
    (feature & ((1 << bucket_bits) - 1), feature >> 8)
}

fn damped(count: u32) -> f32 {
    1.0 + (count as f32).ln()
}

impl<'a> Index<'a> {
    /// The index that [`build`] made; panics on another's context.
    pub fn open(context: &[u8], tensor: &'a Tensor) -> Self {
        let mut reader = Reader::new(context);
        let shape = Shape {
            documents: reader.size(),
            bucket_bits: reader.u32(),
        };
        Index { shape, tensor }
    }

    /// How near each document is to the text: zero where no word is shared.
    pub fn scores(&self, text: &str) -> Vec<f32> {
        let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
        for feature in features(text) {
            *counts.entry(feature).or_insert(0) += 1;
        }
        let places: Vec<(u32, u32)> = counts
            .keys()
            .map(|feature| place(*feature, self.shape.bucket_bits))
            .collect();
        let buckets: Vec<u32> = places.iter().map(|(bucket, _)| *bucket).collect();
        let ranges = gather(
            At {
                tensor: self.tensor,
                offset: 0,
            },
            BUCKET,
            &buckets,
        );
        let rows: Vec<u32> = ranges
            .as_chunks::<BUCKET>()
            .0
            .iter()
            .flat_map(|[from, to]| *from as u32..*to as u32)
            .collect();
        let offset = BUCKET << self.shape.bucket_bits;
        let found = gather(
            At {
                tensor: self.tensor,
                offset,
            },
            POSTING,
            &rows,
        );
        let mut found = found.as_chunks::<POSTING>().0.iter();
        let mut scores = vec![0.0; self.shape.documents];
        for (((_, tag), count), [from, to]) in places
            .iter()
            .zip(counts.values())
            .zip(ranges.as_chunks::<BUCKET>().0)
        {
            let weight = damped(*count);
            for [found_tag, document, posting] in found.by_ref().take((to - from) as usize) {
                if *found_tag == *tag as f32 {
                    scores[*document as usize] += weight * posting;
                }
            }
        }
        scores
    }
}

/// The `most` best documents, best first, ties by order; those without a positive score never.
pub fn best(scores: &[f32], most: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..scores.len() as u32)
        .filter(|&at| scores[at as usize] > 0.0)
        .collect();
    let by_score = |a: &u32, b: &u32| {
        scores[*b as usize]
            .total_cmp(&scores[*a as usize])
            .then(a.cmp(b))
    };
    if order.len() > most && most > 0 {
        order.select_nth_unstable_by(most - 1, by_score);
    }
    order.truncate(most);
    order.sort_unstable_by(by_score);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nearest(texts: &[&str], text: &str, most: usize) -> Vec<u32> {
        let documents: Vec<Vec<&str>> = texts.iter().map(|text| vec![*text]).collect();
        let built = build(&documents).unwrap();
        let tensor = Tensor::new(&built.tensor);
        best(&Index::open(&built.context, &tensor).scores(text), most)
    }

    const TEXTS: [&str; 4] = [
        "my card was charged twice this month",
        "when will my test results arrive",
        "please renew my prescription for the pills",
        "the app does not let me log in",
    ];

    #[test]
    fn a_text_is_nearest_to_itself() {
        for (at, text) in TEXTS.iter().enumerate() {
            assert_eq!(nearest(&TEXTS, text, 1), [at as u32]);
        }
    }

    #[test]
    fn shared_rare_words_decide_and_a_typing_error_is_forgiven() {
        assert_eq!(nearest(&TEXTS, "Charged TWICE!!", 1), [0]);
        assert_eq!(nearest(&TEXTS, "need a new perscription", 1), [2]);
        assert_eq!(nearest(&TEXTS, "where are the results?", 2)[0], 1);
    }

    #[test]
    fn a_text_without_a_shared_word_is_near_to_nothing() {
        assert!(nearest(&TEXTS, "zzz 999", 3).is_empty());
        assert!(nearest(&TEXTS, "", 3).is_empty());
    }

    #[test]
    fn several_texts_can_be_one_document() {
        let built = build(&[TEXTS[..2].to_vec(), TEXTS[2..].to_vec()]).unwrap();
        let tensor = Tensor::new(&built.tensor);
        let index = Index::open(&built.context, &tensor);
        assert_eq!(best(&index.scores("log in to the app"), 2)[0], 1);
        assert_eq!(best(&index.scores("charged for test results"), 1), [0]);
    }

    #[test]
    fn the_sparse_scores_are_the_cosines_of_the_dense_vectors() {
        let documents: Vec<Vec<&str>> = TEXTS.iter().map(|text| vec![*text]).collect();
        let built = build(&documents).unwrap();
        let tensor = Tensor::new(&built.tensor);
        let text = "the card charged for the test";
        let found = Index::open(&built.context, &tensor).scores(text);
        let sets: Vec<Vec<u32>> = TEXTS.iter().map(|text| features(text).collect()).collect();
        let rarity = |feature: &u32| {
            let having = sets.iter().filter(|set| set.contains(feature)).count();
            (5.0 / (1 + having) as f32).ln()
        };
        let count =
            |set: &[u32], feature: &u32| set.iter().filter(|one| *one == feature).count() as u32;
        for (set, score) in sets.iter().zip(found) {
            let mut distinct = set.clone();
            distinct.sort_unstable();
            distinct.dedup();
            let weight = |feature: &u32| damped(count(set, feature)) * rarity(feature);
            let norm = distinct
                .iter()
                .map(|one| weight(one).powi(2))
                .sum::<f32>()
                .sqrt();
            let query: Vec<u32> = features(text).collect();
            let plain: f32 = distinct
                .iter()
                .filter(|one| query.contains(one))
                .map(|one| weight(one) / norm * damped(count(&query, one)) * rarity(one))
                .sum();
            assert!((plain - score).abs() < 1e-4, "{plain} {score}");
        }
    }

    #[test]
    fn best_takes_the_largest_and_breaks_ties_by_order() {
        assert_eq!(best(&[0.5, 2.0, 0.0, 2.0, -1.0], 3), [1, 3, 0]);
        assert_eq!(best(&[0.5, 2.0], 0), [0_u32; 0]);
        assert_eq!(best(&[], 5), [0_u32; 0]);
    }
}
