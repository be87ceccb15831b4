//! Finds texts that say nearly the same: Jaccard similarity of word shingles.
//!
//! Candidates come from MinHash with banding, so that a large set is not compared pair by pair;
//! every candidate is then compared exactly, so banding can only miss a duplicate (seldom: below
//! 2 % at similarity 0.7), never invent one.
//!
//! # Source
//! Broder, "On the resemblance and containment of documents", 1997; Leskovec et al., "Mining of
//! Massive Datasets", 2014, section 3.4 (banding).

use std::collections::{BTreeSet, HashMap};

use sha2::{Digest, Sha256};

/// Words per shingle; shorter texts are one shingle.
const SHINGLE_WORDS: usize = 2;
const BANDS: usize = 32;
const ROWS_PER_BAND: usize = 3;

/// Texts seen so far, searchable for near-duplicates.
#[derive(Debug, Clone)]
pub struct NearDuplicates {
    similarity_min: f64,
    shingles: Vec<BTreeSet<u64>>,
    bands: HashMap<(usize, [u64; ROWS_PER_BAND]), Vec<usize>>,
}

impl NearDuplicates {
    /// `similarity_min`: Jaccard similarity, from 0 to 1, at which two texts count as the same.
    pub fn new(similarity_min: f64) -> Self {
        Self {
            similarity_min,
            shingles: Vec::new(),
            bands: HashMap::new(),
        }
    }

    /// The index of an earlier text that this one repeats; otherwise adds it and returns `None`.
    ///
    /// Indices count the texts added, in order. Case and punctuation are ignored.
    pub fn find_or_add(&mut self, text: &str) -> Option<usize> {
        let shingles = shingles(text);
        let keys = band_keys(&shingles);
        let candidates: BTreeSet<usize> = keys
            .iter()
            .filter_map(|key| self.bands.get(key))
            .flatten()
            .copied()
            .collect();
        let same =
            |other: &usize| jaccard(&self.shingles[*other], &shingles) >= self.similarity_min;
        if let Some(found) = candidates.into_iter().find(same) {
            return Some(found);
        }
        let index = self.shingles.len();
        for key in keys {
            self.bands.entry(key).or_default().push(index);
        }
        self.shingles.push(shingles);
        None
    }
}

/// Jaccard similarity of two texts' shingles, from 0 to 1.
pub fn similarity(a: &str, b: &str) -> f64 {
    jaccard(&shingles(a), &shingles(b))
}

fn jaccard(a: &BTreeSet<u64>, b: &BTreeSet<u64>) -> f64 {
    let common = a.intersection(b).count();
    let all = a.len() + b.len() - common;
    if all == 0 {
        1.0
    } else {
        common as f64 / all as f64
    }
}

fn shingles(text: &str) -> BTreeSet<u64> {
    let words: Vec<String> = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    let hash = |words: &[String]| {
        let digest = Sha256::digest(words.join(" ").as_bytes());
        u64::from_le_bytes(*digest.first_chunk().expect("a SHA-256 digest has 32 bytes"))
    };
    if words.len() < SHINGLE_WORDS {
        return words.chunks(1).map(hash).collect();
    }
    words.windows(SHINGLE_WORDS).map(hash).collect()
}

/// The smallest hash under each of `BANDS * ROWS_PER_BAND` fixed functions, by band.
fn band_keys(shingles: &BTreeSet<u64>) -> Vec<(usize, [u64; ROWS_PER_BAND])> {
    let minimum = |function: usize| {
        let mix = |shingle: &u64| {
            // The finaliser of SplitMix64: a bijection, different for every function.
            let mut x =
                shingle.wrapping_add((function as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            x ^ (x >> 31)
        };
        shingles.iter().map(mix).min().unwrap_or(0)
    };
    (0..BANDS)
        .map(|band| {
            (
                band,
                std::array::from_fn(|row| minimum(band * ROWS_PER_BAND + row)),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_with_one_word_changed_is_found_and_another_is_not() {
        let mut seen = NearDuplicates::new(0.7);
        let text =
            "I ordered a new card two weeks ago and it has still not arrived, please help me";
        assert_eq!(seen.find_or_add(text), None);
        assert_eq!(
            seen.find_or_add("What is the exchange rate for euros today?"),
            None
        );
        assert_eq!(seen.find_or_add(&text.replace("weeks", "days")), Some(0));
        assert_eq!(seen.find_or_add(&text.to_uppercase()), Some(0));
        assert_eq!(seen.find_or_add("I ordered a new phone"), None);
    }

    proptest! {
        #[test]
        fn a_text_is_its_own_duplicate(text in "[a-z ]{0,60}") {
            let mut seen = NearDuplicates::new(1.0);
            seen.find_or_add(&text);
            prop_assert_eq!(seen.find_or_add(&text), Some(0));
        }

        #[test]
        fn similarity_is_symmetric_and_at_most_one(a in "[a-c ]{0,20}", b in "[a-c ]{0,20}") {
            let forth = similarity(&a, &b);
            prop_assert_eq!(forth, similarity(&b, &a));
            prop_assert!((0.0..=1.0).contains(&forth));
        }
    }
}
