//! What cannot be trained on, models that are no longer whole, and a card that is not there: each
//! is refused with the remedy.

use super::{good, rows, story, topic, train};

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
        &["pain.csv` line 2: the label is no number"],
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
        &["`released_first`: the step reads no released records"],
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
    story.write(
        "blank.jsonl",
        rows(|i| format!("{{\"text\":\"\",\"label\":\"{}\"}}", i % 2)),
    );
    refused(
        &["blank.jsonl"],
        &[
            "`blank.jsonl`: the texts hold no words",
            "look at the column",
        ],
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
