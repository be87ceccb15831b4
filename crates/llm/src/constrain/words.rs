//! What each token adds to a text, in bytes, as the tokenizer's own decoder would have it.
//!
//! Known are the decoders of the models in use: byte-level BPE (GPT-2, Llama 3, Qwen), and
//! SentencePiece as `tokenizer.json` writes it, with its mark for a space and its tokens for bytes.
//!
//! Deliberately absent: special tokens, which add nothing to a text.

use serde_json::Value;
use tokenizers::Tokenizer;

/// One stage of a decoder.
#[derive(Debug, Clone, PartialEq)]
enum Stage {
    /// Characters stand for bytes (GPT-2).
    ByteLevel,
    /// A string is replaced by another.
    Replace(String, String),
    /// `<0x0A>` is a byte.
    ByteFallback,
    /// The mark is a space; in the first token it is left out.
    Metaspace { mark: char, first_left_out: bool },
    /// One space at the very beginning is left out.
    StripFirst,
}

/// The bytes of every token.
#[derive(Debug)]
pub(super) struct Words {
    /// Empty for a token that may not be drawn.
    bytes: Vec<Box<[u8]>>,
    /// The same for the first token of a text.
    first: Vec<Box<[u8]>>,
}

impl Words {
    /// # Errors
    /// The name of a decoder that is not known here.
    pub(super) fn of(tokenizer: &Tokenizer, never: &[u32]) -> Result<Self, String> {
        let decoder = serde_json::to_value(tokenizer.get_decoder()).unwrap_or(Value::Null);
        let mut stages = Vec::new();
        read(&decoder, &mut stages)?;
        let added = tokenizer.get_added_tokens_decoder();
        let special = |id: u32| added.get(&id).is_some_and(|token| token.special);
        let count = tokenizer
            .get_vocab(true)
            .values()
            .max()
            .map_or(0, |id| id + 1);
        let of = |first: bool| {
            (0..count)
                .map(|id| {
                    let token = tokenizer.id_to_token(id);
                    let token = token.filter(|_| !never.contains(&id) && !special(id));
                    token.map_or_else(Box::default, |token| spell(&stages, &token, first))
                })
                .collect()
        };
        Ok(Self {
            bytes: of(false),
            first: of(true),
        })
    }

    /// What a token adds.
    pub(super) fn word(&self, id: u32, first: bool) -> &[u8] {
        let words = if first { &self.first } else { &self.bytes };
        words.get(id as usize).map_or(&[], |bytes| bytes)
    }

    /// Whether a token may be drawn.
    pub(super) fn is_word(&self, id: u32) -> bool {
        !self.word(id, false).is_empty()
    }

    /// Tokens, special ones included.
    pub(super) fn count(&self) -> u32 {
        self.bytes.len() as u32
    }

    /// The bytes that are tokens by themselves.
    pub(super) fn single_bytes(&self) -> [bool; 256] {
        let mut single = [false; 256];
        for word in &self.bytes {
            if let [byte] = **word {
                single[usize::from(byte)] = true;
            }
        }
        single
    }
}

/// Reads a decoder as `tokenizer.json` has it.
fn read(decoder: &Value, stages: &mut Vec<Stage>) -> Result<(), String> {
    let kind = decoder["type"].as_str().unwrap_or("none");
    let unknown = || format!("its tokenizer's decoder `{kind}` is not known here");
    let text = |name: &str| decoder[name].as_str().map(str::to_owned);
    match kind {
        "Sequence" => {
            let parts = decoder["decoders"].as_array().ok_or_else(unknown)?;
            return parts.iter().try_for_each(|part| read(part, stages));
        }
        "ByteLevel" => stages.push(Stage::ByteLevel),
        "ByteFallback" => stages.push(Stage::ByteFallback),
        // It joins the tokens, as is done here anyway.
        "Fuse" => {}
        "Replace" => {
            let from = decoder["pattern"]["String"].as_str().ok_or_else(unknown)?;
            let to = text("content").ok_or_else(unknown)?;
            stages.push(Stage::Replace(from.to_owned(), to));
        }
        "Metaspace" => {
            let mark = text("replacement").and_then(|mark| mark.chars().next());
            let scheme = text("prepend_scheme").unwrap_or_default();
            stages.push(Stage::Metaspace {
                mark: mark.ok_or_else(unknown)?,
                first_left_out: scheme != "never",
            });
        }
        "Strip" if text("content").as_deref() == Some(" ") && decoder["stop"] == 0 => {
            match decoder["start"].as_u64() {
                Some(0) => {}
                Some(1) => stages.push(Stage::StripFirst),
                _ => return Err(unknown()),
            }
        }
        _ => return Err(unknown()),
    }
    Ok(())
}

fn spell(stages: &[Stage], token: &str, first: bool) -> Box<[u8]> {
    let mut text = token.to_owned();
    let mut bytes: Option<Vec<u8>> = None;
    for stage in stages {
        match stage {
            Stage::ByteLevel => bytes = text.chars().map(stood_for).collect(),
            Stage::ByteFallback => bytes = fallback(&text).map(|byte| vec![byte]),
            Stage::Replace(from, to) => text = text.replace(from, to),
            Stage::Metaspace {
                mark,
                first_left_out,
            } => {
                let space = if first && *first_left_out { "" } else { " " };
                text = text.replace(*mark, space);
            }
            Stage::StripFirst if first => {
                let now = bytes.unwrap_or_else(|| text.clone().into_bytes());
                bytes = Some(now.strip_prefix(b" ").unwrap_or(&now).to_vec());
            }
            Stage::StripFirst => {}
        }
    }
    bytes.unwrap_or_else(|| text.into_bytes()).into()
}

/// `<0x0A>` as a byte.
fn fallback(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok())?
}

/// The byte that a printable character stands for in byte-level tokens.
///
/// # Source
/// Radford et al., "Language Models are Unsupervised Multitask Learners", 2019: `bytes_to_unicode`
/// of the published encoder. Printable bytes stand for themselves; the others, in order, for the
/// characters from 256 on.
fn stood_for(character: char) -> Option<u8> {
    let printable = |byte: &u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    match u32::from(character) {
        code @ 0..=255 => u8::try_from(code).ok().filter(printable),
        code => (0..=255u8)
            .filter(|byte| !printable(byte))
            .nth(code as usize - 256),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::testing;

    fn sentencepiece() -> Vec<Stage> {
        let decoder = json!({ "type": "Sequence", "decoders": [
            { "type": "Replace", "pattern": { "String": "\u{2581}" }, "content": " " },
            { "type": "ByteFallback" }, { "type": "Fuse" },
            { "type": "Strip", "content": " ", "start": 1, "stop": 0 },
        ]});
        let mut stages = Vec::new();
        read(&decoder, &mut stages).unwrap();
        stages
    }

    #[test]
    fn sentencepiece_marks_and_bytes_are_read() {
        let stages = sentencepiece();
        let spelled = |token, first| spell(&stages, token, first).to_vec();
        assert_eq!(spelled("\u{2581}the", false), b" the");
        assert_eq!(spelled("\u{2581}the", true), b"the");
        assert_eq!(spelled("\u{2581}", true), b"");
        assert_eq!(spelled("<0xE4>", false), [0xe4]);
        assert_eq!(spelled("<0xE4", false), b"<0xE4");
    }

    #[test]
    fn an_unknown_decoder_is_named() {
        let problem = read(&json!({ "type": "WordPiece" }), &mut Vec::new()).unwrap_err();
        assert!(problem.contains("`WordPiece`"), "{problem}");
        let none = read(&Value::Null, &mut Vec::new()).unwrap_err();
        assert!(none.contains("`none`"), "{none}");
    }

    proptest! {
        #[test]
        fn words_joined_are_what_the_tokenizer_decodes(ids in prop::collection::vec(0u32..300, 0..12)) {
            let tokenizer = testing::tokenizer();
            let words = Words::of(tokenizer.library(), &[]).unwrap();
            let spelled: Vec<u8> = ids
                .iter()
                .enumerate()
                .flat_map(|(place, id)| words.word(*id, place == 0).to_vec())
                .collect();
            prop_assert_eq!(String::from_utf8_lossy(&spelled), tokenizer.decode(&ids).unwrap());
        }
    }

    #[test]
    fn special_tokens_are_no_words_and_every_byte_is_one() {
        let words = Words::of(testing::tokenizer().library(), &[]).unwrap();
        assert!(!words.is_word(0) && !words.is_word(1) && words.is_word(2));
        assert!(words.single_bytes().iter().all(|single| *single));
    }
}
