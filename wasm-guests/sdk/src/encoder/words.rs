//! Cuts a text into the words that WordPiece looks up.
//!
//! ```text
//!   signs ─ drop control signs, any space to ' ' ─ spaces around CJK ─ NFD, drop accents ─ lower case
//!         ─ cut at spaces and around each punctuation mark
//! ```
//!
//! The order and the Unicode categories are those of Hugging Face's `BertNormalizer` and
//! `BertPreTokenizer`, so that a model meets the tokens that it was trained on. Lazy: nothing
//! behind the last word that is asked for is looked at.

use std::ops::ControlFlow;

use unicode_categories::UnicodeCategories;
use unicode_normalization::UnicodeNormalization;

/// What a tokenizer does to letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rules {
    pub lowercase: bool,
    pub strip_accents: bool,
}

/// Hands each word to `take` until it breaks.
pub(super) fn words(
    text: &str,
    rules: Rules,
    mut take: impl FnMut(&str) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut word = String::new();
    for sign in signs(text, rules) {
        let mark = is_punctuation(sign);
        if !mark && !sign.is_whitespace() {
            word.push(sign);
            continue;
        }
        if !word.is_empty() {
            take(&word)?;
            word.clear();
        }
        if mark {
            take(sign.encode_utf8(&mut [0; 4]))?;
        }
    }
    if word.is_empty() {
        return ControlFlow::Continue(());
    }
    take(&word)
}

fn signs(text: &str, rules: Rules) -> Box<dyn Iterator<Item = char> + '_> {
    let clean = text.chars().filter(|sign| is_kept(*sign)).flat_map(|sign| {
        let sign = if sign.is_whitespace() { ' ' } else { sign };
        let space = is_ideograph(sign).then_some(' ');
        [space, Some(sign), space].into_iter().flatten()
    });
    let signs: Box<dyn Iterator<Item = char>> = if rules.strip_accents {
        Box::new(clean.nfd().filter(|sign| !sign.is_mark_nonspacing()))
    } else {
        Box::new(clean)
    };
    if rules.lowercase {
        Box::new(signs.flat_map(char::to_lowercase))
    } else {
        signs
    }
}

fn is_kept(sign: char) -> bool {
    matches!(sign, '\t' | '\n' | '\r') || (sign != '\u{fffd}' && !sign.is_other())
}

fn is_punctuation(sign: char) -> bool {
    sign.is_ascii_punctuation() || sign.is_punctuation()
}

/// The blocks of CJK ideographs, which are words of their own.
fn is_ideograph(sign: char) -> bool {
    matches!(
        u32::from(sign),
        0x4E00..=0x9FFF
            | 0x3400..=0x4DBF
            | 0x20000..=0x2A6DF
            | 0x2A700..=0x2B73F
            | 0x2B740..=0x2B81F
            | 0x2B920..=0x2CEAF
            | 0xF900..=0xFAFF
            | 0x2F800..=0x2FA1F
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str, rules: Rules) -> Vec<String> {
        let mut found = Vec::new();
        let _ = words(text, rules, |word| {
            found.push(word.to_owned());
            ControlFlow::Continue(())
        });
        found
    }

    #[test]
    fn letters_lose_case_and_accents_if_the_rules_say_so() {
        let plain = Rules {
            lowercase: true,
            strip_accents: true,
        };
        assert_eq!(all("Crème BRÛLÉE", plain), ["creme", "brulee"]);
        let cased = Rules {
            lowercase: false,
            strip_accents: false,
        };
        assert_eq!(all("Crème BRÛLÉE", cased), ["Crème", "BRÛLÉE"]);
    }

    #[test]
    fn marks_and_ideographs_stand_alone_and_control_signs_vanish() {
        let rules = Rules {
            lowercase: true,
            strip_accents: true,
        };
        assert_eq!(
            all(" it's\u{a0}ok!? ", rules),
            ["it", "'", "s", "ok", "!", "?"]
        );
        assert_eq!(
            all("a日本b\u{200d}c\u{0}d", rules),
            ["a", "日", "本", "bcd"]
        );
        assert_eq!(all("\n\t ", rules), [""; 0]);
    }
}
