//! Finds texts that say nearly the same: Jaccard similarity of word shingles.
//!
//! ```text
//! text ─ shingles ─ MinHash ─ bands ─> candidates ─ compared exactly ─> an earlier text, or none
//! ```
//! A large set is not compared pair by pair: only texts that agree in a whole band of minimal
//! hashes are, and those exactly. So banding can miss a duplicate (at most [`MISS`] of those at
//! the threshold, fewer above it) but never invents one.
//!
//! # Source
//! Broder, "On the resemblance and containment of documents", 1997; Leskovec et al., "Mining of
//! Massive Datasets", 2014, section 3.4 (banding).

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use sha2::{Digest, Sha256};

/// Words per shingle; shorter texts are one shingle.
const SHINGLE_WORDS: usize = 2;
/// Largest chance of missing a pair whose similarity is the threshold.
pub const MISS: f64 = 0.005;
const BANDS_MAX: usize = 128;
const HASHES_MAX: usize = 256;

/// Texts seen so far, searchable for near-duplicates.
#[derive(Debug, Clone)]
pub struct NearDuplicates {
    similarity_min: f64,
    banding: Banding,
    /// Sorted, without repeats.
    shingles: Vec<Vec<u64>>,
    /// The last text with a band, as one more than its index.
    newest: HashMap<u64, u32, BuildHasherDefault<Mixed>>,
    /// For each text and band, the text before it with the same band, written alike.
    before: Vec<u32>,
    compared: usize,
}

/// How minimal hashes are cut into bands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Banding {
    bands: usize,
    rows: usize,
}

impl Banding {
    /// The longest bands that miss a pair at the threshold no oftener than [`MISS`]: long bands
    /// bring few candidates that are not alike.
    fn of(similarity: f64) -> Self {
        let fits = |rows: usize| {
            // A band of `rows` agrees with probability s^rows; all of them fail together.
            let agrees = similarity.powi(rows as i32);
            let bands = if agrees >= 1.0 {
                1.0
            } else {
                (MISS.ln() / (1.0 - agrees).ln()).ceil()
            };
            let bands = bands as usize;
            let affordable = bands <= BANDS_MAX && bands * rows <= HASHES_MAX;
            affordable.then_some(Self { bands, rows })
        };
        let shortest = Self {
            bands: BANDS_MAX,
            rows: 1,
        };
        (1..=8).rev().find_map(fits).unwrap_or(shortest)
    }
}

impl NearDuplicates {
    /// `similarity_min`: Jaccard similarity, from 0 to 1, at which two texts count as the same.
    pub fn new(similarity_min: f64) -> Self {
        Self {
            similarity_min,
            banding: Banding::of(similarity_min),
            shingles: Vec::new(),
            newest: HashMap::default(),
            before: Vec::new(),
            compared: 0,
        }
    }

    /// The index of an earlier text that this one repeats; otherwise adds it and returns `None`.
    ///
    /// Indices count the texts added, in order. Case and punctuation are ignored.
    pub fn find_or_add(&mut self, text: &str) -> Option<usize> {
        let shingles = shingles(text);
        let bands = band_keys(&shingles, self.banding);
        if let Some(found) = self.find(&shingles, &bands) {
            return Some(found);
        }
        let added = u32::try_from(self.shingles.len()).expect("fewer texts than 2^32 fit memory");
        for band in bands {
            let before = self.newest.insert(band, added + 1);
            self.before.push(before.unwrap_or(0));
        }
        self.shingles.push(shingles);
        None
    }

    /// Pairs compared exactly so far: a measure of the work.
    pub fn compared(&self) -> usize {
        self.compared
    }

    /// The earliest candidate that is alike.
    fn find(&mut self, shingles: &[u64], bands: &[u64]) -> Option<usize> {
        let mut candidates = BTreeSet::new();
        for (band, key) in bands.iter().enumerate() {
            let mut next = self.newest.get(key).copied().unwrap_or(0);
            while next != 0 {
                let index = next as usize - 1;
                candidates.insert(index);
                next = self.before[index * self.banding.bands + band];
            }
        }
        candidates.into_iter().find(|index| {
            self.compared += 1;
            jaccard(&self.shingles[*index], shingles) >= self.similarity_min
        })
    }
}

/// Jaccard similarity of two texts' shingles, from 0 to 1.
pub fn similarity(a: &str, b: &str) -> f64 {
    jaccard(&shingles(a), &shingles(b))
}

/// Of sorted lists without repeats.
fn jaccard(a: &[u64], b: &[u64]) -> f64 {
    let (mut i, mut j, mut common) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        match a[i].cmp(&b[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                common += 1;
                i += 1;
                j += 1;
            }
        }
    }
    let all = a.len() + b.len() - common;
    if all == 0 {
        1.0
    } else {
        common as f64 / all as f64
    }
}

fn shingles(text: &str) -> Vec<u64> {
    let words: Vec<String> = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    let hash = |words: &[String]| {
        let digest = Sha256::digest(words.join(" ").as_bytes());
        u64::from_le_bytes(*digest.first_chunk().expect("a SHA-256 digest has 32 bytes"))
    };
    let mut all: Vec<u64> = if words.len() < SHINGLE_WORDS {
        words.chunks(1).map(hash).collect()
    } else {
        words.windows(SHINGLE_WORDS).map(hash).collect()
    };
    all.sort_unstable();
    all.dedup();
    all
}

/// The smallest hashes under fixed functions, each band of them mixed into one number that also
/// tells bands apart.
fn band_keys(shingles: &[u64], banding: Banding) -> Vec<u64> {
    let minimum = |function: usize| {
        let salt = (function as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hashes = shingles
            .iter()
            .map(|shingle| mix(shingle.wrapping_add(salt)));
        hashes.min().unwrap_or(0)
    };
    let band = |band: usize| {
        let rows = (band * banding.rows..(band + 1) * banding.rows).map(minimum);
        // Two bands that collide here cost a comparison, no more.
        rows.fold(band as u64, |key, hash| mix(key ^ hash))
    };
    (0..banding.bands).map(band).collect()
}

/// The finaliser of SplitMix64: a bijection.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A hasher for keys that are mixed already.
#[derive(Debug, Clone, Copy, Default)]
struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = mix(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
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

    /// Texts in families: members share most of their words.
    fn corpus(families: usize, members: usize, seed: u64) -> Vec<String> {
        use rand_chacha::rand_core::{Rng, SeedableRng};
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let mut below = |n: usize| (rng.next_u64() % n as u64) as usize;
        let mut texts = Vec::new();
        for _ in 0..families {
            let words: Vec<usize> = (0..20).map(|_| below(400)).collect();
            for _ in 0..members {
                let mut words = words.clone();
                for _ in 0..below(4) {
                    let place = below(words.len());
                    words[place] = below(400);
                }
                let words: Vec<String> = words.iter().map(|word| format!("w{word}")).collect();
                texts.push(words.join(" "));
            }
        }
        texts
    }

    #[test]
    fn every_threshold_has_a_banding_that_seldom_misses() {
        for percent in 5..=100 {
            let similarity = f64::from(percent) / 100.0;
            let Banding { bands, rows } = Banding::of(similarity);
            let missed = (1.0 - similarity.powi(rows as i32)).powi(bands as i32);
            assert!(missed <= MISS + 1e-12, "{similarity}: {missed}");
            assert!(bands * rows <= HASHES_MAX && bands <= BANDS_MAX);
        }
    }

    #[test]
    fn a_hundred_thousand_texts_are_not_compared_pair_by_pair() {
        let mut seen = NearDuplicates::new(0.7);
        let texts = corpus(50_000, 2, 1);
        let repeats = texts
            .iter()
            .filter(|text| seen.find_or_add(text).is_some())
            .count();
        assert!((10_000..50_000).contains(&repeats), "{repeats}");
        // All pairs would be five thousand million.
        assert!(seen.compared() < 400_000, "{}", seen.compared());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn what_is_found_is_what_a_comparison_of_all_pairs_finds(
            seed in any::<u64>(), percent in 30u32..100
        ) {
            let threshold = f64::from(percent) / 100.0;
            let mut seen = NearDuplicates::new(threshold);
            let mut kept: Vec<String> = Vec::new();
            let (mut alike, mut missed) = (0, 0);
            for text in corpus(30, 6, seed) {
                let found = seen.find_or_add(&text);
                let exact = kept.iter().position(|other| similarity(other, &text) >= threshold);
                alike += usize::from(exact.is_some());
                match (found, exact) {
                    (Some(found), Some(_)) => {
                        prop_assert!(similarity(&kept[found], &text) >= threshold);
                    }
                    (Some(_), None) => prop_assert!(false, "invented"),
                    (None, Some(_)) => {
                        missed += 1;
                        kept.push(text);
                    }
                    (None, None) => kept.push(text),
                }
            }
            // 180 chances at 0.005 each: more than 6 misses has a chance below 1e-4 in 24 cases.
            prop_assert!(missed <= 6, "{} of {}", missed, alike);
        }
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
