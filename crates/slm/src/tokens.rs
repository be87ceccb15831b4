//! Texts to token ids: a tokenizer from a `tokenizer.json`, or one trained on the given texts.
//!
//! Padding and truncation settings found in the file are dropped: batches are padded here, to the
//! length their longest row needs.

use std::path::Path;

use tokenizers::models::wordpiece::{WordPiece, WordPieceTrainer, WordPieceTrainerBuilder};
use tokenizers::normalizers::bert::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{
    AddedToken, NormalizedString, Normalizer as _, OffsetReferential, OffsetType,
    PreTokenizedString, PreTokenizer as _, Tokenizer, Trainer as _, TruncationParams,
};

use crate::error::SlmError;

const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// A tokenizer with the length its model can take.
#[derive(Clone, Debug)]
pub struct Tokens {
    tokenizer: Tokenizer,
    pad: u32,
    unknown: Option<u32>,
    special: Vec<u32>,
    length_max: usize,
}

/// One text as ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids, with the special tokens around them.
    pub ids: Vec<u32>,
    /// The text was longer than the model takes, and its end was cut off.
    pub cut: bool,
    /// Every token but the special ones is unknown: the model sees nothing of the text.
    pub only_unknown: bool,
}

impl Tokens {
    /// Reads a `tokenizer.json`; texts are cut at `length_max` tokens.
    ///
    /// # Errors
    /// [`SlmError::Tokenizer`] if the file is missing or is no tokenizer.
    pub fn read(path: &Path, length_max: usize) -> Result<Self, SlmError> {
        let bytes = std::fs::read(path).map_err(SlmError::read(path))?;
        let place = path.display().to_string();
        let tokenizer = Tokenizer::from_bytes(bytes).map_err(|error| SlmError::Tokenizer {
            place: place.clone(),
            reason: format!("{error}; it must be the file of the `tokenizers` library"),
        })?;
        Self::new(tokenizer, length_max, &place)
    }

    /// Trains a WordPiece tokenizer on `texts`; the same texts give the same tokenizer.
    ///
    /// # Errors
    /// [`SlmError::Tokenizer`] if the texts hold no words.
    ///
    /// # Source
    /// Schuster, Nakajima, "Japanese and Korean Voice Search", 2012 (WordPiece), with the merge
    /// order of the `tokenizers` library.
    pub fn train<'t>(
        texts: impl IntoIterator<Item = &'t str>,
        vocabulary: usize,
        length_max: usize,
    ) -> Result<Self, SlmError> {
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
            return Err(failed("the texts hold no words".to_owned()));
        }
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
        Self::new(tokenizer, length_max, "trained on the given texts")
    }

    fn new(mut tokenizer: Tokenizer, length_max: usize, place: &str) -> Result<Self, SlmError> {
        let failed = |reason: String| SlmError::Tokenizer {
            place: place.to_owned(),
            reason,
        };
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(Some(TruncationParams {
                max_length: length_max,
                ..TruncationParams::default()
            }))
            .map_err(|error| failed(error.to_string()))?;
        let find = |names: &[&str]| names.iter().find_map(|name| tokenizer.token_to_id(name));
        let pad = find(&["[PAD]", "<pad>"])
            .ok_or_else(|| failed("it has no `[PAD]` or `<pad>` token; add one".to_owned()))?;
        let unknown = find(&["[UNK]", "<unk>"]);
        let special = tokenizer
            .get_added_tokens_decoder()
            .iter()
            .filter(|(id, token)| token.special && Some(**id) != unknown)
            .map(|(id, _)| *id)
            .collect();
        Ok(Self {
            tokenizer,
            pad,
            unknown,
            special,
            length_max,
        })
    }

    /// The same tokenizer with texts cut at `length_max` tokens.
    ///
    /// # Errors
    /// [`SlmError::Tokenizer`] if the frame of special tokens alone is longer.
    pub fn shorter(&self, length_max: usize) -> Result<Self, SlmError> {
        Self::new(self.tokenizer.clone(), length_max, "cut shorter")
    }

    /// The id rows are padded with.
    #[must_use]
    pub fn pad(&self) -> u32 {
        self.pad
    }

    /// Texts are cut at this many tokens.
    #[must_use]
    pub fn length_max(&self) -> usize {
        self.length_max
    }

    /// The highest id the tokenizer can make.
    #[must_use]
    pub fn highest_id(&self) -> usize {
        let vocabulary = self.tokenizer.get_vocab(true);
        vocabulary.into_values().max().unwrap_or(0) as usize
    }

    /// The `tokenizer.json` of this tokenizer.
    ///
    /// # Errors
    /// [`SlmError::Tokenizer`] if the library cannot write it.
    pub fn to_json(&self) -> Result<String, SlmError> {
        self.tokenizer
            .to_string(false)
            .map_err(|error| SlmError::Tokenizer {
                place: "writing `tokenizer.json`".to_owned(),
                reason: error.to_string(),
            })
    }

    /// Texts to ids, on all cores.
    ///
    /// # Errors
    /// [`SlmError::Tokenizer`] if the library refuses a text.
    pub fn encode<S: AsRef<str>>(&self, texts: &[S]) -> Result<Vec<Encoded>, SlmError> {
        let inputs: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        let encodings = self
            .tokenizer
            .encode_batch_fast(inputs, true)
            .map_err(|error| SlmError::Tokenizer {
                place: "encoding texts".to_owned(),
                reason: error.to_string(),
            })?;
        let encoded = encodings.into_iter().map(|encoding| {
            let ids = encoding.get_ids().to_vec();
            let mut inner = ids.iter().filter(|id| !self.special.contains(id));
            Encoded {
                cut: !encoding.get_overflowing().is_empty(),
                only_unknown: inner.all(|id| Some(*id) == self.unknown),
                ids,
            }
        });
        Ok(encoded.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: [&str; 4] = [
        "the bill was wrong and the bill was late",
        "my appointment was moved, then moved again",
        "billing appointments: the wrong bill",
        "again and again the appointment",
    ];

    #[test]
    fn the_same_texts_train_the_same_tokenizer() {
        let first = Tokens::train(TEXTS, 80, 16).unwrap().to_json().unwrap();
        for _ in 0..5 {
            let again = Tokens::train(TEXTS, 80, 16).unwrap().to_json().unwrap();
            assert_eq!(first, again);
        }
    }

    #[test]
    fn a_trained_tokenizer_survives_its_file() {
        let tokens = Tokens::train(TEXTS, 80, 16).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, tokens.to_json().unwrap()).unwrap();
        let read = Tokens::read(&path, 16).unwrap();
        assert_eq!(tokens.encode(&TEXTS).unwrap(), read.encode(&TEXTS).unwrap());
    }

    #[test]
    fn long_and_unknown_texts_are_noted() {
        let tokens = Tokens::train(TEXTS, 80, 6).unwrap();
        let encoded = tokens.encode(&["the bill", TEXTS[0], "ж ж ж", ""]).unwrap();
        assert!(!encoded[0].cut && !encoded[0].only_unknown);
        assert!(encoded[1].cut && encoded[1].ids.len() == 6);
        assert!(encoded[2].only_unknown);
        assert!(encoded[3].only_unknown && encoded[3].ids.len() == 2);
    }

    #[test]
    fn texts_without_words_train_nothing() {
        let error = Tokens::train(["", "  "], 80, 16).unwrap_err().to_string();
        assert!(error.contains("no words"), "{error}");
    }
}
