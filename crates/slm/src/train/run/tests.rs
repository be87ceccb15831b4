//! Training with the library: the two optimizers agree, and runs go on bit for bit.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::model::{Base, Head, Lora, ScratchConfig, Vocabulary};
use crate::train::{CheckpointOptions, Example, Precision, add_heads};

/// In a process of their own: one process loads one library, and the tests of `runtime` want
/// none to be loaded.
#[test]
fn tests_with_the_library_pass() {
    let done = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--nocapture", "train::run::tests::"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    println!("{said}");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(said.contains("3 passed"), "{said}");
}

fn library() -> Option<Runtime> {
    const PATH: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../target/noisegate/onnxruntime/libonnxruntime.so.1.32.0"
    );
    if !Path::new(PATH).exists() {
        println!("skipped: no `{PATH}`; run `cargo xtask setup`");
        return None;
    }
    Some(crate::runtime::load(Path::new(PATH)).unwrap())
}

fn train(runtime: &Runtime, options: &TrainOptions, in_graph: bool) -> (Model, Summary) {
    let words = ["bill", "fee", "late", "nurse", "doctor", "visit"];
    let example = |row: usize| {
        let text = (0..3 + row % 4).map(|i| words[(row * 5 + i * 3) % 6]);
        Example {
            weight: 1.0 + (row % 3) as f32,
            ..Example::labelled(text.collect::<Vec<_>>().join(" "), ["a", "b"][row % 2])
        }
    };
    let examples: Vec<Example> = (0..50).map(example).collect();
    let heads = [Head::single(["a", "b"])];
    let config = ScratchConfig {
        layers: 2,
        hidden: 32,
        heads: 2,
        intermediate: 64,
        length_max: 16,
        vocabulary: Vocabulary::Train { size: 60 },
    };
    let texts = examples.iter().map(|e| e.text.as_str());
    let mut model = Model::from_base(&Base::Scratch(config), texts, 3).unwrap();
    add_heads(&mut model, &heads, 3);
    let data = TrainingData {
        heads: &heads,
        examples: &examples,
        validation: &[],
    };
    let hooks = Hooks {
        progress: &mut |_| {},
        cancel: &AtomicBool::new(false),
    };
    run_with(runtime, model, &data, options, hooks, (1, 1), in_graph).unwrap()
}

fn options() -> TrainOptions {
    TrainOptions {
        epochs: 3,
        batch: 8,
        learning_rate: 1e-3,
        weight_decay: 0.1,
        clip_norm: 0.5,
        dropout: 0.1,
        validation_share: 0.2,
        threads: 1,
        ..TrainOptions::default()
    }
}

#[test]
#[ignore = "loads the library: run by `tests_with_the_library_pass`"]
fn the_optimizer_in_the_graph_is_the_optimizer_outside() {
    let Some(runtime) = library() else { return };
    for options in [
        options(),
        TrainOptions {
            lora: Some(Lora::default()),
            ..options()
        },
        TrainOptions {
            freeze: crate::train::Freeze::Layers(1),
            ..options()
        },
    ] {
        let (outside, a) = train(&runtime, &options, false);
        let (inside, b) = train(&runtime, &options, true);
        assert!((a.loss - b.loss).abs() < 1e-4, "{} vs {}", a.loss, b.loss);
        let (a, b) = (a.validation.unwrap(), b.validation.unwrap());
        assert!((a.loss - b.loss).abs() < 1e-4, "{} vs {}", a.loss, b.loss);
        for ((name, x), (_, y)) in outside.weights.iter().zip(inside.weights.iter()) {
            for (x, y) in x.data.iter().zip(&y.data) {
                assert!((x - y).abs() < 5e-4, "{name}: {x} vs {y}");
            }
        }
    }
}

#[test]
#[ignore = "loads the library: run by `tests_with_the_library_pass`"]
fn products_of_bf16_numbers_train_almost_the_same_weights() {
    let Some(runtime) = library() else { return };
    if !crate::kernels::bf16_products() {
        println!("skipped: this machine has no AVX512-BF16");
        return;
    }
    let bf16 = TrainOptions {
        precision: Precision::Bf16,
        ..options()
    };
    let (exact, a) = train(&runtime, &options(), false);
    let (rounded, b) = train(&runtime, &bf16, false);
    assert!((a.loss - b.loss).abs() < 2e-2, "{} vs {}", a.loss, b.loss);
    assert_ne!(exact.weights, rounded.weights);
    let (again, _) = train(&runtime, &bf16, false);
    assert_eq!(rounded.weights, again.weights);
}

#[test]
#[ignore = "loads the library: run by `tests_with_the_library_pass`"]
fn a_run_with_the_optimizer_in_the_graph_goes_on_bit_for_bit() {
    let Some(runtime) = library() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (whole, _) = train(&runtime, &options(), true);
    let cut = TrainOptions {
        checkpoint: Some(CheckpointOptions {
            path: folder.path().join("checkpoint"),
            every_steps: 4,
        }),
        ..options()
    };
    // The file of a run of 15 steps stands at step 12; a second run goes on from there.
    let (first, _) = train(&runtime, &cut, true);
    let (second, _) = train(&runtime, &cut, true);
    assert_eq!(whole.weights, first.weights);
    assert_eq!(whole.weights, second.weights);
}
