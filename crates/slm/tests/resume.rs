//! Runs that are cut off, and batches that are cut up.

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use common::task::{examples, labels, options, run, scratch};
use noisegate_slm::train::{CheckpointOptions, train};
use noisegate_slm::{Hooks, Progress, Runtime, SlmError, TrainOptions, TrainingData};

fn checkpointed(path: &Path) -> TrainOptions {
    TrainOptions {
        epochs: 3,
        dropout: 0.1,
        validation_share: 0.1,
        checkpoint: Some(CheckpointOptions {
            path: path.to_owned(),
            every_steps: 1,
        }),
        ..options()
    }
}

/// Trains until `step`, then is cancelled.
fn run_until(runtime: &Runtime, step: usize, options: &TrainOptions) -> SlmError {
    let (labels, examples) = (labels(), examples(100, 1));
    let data = TrainingData {
        labels: &labels,
        examples: &examples,
        validation: &[],
    };
    let cancel = AtomicBool::new(false);
    let mut stop = |progress: &Progress| {
        cancel.store(progress.step == step, Ordering::Relaxed);
    };
    let hooks = Hooks {
        progress: &mut stop,
        cancel: &cancel,
    };
    train(runtime, &scratch(), &data, options, hooks).unwrap_err()
}

#[test]
fn a_run_cut_off_anywhere_ends_with_the_same_weights_bit_for_bit() {
    let Some(runtime) = common::runtime() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let data = examples(100, 1);
    let whole = TrainOptions {
        checkpoint: None,
        ..checkpointed(Path::new(""))
    };
    let (expected, summary) = run(&runtime, &scratch(), &data, &whole).unwrap();
    assert_eq!(summary.steps, 18);
    // In the middle of an epoch, at the end of one, and twice in one run.
    for stops in [vec![4], vec![6], vec![1, 13]] {
        let path = folder
            .path()
            .join(format!("{}.checkpoint", stops.len() + stops[0]));
        let options = checkpointed(&path);
        for stop in stops {
            let error = run_until(&runtime, stop, &options);
            assert!(matches!(error, SlmError::Cancelled { .. }), "{error}");
        }
        let (resumed, again) = run(&runtime, &scratch(), &data, &options).unwrap();
        assert_eq!(expected.weights, resumed.weights);
        assert_eq!(
            (summary.validation, summary.loss),
            (again.validation, again.loss)
        );
    }
}

#[test]
fn a_checkpoint_of_other_data_is_refused() {
    let Some(runtime) = common::runtime() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let options = checkpointed(&folder.path().join("run.checkpoint"));
    run_until(&runtime, 2, &options);
    let error = run(&runtime, &scratch(), &examples(100, 2), &options).unwrap_err();
    assert!(matches!(error, SlmError::Checkpoint { .. }), "{error}");
    let other = TrainOptions {
        learning_rate: 1e-3,
        ..options
    };
    let error = run(&runtime, &scratch(), &examples(100, 1), &other).unwrap_err();
    assert!(matches!(error, SlmError::Checkpoint { .. }), "{error}");
}

#[test]
fn micro_batches_make_the_same_step() {
    let Some(runtime) = common::runtime() else {
        return;
    };
    let data = examples(50, 1);
    let whole = TrainOptions {
        epochs: 1,
        steps_max: Some(3),
        ..options()
    };
    let parts = TrainOptions {
        micro_batch: Some(5),
        ..whole.clone()
    };
    let (expected, _) = run(&runtime, &scratch(), &data, &whole).unwrap();
    let (found, _) = run(&runtime, &scratch(), &data, &parts).unwrap();
    for (name, array) in expected.weights.iter() {
        // The key bias has no gradient but rounding, which Adam scales up to a full step.
        if name.ends_with("key.bias") {
            continue;
        }
        let pairs = array
            .data
            .iter()
            .zip(&found.weights.get(name).unwrap().data);
        let largest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(largest < 1e-4, "{name}: {largest}");
    }
}
