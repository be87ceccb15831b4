//! The setup context: which label has which slot, and the encoder.

use noisegate_guest_sdk::wire::{Reader, Writer};

/// The context, read.
pub struct Slots<'a> {
    labels: Vec<&'a [u8]>,
    /// For `Encoder::open`.
    pub encoder: &'a [u8],
}

/// Writes a context.
pub fn write(labels: &[String], encoder: &[u8]) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.u32(labels.len() as u32);
    for label in labels {
        writer.bytes(label.as_bytes());
    }
    writer.bytes(encoder);
    writer.finish()
}

impl<'a> Slots<'a> {
    /// Reads what [`write`] wrote.
    pub fn read(context: &'a [u8]) -> Self {
        let mut reader = Reader::new(context);
        let count = reader.size();
        let labels = (0..count).map(|_| reader.bytes()).collect();
        Slots {
            labels,
            encoder: reader.bytes(),
        }
    }

    /// The slot of a label; `None` if it is not declared.
    pub fn of(&self, label: &str) -> Option<usize> {
        self.labels
            .iter()
            .position(|name| *name == label.as_bytes())
    }
}
