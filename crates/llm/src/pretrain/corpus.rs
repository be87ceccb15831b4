//! Training text as tokens: packed documents, cut into windows, dealt in a seeded order.
//!
//! ```text
//! documents ─> tokens, `<|endoftext|>` between ─> windows of `length + 1` ─> shuffled per epoch
//! ```
//! Paragraphs of one document stay together, so a window mostly holds one topic.
//!
//! This file never reads files: documents come as an iterator.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::error::{Error, Result};
use crate::tokenizer::{END_OF_TEXT, TextTokenizer};

/// One kind of training text.
#[derive(Debug, Clone)]
pub struct Source {
    /// Name for messages.
    pub name: String,
    /// Share of the windows drawn from this source, relative to the other sources.
    pub weight: f64,
    /// Packed documents, each followed by the end-of-text token.
    pub tokens: Vec<u16>,
}

/// One document of a corpus.
#[derive(Debug, Clone, Default)]
pub struct Document {
    /// Heading, put on a line of its own before the text, an empty line between.
    pub title: Option<String>,
    /// Paragraphs, separated by line breaks.
    pub text: String,
}

impl Document {
    /// The text a model is trained on.
    pub fn render(&self) -> String {
        match &self.title {
            Some(title) => format!("{title}\n\n{}", self.text),
            None => self.text.clone(),
        }
    }
}

impl Source {
    /// Encodes and packs documents in a seeded order.
    ///
    /// # Errors
    /// [`Error::Tokenizer`]; [`Error::VocabularyMismatch`] if a token needs more than 16 bits or
    /// the tokenizer has no end-of-text token.
    pub fn pack(
        name: &str,
        weight: f64,
        mut documents: Vec<Document>,
        tokenizer: &TextTokenizer,
        seed: u64,
        mut on_document: impl FnMut(usize),
    ) -> Result<Self> {
        let vocabulary = tokenizer.vocab_size();
        if vocabulary > usize::from(u16::MAX) {
            return Err(Error::VocabularyMismatch {
                tokenizer: vocabulary,
                model: usize::from(u16::MAX),
            });
        }
        let end = tokenizer
            .token_id(END_OF_TEXT)
            .ok_or_else(|| Error::Tokenizer {
                action: "separate documents",
                problem: format!("it has no `{END_OF_TEXT}` token"),
            })?;
        shuffle(&mut documents, seed);
        let mut tokens = Vec::new();
        for (index, document) in documents.iter().enumerate() {
            let ids = tokenizer.encode(&document.render())?;
            tokens.extend(ids.into_iter().chain([end]).map(|id| id as u16));
            on_document(index + 1);
        }
        Ok(Self {
            name: name.to_owned(),
            weight,
            tokens,
        })
    }
}

/// Deals training windows from several sources, in proportion to their weights.
///
/// The order depends on the seed alone; `dealt` windows can be skipped to resume a run.
pub(super) struct Dealer<'a> {
    sources: &'a [Source],
    length: usize,
    seed: u64,
    decks: Vec<Deck>,
}

/// The shuffled windows of one source.
struct Deck {
    order: Vec<u32>,
    dealt: usize,
    epoch: u64,
    credit: f64,
}

impl<'a> Dealer<'a> {
    pub(super) fn new(sources: &'a [Source], length: usize, seed: u64) -> Result<Self> {
        let mut decks = Vec::new();
        for source in sources {
            let windows = source.tokens.len().saturating_sub(1) / length;
            if windows == 0 {
                return Err(Error::CorpusTooSmall {
                    source_name: source.name.clone(),
                    tokens: source.tokens.len(),
                    window: length + 1,
                });
            }
            let order = (0..windows as u32).collect();
            decks.push(Deck {
                order,
                dealt: windows,
                epoch: 0,
                credit: 0.0,
            });
        }
        Ok(Self {
            sources,
            length,
            seed,
            decks,
        })
    }

    /// Skips windows that an earlier part of the run has used.
    pub(super) fn skip(&mut self, windows: u64) {
        for _ in 0..windows {
            self.deal();
        }
    }

    /// Inputs and targets of `rows` windows, each `[rows * length]`.
    pub(super) fn batch(&mut self, rows: usize) -> (Vec<u32>, Vec<u32>) {
        let (mut inputs, mut targets) = (Vec::new(), Vec::new());
        for _ in 0..rows {
            let (source, window) = self.deal();
            let start = window * self.length;
            let tokens = &self.sources[source].tokens[start..=start + self.length];
            inputs.extend(tokens[..self.length].iter().map(|t| u32::from(*t)));
            targets.extend(tokens[1..].iter().map(|t| u32::from(*t)));
        }
        (inputs, targets)
    }

    /// The source furthest behind its share deals its next window.
    fn deal(&mut self) -> (usize, usize) {
        let total: f64 = self.sources.iter().map(|s| s.weight).sum();
        for (deck, source) in self.decks.iter_mut().zip(self.sources) {
            deck.credit += source.weight / total;
        }
        let most = |a: &usize, b: &usize| self.decks[*a].credit.total_cmp(&self.decks[*b].credit);
        let chosen = (0..self.decks.len()).max_by(most).unwrap_or(0);
        let deck = &mut self.decks[chosen];
        deck.credit -= 1.0;
        if deck.dealt == deck.order.len() {
            deck.dealt = 0;
            deck.epoch += 1;
            shuffle(
                &mut deck.order,
                self.seed ^ (deck.epoch << 32) ^ ((chosen as u64) << 56),
            );
        }
        deck.dealt += 1;
        (chosen, deck.order[deck.dealt - 1] as usize)
    }
}

/// Fisher-Yates from a seed.
pub(crate) fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for i in (1..items.len()).rev() {
        // The modulo bias is below 2^-32 for any list that fits in memory.
        items.swap(i, (rng.next_u64() % (i as u64 + 1)) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources() -> Vec<Source> {
        let source = |name: &str, weight, count: u16| Source {
            name: name.to_owned(),
            weight,
            tokens: (0..count).collect(),
        };
        vec![source("a", 3.0, 101), source("b", 1.0, 51)]
    }

    #[test]
    fn targets_are_inputs_one_token_later() {
        let sources = sources();
        let mut dealer = Dealer::new(&sources, 10, 1).unwrap();
        let (inputs, targets) = dealer.batch(4);
        assert!(inputs.iter().zip(&targets).all(|(i, t)| i + 1 == *t));
    }

    #[test]
    fn an_epoch_deals_every_window_once_and_in_proportion() {
        let sources = sources();
        let mut dealer = Dealer::new(&sources, 10, 1).unwrap();
        let dealt: Vec<_> = (0..20).map(|_| dealer.deal()).collect();
        assert_eq!(dealt.iter().filter(|(source, _)| *source == 1).count(), 5);
        let mut first: Vec<_> = dealt
            .iter()
            .filter(|d| d.0 == 0)
            .take(10)
            .map(|d| d.1)
            .collect();
        first.sort_unstable();
        assert_eq!(first, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn a_resumed_dealer_goes_on_where_the_first_stopped() {
        let sources = sources();
        let mut whole = Dealer::new(&sources, 10, 9).unwrap();
        whole.batch(33);
        let mut resumed = Dealer::new(&sources, 10, 9).unwrap();
        resumed.skip(33);
        assert_eq!(whole.batch(5), resumed.batch(5));
    }

    #[test]
    fn a_corpus_shorter_than_a_window_is_refused() {
        let Err(error) = Dealer::new(&sources(), 200, 1) else {
            panic!("it was accepted")
        };
        assert!(error.to_string().contains("`a` holds 101 tokens"));
    }
}
