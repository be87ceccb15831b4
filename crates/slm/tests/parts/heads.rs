//! Heads beside the ordinary one: any of several labels, numbers, and several data sets at once.

use std::sync::atomic::AtomicBool;

use noisegate_slm::train::{ClassWeights, train};
use noisegate_slm::{
    Classifier, Example, Head, Hooks, Model, Prediction, Progress, Runtime, ServeOptions, SlmError,
    Summary, Target, Task, TrainOptions, TrainingData,
};

use super::common::task::{examples, labels, options, scratch};
use super::common::{Noise, runtime};

fn named(name: &str, head: Head) -> Head {
    Head {
        name: name.to_owned(),
        ..head
    }
}

fn run(
    runtime: &Runtime,
    heads: &[Head],
    examples: &[Example],
    options: &TrainOptions,
) -> Result<(Model, Summary), SlmError> {
    let data = TrainingData {
        heads,
        examples,
        validation: &[],
    };
    let hooks = Hooks {
        progress: &mut |_| {},
        cancel: &AtomicBool::new(false),
    };
    train(runtime, &scratch(), &data, options, hooks)
}

/// Saved, read again, and asked: so that what a folder keeps is tested too.
fn ask(runtime: &Runtime, model: &Model, examples: &[Example]) -> Vec<Vec<Prediction>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    model.save(&path, "").unwrap();
    let model = Model::read_classifier(&path).unwrap();
    let mut classifier = Classifier::new(runtime, &model, &ServeOptions::default()).unwrap();
    let texts: Vec<&str> = examples.iter().map(|e| e.text.as_str()).collect();
    classifier.predict_all(&texts).unwrap()
}

const SYMPTOMS: [&str; 3] = ["cough", "fever", "rash"];

/// Texts that mention some of the symptoms, perhaps none.
fn symptoms(count: usize, seed: u64) -> Vec<Example> {
    let mut noise = Noise(seed);
    let example = |_| {
        let mut text = vec!["please", "help", "since", "today"];
        let mut found = Vec::new();
        for symptom in SYMPTOMS {
            if noise.next() > 0.0 {
                text.push(symptom);
                found.push(symptom.to_owned());
            }
        }
        Example {
            target: Target::Labels(found),
            ..Example::labelled(text.join(" "), "")
        }
    };
    (0..count).map(example).collect()
}

/// Texts whose pain, 10 to 90, is how often they say "very".
fn pains(count: usize, seed: u64) -> Vec<Example> {
    let mut noise = Noise(seed);
    let example = |_| {
        let very = ((noise.next() + 1.0) * 4.49) as usize;
        let text = format!("it hurts {}much", "very ".repeat(very));
        Example {
            target: Target::Numbers(vec![10.0 + 10.0 * very as f64]),
            ..Example::labelled(text, "")
        }
    };
    (0..count).map(example).collect()
}

fn numbers(example: &Example) -> f64 {
    match &example.target {
        Target::Numbers(numbers) => numbers[0],
        other => panic!("{other:?}"),
    }
}

#[test]
fn any_of_several_labels_can_be_learned() {
    let Some(runtime) = runtime() else { return };
    let heads = [Head::only(Task::MultiLabel, SYMPTOMS)];
    let options = TrainOptions {
        class_weights: ClassWeights::Balanced,
        epochs: 12,
        ..options()
    };
    let (model, _) = run(&runtime, &heads, &symptoms(400, 1), &options).unwrap();
    let test = symptoms(100, 2);
    let mut right = 0;
    for (predictions, example) in ask(&runtime, &model, &test).iter().zip(&test) {
        let yes = predictions[0].probabilities.iter().map(|p| *p > 0.5);
        let found = yes.zip(SYMPTOMS).filter(|(yes, _)| *yes);
        let found: Vec<String> = found.map(|(_, symptom)| symptom.to_owned()).collect();
        right += usize::from(Target::Labels(found) == example.target);
    }
    assert!(right >= 95, "{right} of 100 texts have all labels right");
}

#[test]
fn a_number_can_be_learned_and_comes_out_in_its_own_unit() {
    let Some(runtime) = runtime() else { return };
    let heads = [Head::only(Task::Number, ["pain"])];
    let options = TrainOptions {
        epochs: 30,
        learning_rate: 4e-3,
        validation_share: 0.1,
        ..options()
    };
    let (model, summary) = run(&runtime, &heads, &pains(400, 1), &options).unwrap();
    assert_eq!(summary.validation.unwrap().accuracy, None);
    let test = pains(100, 2);
    let errors = ask(&runtime, &model, &test);
    let errors = errors.iter().zip(&test).map(|(predictions, example)| {
        assert!(predictions[0].probabilities.is_empty());
        (f64::from(predictions[0].numbers[0]) - numbers(example)).abs()
    });
    let mean = errors.sum::<f64>() / 100.0;
    assert!(mean < 5.0, "off by {mean} of 80 on average");
}

/// In which unit a number is, and where its zero, is no business of the training.
#[test]
fn numbers_far_from_zero_are_learned_as_well_as_those_around_it() {
    let Some(runtime) = runtime() else { return };
    let heads = [Head::only(Task::Number, ["pain"])];
    let options = TrainOptions {
        epochs: 4,
        ..options()
    };
    let moved = |by: f64| {
        let mut examples = pains(200, 1);
        for example in &mut examples {
            example.target = Target::Numbers(vec![numbers(example) + by]);
        }
        let (model, _) = run(&runtime, &heads, &examples, &options).unwrap();
        let errors = ask(&runtime, &model, &examples);
        let errors = errors.iter().zip(&examples);
        let errors =
            errors.map(|(told, example)| (f64::from(told[0].numbers[0]) - numbers(example)).abs());
        errors.sum::<f64>() / 200.0
    };
    let (near, far) = (moved(-50.0), moved(3000.0));
    assert!((near - far).abs() < 0.5, "off by {near} and by {far}");
}

#[test]
fn several_data_sets_share_one_encoder() {
    let Some(runtime) = runtime() else { return };
    let heads = [
        named("topic", Head::single(labels())),
        named("symptoms", Head::only(Task::MultiLabel, SYMPTOMS)),
        named("pain", Head::only(Task::Number, ["pain"])),
    ];
    let of_head = |head: usize, examples: Vec<Example>| {
        let all = examples.into_iter();
        all.map(move |example| Example { head, ..example })
    };
    let data: Vec<Example> = of_head(0, examples(400, 1))
        .chain(of_head(1, symptoms(300, 1)))
        .chain(of_head(2, pains(300, 1)))
        .collect();
    let options = TrainOptions {
        epochs: 8,
        validation_share: 0.1,
        ..options()
    };
    let (model, summary) = run(&runtime, &heads, &data, &options).unwrap();
    assert_eq!(model.outputs(), 7);
    assert!(summary.validation.unwrap().accuracy.unwrap() > 0.9);
    let test = examples(150, 2);
    let answers = ask(&runtime, &model, &test);
    let right = answers.iter().zip(&test).filter(|(heads, example)| {
        example.target == Target::Label(labels()[heads[0].label].clone())
    });
    assert!(right.count() >= 140);
    let test = pains(100, 2);
    let answers = ask(&runtime, &model, &test);
    let errors = answers.iter().zip(&test);
    let errors =
        errors.map(|(heads, example)| (f64::from(heads[2].numbers[0]) - numbers(example)).abs());
    let mean = errors.sum::<f64>() / 100.0;
    assert!(mean < 8.0, "off by {mean} of 80 on average");
}

#[test]
fn an_example_that_does_not_fit_its_head_is_refused_before_training() {
    let Some(runtime) = runtime() else { return };
    let heads = [
        named("topic", Head::single(labels())),
        named("pain", Head::only(Task::Number, ["pain"])),
    ];
    let error = |change: fn(&mut Vec<Example>)| {
        let mut data = examples(30, 1);
        let pains = pains(30, 1).into_iter();
        data.extend(pains.map(|example| Example { head: 1, ..example }));
        change(&mut data);
        run(&runtime, &heads, &data, &options())
            .unwrap_err()
            .to_string()
    };
    let wrong = error(|data| data[40].target = Target::Label("billing".to_owned()));
    assert!(
        wrong.contains("example 40 does not fit the number head `pain`, which wants 1 finite"),
        "{wrong}"
    );
    let wrong = error(|data| data[40].target = Target::Numbers(vec![f64::NAN]));
    assert!(wrong.contains("finite numbers"), "{wrong}");
    let wrong = error(|data| data[3].head = 2);
    assert!(wrong.contains("the heads are `topic`, `pain`"), "{wrong}");
    let wrong = error(|data| data.truncate(30));
    assert!(
        wrong.contains("no example trains the head `pain`"),
        "{wrong}"
    );
}

#[test]
fn an_empty_class_is_refused_unless_it_is_meant() {
    let Some(runtime) = runtime() else { return };
    let mut data = examples(60, 5);
    data.retain(|example| example.target != Target::Label("drugs".to_owned()));
    let heads = [Head::single(labels())];
    let error = run(&runtime, &heads, &data, &options())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no training example has `drugs`") && error.contains("take it off the list"),
        "{error}"
    );
}

#[test]
fn texts_that_the_tokenizer_cannot_read_are_refused() {
    let Some(runtime) = runtime() else { return };
    let clean = examples(60, 5);
    let texts = clean.iter().map(|e| e.text.as_str());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("base");
    let base = Model::from_base(&scratch(), texts, 1).unwrap();
    base.save(&path, "").unwrap();
    let mut data = clean.clone();
    data[7..21]
        .iter_mut()
        .for_each(|e| e.text = "\u{4e00}\u{4e01}".to_owned());
    let heads = [Head::single(labels())];
    let training = TrainingData {
        heads: &heads,
        examples: &data,
        validation: &[],
    };
    let hooks = Hooks {
        progress: &mut |_| {},
        cancel: &AtomicBool::new(false),
    };
    let base = noisegate_slm::Base::Folder(path);
    let error = train(&runtime, &base, &training, &options(), hooks).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("14 of 60 texts, first example 7, hold no token the model knows"),
        "{error}"
    );
}

#[test]
fn a_class_weight_turns_the_balance_and_a_wrong_one_is_refused() {
    let Some(runtime) = runtime() else { return };
    // The text says nothing: only weights can.
    let mut data = examples(90, 1);
    data.iter_mut()
        .for_each(|e| e.text = "please help today".to_owned());
    let heads = [Head::single(labels())];
    let weighed = |factor: f32, label: &str| TrainOptions {
        class_weights: ClassWeights::Given(vec![(label.to_owned(), factor)]),
        ..options()
    };
    let (model, _) = run(&runtime, &heads, &data, &weighed(5.0, "drugs")).unwrap();
    let told = &ask(&runtime, &model, &data[..1])[0][0];
    assert!(told.label == 2 && told.probabilities[2] > 0.5, "{told:?}");
    for (factor, label) in [(0.0, "drugs"), (f32::NAN, "drugs"), (1.0, "weather")] {
        let error = run(&runtime, &heads, &data, &weighed(factor, label)).unwrap_err();
        assert!(matches!(error, SlmError::ClassWeight { .. }), "{error}");
    }
}

#[test]
fn synthetic_examples_can_go_first_and_real_ones_have_the_last_word() {
    let Some(runtime) = runtime() else { return };
    // The language model has mixed two labels up; the real rows set it right.
    let mut data = examples(120, 1);
    let mut written = examples(300, 2);
    for example in &mut written {
        example.synthetic = true;
        if example.target == Target::Label("billing".to_owned()) {
            example.target = Target::Label("visits".to_owned());
        }
    }
    data.extend(written);
    let heads = [Head::single(labels())];
    let options = TrainOptions {
        epochs: 30,
        released_first: Some(2),
        allow_empty_labels: true,
        validation_share: 0.1,
        ..options()
    };
    let mut stages: Vec<(usize, usize)> = Vec::new();
    let training = TrainingData {
        heads: &heads,
        examples: &data,
        validation: &[],
    };
    let mut hear = |progress: &Progress| stages.push(progress.stage);
    let hooks = Hooks {
        progress: &mut hear,
        cancel: &AtomicBool::new(false),
    };
    let (model, summary) = train(&runtime, &scratch(), &training, &options, hooks).unwrap();
    assert_eq!(summary.examples, 300 + 108);
    stages.dedup();
    assert_eq!(stages, [(1, 2), (2, 2)]);
    let test = examples(90, 3);
    let right = ask(&runtime, &model, &test);
    let right = right.iter().zip(&test).filter(|(heads, example)| {
        example.target == Target::Label(labels()[heads[0].label].clone())
    });
    let right = right.count();
    assert!(right >= 80, "{right} of 90");
    let real = &data[..120];
    let error = run(&runtime, &heads, real, &options)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("both released records and others"),
        "{error}"
    );
}
