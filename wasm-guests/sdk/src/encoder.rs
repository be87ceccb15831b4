//! Sentence embeddings with a BERT-family encoder, weights on the host's side of the wall.
//!
//! ```text
//!   config.json, tokenizer.json, model.safetensors
//!        │ Compiled::read                            public side, once a step
//!        ▼
//!   context (sizes, vocabulary) + one tensor of weights
//!        │ Encoder::open                             private side, fresh per unit, no parsing
//!        ▼
//!   text ── words.rs ─> words ── wordpiece.rs ─> ids ── forward.rs ─> one vector of length 1
//! ```
//!
//! The embedding is the mean over all tokens of the last layer's states, scaled to an L2
//! norm of one: what the sentence-transformers family of models was trained to compare by
//! cosine (Reimers and Gurevych, "Sentence-BERT: Sentence Embeddings using Siamese
//! BERT-Networks", 2019, section 3).
//!
//! Deliberately absent: gradients, other families than BERT (no RoBERTa, no DistilBERT),
//! pairs of texts, and special tokens written out in a text, which are read as plain signs.

mod forward;
mod shape;
#[cfg(test)]
mod tests;
mod wordpiece;
mod words;

use crate::safetensors::Weights;
use crate::wire::{Reader, Writer};
use crate::{File, Tensor};

pub use shape::Shape;
pub use wordpiece::{Table, Vocabulary};

/// An encoder as the public side hands it on.
pub struct Compiled {
    /// Its sizes.
    pub shape: Shape,
    /// For [`Encoder::open`].
    pub context: Vec<u8>,
    /// All weights; becomes the tensor that [`Encoder::open`] takes.
    pub weights: Vec<f32>,
}

impl Compiled {
    /// Reads the encoder that is connected to `port`: a BERT folder in Hugging Face layout.
    ///
    /// - `max_tokens`: the longest sequence, `[CLS]` and `[SEP]` included; the rest of a text
    ///   is cut off.
    ///
    /// # Errors
    /// A sentence: which file or field does not fit, and what would.
    pub fn read(inputs: &[File], port: &str, max_tokens: usize) -> Result<Self, String> {
        let input = |name: &str| {
            let path = format!("{port}/{name}");
            let found = inputs.iter().find(|file| file.name == path);
            found.map(|file| file.data.as_slice()).ok_or_else(|| {
                format!(
                    "port `{port}` has no file `{name}`; give a BERT folder in Hugging Face layout"
                )
            })
        };
        let shape = Shape::parse(input("config.json")?)?;
        if !(3..=shape.positions).contains(&max_tokens) {
            return Err(format!(
                "`max_tokens` is {max_tokens}, but this encoder takes 3 to {} tokens",
                shape.positions
            ));
        }
        let vocabulary = Vocabulary::parse(input("tokenizer.json")?)?;
        if vocabulary.ids_end() > shape.vocab {
            return Err(format!(
                "`tokenizer.json` has tokens up to number {}, the model only {}; they belong to different models",
                vocabulary.ids_end() - 1,
                shape.vocab
            ));
        }
        let weights = shape.load(&Weights::open(input("model.safetensors")?)?)?;
        let mut writer = Writer::default();
        shape.write(&mut writer);
        writer.u32(max_tokens as u32).bytes(&vocabulary.table());
        Ok(Compiled {
            shape,
            context: writer.finish(),
            weights,
        })
    }
}

/// An encoder that is ready to embed.
pub struct Encoder<'a> {
    /// Its sizes.
    pub shape: Shape,
    max_tokens: usize,
    table: Table<'a>,
    weights: &'a Tensor,
}

impl<'a> Encoder<'a> {
    /// A view of what [`Compiled::read`] made; panics if it is something else.
    pub fn open(context: &'a [u8], weights: &'a Tensor) -> Self {
        let mut reader = Reader::new(context);
        Encoder {
            shape: Shape::read(&mut reader),
            max_tokens: reader.size(),
            table: Table::new(reader.bytes()),
            weights,
        }
    }

    /// The tokens of a text, `[CLS]` and `[SEP]` included: `max_tokens` at most.
    pub fn tokens(&self, text: &str) -> Vec<u32> {
        self.table.encode(text, self.max_tokens)
    }

    /// The embedding of each text: `hidden` numbers with an L2 norm of one.
    ///
    /// The texts are stacked into one matrix, so that a few of them cost less than one by one.
    pub fn embed(&self, texts: &[&str]) -> Vec<Vec<f32>> {
        if texts.is_empty() {
            return Vec::new();
        }
        let sequences: Vec<Vec<u32>> = texts.iter().map(|text| self.tokens(text)).collect();
        let states = forward::states(&self.shape, self.weights, &sequences);
        let mut rest = states.as_slice();
        let mut embedding = |sequence: &Vec<u32>| {
            let (own, after) = rest.split_at(sequence.len() * self.shape.hidden);
            rest = after;
            forward::pooled(own, self.shape.hidden)
        };
        sequences.iter().map(&mut embedding).collect()
    }
}
