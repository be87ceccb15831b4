//! Answers that match a pattern by construction.
//!
//! ```text
//! pattern ─> language.rs: states and bytes ─┐
//! tokenizer ─> words.rs: bytes of a token ──┴─> before each draw: the tokens that stay inside
//! ```
//! A token is left out if its bytes lead to a state from which the pattern cannot be completed, or
//! not with the tokens that are left: so the last of them completes it at the latest. The model may
//! end the text where it matches, and nowhere else. What may be drawn depends on the text so far
//! and on nothing else in the batch.
//!
//! The rest of the way is counted in tokens of single bytes, which every tokenizer in use has. A
//! text is then never stuck; one that runs out of tokens is completed on the shortest way.
//!
//! Deliberately absent: grammars with recursion.
//!
//! # Source
//! Willard and Louf, "Efficient Guided Generation for Large Language Models", 2023, section 3: an
//! index from states to the tokens that may follow.

mod language;
mod words;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use self::language::{DEAD, FAR, Language};
use self::words::Words;
use crate::error::{Error, Result};
use crate::model::LanguageModel;

/// Masks kept at once; a vocabulary of 150,000 tokens takes 19 kB each.
const MASKS_MAX: usize = 1024;

/// A pattern for one model's texts.
#[derive(Debug)]
pub(crate) struct Constraint {
    /// Of the text with the stop string, if there is one, behind it.
    language: Language,
    /// By state: the fewest single-byte tokens to a text that may end.
    distances: Vec<u32>,
    words: Arc<Words>,
    masks: Mutex<HashMap<Place, Arc<Mask>>>,
}

/// Where a text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    state: u32,
    /// Nothing was made yet: some decoders leave a space out there.
    first: bool,
}

/// The tokens that may follow.
#[derive(Debug)]
struct Mask {
    /// A bit a token.
    allowed: Vec<u64>,
    /// The most single-byte tokens that are needed after one of them.
    farthest: u32,
}

/// The constraints of one model: each pattern is compiled once.
#[derive(Debug, Default)]
pub(crate) struct Constraints {
    words: Option<Arc<Words>>,
    known: HashMap<(String, Vec<String>), Arc<Constraint>>,
}

impl Constraints {
    /// The constraint of a pattern for texts that end at a stop string.
    ///
    /// # Errors
    /// [`Error::Pattern`] if no text of this model could be held to it.
    pub(crate) fn of(
        &mut self,
        model: &LanguageModel,
        pattern: &str,
        stop: &[String],
    ) -> Result<Arc<Constraint>> {
        let key = (pattern.to_owned(), stop.to_vec());
        if let Some(known) = self.known.get(&key) {
            return Ok(Arc::clone(known));
        }
        let refuse = |problem| Error::Pattern {
            pattern: pattern.to_owned(),
            problem,
        };
        let words = match &self.words {
            Some(words) => Arc::clone(words),
            None => {
                let library = model.tokenizer.library();
                let words = Words::of(library, model.end_tokens()).map_err(refuse)?;
                Arc::clone(self.words.insert(Arc::new(words)))
            }
        };
        let made = Arc::new(Constraint::new(words, pattern, stop).map_err(refuse)?);
        self.known.insert(key, Arc::clone(&made));
        Ok(made)
    }
}

impl Constraint {
    fn new(words: Arc<Words>, pattern: &str, stop: &[String]) -> Result<Self, String> {
        let text = Language::compile(pattern)?;
        let language = match stop {
            [] => text,
            [stop] => with_stop(pattern, stop)?,
            _ => return Err("it goes with one stop string at most".to_owned()),
        };
        let distances = language.distances(&words.single_bytes());
        if distances[0] == FAR {
            let problem = "the model has no tokens for it; use characters that it knows";
            return Err(problem.to_owned());
        }
        if !language.goes_on(0) {
            return Err("it lets nothing but the empty text through".to_owned());
        }
        Ok(Self {
            language,
            distances,
            words,
            masks: Mutex::default(),
        })
    }

    /// Where a text begins.
    pub(crate) fn start(&self) -> Place {
        Place {
            state: 0,
            first: true,
        }
    }

    /// The fewest tokens in which any text can be completed, for certain.
    pub(crate) fn tokens_min(&self) -> usize {
        // One more: a decoder may leave the first space out.
        self.distances[0] as usize + 1
    }

    /// Leaves out the tokens that may not follow.
    ///
    /// - `left`: tokens that may still be drawn, this one included; at least 1.
    pub(crate) fn restrict(&self, at: Place, logits: &mut [f32], left: usize, ends: &[u32]) {
        let after = u32::try_from(left.saturating_sub(1)).unwrap_or(FAR - 1);
        let mut mask = self.mask(at, FAR - 1);
        if mask.farthest > after {
            mask = self.mask(at, after);
        }
        let may_end = self.language.accepts(at.state);
        for (id, logit) in logits.iter_mut().enumerate() {
            let word = mask.allowed.get(id / 64).copied().unwrap_or(0);
            let allowed = (word >> (id % 64)) & 1 == 1;
            let ends = may_end && ends.contains(&(id as u32));
            if !(allowed || ends) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }

    /// After one more token.
    pub(crate) fn after(&self, at: Place, token: u32) -> Place {
        Place {
            state: self
                .language
                .follow(at.state, self.words.word(token, at.first)),
            first: false,
        }
    }

    /// Whether the text is whole and nothing may follow.
    pub(crate) fn is_complete(&self, at: Place) -> bool {
        at.state != DEAD && self.language.accepts(at.state) && !self.language.goes_on(at.state)
    }

    /// The tokens after which at most `far_max` single-byte ones are needed.
    fn mask(&self, at: Place, far_max: u32) -> Arc<Mask> {
        let kept = far_max == FAR - 1;
        let lock = || self.masks.lock().unwrap_or_else(PoisonError::into_inner);
        if kept && let Some(mask) = lock().get(&at) {
            return Arc::clone(mask);
        }
        let mut mask = Mask {
            allowed: vec![0; self.words.count().div_ceil(64) as usize],
            farthest: 0,
        };
        for id in (0..self.words.count()).filter(|id| self.words.is_word(*id)) {
            let to = self
                .language
                .follow(at.state, self.words.word(id, at.first));
            let far = self.distances.get(to as usize).copied().unwrap_or(FAR);
            if far <= far_max {
                mask.allowed[id as usize / 64] |= 1 << (id % 64);
                mask.farthest = mask.farthest.max(far);
            }
        }
        let mask = Arc::new(mask);
        if kept {
            let mut masks = lock();
            if masks.len() >= MASKS_MAX {
                masks.clear();
            }
            masks.insert(at, Arc::clone(&mask));
        }
        mask
    }
}

/// The texts of `pattern`, each with the stop string behind it or not.
///
/// A text ends where the stop string is first read whole, and what stands before it must match: a
/// pattern that lets it through elsewhere is refused.
fn with_stop(pattern: &str, stop: &str) -> Result<Language, String> {
    let stopped = Language::compile(&format!("(?:{pattern})(?:{})", escaped(stop)))?;
    if stopped.meets(stop.as_bytes(), |state| !stopped.accepts(state)) {
        return Err(format!(
            "a text that it matches could be cut at {stop:?}, which ends an answer; let it match \
             no such text, for instance with `[^\\n]` in place of `\\s` and of negated classes"
        ));
    }
    Language::compile(&format!("(?:{pattern})(?:{})?", escaped(stop)))
}

/// A pattern that matches this text alone.
pub(crate) fn escaped(text: &str) -> String {
    let escape = |character: char| format!("\\x{{{:x}}}", u32::from(character));
    text.chars().map(escape).collect()
}

/// Refuses a pattern whose texts may be empty or hold `part`.
///
/// # Errors
/// [`Error::Pattern`].
pub(crate) fn check_parts(pattern: &str, parts: &[&str]) -> Result<()> {
    let refuse = |problem| Error::Pattern {
        pattern: pattern.to_owned(),
        problem,
    };
    let language = Language::compile(pattern).map_err(refuse)?;
    if Language::has_anchor(pattern) {
        let problem =
            "it has an anchor such as `^` or `$` inside; leave them out, whole texts are meant";
        return Err(refuse(problem.to_owned()));
    }
    if language.accepts(0) {
        let problem =
            "it matches the empty text, which is no sample; ask for one character or more";
        return Err(refuse(problem.to_owned()));
    }
    for part in parts {
        if language.meets(part.as_bytes(), |_| true) {
            return Err(refuse(format!(
                "it matches texts with {part:?}, at which samples are told apart; leave that out, \
                 for instance with `[^\\n|]` in place of `.`"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
