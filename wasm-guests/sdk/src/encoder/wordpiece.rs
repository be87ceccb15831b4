//! WordPiece: compiled on the public side, used anywhere without parsing.
//!
//! ```text
//!   tokenizer.json ──> Vocabulary ── table bytes ──> Table<'_>: binary search over sorted pieces
//! ```
//!
//! A word is cut from its front into the longest pieces that the vocabulary has; a word that
//! cannot be cut is one unknown token (Wu et al., "Google's Neural Machine Translation System",
//! 2016, section 4.1, as BERT uses it). Cutting off and padding that the file asks for are left
//! to the caller.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::Deserialize;

use super::words::{Rules, words};
use crate::wire::{Reader, Writer};

#[derive(Deserialize)]
struct File {
    normalizer: Normalizer,
    pre_tokenizer: Kind,
    model: Model,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Normalizer {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    clean_text: bool,
    #[serde(default)]
    handle_chinese_chars: bool,
    strip_accents: Option<bool>,
    #[serde(default)]
    lowercase: bool,
}

#[derive(Deserialize)]
struct Model {
    unk_token: String,
    continuing_subword_prefix: String,
    max_input_chars_per_word: usize,
    vocab: BTreeMap<String, u32>,
}

/// A WordPiece tokenizer, read.
pub struct Vocabulary {
    /// Sorted by its bytes, which is the order of a `BTreeMap`.
    pieces: BTreeMap<String, u32>,
    unknown: u32,
    first: u32,
    last: u32,
    word_max: usize,
    rules: Rules,
}

impl Vocabulary {
    /// Reads `tokenizer.json`.
    ///
    /// # Errors
    /// A sentence, if it is no tokenizer of the BERT family.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let file: File = serde_json::from_slice(json).map_err(|error| {
            format!("`tokenizer.json` does not read as a WordPiece tokenizer: {error}")
        })?;
        let normalizer = &file.normalizer;
        if normalizer.kind != "BertNormalizer"
            || file.pre_tokenizer.kind != "BertPreTokenizer"
            || !normalizer.clean_text
            || !normalizer.handle_chinese_chars
            || file.model.continuing_subword_prefix != CONTINUED
        {
            return Err(format!(
                "`tokenizer.json` has a `{}` and a `{}`; this step needs `BertNormalizer` (cleaning text, spacing ideographs), `BertPreTokenizer`, and `{CONTINUED}` before continued pieces",
                normalizer.kind, file.pre_tokenizer.kind
            ));
        }
        let pieces = file.model.vocab;
        let special = |name: &str| {
            let found = pieces.get(name).copied();
            found.ok_or_else(|| format!("`tokenizer.json` has no token `{name}` in its vocabulary"))
        };
        Ok(Vocabulary {
            unknown: special(&file.model.unk_token)?,
            first: special("[CLS]")?,
            last: special("[SEP]")?,
            word_max: file.model.max_input_chars_per_word,
            rules: Rules {
                lowercase: normalizer.lowercase,
                strip_accents: normalizer.strip_accents.unwrap_or(normalizer.lowercase),
            },
            pieces,
        })
    }

    /// One more than the highest id.
    pub fn ids_end(&self) -> usize {
        self.pieces.values().max().map_or(0, |id| *id as usize + 1)
    }

    /// For [`Table::new`].
    pub fn table(&self) -> Vec<u8> {
        let (mut starts, mut ids, mut text) = (Writer::default(), Writer::default(), Vec::new());
        for (piece, id) in &self.pieces {
            starts.u32(text.len() as u32);
            ids.u32(*id);
            text.extend_from_slice(piece.as_bytes());
        }
        starts.u32(text.len() as u32);
        let longest = self.pieces.keys().map(String::len).max().unwrap_or(0);
        let mut writer = Writer::default();
        for number in [self.unknown, self.first, self.last] {
            writer.u32(number);
        }
        writer
            .u32(self.word_max as u32)
            .u32(longest as u32)
            .u32(self.rules.lowercase.into())
            .u32(self.rules.strip_accents.into())
            .bytes(&starts.finish())
            .bytes(&ids.finish())
            .bytes(&text);
        writer.finish()
    }
}

/// Stands before a piece that continues a word.
const CONTINUED: &str = "##";

/// A compiled tokenizer, borrowed from a context.
pub struct Table<'a> {
    unknown: u32,
    first: u32,
    last: u32,
    word_max: usize,
    longest: usize,
    rules: Rules,
    starts: &'a [[u8; 4]],
    ids: &'a [[u8; 4]],
    text: &'a [u8],
}

impl<'a> Table<'a> {
    /// A view of what [`Vocabulary::table`] made; panics if it is too short.
    pub fn new(table: &'a [u8]) -> Self {
        let mut reader = Reader::new(table);
        Table {
            unknown: reader.u32(),
            first: reader.u32(),
            last: reader.u32(),
            word_max: reader.size(),
            longest: reader.size(),
            rules: Rules {
                lowercase: reader.u32() == 1,
                strip_accents: reader.u32() == 1,
            },
            starts: reader.bytes().as_chunks().0,
            ids: reader.bytes().as_chunks().0,
            text: reader.bytes(),
        }
    }

    /// `[CLS]`, the pieces of the text, `[SEP]`: `tokens_max` (at least 2) in all at most.
    pub fn encode(&self, text: &str, tokens_max: usize) -> Vec<u32> {
        let mut tokens = vec![self.first];
        let _ = words(text, self.rules, |word| {
            self.encode_word(word, &mut tokens);
            if tokens.len() < tokens_max {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        tokens.truncate(tokens_max - 1);
        tokens.push(self.last);
        tokens
    }

    fn encode_word(&self, word: &str, tokens: &mut Vec<u32>) {
        let before = tokens.len();
        let mut rest = word;
        if word.chars().count() > self.word_max {
            return tokens.push(self.unknown);
        }
        while !rest.is_empty() {
            let lead = if rest.len() < word.len() {
                CONTINUED
            } else {
                ""
            };
            let Some((id, len)) = self.longest_piece(lead, rest) else {
                tokens.truncate(before);
                return tokens.push(self.unknown);
            };
            tokens.push(id);
            rest = &rest[len..];
        }
    }

    /// The longest piece at the front of `rest`, and its length without `lead`.
    fn longest_piece(&self, lead: &str, rest: &str) -> Option<(u32, usize)> {
        let mut piece = format!("{lead}{rest}");
        piece.truncate(piece.floor_char_boundary(self.longest));
        while piece.len() > lead.len() {
            if let Some(id) = self.find(piece.as_bytes()) {
                return Some((id, piece.len() - lead.len()));
            }
            piece.pop();
        }
        None
    }

    fn find(&self, piece: &[u8]) -> Option<u32> {
        let start = |at: usize| u32::from_le_bytes(self.starts[at]) as usize;
        let (mut low, mut high) = (0, self.ids.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.text[start(middle)..start(middle + 1)].cmp(piece) {
                std::cmp::Ordering::Equal => return Some(u32::from_le_bytes(self.ids[middle])),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }
}
