//! Draws the same number of texts for every label.
//!
//! ```text
//!   quotas ─> free slots ─> one decoding step for all slots ─> finished texts ─> kept or dropped
//! ```
//!
//! Equal numbers: how often a label occurs in private costs no budget because it is
//! never asked. Empty, short, garbled and repeated texts are dropped and drawn again,
//! a bounded number of times. A text depends on the seed, its label and its attempt.

use std::collections::HashSet;

use noisegate_guest_sdk::rng::Rng;
use noisegate_guest_sdk::tokenizer::Vocabulary;

use crate::choose::{Choice, choose};
use crate::context::Recipe;
use crate::decode::{Cache, Conditioning, Row, step};
use crate::model::Model;

/// Attempts per wanted text before a label gives up.
const ATTEMPTS_PER_SAMPLE: usize = 4;

/// What to draw.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    /// Texts wanted for each label.
    pub per_label: usize,
    /// Sequences decoded at a time.
    pub batch: usize,
    /// How tokens are drawn.
    pub choice: Choice,
    /// Texts with fewer words are dropped.
    pub min_words: usize,
    /// Public seed.
    pub seed: u64,
}

/// A text in the making.
struct Slot {
    label: usize,
    tokens: Vec<u32>,
    fed: usize,
    rng: Rng,
}

/// Texts of one label.
#[derive(Default)]
struct Shelf {
    texts: Vec<String>,
    known: HashSet<String>,
    attempts: usize,
    in_flight: usize,
}

/// The sampler's state between steps.
pub struct Sampler {
    order: Order,
    cache: Cache,
    slots: Vec<Option<Slot>>,
    shelves: Vec<Shelf>,
}

impl Sampler {
    /// Nothing drawn yet.
    pub fn new(model: Model<'_>, recipe: &Recipe, order: Order) -> Self {
        Sampler {
            cache: Cache::new(model.shape, order.batch, recipe.max_tokens),
            slots: (0..order.batch).map(|_| None).collect(),
            shelves: recipe.labels.iter().map(|_| Shelf::default()).collect(),
            order,
        }
    }

    /// How many texts are there, and how many are wanted.
    pub fn progress(&self) -> (usize, usize) {
        (
            self.shelves.iter().map(|shelf| shelf.texts.len()).sum(),
            self.shelves.len() * self.order.per_label,
        )
    }

    /// The texts, label by label, in turns.
    pub fn texts(&self) -> impl Iterator<Item = (usize, &str)> {
        let longest = self.order.per_label;
        let shelves = &self.shelves;
        (0..longest).flat_map(move |at| {
            shelves
                .iter()
                .enumerate()
                .filter_map(move |(label, shelf)| Some((label, shelf.texts.get(at)?.as_str())))
        })
    }

    /// One token for every slot; false when nothing is left to draw.
    pub fn advance(
        &mut self,
        model: Model<'_>,
        conditioning: &Conditioning,
        recipe: &Recipe,
        vocabulary: &Vocabulary,
    ) -> bool {
        self.fill(recipe);
        let busy = self
            .slots
            .iter()
            .enumerate()
            .filter_map(|(at, slot)| Some((at, slot.as_ref()?)));
        let rows: Vec<Row> = busy
            .map(|(slot, text)| Row {
                slot,
                token: text.tokens[text.fed],
                position: text.fed,
                label: text.label,
            })
            .collect();
        if rows.is_empty() {
            return false;
        }
        let mut logits = step(model, conditioning, &mut self.cache, &rows);
        for (row, logits) in rows.iter().zip(logits.chunks_exact_mut(model.shape.vocab)) {
            self.take(row.slot, logits, recipe, vocabulary);
        }
        true
    }

    /// Gives free slots to the labels that lack most.
    fn fill(&mut self, recipe: &Recipe) {
        for slot in self.slots.iter_mut().filter(|slot| slot.is_none()) {
            let wanted = self.order.per_label;
            let open = |shelf: &Shelf| {
                shelf.texts.len() + shelf.in_flight < wanted
                    && shelf.attempts < wanted * ATTEMPTS_PER_SAMPLE
            };
            let fullness = |shelf: &Shelf| shelf.texts.len() + shelf.in_flight;
            let next = self
                .shelves
                .iter_mut()
                .enumerate()
                .filter(|(_, shelf)| open(shelf))
                .min_by_key(|(_, shelf)| fullness(shelf));
            let Some((label, shelf)) = next else { return };
            let stream = (label as u64) << 32 | shelf.attempts as u64;
            shelf.attempts += 1;
            shelf.in_flight += 1;
            let rng = Rng::new(self.order.seed, stream);
            *slot = Some(Slot {
                label,
                tokens: recipe.labels[label].1.clone(),
                fed: 0,
                rng,
            });
        }
    }

    /// Draws a slot's next token, and files its text if that was the last.
    fn take(&mut self, at: usize, logits: &mut [f32], recipe: &Recipe, vocabulary: &Vocabulary) {
        let Some(slot) = &mut self.slots[at] else {
            return;
        };
        slot.fed += 1;
        if slot.fed < slot.tokens.len() {
            return;
        }
        let token = choose(self.order.choice, logits, &mut slot.rng);
        if token != recipe.end {
            slot.tokens.push(token);
            if slot.tokens.len() < recipe.max_tokens {
                return;
            }
        }
        let text = vocabulary.decode(&slot.tokens[recipe.labels[slot.label].1.len()..]);
        let shelf = &mut self.shelves[slot.label];
        self.slots[at] = None;
        shelf.in_flight -= 1;
        if let Some(text) = clean(&text, self.order.min_words)
            && shelf.known.insert(text.to_lowercase())
        {
            shelf.texts.push(text);
        }
    }
}

/// The text on one line; `None` if it is too short or garbled.
fn clean(text: &str, min_words: usize) -> Option<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let enough = words
        .iter()
        .filter(|word| word.chars().any(char::is_alphanumeric))
        .count()
        >= min_words.max(1);
    (enough && !text.contains('\u{fffd}')).then(|| words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn short_and_garbled_texts_are_dropped() {
        assert_eq!(
            clean(" my  card\nis gone ", 3).as_deref(),
            Some("my card is gone")
        );
        assert_eq!(clean("card . , !", 2), None);
        assert_eq!(clean("a b \u{fffd} c", 2), None);
        assert_eq!(clean("  ", 0), None);
    }
}
