//! A small task that can be learned in seconds, shared by the tests of training.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::sync::atomic::AtomicBool;

use noisegate_slm::train::train;
use noisegate_slm::{
    Base, Example, Head, Hooks, Model, Runtime, ScratchConfig, SlmError, Summary, TrainOptions,
    TrainingData, Vocabulary,
};

use super::Noise;

const TOPICS: [(&str, [&str; 6]); 3] = [
    (
        "billing",
        ["invoice", "charge", "refund", "payment", "bill", "fee"],
    ),
    (
        "visits",
        [
            "appointment",
            "schedule",
            "cancel",
            "visit",
            "clinic",
            "waiting",
        ],
    ),
    (
        "drugs",
        [
            "prescription",
            "pharmacy",
            "refill",
            "dose",
            "tablet",
            "medicine",
        ],
    ),
];
const FILLER: [&str; 10] = [
    "please", "the", "my", "about", "i", "need", "was", "again", "today", "help",
];

pub fn labels() -> Vec<String> {
    TOPICS
        .iter()
        .map(|(label, _)| (*label).to_owned())
        .collect()
}

/// Texts whose label shows in two of their words.
pub fn examples(count: usize, seed: u64) -> Vec<Example> {
    let mut noise = Noise(seed);
    let mut pick = |n: usize| ((noise.next() + 1.0) / 2.0 * n as f32) as usize % n;
    (0..count)
        .map(|i| {
            let (label, words) = TOPICS[i % TOPICS.len()];
            let length = 3 + pick(12);
            let mut text: Vec<&str> = (0..length).map(|_| FILLER[pick(FILLER.len())]).collect();
            for _ in 0..2 {
                text.insert(pick(text.len()), words[pick(words.len())]);
            }
            Example::labelled(text.join(" "), label)
        })
        .collect()
}

pub fn scratch() -> Base {
    Base::Scratch(ScratchConfig {
        layers: 2,
        hidden: 32,
        heads: 2,
        intermediate: 64,
        length_max: 32,
        vocabulary: Vocabulary::Train { size: 200 },
    })
}

pub fn options() -> TrainOptions {
    TrainOptions {
        epochs: 4,
        batch: 16,
        learning_rate: 2e-3,
        threads: 2,
        seed: 11,
        ..TrainOptions::default()
    }
}

pub fn run(
    runtime: &Runtime,
    base: &Base,
    examples: &[Example],
    options: &TrainOptions,
) -> Result<(Model, Summary), SlmError> {
    let data = TrainingData {
        heads: &[Head::single(labels())],
        examples,
        validation: &[],
    };
    let hooks = Hooks {
        progress: &mut |_| {},
        cancel: &AtomicBool::new(false),
    };
    train(runtime, base, &data, options, hooks)
}
