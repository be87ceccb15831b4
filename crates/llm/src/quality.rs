//! Is a text worth anything at all, whatever it is about?
//!
//! Small models and heavy noise make texts that are empty, cut off or stuck in a loop; these
//! checks need no model.

use std::collections::HashSet;

/// Limits a text must keep.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QualityOptions {
    /// Fewest words.
    pub words_min: usize,
    /// Largest share of word pairs that repeat an earlier pair, from 0 to 1.
    pub repetition_max: f64,
    /// Smallest share of characters that are letters or spaces, from 0 to 1.
    pub letters_min: f64,
}

impl Default for QualityOptions {
    fn default() -> Self {
        Self {
            words_min: 3,
            repetition_max: 0.3,
            letters_min: 0.7,
        }
    }
}

/// Why a text is not worth keeping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Defect {
    /// Fewer words than asked for.
    TooShort,
    /// It repeats itself.
    Repetitive,
    /// Mostly not letters.
    NotText,
}

impl QualityOptions {
    /// The first defect of a text, if it has one.
    pub fn defect(&self, text: &str) -> Option<Defect> {
        let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
        if words.len() < self.words_min.max(1) {
            return Some(Defect::TooShort);
        }
        let letters = text
            .chars()
            .filter(|c| c.is_alphabetic() || c.is_whitespace())
            .count();
        if (letters as f64) < self.letters_min * text.chars().count() as f64 {
            return Some(Defect::NotText);
        }
        let pairs: Vec<_> = words.windows(2).collect();
        let distinct = pairs.iter().collect::<HashSet<_>>().len();
        let repeated = 1.0 - distinct as f64 / pairs.len().max(1) as f64;
        let stuck = words.windows(3).any(|w| w[0] == w[1] && w[1] == w[2]);
        if stuck || (!pairs.is_empty() && repeated > self.repetition_max) {
            return Some(Defect::Repetitive);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defects_are_named_and_plain_texts_pass() {
        let options = QualityOptions::default();
        assert_eq!(
            options.defect("Where is my new card? It should be here."),
            None
        );
        assert_eq!(options.defect("  card  "), Some(Defect::TooShort));
        assert_eq!(
            options.defect("it is the the the card"),
            Some(Defect::Repetitive)
        );
        let loop_text = "and the card and the card and the card and the card";
        assert_eq!(options.defect(loop_text), Some(Defect::Repetitive));
        assert_eq!(options.defect("123 :: 456 // 789"), Some(Defect::NotText));
    }
}
