//! Runs that are cut off, and batches that are cut up.

mod common;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use common::task::{examples, labels, options, run, scratch};
use noisegate_slm::train::{CheckpointOptions, train};
use noisegate_slm::{
    Base, Head, Hooks, Model, Progress, Runtime, ScratchConfig, SlmError, TrainOptions,
    TrainingData, Vocabulary,
};

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
    let (heads, examples) = ([Head::single(labels())], examples(100, 1));
    let data = TrainingData {
        heads: &heads,
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

const CHECKPOINT: &str = "NOISEGATE_TEST_CHECKPOINT";

/// No test of its own: the process that the test below kills.
#[test]
#[ignore = "run by `a_killed_process_...`"]
fn a_process_that_trains() {
    let (Some(runtime), Ok(path)) = (common::runtime(), std::env::var(CHECKPOINT)) else {
        return;
    };
    let path = PathBuf::from(path);
    let (heads, examples) = ([Head::single(labels())], examples(100, 1));
    let data = TrainingData {
        heads: &heads,
        examples: &examples,
        validation: &[],
    };
    let hooks = Hooks {
        progress: &mut |progress| println!("\nstep {}", progress.step),
        cancel: &AtomicBool::new(false),
    };
    let (model, _) = train(&runtime, &scratch(), &data, &checkpointed(&path), hooks).unwrap();
    model.save(&path.with_extension("model"), "").unwrap();
}

fn start(checkpoint: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "a_process_that_trains",
            "--nocapture",
        ])
        .env(CHECKPOINT, checkpoint)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// SIGKILL, at a step of each run or while a checkpoint is being written (one is written after
/// every step, so a kill soon after a step often falls into it).
#[cfg(unix)]
#[test]
fn a_killed_process_goes_on_and_ends_with_the_same_weights_bit_for_bit() {
    let Some(runtime) = common::runtime() else {
        return;
    };
    let whole = TrainOptions {
        checkpoint: None,
        ..checkpointed(Path::new(""))
    };
    let (expected, _) = run(&runtime, &scratch(), &examples(100, 1), &whole).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.checkpoint");
    for (step, pause_us) in [(1, 0), (3, 300), (5, 900), (6, 1500), (12, 100), (13, 2500)] {
        let mut child = start(&path);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let seen = lines.map_while(Result::ok).any(|line| {
            let told = line
                .strip_prefix("step ")
                .and_then(|n| n.parse::<usize>().ok());
            told.is_some_and(|told| told >= step)
        });
        assert!(seen, "the process ended before step {step}");
        std::thread::sleep(std::time::Duration::from_micros(pause_us));
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success());
        assert!(path.exists() || step == 1);
    }
    let mut child = start(&path);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let steps = lines
        .map_while(Result::ok)
        .filter(|line| line.starts_with("step "));
    assert!(
        steps.count() <= 6,
        "the last run did not go on from where the others stood"
    );
    assert!(child.wait().unwrap().success());
    let resumed = Model::read(&path.with_extension("model")).unwrap();
    assert_eq!(expected.weights, resumed.weights);
}

#[test]
fn a_checkpoint_of_other_data_or_another_model_is_refused() {
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
        ..options.clone()
    };
    let error = run(&runtime, &scratch(), &examples(100, 1), &other).unwrap_err();
    assert!(matches!(error, SlmError::Checkpoint { .. }), "{error}");
    let wider = Base::Scratch(ScratchConfig {
        intermediate: 96,
        layers: 2,
        hidden: 32,
        heads: 2,
        length_max: 32,
        vocabulary: Vocabulary::Train { size: 200 },
    });
    let error = run(&runtime, &wider, &examples(100, 1), &options).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("another model") && error.contains("remove it"),
        "{error}"
    );
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
