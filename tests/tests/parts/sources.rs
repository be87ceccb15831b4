//! What a file of samples weighs beside private rows.

use noisegate_tests::{Story, Told};
use serde_json::Value;

const BESIDE: &str = r#"
[workflow]
name = "beside"

[sites.clinic]

[data.rows]
site = "clinic"
path = "rows.jsonl"
private = true
labels = ["billing", "care", "delay"]

[data.sent]
site = "clinic"
path = "sent.jsonl"
private = false
labels = ["billing", "care", "delay"]

[steps.train]
uses = "slm:train"
site = "clinic"
reads = { records = ["data.rows", "data.sent"] }
with = { epochs = 6, layers = 1, hidden = 32, heads = 2, intermediate = 32, learning_rate = 0.005, released_weight = WEIGHT }

[steps.score]
uses = "slm:evaluate"
site = "clinic"
reads = { model = "train.model", records = "data.rows" }
"#;

fn rows(count: usize, shift: usize) -> String {
    let words = ["invoice", "nurse", "waiting"];
    let labels = ["billing", "care", "delay"];
    let row = |i: usize| {
        let (word, label) = (words[i % 3], labels[(i + shift) % 3]);
        format!("{{\"text\":\"about the {word} again {i}\",\"label\":\"{label}\"}}\n")
    };
    (0..count).map(row).collect()
}

fn accuracy(workflow: &str, released_weight: &str) -> f64 {
    let story = Story::new();
    story.write("workflow.toml", workflow.replace("WEIGHT", released_weight));
    story.write("rows.jsonl", rows(90, 0));
    story.write("sent.jsonl", rows(270, 1));
    let told: Told = story.tell(&["run", "workflow.toml", "--json"]);
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    let summary: Value = serde_json::from_str(&told.out).unwrap();
    summary["scores"][0]["accuracy"].as_f64().unwrap()
}

/// The file that was sent says of every text something else than the private rows, and is larger.
#[test]
fn a_file_of_samples_weighs_what_released_weight_says() {
    assert!(accuracy(BESIDE, "0.0") > 0.9);
    assert!(accuracy(BESIDE, "1.0") < 0.5);
}

#[test]
fn a_public_data_set_with_a_head_of_its_own_is_what_is_trained_for() {
    let each = BESIDE
        .replace("epochs = 6", "tasks = \"each\", epochs = 6")
        .replace(
            "records = \"data.rows\" }",
            "records = \"data.sent\" }\nwith = { head = \"sent\" }",
        );
    assert!(accuracy(&each, "0.0") > 0.9);
}
