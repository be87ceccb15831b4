//! A phrase grammar: `{slot}` is filled from a list, `[a|b|]` is one of its alternatives.
//!
//! Both nest. Filling ends because no list of `phrases.rs` leads back to itself.

use rand_chacha::ChaCha20Rng;

use super::below;
use super::phrases::slot;

/// One of several, each as likely.
pub fn pick<'a, T: ?Sized>(rng: &mut ChaCha20Rng, list: &'a [&'a T]) -> &'a T {
    list[below(rng, list.len())]
}

/// Expands phrases with one stream of draws.
pub struct Grammar<'a> {
    rng: &'a mut ChaCha20Rng,
}

impl<'a> Grammar<'a> {
    pub fn new(rng: &'a mut ChaCha20Rng) -> Self {
        Self { rng }
    }

    /// The phrase with everything filled in, single-spaced, articles and marks put right.
    pub fn expand(&mut self, phrase: &str) -> String {
        smooth(&self.fill(phrase))
    }

    fn fill(&mut self, phrase: &str) -> String {
        let Some(start) = phrase.find(['{', '[']) else {
            return phrase.to_owned();
        };
        let end = start + closing(&phrase[start..]);
        let inside = &phrase[start + 1..end];
        let chosen = if phrase.as_bytes()[start] == b'{' {
            pick(self.rng, slot(inside))
        } else {
            let parts = alternatives(inside);
            parts[below(self.rng, parts.len())]
        };
        let middle = self.fill(chosen);
        let rest = self.fill(&phrase[end + 1..]);
        format!("{}{middle}{rest}", &phrase[..start])
    }
}

/// Lists do not know their neighbours: "the my knee", "a MRI" and "week ,." come out of them.
fn smooth(filled: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    for word in filled.split_whitespace() {
        let previous = words.last().copied().unwrap_or_default();
        if is_determiner(previous) && is_determiner(word) {
            // The first one stays if the second adds nothing, or if a sentence begins with it.
            let keep = matches!(word, "a" | "an") || previous.starts_with(char::is_uppercase);
            if !keep {
                words.pop();
                words.push(word);
            }
        } else {
            words.push(word);
        }
    }
    for place in 1..words.len() {
        if words[place - 1] == "a" && sounds_like_a_vowel(words[place]) {
            words[place - 1] = "an";
        }
    }
    let mut text = words.join(" ");
    for mark in [".", ",", "?", "!"] {
        text = text.replace(&format!(" {mark}"), mark);
    }
    for end in [".", "?", "!"] {
        text = text.replace(&format!(",{end}"), end);
    }
    text
}

fn is_determiner(word: &str) -> bool {
    ["a", "an", "my", "the", "this", "some", "your"]
        .iter()
        .any(|determiner| determiner.eq_ignore_ascii_case(word))
}

fn sounds_like_a_vowel(word: &str) -> bool {
    const SPELLED: [&str; 4] = ["MRI", "x-ray", "EKG", "ENT"];
    const NOT: [&str; 2] = ["urine", "urologist"];
    let starts = |list: &[&str]| list.iter().any(|start| word.starts_with(start));
    let vowel = word.starts_with(['a', 'e', 'i', 'o', 'u', 'A', 'E', 'I', 'O']);
    starts(&SPELLED) || (vowel && !starts(&NOT))
}

/// Where the bracket that opens `text` is closed.
fn closing(text: &str) -> usize {
    let mut depth = 0;
    for (place, letter) in text.char_indices() {
        match letter {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return place;
        }
    }
    panic!("a bracket is not closed in `{text}`; mend it in `phrases.rs`")
}

/// Splits at the bars that are not inside a nested bracket.
fn alternatives(text: &str) -> Vec<&str> {
    let (mut depth, mut from, mut parts) = (0, 0, Vec::new());
    for (place, letter) in text.char_indices() {
        match letter {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            '|' if depth == 0 => {
                parts.push(&text[from..place]);
                from = place + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}
