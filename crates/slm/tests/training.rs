//! Whole runs of a small encoder on data that can be told apart.

mod common;
#[path = "parts/heads.rs"]
mod heads;

use std::sync::atomic::AtomicBool;

use common::task::{examples, labels, options, run, scratch};
use noisegate_slm::train::train;
use noisegate_slm::{
    Base, Classifier, Embedder, Example, Freeze, Head, Hooks, Lora, Model, Progress, Runtime,
    ServeOptions, SlmError, Target, TrainOptions, TrainingData,
};

fn accuracy(runtime: &Runtime, model: &Model, examples: &[Example]) -> f64 {
    let mut classifier = Classifier::new(runtime, model, &ServeOptions::default()).unwrap();
    let texts: Vec<&str> = examples.iter().map(|e| e.text.as_str()).collect();
    let predictions = classifier.predict(&texts).unwrap();
    let right = predictions
        .iter()
        .zip(examples)
        .filter(|(p, e)| Target::Label(classifier.labels()[p.label].clone()) == e.target)
        .count();
    right as f64 / examples.len() as f64
}

#[test]
fn a_small_encoder_learns_what_can_be_learned() {
    let Some(runtime) = common::runtime() else {
        return;
    };
    let (model, summary) = run(&runtime, &scratch(), &examples(600, 1), &options()).unwrap();
    let accuracy = accuracy(&runtime, &model, &examples(300, 2));
    assert!(accuracy > 0.95, "{accuracy}");
    assert_eq!(summary.examples, 600);
    assert_eq!(summary.steps, 4 * 38);
    assert!(summary.empty_labels.is_empty());
    let error = model.expect_labels(&["billing".to_owned()]).unwrap_err();
    assert!(
        error.to_string().contains("`billing`, `visits`, `drugs`"),
        "{error}"
    );
    model.expect_labels(&labels()).unwrap();
}

#[test]
fn the_same_seed_gives_the_same_weights_bit_for_bit() {
    let Some(runtime) = common::runtime() else {
        return;
    };
    let options = TrainOptions {
        epochs: 1,
        dropout: 0.1,
        ..options()
    };
    let data = examples(150, 3);
    let (first, _) = run(&runtime, &scratch(), &data, &options).unwrap();
    let (second, _) = run(&runtime, &scratch(), &data, &options).unwrap();
    assert_eq!(first.weights, second.weights);
    let other = TrainOptions {
        seed: 12,
        ..options
    };
    let (third, _) = run(&runtime, &scratch(), &data, &other).unwrap();
    assert_ne!(first.weights, third.weights);
}

#[test]
fn a_row_does_not_depend_on_its_batch_mates() {
    let Some(runtime) = common::runtime() else {
        return;
    };
    let few = TrainOptions {
        steps_max: Some(5),
        ..options()
    };
    let (model, _) = run(&runtime, &scratch(), &examples(200, 4), &few).unwrap();
    let long = ["please help about my invoice today"; 4].join(" ");
    let texts = ["the refund", long.as_str(), "my tablet was"];
    let mut classifier = Classifier::new(&runtime, &model, &ServeOptions::default()).unwrap();
    let together = classifier.predict(&texts).unwrap();
    for (text, padded) in texts.iter().zip(&together) {
        let alone = &classifier.predict(&[text]).unwrap()[0];
        for (a, b) in alone.probabilities.iter().zip(&padded.probabilities) {
            assert!((a - b).abs() < 1e-5, "{text}: {a} vs {b}");
        }
    }
    let mut embedder = Embedder::new(&runtime, &model, &ServeOptions::default()).unwrap();
    let together = embedder.embed(&texts).unwrap();
    for (i, text) in texts.iter().enumerate() {
        let alone = embedder.embed(&[text]).unwrap();
        let largest = alone
            .row(0)
            .iter()
            .zip(together.row(i))
            .map(|(a, b)| (a - b).abs());
        assert!(largest.fold(0.0, f32::max) < 1e-5, "{text}");
        let norm: f32 = together.row(i).iter().map(|v| v * v).sum();
        assert!((norm - 1.0).abs() < 1e-5);
    }
}

#[test]
fn the_best_epoch_is_kept_and_patience_stops_early() {
    let Some(runtime) = common::runtime() else {
        return;
    };
    let options = TrainOptions {
        epochs: 30,
        learning_rate: 5e-3,
        validation_share: 0.2,
        patience: Some(2),
        ..options()
    };
    // A fifth of the labels is wrong: the encoder first learns, then learns by heart.
    let mut data = examples(200, 5);
    for example in data.iter_mut().step_by(5) {
        example.target = Target::Label("visits".to_owned());
    }
    let (_, summary) = run(&runtime, &scratch(), &data, &options).unwrap();
    let validation = summary.validation.unwrap();
    assert!(validation.accuracy.unwrap() > 0.6, "{summary:?}");
    assert_eq!(summary.examples, 160);
    assert!(summary.epochs < 30, "{summary:?}");
    assert_eq!(summary.epochs, summary.kept_epoch + 2);
}

#[test]
fn a_label_without_examples_and_unreadable_texts_are_noted() {
    let Some(runtime) = common::runtime() else {
        return;
    };
    let mut data = examples(60, 5);
    data.retain(|example| example.target != Target::Label("drugs".to_owned()));
    data[0].text = "\u{4e00}\u{4e01}".to_owned();
    data[1].text = ["help"; 200].join(" ");
    // Characters seen once are no part of the vocabulary that the file below was made with.
    let folder = tempfile::tempdir().unwrap();
    let clean = Model::from_base(&scratch(), data[2..].iter().map(|e| e.text.as_str()), 1).unwrap();
    clean.save(&folder.path().join("base"), "").unwrap();
    let base = Base::Folder(folder.path().join("base"));
    let few = TrainOptions {
        steps_max: Some(1),
        allow_empty_labels: true,
        ..options()
    };
    let (_, summary) = run(&runtime, &base, &data, &few).unwrap();
    assert_eq!(summary.empty_labels, ["drugs"]);
    assert_eq!((summary.only_unknown, summary.cut), (1, 1));
}

#[test]
fn weights_of_zero_teach_nothing() {
    let Some(runtime) = common::runtime() else {
        return;
    };
    let mut data = examples(300, 6);
    let mut lies = examples(300, 7);
    for lie in &mut lies {
        lie.target = Target::Label("billing".to_owned());
        lie.weight = 0.0;
    }
    data.extend(lies);
    let (model, _) = run(&runtime, &scratch(), &data, &options()).unwrap();
    let accuracy = accuracy(&runtime, &model, &examples(300, 8));
    assert!(accuracy > 0.95, "{accuracy}");
}

#[test]
fn a_stage_in_which_nothing_weighs_anything_is_refused() {
    let Some(runtime) = common::runtime() else {
        return;
    };
    let mut data = examples(90, 4);
    for example in data.iter_mut().step_by(2) {
        (example.synthetic, example.weight) = (true, 0.0);
    }
    let options = TrainOptions {
        released_first: Some(1),
        ..options()
    };
    let error = run(&runtime, &scratch(), &data, &options).unwrap_err();
    assert!(matches!(error, SlmError::NoExamples), "{error}");
}

#[test]
fn progress_counts_and_cancel_stops() {
    let Some(runtime) = common::runtime() else {
        return;
    };
    let data = examples(100, 9);
    let heads = [Head::single(labels())];
    let data = TrainingData {
        heads: &heads,
        examples: &data,
        validation: &[],
    };
    let cancel = AtomicBool::new(false);
    let mut heard: Vec<Progress> = Vec::new();
    let mut listen = |progress: &Progress| {
        heard.push(progress.clone());
        if progress.step == 5 {
            cancel.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    };
    let hooks = Hooks {
        progress: &mut listen,
        cancel: &cancel,
    };
    let error = train(&runtime, &scratch(), &data, &options(), hooks).unwrap_err();
    assert!(matches!(error, SlmError::Cancelled { step: 6 }), "{error}");
    assert_eq!(heard.len(), 5);
    assert_eq!((heard[4].step, heard[4].steps), (5, 28));
    assert!(
        heard
            .iter()
            .all(|p| p.loss.is_finite() && p.rows_per_second > 0.0)
    );
}

#[test]
fn a_loss_that_is_no_number_stops_with_the_step() {
    let Some(runtime) = common::runtime() else {
        return;
    };
    let options = TrainOptions {
        learning_rate: 1e38,
        warmup_share: 0.0,
        ..options()
    };
    let error = run(&runtime, &scratch(), &examples(200, 10), &options).unwrap_err();
    assert!(matches!(error, SlmError::Diverged { .. }), "{error}");
    assert!(
        error.to_string().contains("lower `learning_rate`")
            && error.to_string().contains("at step ")
            && error.to_string().contains("(learning rate 9."),
        "{error}"
    );
}

#[test]
fn bad_data_is_refused_before_training() {
    let Some(runtime) = common::runtime() else {
        return;
    };
    let error = |examples: &[Example]| {
        run(&runtime, &scratch(), examples, &options())
            .unwrap_err()
            .to_string()
    };
    assert!(error(&[]).contains("training set is empty"));
    let mut data = examples(30, 1);
    data[4].target = Target::Label("weather".to_owned());
    assert!(error(&data).contains("example 4 has the label `weather`"));
    let one: Vec<Example> = examples(30, 1)
        .into_iter()
        .filter(|e| e.target == Target::Label("billing".to_owned()))
        .collect();
    assert!(error(&one).contains("all 10 training examples have the label `billing`"));
    let mut data = examples(30, 1);
    data[2].weight = f32::NAN;
    assert!(error(&data).contains("example 2 has the weight NaN"));
    for shares in [[0.5, 0.6], [1.5, -0.5], [f32::NAN, 1.0]] {
        let mut data = examples(30, 1);
        let labels = ["billing", "drugs"].map(str::to_owned);
        data[3].target = Target::Shares(std::iter::zip(labels, shares).collect());
        assert!(error(&data).contains("sum to 1"), "{shares:?}");
    }
}

#[test]
fn a_label_and_all_of_the_share_teach_the_same() {
    let Some(runtime) = common::runtime() else {
        return;
    };
    let data = examples(60, 1);
    let mut shared = data.clone();
    for example in &mut shared {
        if let Target::Label(label) = &example.target {
            example.target = Target::Shares(vec![(label.clone(), 1.0)]);
        }
    }
    let options = TrainOptions {
        label_smoothing: 0.1,
        ..options()
    };
    let trained = |data: &[Example]| run(&runtime, &scratch(), data, &options).unwrap();
    let ((first, told), (second, again)) = (trained(&data), trained(&shared));
    assert_eq!(first.weights, second.weights);
    assert_eq!(told.empty_labels, again.empty_labels);
}

#[test]
fn frozen_parts_stay_as_they_are() {
    let Some(runtime) = common::runtime() else {
        return;
    };
    let data = examples(60, 1);
    let options = TrainOptions {
        epochs: 1,
        freeze: Freeze::Layers(1),
        ..options()
    };
    let texts = data.iter().map(|e| e.text.as_str());
    let before = Model::from_base(&scratch(), texts, options.seed).unwrap();
    let (after, _) = run(&runtime, &scratch(), &data, &options).unwrap();
    for (name, array) in before.weights.iter() {
        let frozen = name.starts_with("embeddings.") || name.starts_with("encoder.layer.0.");
        let same = after.weights.get(name).unwrap() == array;
        // The key bias has a zero gradient: softmax ignores what all scores of a row share.
        if !name.ends_with("key.bias") {
            assert_eq!(frozen, same, "{name}");
        }
    }
}

#[test]
fn adapters_learn_and_leave_nothing_behind() {
    let Some(runtime) = common::runtime() else {
        return;
    };
    // A base that saw other labels, then adapters for these.
    let data = examples(300, 1);
    let (mut base, _) = run(
        &runtime,
        &scratch(),
        &data,
        &TrainOptions {
            epochs: 1,
            ..options()
        },
    )
    .unwrap();
    base.heads.clear();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("base");
    base.save(&path, "").unwrap();
    let adapted = TrainOptions {
        epochs: 8,
        learning_rate: 1e-2,
        lora: Some(Lora {
            rank: 8,
            alpha: 16.0,
        }),
        ..options()
    };
    let (model, _) = run(&runtime, &Base::Folder(path), &data, &adapted).unwrap();
    let names = |model: &Model| -> Vec<String> {
        model.weights.iter().map(|(n, _)| n.to_owned()).collect()
    };
    assert_eq!(names(&base), names(&model));
    for (name, array) in base.weights.iter() {
        let product = name.starts_with("encoder.") && array.shape.len() == 2;
        let same = model.weights.get(name).unwrap() == array;
        assert_eq!(!product && !name.starts_with("classifier."), same, "{name}");
    }
    let accuracy = accuracy(&runtime, &model, &examples(300, 2));
    assert!(accuracy > 0.95, "{accuracy}");
}

#[test]
fn a_saved_model_predicts_the_same_and_is_never_half_written() {
    let Some(runtime) = common::runtime() else {
        return;
    };
    let few = TrainOptions {
        steps_max: Some(8),
        ..options()
    };
    let (model, _) = run(&runtime, &scratch(), &examples(200, 4), &few).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    model.save(&path, "# A model\n").unwrap();
    let read = Model::read_classifier(&path).unwrap();
    assert_eq!(read.weights, model.weights);
    assert_eq!(read.heads, model.heads);
    let texts = ["the refund", "my tablet was late", "zzz qqq"];
    let mut ours = Classifier::new(&runtime, &model, &ServeOptions::default()).unwrap();
    let mut theirs = Classifier::new(&runtime, &read, &ServeOptions::default()).unwrap();
    assert_eq!(
        ours.predict(&texts).unwrap(),
        theirs.predict(&texts).unwrap()
    );
    let error = model.save(&path, "").unwrap_err();
    assert!(matches!(error, SlmError::Exists { .. }), "{error}");
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(names.len(), 1, "nothing but the model is left");
    // A place that cannot be written leaves nothing behind.
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    assert!(matches!(
        model.save(&file.join("model"), ""),
        Err(SlmError::Write { .. })
    ));
}
