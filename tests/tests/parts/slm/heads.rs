//! One encoder with several heads, a data set each: by hand, and in a workflow that compares.

use serde_json::Value;

use super::{good, json, rows, story, topic, train};

#[test]
fn one_encoder_learns_three_data_sets_and_each_head_is_scored() {
    let story = story();
    let tasks =
        "topic = data.topics, symptoms:multi-label = data.symptoms, pain:number = data.pain";
    let line = [
        "topics.jsonl",
        "symptoms.jsonl",
        "pain.csv",
        "--tasks",
        tasks,
        "--epochs",
        "12",
    ];
    good(train(&story, "model", &line));
    let told = good(story.tell(&["slm", "predict", "model", "only a cough"]));
    let said = json(&told);
    assert_eq!(
        said["symptoms"]["labels"],
        serde_json::json!(["cough"]),
        "{said}"
    );
    assert!(
        said["pain"].is_number() && said["topic"]["label"].is_string(),
        "{said}"
    );
    let score = |file: &str, head: &str| {
        json(&good(story.tell(&[
            "slm", "evaluate", "model", file, "--head", head, "--json",
        ])))
    };
    assert!(score("topics.jsonl", "topic")["accuracy"].as_f64().unwrap() > 0.9);
    assert!(
        score("symptoms.jsonl", "symptoms")["micro_f1"]["score"]
            .as_f64()
            .unwrap()
            > 0.9
    );
    assert!(
        score("pain.csv", "pain")["mean_absolute_error"]["score"]
            .as_f64()
            .unwrap()
            < 0.7
    );
    let told = story.tell(&["slm", "evaluate", "model", "topics.jsonl"]);
    super::refused(
        &told,
        2,
        &["there are several", "`topic`, `symptoms`, `pain`"],
    );
    let told = story.tell(&["slm", "evaluate", "model", "topics.jsonl", "--head", "mood"]);
    super::refused(&told, 2, &["no head `mood`", "`topic`"]);
}

/// What a test set declares is scored: of other labels nobody said whether a record has them.
#[test]
fn labels_that_a_test_set_does_not_declare_are_not_scored() {
    let story = story();
    let many = ["symptoms.jsonl", "--task", "multi-label"];
    good(train(&story, "model", &many));
    story.write(
        "coughs.jsonl",
        rows(|_| "{\"text\":\"cough and fever\",\"label\":[\"cough\"]}".to_owned()),
    );
    let score = ["slm", "evaluate", "model", "coughs.jsonl", "--json"];
    let all = json(&good(story.tell(&score)));
    assert!(all["micro_f1"]["score"].as_f64().unwrap() < 0.9, "{all}");
    let declared = [&score[..], &["--labels", "cough"]].concat();
    let one = json(&good(story.tell(&declared)));
    assert_eq!(one["micro_f1"]["score"], 1.0, "{one}");
}

const ONE_PATIENT: &str = r#"
[workflow]
name = "one-patient"

[sites.clinic]

[data.topics]
site = "clinic"
path = "topics.jsonl"
private = true
unit = "patient"
labels = ["billing", "care", "delay"]

[steps.train]
uses = "slm:train"
site = "clinic"
reads = { records = "data.topics" }
with = { epochs = 1, layers = 1, hidden = 16, heads = 2, intermediate = 16, validation_share = 0.1 }
"#;

/// The best epoch is not chosen by texts of a person who was seen in training.
#[test]
fn a_patients_records_are_held_back_together_or_not_at_all() {
    let story = story();
    story.write("workflow.toml", ONE_PATIENT);
    let of = |patients: usize| {
        rows(|i| topic(i).replace('{', &format!("{{\"patient\":\"P{}\",", i % patients)))
    };
    story.write("topics.jsonl", of(1));
    let told = story.tell(&["run", "workflow.toml"]);
    super::refused(&told, 2, &["`validation_share` is 0.1", "one privacy unit"]);
    let by_hand = [
        "topics.jsonl",
        "--unit-column",
        "patient",
        "--validation-share",
        "0.1",
    ];
    let told = train(&story, "model", &by_hand);
    super::refused(&told, 2, &["`validation_share` is 0.1", "one privacy unit"]);
    story.write("topics.jsonl", of(10));
    good(train(&story, "model", &by_hand));
    good(story.tell(&["run", "workflow.toml"]));
}

const TWO_DATA_SETS: &str = r#"
[workflow]
name = "several"

[sites.clinic]

[data.topics]
site = "clinic"
path = "topics.jsonl"
private = true
labels = ["billing", "care", "delay"]

[data.pain]
site = "clinic"
path = "pain.csv"
private = true
labels = ["pain"]

[data.test]
site = "clinic"
path = "test.jsonl"
private = true
labels = ["billing", "care", "delay"]

[data.pain-test]
site = "clinic"
path = "pain-test.csv"
private = true
labels = ["pain"]

[steps.train]
uses = "slm:train"
site = "clinic"
reads = { records = ["data.topics", "data.pain"] }
with = { tasks = "topic = data.topics, pain:number = data.pain", epochs = 8, layers = 1, hidden = 32, heads = 2, intermediate = 32, learning_rate = 0.005, validation_share = 0.1, patience = 4, schedule = "cosine", rows_at_once = 16 }

[steps.weak]
uses = "slm:train"
site = "clinic"
reads = { records = "data.topics" }
with = { epochs = 1, layers = 1, hidden = 16, heads = 2, intermediate = 16, learning_rate = 1e-6 }

[steps.topics]
uses = "slm:evaluate"
site = "clinic"
reads = { model = "train.model", records = "data.test" }
with = { head = "topic", group_column = "ward" }

[steps.pain]
uses = "slm:evaluate"
site = "clinic"
reads = { model = "train.model", records = "data.pain-test" }
with = { head = "pain" }

[steps.compare]
uses = "slm:evaluate"
site = "clinic"
reads = { model = "weak.model", baseline = "weak.model", records = "data.test" }
"#;

#[test]
fn a_workflow_trains_two_data_sets_with_one_encoder_and_compares() {
    let story = story();
    story.write("workflow.toml", TWO_DATA_SETS);
    story.write("test.jsonl", rows(|i| topic(i + 1)));
    let pain = std::fs::read(story.path().join("pain.csv")).unwrap();
    story.write(
        "pain-test.csv",
        [pain, b"it hurts some,2.5\n".to_vec()].concat(),
    );
    let told = good(story.tell(&["run", "workflow.toml", "--json"]));
    let summary = json(&told);
    let scores = summary["scores"].as_array().unwrap();
    let of = |step: &str| scores.iter().find(|one| one["step"] == step).unwrap();
    assert!(
        of("topics")["accuracy"].as_f64().unwrap() > 0.9,
        "{summary}"
    );
    assert!(
        of("pain")["mean_absolute_error"]["score"].is_number(),
        "{summary}"
    );
    let made = summary["artifacts"].as_array().unwrap().iter();
    let model = made.clone().find(|one| one["name"] == "train.model");
    let folder = story.path().join(model.unwrap()["path"].as_str().unwrap());
    let card = std::fs::read_to_string(folder.join("README.md")).unwrap();
    for part in [
        "**private to clinic**: it read private records",
        "| records | `data.pain` | private to clinic |",
        "Nothing it read was released from private records",
    ] {
        assert!(card.contains(part), "`{part}` is not in {card}");
    }
    let shown = good(story.tell(&["show"]));
    assert!(shown.out.contains("mean error"), "{}", shown.out);
    let artifacts = summary["artifacts"].as_array().unwrap();
    let report = artifacts
        .iter()
        .find(|one| one["name"] == "compare.report")
        .unwrap();
    let report = story.path().join(report["path"].as_str().unwrap());
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    // A model gains nothing over itself.
    assert_eq!(
        report["comparison"]["accuracy"]["gain"]["score"], 0.0,
        "{report}"
    );
    assert_eq!(report["comparison"]["baseline"], "weak.model");
}
