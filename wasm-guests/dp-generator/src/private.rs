//! The private side: one unit's contribution.
//!
//! A unit's gradient is the mean over its first few records, so that a user with
//! many records asks for no more room under the clip than one with a single one.

use noisegate_guest_sdk::{Accum, Tensor, Unit};

use crate::context::{Context, Sequence};
use crate::gradient::add_gradient;
use crate::model::Model;

/// Records of a unit that are looked at; bounds the work of one unit.
const RECORDS_MAX: usize = 8;

/// Adds the gradient of the unit to `into`; records with an undeclared label add nothing.
///
/// `tensors`: base weights, A of LoRA, moved weights, label parameters.
pub fn contribute(unit: &Unit, setup_context: &[u8], tensors: &[&Tensor], into: &Accum) {
    let context = Context::read(setup_context);
    let &[base, lora_inputs, moved, labels] = tensors else {
        return;
    };
    let model = Model {
        shape: &context.shape,
        plan: &context.plan,
        base,
        lora_inputs,
        moved,
        labels,
    };
    let sequence = |record: &noisegate_guest_sdk::TextRecord| {
        context
            .recipe
            .sequence(&context.table, &record.text, &record.label)
    };
    let sequences: Vec<Sequence> = unit
        .records
        .iter()
        .take(RECORDS_MAX)
        .filter_map(sequence)
        .collect();
    for sequence in &sequences {
        add_gradient(model, sequence, 1.0 / sequences.len() as f32, into);
    }
}
