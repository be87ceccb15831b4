//! Reads a Hugging Face `tokenizer.json` and compiles it to a [`Table`](super::Table).

use std::collections::HashMap;

use serde::Deserialize;

use super::split;

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    added_tokens: Vec<Added>,
    normalizer: Option<serde_json::Value>,
    pre_tokenizer: Option<serde_json::Value>,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type")]
    kind: Option<String>,
    vocab: HashMap<String, u32>,
    merges: Vec<Merge>,
}

/// Older files write `"a b"`, newer ones `["a", "b"]`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Joined(String),
}

impl Merge {
    fn halves(&self) -> Option<(&str, &str)> {
        match self {
            Merge::Pair(left, right) => Some((left, right)),
            Merge::Joined(joined) => joined.split_once(' '),
        }
    }
}

/// A tokenizer on the public side: the compiled table and the way back to text.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    table: Vec<u8>,
    pieces: Vec<Vec<u8>>,
    special: HashMap<String, u32>,
}

impl Vocabulary {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// A sentence, if it is no byte-level BPE with the split this SDK implements.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let document: Document = serde_json::from_slice(json)
            .map_err(|error| format!("`tokenizer.json` does not read: {error}"))?;
        check_supported(&document)?;
        let vocab = &document.model.vocab;
        let id = |piece: &str| {
            vocab.get(piece).copied().ok_or_else(|| {
                format!("`tokenizer.json` merges `{piece}`, which is not in its vocabulary")
            })
        };
        let mut table = Vec::new();
        for byte in 0..=255u8 {
            table.extend_from_slice(&id(&printable(byte).to_string())?.to_le_bytes());
        }
        let mut merges = Vec::with_capacity(document.model.merges.len());
        for (rank, merge) in document.model.merges.iter().enumerate() {
            let (left, right) = merge
                .halves()
                .ok_or("`tokenizer.json` has a merge that is no pair")?;
            merges.push([
                id(left)?,
                id(right)?,
                rank as u32,
                id(&format!("{left}{right}"))?,
            ]);
        }
        merges.sort_unstable();
        for number in merges.iter().flatten() {
            table.extend_from_slice(&number.to_le_bytes());
        }
        Ok(Vocabulary {
            table,
            pieces: pieces(&document),
            special: specials(&document),
        })
    }

    /// The compiled table, for [`Table::new`](super::Table::new).
    pub fn table(&self) -> Vec<u8> {
        self.table.clone()
    }

    /// The id of an added token such as `<|endoftext|>`.
    pub fn special(&self, content: &str) -> Option<u32> {
        self.special.get(content).copied()
    }

    /// One more than the largest token id.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// The text of some tokens; added tokens vanish, bytes that are no UTF-8 become `U+FFFD`.
    pub fn decode(&self, tokens: &[u32]) -> String {
        let bytes: Vec<u8> = tokens
            .iter()
            .filter_map(|&t| self.pieces.get(t as usize))
            .flatten()
            .copied()
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn check_supported(document: &Document) -> Result<(), String> {
    let refuse = |what: &str| {
        Err(format!(
            "`tokenizer.json` has {what}; this step reads byte-level BPE split by `{}`",
            split::PATTERN
        ))
    };
    if document
        .model
        .kind
        .as_deref()
        .is_some_and(|kind| kind != "BPE")
    {
        return refuse("another model than BPE");
    }
    // Text that is not in NFC falls into other tokens than the base model saw: a little
    // less likely, never wrong. Normalising it would need tables larger than the guest.
    if document
        .normalizer
        .as_ref()
        .is_some_and(|normaliser| !normaliser.is_null() && normaliser["type"] != "NFC")
    {
        return refuse("another normaliser than NFC");
    }
    let pre = document.pre_tokenizer.as_ref();
    let steps = pre.and_then(|pre| pre["pretokenizers"].as_array());
    let Some([first, second]) = steps.map(Vec::as_slice) else {
        return refuse("another pre-tokenizer");
    };
    let split_fits = first["type"] == "Split"
        && first["pattern"]["Regex"] == split::PATTERN
        && first["behavior"] == "Isolated"
        && first["invert"] != true;
    let bytes_fit = second["type"] == "ByteLevel"
        && second["use_regex"] == false
        && second["add_prefix_space"] != true;
    if split_fits && bytes_fit {
        Ok(())
    } else {
        refuse("another pre-tokenizer")
    }
}

fn pieces(document: &Document) -> Vec<Vec<u8>> {
    let vocab = &document.model.vocab;
    let largest = vocab
        .values()
        .copied()
        .chain(document.added_tokens.iter().map(|added| added.id))
        .max();
    let byte_of: HashMap<char, u8> = (0..=255u8).map(|byte| (printable(byte), byte)).collect();
    let mut pieces = vec![Vec::new(); largest.map_or(0, |id| id as usize + 1)];
    for (piece, &id) in vocab {
        pieces[id as usize] = piece
            .chars()
            .filter_map(|c| byte_of.get(&c).copied())
            .collect();
    }
    for added in &document.added_tokens {
        pieces[added.id as usize] = Vec::new();
    }
    pieces
}

fn specials(document: &Document) -> HashMap<String, u32> {
    document
        .added_tokens
        .iter()
        .map(|added| (added.content.clone(), added.id))
        .collect()
}

/// The printable stand-in of a byte in vocabulary files.
///
/// # Source
/// Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, `bytes_to_unicode`.
pub fn printable(byte: u8) -> char {
    let stands_for_itself = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if stands_for_itself(byte) {
        return char::from(byte);
    }
    let place = (0..byte).filter(|&b| !stands_for_itself(b)).count() as u32;
    char::from_u32(256 + place).expect("256 + at most 68 is a letter")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_space_prints_as_the_usual_letter() {
        assert_eq!(
            (printable(b' '), printable(b'\n'), printable(b'a')),
            ('Ġ', 'Ċ', 'a')
        );
    }

    #[test]
    fn an_unknown_split_is_refused() {
        let json = super::super::tests::small_json().replace("Isolated", "Removed");
        assert!(
            Vocabulary::parse(json.as_bytes())
                .unwrap_err()
                .contains("pre-tokenizer")
        );
    }

    #[test]
    fn added_tokens_have_ids_and_no_text() {
        let vocabulary = Vocabulary::parse(super::super::tests::small_json().as_bytes()).unwrap();
        assert_eq!(vocabulary.special("<|endoftext|>"), Some(0));
        assert_eq!(vocabulary.decode(&[0]), "");
        assert_eq!(vocabulary.len(), 261);
    }
}
