//! The setup context: everything a fresh private instance needs besides weights.
//!
//! ```text
//!   shape | plan | longest record | words before each text | label names | tokenizer table
//! ```

use noisegate_guest_sdk::tokenizer::Table;
use noisegate_guest_sdk::wire::{Reader, Writer};

use crate::plan::Plan;
use crate::shape::Shape;

/// How a record becomes tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// Longest sequence, in tokens; the rest of a record is cut off.
    pub max_tokens: usize,
    /// Ends every text.
    pub end: u32,
    /// Whether the words before the text end in a space, which then belongs to the text's first token.
    pub spaced: bool,
    /// For each label its name and the tokens before the text.
    pub labels: Vec<(String, Vec<u32>)>,
}

/// A record as the model sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sequence {
    /// Place of its label among the declared ones.
    pub label: usize,
    /// Control code, text, end.
    pub tokens: Vec<u32>,
    /// How many of the tokens are control code.
    pub prefix: usize,
}

/// The context, read.
pub struct Context<'a> {
    /// Sizes of the base model.
    pub shape: Shape,
    /// What is trained.
    pub plan: Plan,
    /// How a record becomes tokens.
    pub recipe: Recipe,
    /// The compiled tokenizer.
    pub table: Table<'a>,
}

/// Writes a context.
pub fn write(shape: &Shape, plan: &Plan, recipe: &Recipe, table: &[u8]) -> Vec<u8> {
    let mut writer = Writer::default();
    shape.write(&mut writer);
    plan.write(&mut writer);
    writer
        .u32(recipe.max_tokens as u32)
        .u32(recipe.end)
        .u32(recipe.spaced.into())
        .u32(recipe.labels.len() as u32);
    for (name, prefix) in &recipe.labels {
        writer.bytes(name.as_bytes()).u32s(prefix);
    }
    writer.bytes(table);
    writer.finish()
}

impl<'a> Context<'a> {
    /// Reads what [`write`] wrote.
    pub fn read(bytes: &'a [u8]) -> Self {
        let mut reader = Reader::new(bytes);
        let shape = Shape::read(&mut reader);
        let plan = Plan::read(&mut reader);
        let (max_tokens, end, spaced) = (reader.size(), reader.u32(), reader.u32() == 1);
        let count = reader.size();
        let mut label = || {
            (
                String::from_utf8_lossy(reader.bytes()).into_owned(),
                reader.u32s(),
            )
        };
        let labels = (0..count).map(|_| label()).collect();
        let recipe = Recipe {
            max_tokens,
            end,
            spaced,
            labels,
        };
        Context {
            shape,
            plan,
            recipe,
            table: Table::new(reader.bytes()),
        }
    }
}

impl Recipe {
    /// A record's sequence; `None` if its label is not declared or it has no text.
    pub fn sequence(&self, table: &Table<'_>, text: &str, label: &str) -> Option<Sequence> {
        let label = self.labels.iter().position(|(name, _)| name == label)?;
        let text = text.trim();
        if text.is_empty() {
            return None;
        }
        let mut tokens = self.labels[label].1.clone();
        let prefix = tokens.len();
        // A token spans 100 bytes at the very most, so a longer text than this cannot matter.
        let cut = text.floor_char_boundary(self.max_tokens * 100);
        let spaced = if self.spaced {
            format!(" {}", &text[..cut])
        } else {
            text[..cut].to_string()
        };
        tokens.extend(table.encode(&spaced));
        tokens.push(self.end);
        tokens.truncate(self.max_tokens);
        (tokens.len() > prefix.max(1)).then_some(Sequence {
            label,
            tokens,
            prefix,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Train;
    use crate::plan::Scales;

    #[test]
    fn what_is_written_into_a_context_is_read_back() {
        let shape = Shape {
            vocab: 300,
            hidden: 16,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            head_dim: 4,
            ff: 24,
            positions: 32,
            norm_eps: 1e-6,
            rope_theta: 5e5,
            tied: false,
        };
        let scales = Scales {
            lora: 1.0,
            vector: 0.5,
            bias: 4.0,
        };
        let plan = Plan {
            train: Train::LastLayers,
            rank: 0,
            first_layer: 1,
            labels: 2,
            vectors: true,
            bias: false,
            scales,
        };
        let labels = vec![("a".into(), vec![0, 7]), ("bé".into(), Vec::new())];
        let recipe = Recipe {
            max_tokens: 12,
            end: 0,
            spaced: true,
            labels,
        };
        let table: Vec<u8> = (1..=256u32).flat_map(u32::to_le_bytes).collect();
        let bytes = write(&shape, &plan, &recipe, &table);
        let read = Context::read(&bytes);
        assert_eq!(
            (&read.shape, &read.plan, &read.recipe),
            (&shape, &plan, &recipe)
        );
        let sequence = read.recipe.sequence(&read.table, " hi ", "a").unwrap();
        let byte = |b: u8| u32::from(b) + 1;
        assert_eq!(
            sequence.tokens,
            [0, 7, byte(b' '), byte(b'h'), byte(b'i'), 0]
        );
        assert_eq!((sequence.label, sequence.prefix), (0, 2));
        assert_eq!(read.recipe.sequence(&read.table, "hi", "c"), None);
    }
}
