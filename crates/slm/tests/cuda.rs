//! What a card computes equals what the processor computes, and no part falls back in silence.
//!
//! `NOISEGATE_ONNXRUNTIME_CUDA` names the library of `onnxruntime-gpu` (with its two providers in
//! the same folder). Without it the tests that need a card say so and pass.

mod common;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::task::{examples, labels, options, run, scratch};
use noisegate_slm::train::{CheckpointOptions, train};
use noisegate_slm::{
    Classifier, Device, Embedder, Freeze, Head, Hooks, Lora, Model, Runtime, ServeOptions,
    SlmError, Target, TrainOptions, TrainingData, runtime,
};

const VARIABLE: &str = "NOISEGATE_ONNXRUNTIME_CUDA";

/// One test at a time on the card.
static CARD: Mutex<()> = Mutex::new(());

/// The CUDA runtime, or `None` with the reason printed.
fn cuda() -> Option<(Runtime, MutexGuard<'static, ()>)> {
    let Some(path) = std::env::var_os(VARIABLE) else {
        println!("skipped: `{VARIABLE}` names no library of `onnxruntime-gpu`");
        return None;
    };
    let lock = CARD.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = runtime::load(&PathBuf::from(path)).expect("the named library loads");
    Some((runtime, lock))
}

fn on_card(options: TrainOptions) -> TrainOptions {
    TrainOptions {
        device: Device::Cuda(0),
        ..options
    }
}

/// The mean difference between two models' weights. Not the largest: AdamW turns the rounding of a
/// tiny gradient into a whole step.
fn distance(a: &Model, b: &Model) -> f32 {
    let (mut sum, mut count) = (0.0f64, 0usize);
    for ((name, a), (other, b)) in a.weights.iter().zip(b.weights.iter()) {
        assert_eq!((name, &a.shape), (other, &b.shape));
        let apart = a
            .data
            .iter()
            .zip(&b.data)
            .map(|(x, y)| f64::from((x - y).abs()));
        sum += apart.sum::<f64>();
        count += a.data.len();
    }
    (sum / count as f64) as f32
}

#[test]
fn a_library_for_processors_refuses_a_card_before_anything_runs() {
    if std::env::var_os(VARIABLE).is_some() {
        println!("skipped: `{VARIABLE}` names a library that has a card");
        return;
    }
    let Some(runtime) = common::runtime() else {
        return;
    };
    let error = run(&runtime, &scratch(), &examples(30, 1), &on_card(options())).unwrap_err();
    assert!(matches!(error, SlmError::NoCuda { .. }), "{error:?}");
    assert!(error.to_string().contains("onnxruntime-gpu"), "{error}");
    let model = Model::from_base(&scratch(), ["a b"], 1).unwrap();
    let serve = ServeOptions {
        device: Device::Cuda(0),
        ..ServeOptions::default()
    };
    let error = Embedder::new(&runtime, &model, &serve).unwrap_err();
    assert!(matches!(error, SlmError::NoCuda { .. }), "{error:?}");
}

#[test]
fn a_card_trains_the_weights_that_the_processor_trains() {
    let Some((runtime, _lock)) = cuda() else {
        return;
    };
    let data = examples(100, 1);
    for options in [
        options(),
        TrainOptions {
            freeze: Freeze::Layers(1),
            ..options()
        },
        TrainOptions {
            lora: Some(Lora::default()),
            ..options()
        },
        TrainOptions {
            dropout: 0.1,
            validation_share: 0.2,
            ..options()
        },
    ] {
        // A few steps only: AdamW turns rounding of tiny gradients into whole steps later on.
        let options = TrainOptions {
            steps_max: Some(6),
            ..options
        };
        let (host, a) = run(&runtime, &scratch(), &data, &options).unwrap();
        let (card, b) = run(&runtime, &scratch(), &data, &on_card(options)).unwrap();
        println!(
            "loss {} and {}, weights differ by {}",
            a.loss,
            b.loss,
            distance(&host, &card)
        );
        assert!((a.loss - b.loss).abs() < 1e-3, "{} vs {}", a.loss, b.loss);
        // A tenth of one step of AdamW.
        assert!(distance(&host, &card) < 2e-4);
    }
}

#[test]
fn a_card_learns_the_task() {
    let Some((runtime, _lock)) = cuda() else {
        return;
    };
    let (model, _) = run(&runtime, &scratch(), &examples(300, 1), &on_card(options())).unwrap();
    let held = examples(60, 2);
    let texts: Vec<&str> = held.iter().map(|e| e.text.as_str()).collect();
    let serve = |device| ServeOptions {
        device,
        ..ServeOptions::default()
    };
    let mut card = Classifier::new(&runtime, &model, &serve(Device::Cuda(0))).unwrap();
    let mut host = Classifier::new(&runtime, &model, &serve(Device::Cpu)).unwrap();
    let (card, host) = (card.predict(&texts).unwrap(), host.predict(&texts).unwrap());
    let mut right = 0;
    for ((a, b), example) in card.iter().zip(&host).zip(&held) {
        right += usize::from(Target::Label(labels()[a.label].clone()) == example.target);
        for (p, q) in a.probabilities.iter().zip(&b.probabilities) {
            assert!((p - q).abs() < 1e-3, "{p} vs {q}");
        }
    }
    assert!(right >= 54, "{right} of 60");
}

#[test]
fn a_run_cut_off_on_a_card_goes_on_to_the_same_weights() {
    let Some((runtime, _lock)) = cuda() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let data = examples(100, 1);
    let whole = on_card(TrainOptions {
        epochs: 2,
        ..options()
    });
    let (expected, _) = run(&runtime, &scratch(), &data, &whole).unwrap();
    let cut = TrainOptions {
        checkpoint: Some(CheckpointOptions {
            path: folder.path().join("checkpoint"),
            every_steps: 1,
        }),
        ..whole
    };
    let cancel = AtomicBool::new(false);
    let hooks = Hooks {
        progress: &mut |progress| cancel.store(progress.step == 5, Ordering::Relaxed),
        cancel: &cancel,
    };
    let training = TrainingData {
        heads: &[Head::single(labels())],
        examples: &data,
        validation: &[],
    };
    let error = train(&runtime, &scratch(), &training, &cut, hooks).unwrap_err();
    assert!(matches!(error, SlmError::Cancelled { .. }), "{error}");
    let (resumed, _) = run(&runtime, &scratch(), &data, &cut).unwrap();
    // A card adds rows of a table in any order, so rounding may differ.
    println!("weights differ by {}", distance(&expected, &resumed));
    assert!(distance(&expected, &resumed) < 2e-4);
}
