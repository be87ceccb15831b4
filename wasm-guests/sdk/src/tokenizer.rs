//! Byte-level BPE: compiled on the public side, used anywhere without parsing.
//!
//! ```text
//!   tokenizer.json ──compile.rs──> Vocabulary { table bytes, pieces }   public side
//!                                       │ setup context
//!                                       ▼
//!                                  Table<'_>: binary search over raw bytes   private side
//! ```
//!
//! A fresh instance per privacy unit cannot afford to parse a megabyte of JSON, so
//! the merges travel as a sorted table. Deliberately absent: other models than
//! byte-level BPE, other splits than the one in `split.rs`, and normalising (a file
//! may ask for NFC, and gets the text as it is).

mod compile;
mod split;

pub use compile::{Vocabulary, printable};
pub use split::PATTERN;

/// Bytes of one merge in the table: left, right, rank, merged, each a u32.
const MERGE_BYTES: usize = 16;

/// A compiled tokenizer, borrowed from a context.
///
/// Layout: 256 token ids of the single bytes, then the merges sorted by (left, right).
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    bytes: &'a [[u8; 4]],
    merges: &'a [[u8; MERGE_BYTES]],
}

impl<'a> Table<'a> {
    /// A view of what [`Vocabulary::table`] made; panics if it is too short.
    pub fn new(table: &'a [u8]) -> Self {
        let (bytes, merges) = table.split_at(256 * 4);
        Table {
            bytes: bytes.as_chunks().0,
            merges: merges.as_chunks().0,
        }
    }

    /// The tokens of a text.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut tokens = Vec::with_capacity(text.len() / 3 + 1);
        for piece in split::pieces(text) {
            self.encode_piece(piece, &mut tokens);
        }
        tokens
    }

    /// Merges the lowest rank first, as the merges were learnt.
    fn encode_piece(&self, piece: &str, into: &mut Vec<u32>) {
        let start = into.len();
        into.extend(
            piece
                .bytes()
                .map(|byte| u32::from_le_bytes(self.bytes[usize::from(byte)])),
        );
        loop {
            let tokens = &into[start..];
            let pairs = tokens.windows(2).enumerate();
            let best = pairs
                .filter_map(|(at, pair)| {
                    self.merge(pair[0], pair[1])
                        .map(|(rank, id)| (rank, at, id))
                })
                .min();
            let Some((_, at, merged)) = best else { return };
            into[start + at] = merged;
            into.remove(start + at + 1);
        }
    }

    /// Rank and result of merging two neighbours.
    fn merge(&self, left: u32, right: u32) -> Option<(u32, u32)> {
        let field =
            |entry: &[u8; MERGE_BYTES], at: usize| u32::from_le_bytes(entry.as_chunks().0[at]);
        let found = self
            .merges
            .binary_search_by_key(&(left, right), |entry| (field(entry, 0), field(entry, 1)));
        found
            .ok()
            .map(|at| (field(&self.merges[at], 2), field(&self.merges[at], 3)))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A tokenizer with every byte and four merges, in Hugging Face's format.
    pub(crate) fn small_json() -> String {
        let mut vocab = serde_json::Map::new();
        vocab.insert("<|endoftext|>".into(), 0.into());
        for byte in 0..=255u8 {
            vocab.insert(printable(byte).to_string(), (u32::from(byte) + 1).into());
        }
        for (at, token) in ["Ġt", "he", "Ġthe", "er"].iter().enumerate() {
            vocab.insert((*token).into(), (257 + at).into());
        }
        serde_json::json!({
            "added_tokens": [{ "id": 0, "content": "<|endoftext|>", "special": true }],
            "normalizer": { "type": "NFC" },
            "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
                { "type": "Split", "pattern": { "Regex": PATTERN }, "behavior": "Isolated", "invert": false },
                { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false },
            ]},
            "model": { "type": "BPE", "vocab": vocab, "merges": [["Ġ", "t"], ["h", "e"], "Ġt he", ["e", "r"]] },
        })
        .to_string()
    }

    #[test]
    fn merges_apply_lowest_rank_first() {
        let vocabulary = Vocabulary::parse(small_json().as_bytes()).unwrap();
        let compiled = vocabulary.table();
        let table = Table::new(&compiled);
        let byte = |b: u8| u32::from(b) + 1;
        assert_eq!(table.encode(" the"), [259]);
        assert_eq!(
            table.encode("her"),
            [258, byte(b'r')],
            "`he` was learnt before `er`"
        );
        assert_eq!(table.encode("xer the"), [byte(b'x'), 260, 259]);
    }

    #[test]
    fn any_text_survives_encoding_and_decoding() {
        let vocabulary = Vocabulary::parse(small_json().as_bytes()).unwrap();
        let compiled = vocabulary.table();
        let table = Table::new(&compiled);
        for text in [
            "",
            " ",
            "the other  theory",
            "naïve café\n\t42 — ok!",
            "\u{0}日本語 🙂",
        ] {
            assert_eq!(vocabulary.decode(&table.encode(text)), text);
        }
    }
}
