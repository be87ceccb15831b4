//! Texts to token ids: a tokenizer from a `tokenizer.json`, or one trained on the given texts.
//!
//! Padding and truncation settings found in the file are dropped: batches are padded here, to the
//! length their longest row needs, and texts are cut here, so that it is known which were.

mod wordpiece;

use std::path::Path;

use noisegate_tokens::guarded;
use tokenizers::{Encoding, PostProcessor as _, Tokenizer, TruncationParams};

use crate::error::SlmError;

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
        let tokenizer = noisegate_tokens::read(&bytes).map_err(|problem| SlmError::Tokenizer {
            place: place.clone(),
            reason: format!("{problem}; it must be the file of the `tokenizers` library"),
        })?;
        Self::new(tokenizer, length_max, &place)
    }

    /// Trains a WordPiece tokenizer on `texts`; the same texts give the same tokenizer.
    ///
    /// It has at most `vocabulary` entries, special tokens included: where the texts have more
    /// characters than that, words with the rarest are unknown.
    ///
    /// # Errors
    /// [`SlmError::NoWords`] if the texts hold no words.
    ///
    /// # Source
    /// Schuster, Nakajima, "Japanese and Korean Voice Search", 2012 (WordPiece), with the merge
    /// order of the `tokenizers` library.
    pub fn train<'t>(
        texts: impl IntoIterator<Item = &'t str>,
        vocabulary: usize,
        length_max: usize,
    ) -> Result<Self, SlmError> {
        let tokenizer = wordpiece::train(texts, vocabulary)?;
        Self::new(tokenizer, length_max, "trained on the given texts")
    }

    fn new(mut tokenizer: Tokenizer, length_max: usize, place: &str) -> Result<Self, SlmError> {
        let failed = |reason: String| SlmError::Tokenizer {
            place: place.to_owned(),
            reason,
        };
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|error| failed(error.to_string()))?;
        let frame = tokenizer.get_post_processor();
        let frame = frame.map_or(0, |frame| frame.added_tokens(false));
        if length_max <= frame {
            return Err(failed(format!(
                "it puts {frame} special tokens around a text of at most {length_max}; the model must take {} at least",
                frame + 1
            )));
        }
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

    /// The `tokenizer.json` of this tokenizer; for others it says at how many tokens texts are cut.
    ///
    /// # Errors
    /// [`SlmError::Tokenizer`] if the library cannot write it.
    pub fn to_json(&self) -> Result<String, SlmError> {
        let truncation = TruncationParams {
            max_length: self.length_max,
            ..TruncationParams::default()
        };
        let mut tokenizer = self.tokenizer.clone();
        let json = tokenizer
            .with_truncation(Some(truncation))
            .and_then(|tokenizer| tokenizer.to_string(false));
        json.map_err(|error| SlmError::Tokenizer {
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
        let encodings =
            guarded(|| self.tokenizer.encode_batch_fast(inputs, true)).map_err(|reason| {
                SlmError::Tokenizer {
                    place: "encoding texts".to_owned(),
                    reason,
                }
            })?;
        let encoded = encodings.into_iter().map(|encoding| {
            let cut = encoding.len() > self.length_max;
            let ids = match cut {
                true => cut_to(&encoding, self.length_max),
                false => encoding.get_ids().to_vec(),
            };
            let mut inner = ids.iter().filter(|id| !self.special.contains(id));
            Encoded {
                cut,
                only_unknown: inner.all(|id| Some(*id) == self.unknown),
                ids,
            }
        });
        Ok(encoded.collect())
    }
}

/// The ids without so many at the text's end, not its frame's, that `length_max` are left.
fn cut_to(encoding: &Encoding, length_max: usize) -> Vec<u32> {
    let of_text = encoding.get_sequence_ids();
    let mut surplus = encoding.len().saturating_sub(length_max);
    let mut ids: Vec<u32> = Vec::with_capacity(length_max);
    for (id, sequence) in encoding.get_ids().iter().zip(&of_text).rev() {
        match sequence {
            Some(_) if surplus > 0 => surplus -= 1,
            _ => ids.push(*id),
        }
    }
    ids.reverse();
    ids
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

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

    #[test]
    fn a_vocabulary_has_at_most_its_size() {
        // Four hundred characters that are words, and as many that stand inside others.
        let of = |from: u32| (0..400).filter_map(move |i| char::from_u32(from + i));
        let words = of(0x4e00)
            .zip(of(0x0980))
            .map(|(a, b)| format!("{a} {a}{b}"));
        let texts: Vec<String> = words.chain(["abab ab ab".to_owned()]).collect();
        for size in [40, 300, 900] {
            let tokens = Tokens::train(texts.iter().map(String::as_str), size, 16).unwrap();
            assert!(
                tokens.highest_id() < size,
                "{size}: {}",
                tokens.highest_id()
            );
            let known = tokens.encode(&["ab"]).unwrap();
            assert!(!known[0].only_unknown, "{size}");
        }
    }

    /// A trained tokenizer with something else in its file, read.
    fn with(length_max: usize, edit: impl FnOnce(&mut Value)) -> Result<Tokens, SlmError> {
        let trained = Tokens::train(TEXTS, 80, 16).unwrap().to_json().unwrap();
        let mut json = serde_json::from_str(&trained).unwrap();
        edit(&mut json);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, json.to_string()).unwrap();
        Tokens::read(&path, length_max)
    }

    #[test]
    fn a_text_is_cut_in_front_of_its_frame_and_without_one_too() {
        let (long, short) = (TEXTS[0], "the bill");
        let framed = with(6, |_| {}).unwrap().encode(&[long, short]).unwrap();
        let bare = |json: &mut Value| json["post_processor"] = Value::Null;
        let bare = with(6, bare).unwrap().encode(&[long, short]).unwrap();
        let cut = |encoded: &[Encoded]| [encoded[0].cut, encoded[1].cut];
        assert_eq!((cut(&framed), cut(&bare)), ([true, false], [true, false]));
        let (framed, bare) = (&framed[0].ids, &bare[0].ids);
        assert_eq!((framed.len(), bare.len()), (6, 6));
        assert_eq!(framed[1..5], bare[..4]);
        assert_eq!((framed[0], framed[5]), (2, 3));
    }

    #[test]
    fn a_model_that_takes_no_more_than_the_frame_is_refused() {
        for length_max in [0, 1, 2] {
            let error = with(length_max, |_| {}).unwrap_err().to_string();
            assert!(error.contains("must take 3 at least"), "{error}");
        }
        let tokens = with(3, |_| {}).unwrap();
        assert_eq!(tokens.encode(&TEXTS).unwrap()[0].ids.len(), 3);
    }

    #[test]
    fn a_strangers_file_is_read_within_bounds() {
        let double = json!({ "type": "Replace", "pattern": { "String": "e" }, "content": "ee" });
        let doubled = json!({ "type": "Sequence", "normalizers": vec![double; 36] });
        let table = json!({ "type": "Precompiled", "precompiled_charsmap": "AAAA" });
        for (normalizer, part) in [(doubled, "times as long"), (table, "`Precompiled`")] {
            let error = with(16, |json| json["normalizer"] = normalizer).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
        let tokens = with(16, |json| {
            json["model"] = json!({
                "type": "BPE", "dropout": 0.5, "unk_token": "[UNK]",
                "vocab": { "[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "a": 5, "b": 6, "ab": 7 },
                "merges": [["a", "b"]],
            });
        });
        let tokens = tokens.unwrap();
        for _ in 0..20 {
            assert_eq!(
                tokens.encode(&["ab ab ab"]).unwrap()[0].ids,
                [2, 7, 7, 7, 3]
            );
        }
    }
}
