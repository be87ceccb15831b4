//! Text to token ids and back: a thin, typed cover over the `tokenizers` library.
//!
//! [`TextTokenizer::train`] makes the byte-level BPE tokenizer of `plugins/tiny-lm`. Its encoder
//! is simple enough to write again in fifty lines, from `vocab` and `merges` alone:
//!
//! 1. normalise to NFC;
//! 2. cut the text, left to right, with [`SPLIT`] (leftmost match, alternatives in order);
//! 3. in each piece, map every UTF-8 byte to its GPT-2 character;
//! 4. merge the adjacent pair of lowest rank in `merges` (leftmost first) until none is left;
//! 5. look every symbol up in `vocab`.
//!
//! Every byte is in the vocabulary, so nothing is ever unknown.

use std::collections::HashSet;
use std::path::Path;

use noisegate_tokens::guarded;
use tokenizers::decoders::byte_level::ByteLevel as ByteLevelDecoder;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::fixed_length::FixedLength;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

use crate::error::{Error, Result};

/// Separates documents in training text and ends a generated text; token 0.
pub const END_OF_TEXT: &str = "<|endoftext|>";
/// Fills up batches; token 1.
pub const PAD: &str = "<|pad|>";
/// How a text is cut before merging; `\s` is Unicode `White_Space`. Every character matches one
/// of the four alternatives, so the pieces joined are the text.
pub const SPLIT: &str = r" ?[A-Za-z]+| ?[0-9]| ?[^\sA-Za-z0-9]+|\s+";

/// Longest piece in bytes that merges are learned from: learning takes time with its square.
const TRAINED_WORD_MAX: usize = 1024;

/// A tokenizer with its special tokens looked up.
#[derive(Debug, Clone)]
pub struct TextTokenizer {
    inner: Tokenizer,
    /// The same, but to which the marks of special tokens are text like any other.
    literal: Tokenizer,
}

impl TextTokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Malformed`], naming the file.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        Self::from_bytes(&bytes).map_err(|problem| Error::Malformed {
            path: path.to_owned(),
            problem,
        })
    }

    /// Parses the bytes of a `tokenizer.json`; the error says what is wrong with it, in words.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        noisegate_tokens::read(bytes).map(Self::from_inner)
    }

    /// Wraps a tokenizer built elsewhere.
    pub fn from_inner(inner: Tokenizer) -> Self {
        let mut literal = inner.clone();
        literal.set_encode_special_tokens(true);
        Self { inner, literal }
    }

    /// The library's own tokenizer.
    pub(crate) fn library(&self) -> &Tokenizer {
        &self.inner
    }

    /// Trains the byte-level BPE tokenizer described at the top of this file.
    ///
    /// - `texts`: the training sample; 10 MB is plenty for a vocabulary of a few thousand. Pieces
    ///   longer than 1,024 bytes are learned from in parts; encoding leaves them whole.
    /// - `vocab_size`: tokens in all, with 2 special ones and 256 bytes.
    ///
    /// # Errors
    /// [`Error::Option`] if `vocab_size` is too small, [`Error::Tokenizer`] from the library.
    pub fn train<S: AsRef<str> + Send>(
        texts: impl Iterator<Item = S> + Send,
        vocab_size: usize,
    ) -> Result<Self> {
        if vocab_size < 258 {
            return Err(Error::Option {
                option: "vocab_size",
                value: vocab_size.to_string(),
                remedy: "256 bytes and 2 special tokens need at least 258",
            });
        }
        let fail = |action| {
            move |e: tokenizers::Error| Error::Tokenizer {
                action,
                problem: e.to_string(),
            }
        };
        let split = Split::new(
            SplitPattern::Regex(SPLIT.to_owned()),
            SplitDelimiterBehavior::Isolated,
            false,
        )
        .map_err(fail("compile its pattern"))?;
        let mut inner = Tokenizer::new(BPE::default());
        inner
            .with_normalizer(Some(NFC))
            .map_err(fail("take its normaliser"))?;
        let cut: Vec<PreTokenizerWrapper> =
            vec![split.into(), ByteLevel::new(false, false, false).into()];
        let mut shorter = cut.clone();
        shorter.push(FixedLength::new(TRAINED_WORD_MAX).into());
        inner.with_pre_tokenizer(Some(Sequence::new(shorter)));
        inner.with_decoder(Some(ByteLevelDecoder::new(false, false, false)));
        let special = |text: &str| AddedToken::from(text, true).normalized(false);
        let mut trainer: tokenizers::models::TrainerWrapper = BpeTrainer::builder()
            .show_progress(false)
            .vocab_size(vocab_size)
            .min_frequency(2)
            .special_tokens(vec![special(END_OF_TEXT), special(PAD)])
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build()
            .into();
        inner.train(&mut trainer, texts).map_err(fail("train"))?;
        inner.with_pre_tokenizer(Some(Sequence::new(cut)));
        Ok(Self::from_inner(inner))
    }

    /// The bytes of a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] from the library.
    pub fn to_json(&self) -> Result<String> {
        self.inner.to_string(true).map_err(|e| Error::Tokenizer {
            action: "serialise",
            problem: e.to_string(),
        })
    }

    /// Token ids of a text, without any token that the text does not hold. It holds no special
    /// ones: where it says `<|endoftext|>`, those are thirteen characters.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] from the library.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        encode(&self.literal, text, false)
    }

    /// As [`Self::encode`] for a text that a chat template made, where marks such as
    /// `<|im_start|>` are tokens.
    pub(crate) fn encode_framed(&self, text: &str) -> Result<Vec<u32>> {
        encode(&self.inner, text, false)
    }

    /// The special token that the tokenizer itself puts before every text, if any.
    pub(crate) fn first_special(&self) -> Result<Option<u32>> {
        let bare = encode(&self.inner, "a", false)?;
        let first = encode(&self.inner, "a", true)?.first().copied();
        Ok(first.filter(|first| bare.first() != Some(first)))
    }

    /// The text of some tokens; special tokens are left out.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] from the library.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        guarded(|| self.inner.decode(ids, true)).map_err(|problem| Error::Tokenizer {
            action: "decode",
            problem,
        })
    }

    /// Tokens it can emit, special ones included.
    pub fn vocab_size(&self) -> usize {
        // The highest id decides, as some files have holes.
        self.inner
            .get_vocab(true)
            .values()
            .max()
            .map_or(0, |id| *id as usize + 1)
    }

    /// The id of a token, if it is in the vocabulary.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }
}

fn encode(tokenizer: &Tokenizer, text: &str, with_specials: bool) -> Result<Vec<u32>> {
    guarded(|| tokenizer.encode_fast(text, with_specials))
        .map(|encoding| encoding.get_ids().to_vec())
        .map_err(|problem| Error::Tokenizer {
            action: "encode",
            problem,
        })
}

/// Merges in order of rank from tokens and scores: of two possible merges SentencePiece takes the
/// one whose result scores higher, and scores fall with the order in which merges were learned.
///
/// - `mergeable`: whether a token, by its id, is ever merged into.
pub(crate) fn merges_by_score(
    tokens: &[(&str, f32)],
    mergeable: impl Fn(usize) -> bool,
) -> Vec<(String, String)> {
    let known: HashSet<&str> = tokens.iter().map(|(text, _)| *text).collect();
    let mut merges: Vec<(f32, (String, String))> = Vec::new();
    for (id, (text, score)) in tokens.iter().enumerate() {
        for (at, _) in text.char_indices().skip(1).take_while(|_| mergeable(id)) {
            let (left, right) = text.split_at(at);
            if known.contains(left) && known.contains(right) {
                merges.push((*score, (left.to_owned(), right.to_owned())));
            }
        }
    }
    // Stable: equal scores stay in the order of tokens.
    merges.sort_by(|a, b| b.0.total_cmp(&a.0));
    merges.into_iter().map(|(_, pair)| pair).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use serde_json::Value;
    use tokenizers::normalizers::replace::{Replace, ReplacePattern};

    use super::*;
    use crate::testing;

    /// The encoder described at the top of this file, from `vocab` and `merges` alone.
    struct Simple {
        vocab: HashMap<String, u32>,
        ranks: HashMap<(String, String), usize>,
    }

    impl Simple {
        fn new(tokenizer: &TextTokenizer) -> Self {
            let json: Value = serde_json::from_str(&tokenizer.to_json().unwrap()).unwrap();
            let vocab = serde_json::from_value(json["model"]["vocab"].clone()).unwrap();
            let merges: Vec<(String, String)> =
                serde_json::from_value(json["model"]["merges"].clone()).unwrap();
            let ranks = merges
                .into_iter()
                .enumerate()
                .map(|(rank, pair)| (pair, rank))
                .collect();
            Self { vocab, ranks }
        }

        fn pieces(text: &str) -> Vec<String> {
            let kind = |c: char| match c {
                c if c.is_ascii_alphabetic() => 'a',
                c if c.is_ascii_digit() => '0',
                c if c.is_whitespace() => ' ',
                _ => '.',
            };
            let chars: Vec<char> = text.chars().collect();
            let (mut pieces, mut at) = (Vec::new(), 0);
            while at < chars.len() {
                // ` ?` in front of anything but white space.
                let spaced = chars[at] == ' ' && chars.get(at + 1).is_some_and(|c| kind(*c) != ' ');
                let first = at + usize::from(spaced);
                let wanted = kind(chars[first]);
                let mut end = first + 1;
                while wanted != '0' && end < chars.len() && kind(chars[end]) == wanted {
                    end += 1;
                }
                pieces.push(chars[at..end].iter().collect());
                at = end;
            }
            pieces
        }

        /// GPT-2's printable stand-in for a byte.
        fn stand_in(byte: u8) -> char {
            let printable = |b: u8| matches!(b, 33..=126 | 161..=172 | 174..=255);
            if printable(byte) {
                return char::from(byte);
            }
            let place = (0..byte).filter(|b| !printable(*b)).count() as u32;
            char::from_u32(256 + place).unwrap()
        }

        fn encode(&self, text: &str) -> Vec<u32> {
            let mut ids = Vec::new();
            for piece in Self::pieces(text) {
                let mut symbols: Vec<String> = piece
                    .bytes()
                    .map(|b| Self::stand_in(b).to_string())
                    .collect();
                loop {
                    let rank = |i: usize| {
                        self.ranks
                            .get(&(symbols[i].clone(), symbols[i + 1].clone()))
                            .copied()
                    };
                    let best = (0..symbols.len() - 1)
                        .filter_map(|i| Some((rank(i)?, i)))
                        .min();
                    let Some((_, i)) = best else { break };
                    let right = symbols.remove(i + 1);
                    symbols[i].push_str(&right);
                }
                ids.extend(symbols.iter().map(|symbol| self.vocab[symbol]));
            }
            ids
        }
    }

    #[test]
    fn special_tokens_come_first_and_every_byte_is_known() {
        let tokenizer = testing::tokenizer();
        assert_eq!(tokenizer.token_id(END_OF_TEXT), Some(0));
        assert_eq!(tokenizer.token_id(PAD), Some(1));
        let json = tokenizer.to_json().unwrap();
        let again = TextTokenizer::from_bytes(json.as_bytes()).unwrap();
        let odd = "na\u{ef}ve \u{1F600} \u{4f60}\t\n  x";
        assert_eq!(again.decode(&again.encode(odd).unwrap()).unwrap(), odd);
    }

    #[test]
    fn too_small_a_vocabulary_is_refused() {
        let error = TextTokenizer::train(["some text"].into_iter(), 100).unwrap_err();
        assert!(error.to_string().contains("`vocab_size` is 100"));
    }

    #[test]
    fn a_long_word_is_learned_from_in_pieces() {
        let text = "a".repeat(16 * TRAINED_WORD_MAX);
        let trained = TextTokenizer::train([&text].into_iter(), 300).unwrap();
        let longest = trained
            .library()
            .get_vocab(false)
            .keys()
            .map(String::len)
            .max();
        assert_eq!(longest, Some(TRAINED_WORD_MAX));
        // Pieces are made for training only.
        assert!(!trained.to_json().unwrap().contains("FixedLength"));
        assert_eq!(
            trained.decode(&trained.encode(&text).unwrap()).unwrap(),
            text
        );
    }

    #[test]
    fn the_mark_of_a_special_token_is_text_unless_a_template_made_it() {
        let tokenizer = testing::tokenizer();
        let text = format!("one{END_OF_TEXT}two");
        let end = tokenizer.token_id(END_OF_TEXT).unwrap();
        let literal = tokenizer.encode(&text).unwrap();
        assert!(!literal.contains(&end));
        assert_eq!(tokenizer.decode(&literal).unwrap(), text);
        assert!(tokenizer.encode_framed(&text).unwrap().contains(&end));
    }

    #[test]
    fn only_a_token_put_first_begins_a_text() {
        let with = |single: &str| {
            let mut json: Value =
                serde_json::from_str(&testing::tokenizer().to_json().unwrap()).unwrap();
            let special = |id: u32, text: &str| serde_json::json!({ "id": text, "ids": [id], "tokens": [text] });
            let piece = |name: &str| match name {
                "A" => serde_json::json!({ "Sequence": { "id": "A", "type_id": 0 } }),
                text => serde_json::json!({ "SpecialToken": { "id": text, "type_id": 0 } }),
            };
            let single: Vec<_> = single.split(' ').map(piece).collect();
            json["post_processor"] = serde_json::json!({
                "type": "TemplateProcessing", "single": single, "pair": [],
                "special_tokens": { END_OF_TEXT: special(0, END_OF_TEXT), PAD: special(1, PAD) },
            });
            let tokenizer = TextTokenizer::from_bytes(json.to_string().as_bytes()).unwrap();
            tokenizer.first_special().unwrap()
        };
        assert_eq!(testing::tokenizer().first_special().unwrap(), None);
        assert_eq!(with(&format!("{END_OF_TEXT} A {PAD}")), Some(0));
        assert_eq!(with(&format!("A {PAD}")), None);
    }

    /// The tokenizer of the tests with something else in its file.
    fn with(edit: impl FnOnce(&mut Value)) -> Result<TextTokenizer, String> {
        let mut json = serde_json::from_str(&testing::tokenizer().to_json().unwrap()).unwrap();
        edit(&mut json);
        TextTokenizer::from_bytes(json.to_string().as_bytes())
    }

    #[test]
    fn a_file_cannot_have_tokens_left_to_chance() {
        let text = "the cat sat on the mat and then it sat there again and again";
        let tokenizer = with(|json| json["model"]["dropout"] = 0.5.into()).unwrap();
        let expected = testing::tokenizer().encode(text).unwrap();
        for _ in 0..20 {
            assert_eq!(tokenizer.encode(text).unwrap(), expected);
        }
    }

    #[test]
    fn files_that_the_library_panics_on_are_refused() {
        let step = |json: &str| serde_json::from_str::<Value>(json).unwrap();
        let replace = |pattern: &str| {
            step(&format!(
                r#"{{"type": "Replace", "pattern": {pattern}, "content": "x"}}"#
            ))
        };
        for (normalizer, part) in [
            (replace(r#"{"String": ""}"#), "replaces the empty text"),
            (replace(r#"{"Regex": ""}"#), "replaces the empty text"),
            (replace(r#"{"Regex": "q*"}"#), "cannot work with it"),
            (
                step(r#"{"type": "Precompiled", "precompiled_charsmap": "AAAA"}"#),
                "`Precompiled`",
            ),
        ] {
            let refused = with(|json| json["normalizer"] = normalizer).unwrap_err();
            assert!(refused.contains(part), "{refused}");
        }
        // One that holds, of 256 empty units, is taken.
        let table = format!("AAQA{}AAA=", "AAAA".repeat(341));
        let sound = serde_json::json!({ "type": "Precompiled", "precompiled_charsmap": table });
        let taken = with(|json| json["normalizer"] = sound).unwrap();
        assert_eq!(
            taken.decode(&taken.encode("some text").unwrap()).unwrap(),
            "some text"
        );
        // Where a file gets through, a text is refused.
        let mut inner = testing::tokenizer().inner;
        let pattern = ReplacePattern::Regex("q*".to_owned());
        let step = Replace::new(pattern, "x").unwrap();
        inner.with_normalizer(Some(step)).unwrap();
        let refused = TextTokenizer::from_inner(inner).encode("some text");
        let message = refused.unwrap_err().to_string();
        assert!(
            message.contains("failed to encode: the tokenizers library"),
            "{message}"
        );
    }

    proptest! {
        #[test]
        fn the_documented_encoder_gives_the_same_tokens(
            text in "[a-eh-t A-C0-3.,?!'\u{e9}\u{4f60}\u{a0}\n\t-]{0,60}"
        ) {
            let tokenizer = testing::tokenizer();
            prop_assert_eq!(Simple::new(&tokenizer).encode(&text), tokenizer.encode(&text).unwrap());
        }
    }
}
