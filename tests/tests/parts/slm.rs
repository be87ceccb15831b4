//! Small models, by hand and in a workflow: every kind of head, and what is refused.

use noisegate_tests::{Story, Told};
use serde_json::Value;

/// Fast and small; the texts can be told apart by one word.
const SMALL: [&str; 14] = [
    "--layers",
    "1",
    "--hidden",
    "32",
    "--heads",
    "2",
    "--intermediate",
    "32",
    "--learning-rate",
    "0.005",
    "--epochs",
    "6",
    "--vocabulary",
    "300",
];

fn rows(row: impl Fn(usize) -> String) -> String {
    (0..90).map(|i| row(i) + "\n").collect()
}

fn topic(i: usize) -> String {
    let (word, label) = [
        ("invoice", "billing"),
        ("nurse", "care"),
        ("waiting", "delay"),
    ][i % 3];
    let ward = if i.is_multiple_of(2) {
        "north"
    } else {
        "south"
    };
    format!(
        "{{\"text\":\"about the {word} again {}\",\"label\":\"{label}\",\"ward\":\"{ward}\"}}",
        i % 7
    )
}

fn story() -> Story {
    let story = Story::new();
    story.write("topics.jsonl", rows(topic));
    story.write(
        "symptoms.jsonl",
        rows(|i| match i % 3 {
            0 => "{\"text\":\"cough and fever\",\"label\":[\"cough\",\"fever\"]}".to_owned(),
            1 => "{\"text\":\"only a cough\",\"label\":[\"cough\"]}".to_owned(),
            _ => "{\"text\":\"nothing at all\",\"label\":[]}".to_owned(),
        }),
    );
    story.write(
        "pain.csv",
        "text,label\n".to_owned()
            + &rows(|i| {
                format!(
                    "it hurts {},{}.5",
                    ["little", "some", "much"][i % 3],
                    2 * (i % 3)
                )
            }),
    );
    story
}

#[track_caller]
fn good(told: Told) -> Told {
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    told
}

fn train(story: &Story, out: &str, more: &[&str]) -> Told {
    let mut line = vec!["slm", "train", "--out", out];
    line.extend(SMALL);
    line.extend(more);
    story.tell(&line)
}

fn json(told: &Told) -> Value {
    serde_json::from_str(&told.out).unwrap_or_else(|error| panic!("{error}: {}", told.out))
}

#[test]
fn a_person_trains_scores_asks_embeds_and_exports() {
    let story = story();
    good(train(
        &story,
        "model",
        &["topics.jsonl", "--validation-share", "0.2"],
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

/// Never a slow answer by the processor when a card was asked for.
#[test]
fn a_card_that_is_not_there_is_refused() {
    let story = story();
    good(train(&story, "model", &["topics.jsonl"]));
    for line in [
        &["slm", "evaluate", "model", "topics.jsonl"][..],
        &["slm", "predict", "model", "about the nurse"],
        &["slm", "embed", "model", "about the nurse"],
    ] {
        let told = story.tell(&[line, &["--device", "cuda"]].concat());
        super::refused(&told, 2, &["cuda", "onnxruntime-gpu"]);
        assert!(told.out.is_empty(), "{}", told.out);
    }
    let told = story.tell(&["slm", "predict", "model", "x", "--device", "tpu"]);
    super::refused(&told, 2, &["`device` is tpu", "`cuda`"]);
}

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

#[test]
fn what_cannot_be_trained_on_is_refused_with_the_remedy() {
    let story = story();
    let refused = |words: &[&str], parts: &[&str]| {
        super::refused(&train(&story, "model", words), 2, parts);
        assert!(!story.path().join("model").exists());
    };
    refused(
        &["topics.jsonl", "--labels", "billing,care,delay,praise"],
        &["no training example has `praise`", "allow empty labels"],
    );
    story.write("one.jsonl", rows(|_| topic(0)));
    refused(
        &[
            "one.jsonl",
            "--labels",
            "billing,care",
            "--empty-labels",
            "keep",
        ],
        &[
            "all 90 training examples have the label `billing`",
            "at least two labels",
        ],
    );
    refused(
        &["one.jsonl"],
        &["has 1 entries", "at least two different labels"],
    );
    refused(
        &["pain.csv", "--task", "number", "--label-column", "text"],
        &["is none", "`task`"],
    );
    refused(
        &["topics.jsonl", "--dropout", "1.5"],
        &["`dropout` is `1.5`", "from 0 to 0.9"],
    );
    refused(
        &["topics.jsonl", "--class-weights", "billing"],
        &["`billing=2, delay=0.5`"],
    );
    refused(
        &["topics.jsonl", "--class-weights", "mood=2"],
        &["class weight of `mood`", "`care`"],
    );
    refused(
        &["topics.jsonl", "--tasks", "a = data.mood"],
        &["the step reads no `data.mood`"],
    );
    refused(
        &["topics.jsonl", "--released-first", "2"],
        &["both synthetic and real examples"],
    );
    let library = ["topics.jsonl", "--onnxruntime", "nowhere.so"];
    refused(
        &library,
        &[
            "no ONNX Runtime library at `nowhere.so`",
            "cargo xtask setup",
        ],
    );
    story.write("old.so", "not a library");
    refused(
        &["topics.jsonl", "--onnxruntime", "old.so"],
        &["cannot be loaded", "xtask setup"],
    );
    // A base whose tokenizer knows nothing of the texts' script.
    good(train(&story, "base", &["topics.jsonl"]));
    story.write(
        "script.jsonl",
        rows(|i| format!("{{\"text\":\"\u{4e00}\u{4e8c}\",\"label\":\"{}\"}}", i % 2)),
    );
    refused(
        &["script.jsonl", "--base", "base"],
        &["90 of 90 texts", "whose tokenizer knows"],
    );
}

#[test]
fn a_model_that_is_cut_short_or_lacks_a_label_is_refused() {
    let story = story();
    good(train(&story, "model", &["topics.jsonl"]));
    story.write(
        "strange.jsonl",
        rows(topic) + "{\"text\":\"x\",\"label\":\"mood\",\"ward\":\"\"}\n",
    );
    let told = story.tell(&["slm", "evaluate", "model", "strange.jsonl"]);
    super::refused(&told, 2, &["a label not seen in training: `mood`"]);
    let told = good(story.tell(&["slm", "predict", "model", "\u{4e00}"]));
    assert!(
        told.err.contains("holds no token the model knows"),
        "{}",
        told.err
    );
    let weights = story.path().join("model/model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    for line in [
        ["slm", "predict", "model", "x"],
        ["slm", "evaluate", "model", "topics.jsonl"],
        ["slm", "export", "model", "model.onnx"],
    ] {
        let told = story.tell(&line);
        super::refused(&told, 2, &["not a whole safetensors file", "copy it again"]);
    }
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
