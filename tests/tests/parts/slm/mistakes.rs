//! What a person does by mistake, or half way, and how the program helps.

use super::{good, json, rows, story, topic, train};

#[test]
fn labels_that_nobody_could_ask_for_are_told_with_file_and_line() {
    let story = story();
    let long = "x".repeat(257);
    for (label, part) in [
        (" care", "has spaces around it"),
        ("a\\u0007b", "control characters"),
        (long.as_str(), "257 bytes long"),
    ] {
        let strange = format!("{{\"text\":\"a\",\"label\":\"{label}\"}}\n");
        story.write("labels.jsonl", rows(topic) + &strange);
        let told = train(&story, "model", &["labels.jsonl"]);
        super::refused(&told, 2, &["`labels.jsonl` line 91", part]);
        assert!(!story.path().join("model").exists());
    }
    let many = "{\"text\":\"a\",\"label\":[\"cough\",\"a\\tb\"]}\n";
    story.write("labels.jsonl", many);
    let told = train(&story, "model", &["labels.jsonl", "--task", "multi-label"]);
    super::refused(&told, 2, &["`labels.jsonl` line 1", "control characters"]);
    let told = train(
        &story,
        "model",
        &["topics.jsonl", "--labels", "care, delay"],
    );
    super::refused(&told, 2, &["label 2", "spaces around it"]);
}

/// At 1e8 an f32 counts in steps of eight: the model cannot tell these numbers apart, and its
/// scores say so.
#[test]
fn numbers_far_from_zero_are_scored_as_they_stand_in_the_file() {
    let story = story();
    story.write(
        "balances.jsonl",
        rows(|i| {
            let balance = 100_000_000 + 2 * (i % 3);
            format!("{{\"text\":\"balance {}\",\"label\":{balance}}}", i % 3)
        }),
    );
    let number = ["balances.jsonl", "--task", "number"];
    good(train(&story, "model", &number));
    let score = ["slm", "evaluate", "model", "balances.jsonl", "--json"];
    let scores = json(&good(story.tell(&score)));
    let error = scores["mean_absolute_error"]["score"].as_f64().unwrap();
    assert!(error > 1.0, "{scores}");
    assert!(scores["r_squared"].as_f64().unwrap() < 0.5, "{scores}");
}

#[test]
fn a_file_whose_name_looks_like_a_name_and_a_file_is_not_lost() {
    let story = story();
    story.write("x=y.jsonl", rows(topic));
    let told = train(&story, "model", &["x=y.jsonl"]);
    super::refused(&told, 2, &["no file `y.jsonl`", "write `./x=y.jsonl`"]);
    good(train(&story, "model", &["./x=y.jsonl"]));
}

#[test]
fn a_group_column_that_is_not_there_is_called_that() {
    let story = story();
    good(train(&story, "model", &["topics.jsonl"]));
    let told = story.tell(&[
        "slm",
        "evaluate",
        "model",
        "topics.jsonl",
        "--group-column",
        "floor",
    ]);
    super::refused(&told, 2, &["no column `floor`", "holds the group"]);
}

#[test]
fn records_are_not_taken_for_a_checkpoint() {
    let story = story();
    let told = train(
        &story,
        "model",
        &["topics.jsonl", "--checkpoint", "topics.jsonl"],
    );
    super::refused(&told, 2, &["`topics.jsonl` is no checkpoint"]);
    assert_eq!(
        std::fs::read_to_string(story.path().join("topics.jsonl")).unwrap(),
        rows(topic)
    );
}

#[cfg(unix)]
#[test]
fn an_interrupted_training_stops_cleanly_and_the_same_command_goes_on() {
    let story = story();
    let line = |epochs: &'static str| {
        let mut line = vec!["slm", "train", "topics.jsonl", "--out", "model"];
        line.extend(super::SMALL);
        line.extend(["--checkpoint", "run.checkpoint", "--epochs", epochs]);
        line
    };
    let child = story.start(&line("1000"));
    // The first checkpoint says that it trains; the one written on the way out is a later one.
    let checkpoint = story.path().join("run.checkpoint");
    for _ in 0..600 {
        if checkpoint.exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let interrupted = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(interrupted.success());
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(4), "{said}");
    assert!(said.contains("goes on from `run.checkpoint`"), "{said}");
    let left: Vec<String> = std::fs::read_dir(story.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(".noisegate") || name == "model")
        .collect();
    assert_eq!(left, Vec::<String>::new());
    // Other options are told from a damaged file.
    let other = story.tell(&line("999"));
    super::refused(&other, 2, &["a run with other options"]);
}

const READ_AS_HEADS: &str = r#"
[workflow]
name = "rows"

[sites.clinic]

[data.symptoms]
site = "clinic"
path = "symptoms.jsonl"
private = true
labels = ["cough", "fever"]

[data.pain]
site = "clinic"
path = "pain.jsonl"
private = true
labels = ["pain"]

[data.pain-test]
site = "clinic"
path = "pain-test.csv"
private = true
labels = ["pain"]

[steps.train]
uses = "slm:train"
site = "clinic"
reads = { records = ["data.symptoms", "data.pain"] }
with = { tasks = "symptoms:multi-label = data.symptoms, pain:number = data.pain" }

[steps.judge]
uses = "slm:evaluate"
site = "clinic"
reads = { model = "train.model", records = "data.pain-test" }
with = { head = "pain" }
"#;

/// Rows are looked at as the run will read them: a number is no bad label, nor a bad number good.
#[test]
fn rows_are_looked_at_as_their_head_reads_them() {
    let story = story();
    story.write("workflow.toml", READ_AS_HEADS);
    story.write("pain.jsonl", "{\"text\":\"it hurts\",\"label\":2.5}\n");
    story.write("pain-test.csv", "text,label\nit hurts,2.5\n");
    let check = || story.tell(&["check", "workflow.toml", "--rows"]);
    let told = good(check());
    assert_eq!(told.out.matches("can be read").count(), 3, "{}", told.out);
    story.write("pain.jsonl", "{\"text\":\"it hurts\",\"label\":\"nan\"}\n");
    story.write("pain-test.csv", "text,label\nit hurts,\"1,5\"\n");
    super::refused(
        &check(),
        2,
        &[
            "pain.jsonl` line 1: the label is no number",
            "pain-test.csv` line 2: the label is no number",
        ],
    );
}
