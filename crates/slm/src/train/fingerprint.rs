//! What a checkpoint belongs to, as numbers that can be compared.

use super::options::TrainOptions;
use super::rows::Rows;
use crate::model::Model;

/// Numbers that differ when anything the final weights depend on differs.
///
/// Guards against mistakes, not against malice.
///
/// Source: Fowler, Noll, Vo, FNV-1a with 64 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fingerprint {
    pub model: u64,
    pub data: u64,
    pub options: u64,
}

impl Fingerprint {
    pub(super) fn of(model: &Model, rows: &Rows, options: &TrainOptions) -> Self {
        // Checkpoints do not change the result, and threads its last bits at most.
        let options = TrainOptions {
            checkpoint: None,
            threads: 1,
            ..options.clone()
        };
        let mut of_model = Fnv::new();
        of_model.add(format!("{:?} {:?}", model.config, model.heads).as_bytes());
        for (name, array) in model.weights.iter() {
            of_model.add(name.as_bytes());
            // A sample is enough to tell two models apart.
            for value in array.data.iter().step_by(997) {
                of_model.add(&value.to_le_bytes());
            }
        }
        let mut of_data = Fnv::new();
        for row in rows.train.iter().chain(&rows.validation) {
            for id in &row.ids {
                of_data.add(&id.to_le_bytes());
            }
            of_data.add(format!("{} {:?}", row.head, row.known).as_bytes());
            of_data.add(&row.weight.to_le_bytes());
        }
        let mut of_options = Fnv::new();
        of_options.add(format!("{options:?}").as_bytes());
        Self {
            model: of_model.0,
            data: of_data.0,
            options: of_options.0,
        }
    }

    /// What this run has another of than the one that wrote `text`; `None` if nothing.
    pub(super) fn differs_from(&self, text: &str) -> Option<String> {
        let parts = [
            ("another model", self.model),
            ("other data", self.data),
            ("other options", self.options),
        ];
        let theirs: Vec<&str> = text.split(' ').collect();
        if theirs.len() != parts.len() {
            return Some("another version of noisegate".to_owned());
        }
        let pairs = parts.iter().zip(theirs);
        let differing = pairs.filter(|((_, ours), theirs)| format!("{ours:016x}") != *theirs);
        let names: Vec<&str> = differing.map(|((name, _), _)| *name).collect();
        (!names.is_empty()).then(|| names.join(" and "))
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            out,
            "{:016x} {:016x} {:016x}",
            self.model, self.data, self.options
        )
    }
}

/// A hash that any one changed byte changes.
pub(super) struct Fnv(pub u64);

impl Fnv {
    pub(super) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
