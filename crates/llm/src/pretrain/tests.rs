//! Tests of `pretrain` on small models of random weights.

use std::sync::atomic::Ordering;

use super::*;
use crate::testing;

const TEXT: &str = "the cat sat on the mat and the dog sat on the log; where is my bank card? ";

fn options(tokens_max: u64) -> PretrainOptions {
    let model = LlamaConfig {
        max_position_embeddings: 16,
        ..init::test_config()
    };
    PretrainOptions {
        model,
        batch_windows: 4,
        budget: Budget {
            tokens_max: Some(tokens_max),
            seconds_max: None,
        },
        schedule: Schedule {
            warmup_steps: 4,
            decay_from: 0.5,
        },
        optimizer: OptimizerOptions::default(),
        seed: 3,
        checkpoint_seconds: 1e9,
        report_steps: 5,
        device: candle_core::Device::Cpu,
    }
}

fn sources() -> Vec<Source> {
    let documents = (0..20).map(|i| Document {
        title: (i % 2 == 0).then(|| "the cat".to_owned()),
        text: TEXT.repeat(1 + i % 3),
    });
    let tokenizer = testing::tokenizer();
    vec![Source::pack("text", 1.0, documents.collect(), &tokenizer, 1, |_| ()).unwrap()]
}

fn run(options: &PretrainOptions, folder: &Path) -> Result<(LlamaWeights, Counters)> {
    let (tokenizer, cancel) = (testing::tokenizer(), AtomicBool::new(false));
    pretrain(
        options,
        &tokenizer,
        &sources(),
        folder,
        &|| 0.0,
        &mut |_| (),
        &cancel,
    )
}

fn values(weights: &LlamaWeights) -> Vec<f32> {
    let flat = |t: &candle_core::Tensor| t.flatten_all().unwrap().to_vec1().unwrap();
    weights.list().into_iter().flat_map(flat).collect()
}

#[test]
fn a_short_run_learns_and_its_folder_loads() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(64 * 60);
    let (weights, counters) = run(&options, folder.path()).unwrap();
    assert_eq!((counters.steps, counters.tokens), (60, 64 * 60));
    let (tokenizer, cancel) = (testing::tokenizer(), AtomicBool::new(false));
    let bits = |weights: &LlamaWeights| {
        let documents = [TEXT.repeat(2)];
        let model = &options.model;
        bits_per_byte(model, weights, &tokenizer, &documents, &mut |_| (), &cancel).unwrap()
    };
    let fresh = init::fresh_weights(&options.model, 3).unwrap();
    let (before, after) = (bits(&fresh), bits(&weights));
    assert!(
        after.bits_per_byte < 0.5 * before.bits_per_byte,
        "{before:?} {after:?}"
    );
    let loaded = crate::load(folder.path(), &candle_core::Device::Cpu).unwrap();
    assert!((bits(&loaded.llama().unwrap().1).loss - after.loss).abs() < 0.05);
}

#[test]
fn a_run_that_was_cut_off_ends_with_the_same_weights() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let options = options(64 * 12);
    let (expected, _) = run(&options, whole.path()).unwrap();
    let (tokenizer, cancel) = (testing::tokenizer(), AtomicBool::new(false));
    let mut stop = |p: Progress| cancel.store(p.note.starts_with("step 5 "), Ordering::Relaxed);
    let cut = pretrain(
        &options,
        &tokenizer,
        &sources(),
        parts.path(),
        &|| 0.0,
        &mut stop,
        &cancel,
    );
    assert!(matches!(cut, Err(Error::Cancelled)));
    let (resumed, counters) = run(&options, parts.path()).unwrap();
    assert_eq!(counters.steps, 12);
    assert_eq!(values(&resumed), values(&expected));
}

#[test]
fn a_run_without_an_end_and_a_vocabulary_too_small_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut endless = options(1);
    endless.budget = Budget {
        tokens_max: None,
        seconds_max: None,
    };
    let message = run(&endless, folder.path()).unwrap_err().to_string();
    assert!(message.contains("would never end"), "{message}");
    let mut small = options(1);
    small.model.vocab_size = 10;
    assert!(matches!(
        run(&small, folder.path()),
        Err(Error::VocabularyMismatch { .. })
    ));
}

#[test]
fn a_damaged_checkpoint_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    run(&options(64), folder.path()).unwrap();
    let path = folder.path().join(TRAINING_FILE);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 10]).unwrap();
    let message = run(&options(128), folder.path()).unwrap_err().to_string();
    assert!(message.contains("training.safetensors"), "{message}");
}
