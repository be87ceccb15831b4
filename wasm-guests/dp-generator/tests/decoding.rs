//! Decoding with a cache against the whole forward pass.

mod support;

use dp_generator::decode::{Cache, Conditioning, Row, step};
use noisegate_guest_sdk::maths::softmax;
use support::{World, sequence, shape, trained_sets};

#[test]
fn cached_decoding_gives_the_loss_of_the_whole_forward_pass() {
    for (train, config) in trained_sets() {
        let world = World::new(shape(true), &config);
        let sequences = [sequence(0, 11, 3), sequence(1, 8, 2)];
        let cached = world.with_model(&world.parameters, |model| {
            let conditioning = Conditioning::new(model);
            let mut cache = Cache::new(model.shape, 2, 16);
            let mut losses = [0.0f32; 2];
            for position in 0..10 {
                let ready = sequences
                    .iter()
                    .enumerate()
                    .filter(|(_, s)| position + 1 < s.tokens.len());
                let rows: Vec<Row> = ready
                    .map(|(slot, s)| Row {
                        slot,
                        token: s.tokens[position],
                        position,
                        label: s.label,
                    })
                    .collect();
                let mut logits = step(model, &conditioning, &mut cache, &rows);
                for (row, logits) in rows.iter().zip(logits.chunks_exact_mut(model.shape.vocab)) {
                    let sequence = &sequences[row.slot];
                    let target = sequence.tokens[position + 1] as usize;
                    let score = logits[target];
                    if position + 1 >= sequence.prefix {
                        losses[row.slot] += softmax(logits) - score;
                    }
                }
            }
            losses
        });
        for (sequence, cached) in sequences.iter().zip(cached) {
            let mean = cached / (sequence.tokens.len() - sequence.prefix) as f32;
            let whole = world.gradient(&world.parameters, sequence).0;
            assert!(
                (mean - whole).abs() < 1e-4 * whole,
                "{train:?}: cached {mean}, whole {whole}"
            );
        }
    }
}
