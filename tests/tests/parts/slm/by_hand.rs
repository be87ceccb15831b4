//! A person trains a model, goes on from a checkpoint, scores, asks, rounds and exports it.

use serde_json::Value;

use super::{good, json, story, train};

#[test]
fn a_person_trains_scores_asks_embeds_and_exports() {
    let story = story();
    good(train(
        &story,
        "model",
        &[
            "topics.jsonl",
            "--validation-share",
            "0.2",
            "--epochs",
            "12",
        ],
    ));
    good(train(
        &story,
        "weak",
        &["topics.jsonl", "--epochs", "1", "--learning-rate", "1e-6"],
    ));
    let score = [
        "slm",
        "evaluate",
        "model",
        "topics.jsonl",
        "--group-column",
        "ward",
        "--baseline",
        "weak",
        "--out",
        "scores",
    ];
    let told = good(story.tell(&score));
    for part in [
        "macro-F1",
        "95 % interval",
        "north",
        "against weak",
        "truth \\ predicted",
    ] {
        assert!(told.out.contains(part), "`{part}` is not in: {}", told.out);
    }
    let page = std::fs::read_to_string(story.path().join("scores/report.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("ward"), "{page}");
    let scores = std::fs::read_to_string(story.path().join("scores/report.json")).unwrap();
    let scores: Value = serde_json::from_str(&scores).unwrap();
    assert!(scores["accuracy"].as_f64().unwrap() > 0.9, "{scores}");
    assert!(
        scores["comparison"]["accuracy"]["p_value"]
            .as_f64()
            .unwrap()
            < 0.05,
        "{scores}"
    );
    assert_eq!(scores["subgroups"]["groups"].as_array().unwrap().len(), 2);

    let card = std::fs::read_to_string(story.path().join("model/README.md")).unwrap();
    assert!(card.contains("**No label**: it was made by hand"), "{card}");

    let told = good(story.tell(&["slm", "predict", "model", "about the nurse again"]));
    assert_eq!(json(&told)["label"]["label"], "care", "{}", told.out);
    let told = good(story.tell(&["slm", "embed", "model", "about the nurse"]));
    let vector: Vec<f64> = serde_json::from_str(&told.out).unwrap();
    let norm: f64 = vector.iter().map(|v| v * v).sum();
    assert!(vector.len() == 32 && (norm - 1.0).abs() < 1e-4);
    good(story.tell(&["slm", "export", "model", "model.onnx"]));
    assert!(story.path().join("model.onnx").is_file());
    let again = story.tell(&["slm", "export", "model", "model.onnx"]);
    super::refused(&again, 2, &["model.onnx", "exists already"]);
}

/// A ward may be unknown, and be a number.
#[test]
fn groups_may_be_empty_or_numbers() {
    let story = story();
    good(train(&story, "model", &["topics.jsonl"]));
    let ward = |i: usize| ["null", "7", "\"\"", "\"north\"", "2.5"][i % 5];
    story.write(
        "wards.jsonl",
        super::rows(|i| {
            let text = format!("{{\"text\":\"about the nurse again {}\"", i % 7);
            format!("{text},\"label\":\"care\",\"ward\":{}}}", ward(i))
        }),
    );
    let score = ["slm", "evaluate", "model", "wards.jsonl", "--json"];
    let told = good(story.tell(&[&score[..], &["--group-column", "ward"]].concat()));
    let scores = json(&told);
    let groups = scores["subgroups"]["groups"].as_array().unwrap();
    let mut names: Vec<&str> = groups
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["", "2.5", "7", "north"], "{scores}");
    let table = [&score[..4], &["--group-column", "ward"]].concat();
    let told = good(story.tell(&table));
    assert!(told.out.contains("(none)"), "{}", told.out);
}

#[test]
fn eight_bit_products_are_scored_beside_f32_asked_and_exported() {
    let story = story();
    good(train(&story, "model", &["topics.jsonl"]));
    let score = ["slm", "evaluate", "model", "topics.jsonl", "--int8"];
    let told = good(story.tell(&score));
    for part in ["against the same model in f32", "baseline", "gain"] {
        assert!(told.out.contains(part), "`{part}` is not in: {}", told.out);
    }
    let told = good(story.tell(&[&score[..], &["--json"]].concat()));
    let comparison = &json(&told)["comparison"];
    assert!(
        comparison["accuracy"]["gain"]["score"].as_f64().unwrap() > -0.05,
        "{comparison}"
    );
    for (file, task, score) in [
        ("symptoms.jsonl", "multi-label", "micro_f1"),
        ("pain.csv", "number", "mean_absolute_error"),
    ] {
        good(train(&story, task, &[file, "--task", task]));
        let score_of = ["slm", "evaluate", task, file, "--int8"];
        let told = good(story.tell(&score_of));
        assert!(told.out.contains("the same model in f32:"), "{}", told.out);
        let told = json(&good(story.tell(&[&score_of[..], &["--json"]].concat())));
        let of = |scores: &Value| scores[score]["score"].as_f64().unwrap();
        assert!((of(&told) - of(&told["in_f32"])).abs() < 0.1, "{told}");
        let told = json(&good(
            story.tell(&["slm", "evaluate", task, file, "--json"]),
        ));
        assert!(told.get("in_f32").is_none(), "{told}");
    }
    let ask = ["slm", "predict", "model", "about the nurse again"];
    let exact = good(story.tell(&ask)).out;
    let rounded = good(story.tell(&[&ask[..], &["--int8"]].concat()));
    assert_eq!(json(&rounded)["label"]["label"], "care", "{}", rounded.out);
    assert_ne!(rounded.out, exact);
    let size = |file: &str| std::fs::metadata(story.path().join(file)).unwrap().len();
    good(story.tell(&["slm", "export", "model", "f32.onnx"]));
    good(story.tell(&["slm", "export", "model", "int8.onnx", "--int8"]));
    assert!(size("int8.onnx") < size("f32.onnx"));
}

#[test]
fn a_checkpoint_goes_on_where_it_stood_and_refuses_another_run() {
    let story = story();
    let checkpointed = [
        "topics.jsonl",
        "--checkpoint",
        "run.checkpoint",
        "--batch",
        "2",
    ];
    good(train(&story, "first", &checkpointed));
    assert!(story.path().join("run.checkpoint").is_file());
    good(train(&story, "second", &checkpointed));
    let weights = |name: &str| std::fs::read(story.path().join(name).join("model.safetensors"));
    assert_eq!(weights("first").unwrap(), weights("second").unwrap());
    let other = [
        "symptoms.jsonl",
        "--task",
        "multi-label",
        "--checkpoint",
        "run.checkpoint",
    ];
    let told = train(&story, "third", &other);
    super::refused(
        &told,
        2,
        &["run.checkpoint", "another model", "remove it to start anew"],
    );
    let bytes = std::fs::read(story.path().join("run.checkpoint")).unwrap();
    story.write("run.checkpoint", &bytes[..bytes.len() - 9]);
    let told = train(&story, "third", &checkpointed);
    super::refused(
        &told,
        2,
        &["run.checkpoint", "damaged", "start the run anew"],
    );
}
