//! A WordPiece vocabulary trained on texts, in a BERT's tokenizer.

use std::collections::{BTreeMap, HashSet};

use tokenizers::models::wordpiece::{WordPiece, WordPieceTrainer, WordPieceTrainerBuilder};
use tokenizers::normalizers::bert::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{
    AddedToken, NormalizedString, Normalizer as _, OffsetReferential, OffsetType,
    PreTokenizedString, PreTokenizer as _, Tokenizer, Trainer as _,
};

use crate::error::SlmError;

const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// A tokenizer of at most `vocabulary` entries; see [`super::Tokens::train`].
pub(super) fn train<'t>(
    texts: impl IntoIterator<Item = &'t str>,
    vocabulary: usize,
) -> Result<Tokenizer, SlmError> {
    let failed = |reason: String| SlmError::Tokenizer {
        place: "training a WordPiece vocabulary".to_owned(),
        reason,
    };
    let normalizer = BertNormalizer::new(true, true, None, true);
    let mut words = Vec::new();
    for text in texts {
        let mut normalized = NormalizedString::from(text);
        normalizer
            .normalize(&mut normalized)
            .map_err(|error| failed(error.to_string()))?;
        let mut split = PreTokenizedString::from(normalized);
        BertPreTokenizer
            .pre_tokenize(&mut split)
            .map_err(|error| failed(error.to_string()))?;
        let splits = split.get_splits(OffsetReferential::Original, OffsetType::Byte);
        words.extend(splits.into_iter().map(|(word, _, _)| word.to_owned()));
    }
    if words.is_empty() {
        return Err(SlmError::NoWords);
    }
    let known = alphabet(&words, vocabulary.saturating_sub(SPECIAL.len()));
    words.retain(|word| word.chars().all(|c| known.contains(&c)));
    // Continuations are numbered here, in order: left to itself the trainer numbers them in
    // the order of a hash map, and ties between merges would differ from run to run.
    let mut inner: Vec<char> = words.iter().flat_map(|word| word.chars().skip(1)).collect();
    inner.sort_unstable();
    inner.dedup();
    let numbered = SPECIAL.iter().map(|token| (*token).to_owned());
    let numbered = numbered.chain(inner.iter().map(|c| format!("##{c}")));
    let mut trainer: WordPieceTrainer = WordPieceTrainerBuilder::new()
        .vocab_size(vocabulary)
        .min_frequency(2)
        .show_progress(false)
        .special_tokens(
            numbered
                .map(|token| AddedToken::from(token, true))
                .collect(),
        )
        .build();
    trainer
        .feed(words.iter(), |word| Ok(vec![word.to_owned()]))
        .map_err(|error| failed(error.to_string()))?;
    let mut model = WordPiece::default();
    trainer
        .train(&mut model)
        .map_err(|error| failed(error.to_string()))?;
    let mut tokenizer = Tokenizer::new(model);
    let mut build = || -> tokenizers::Result<()> {
        tokenizer.with_normalizer(Some(normalizer))?;
        tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
        let special = SPECIAL.map(|token| AddedToken::from(token, true));
        tokenizer.add_special_tokens(special)?;
        let id = |token: &str| tokenizer.token_to_id(token).unwrap_or_default();
        let template = TemplateProcessing::builder()
            .try_single("[CLS] $A [SEP]")?
            .special_tokens(vec![("[CLS]", id("[CLS]")), ("[SEP]", id("[SEP]"))])
            .build()?;
        tokenizer.with_post_processor(Some(template));
        Ok(())
    };
    build().map_err(|error| failed(error.to_string()))?;
    Ok(tokenizer)
}

/// The most frequent characters of words, for which so many entries are enough: one for a character
/// as a word begins, one more if it stands inside others.
fn alphabet(words: &[String], entries: usize) -> HashSet<char> {
    let mut counts: BTreeMap<char, (usize, bool)> = BTreeMap::new();
    for (place, c) in words.iter().flat_map(|word| word.chars().enumerate()) {
        let (count, inside) = counts.entry(c).or_default();
        *count += 1;
        *inside |= place > 0;
    }
    let mut by_count: Vec<(char, (usize, bool))> = counts.into_iter().collect();
    // Stable: characters that are as frequent stay in their order.
    by_count.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
    let mut taken = 0;
    let fits = by_count.into_iter().take_while(|(_, (_, inside))| {
        taken += 1 + usize::from(*inside);
        taken <= entries
    });
    fits.map(|(c, _)| c).collect()
}
