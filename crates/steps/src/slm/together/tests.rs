//! Workflows whose `slm:` steps cannot do what they say, and such as can.

use noisegate_workflow::{Catalog, PluginSignature, Source, load};

use super::*;

const DATA: &str = r#"
[workflow]
name = "w"
[sites.clinic]
[data.notes]
site = "clinic"
path = "notes.jsonl"
private = true
labels = ["billing", "care"]
[data.pain]
site = "clinic"
path = "pain.csv"
private = true
labels = ["pain"]
[data.news]
site = "clinic"
path = "news.jsonl"
private = false
labels = ["billing", "care"]
[data.test]
site = "clinic"
path = "test.jsonl"
private = true
labels = ["billing", "care", "praise"]
[data.listed]
site = "clinic"
path = "listed.jsonl"
private = true
labels = "labels.txt"
"#;

fn step(name: &str, uses: &str, reads: &str, with: &str) -> String {
    format!(
        "[steps.{name}]\nuses = \"slm:{uses}\"\nsite = \"clinic\"\nreads = {{ {reads} }}\nwith = {{ {with} }}\n"
    )
}

/// What `check` says of these steps.
fn said(steps: &[String]) -> String {
    let catalog = Catalog {
        steps: crate::catalog::host_steps(),
        plugins: vec![PluginSignature {
            name: "minilm".to_owned(),
            holds: PortType::Encoder,
            sends_to: Vec::new(),
            help: String::new(),
        }],
    };
    match load(
        Source::new("w.toml", format!("{DATA}{}", steps.concat())),
        &[],
        &catalog,
    ) {
        Ok(_) => String::new(),
        Err(errors) => errors.render(),
    }
}

fn trained(reads: &str, with: &str) -> String {
    said(&[step("train", "train", reads, with)])
}

fn refused(said: &str, parts: &[&str]) {
    for part in ["parameters-clash"].iter().chain(parts) {
        assert!(said.contains(part), "`{part}` is not in {said:?}");
    }
    assert_eq!(said.matches("error[").count(), 1, "{said}");
}

const NOTES: &str = "records = \"data.notes\"";
const TWO: &str = "records = [\"data.notes\", \"data.pain\"]";
const BOTH: &str = "tasks = \"topic = data.notes, pain:number = data.pain\"";

#[test]
fn heads_that_cannot_be_trained_are_refused() {
    for (reads, with, why) in [
        (NOTES, "tasks = \"foo\"", "`foo` has no `=`"),
        (NOTES, "tasks = \"a = data.mood\"", "reads no `data.mood`"),
        (NOTES, "tasks = \"a:sum = data.notes\"", "`sum` is no task"),
        (
            TWO,
            "tasks = \"a = data.notes\"",
            "`data.pain` trains no head",
        ),
        (
            TWO,
            "tasks = \"a = data.notes, a:number = data.pain\"",
            "two heads named `a`",
        ),
        (
            NOTES,
            "tasks = \"cut = data.notes\"",
            "no head may be named `cut`",
        ),
        (
            NOTES,
            "tasks = \"only_unknown_tokens = data.notes\"",
            "no head may be named",
        ),
        (NOTES, "task = \"number\"", "declare 2 labels"),
        (
            TWO,
            "tasks = \"a:number = data.notes, b:number = data.pain\"",
            "declare 2 labels",
        ),
        (
            "records = \"data.pain\"",
            "epochs = 1",
            "declare at least two",
        ),
    ] {
        refused(&trained(reads, with), &["steps.train.with.task", why]);
    }
    for (reads, with) in [
        (TWO, BOTH),
        (NOTES, "task = \"multi-label\""),
        ("records = \"data.pain\"", "task = \"number\""),
        ("records = \"data.listed\"", "task = \"number\""),
        (NOTES, "tasks = \"each\""),
    ] {
        assert_eq!(trained(reads, with), "", "{with}");
    }
}

#[test]
fn factors_are_of_labels_that_there_are() {
    let weights = |text: &str| format!("class_weights = \"{text}\"");
    let mood = weights("mood=2");
    refused(
        &trained(NOTES, &mood),
        &["no label `mood`", "`billing`, `care`"],
    );
    assert_eq!(trained(NOTES, &weights("care=2")), "");
    assert_eq!(trained("records = \"data.listed\"", &mood), "");
    let of_head = format!("{BOTH}, {}", weights("topic/care=2"));
    assert_eq!(trained(TWO, &of_head), "");
    let bare = format!("{BOTH}, {}", weights("care=2"));
    refused(&trained(TWO, &bare), &["no label `care`", "`topic/care`"]);
}

#[test]
fn a_first_stage_needs_released_records_that_weigh_something() {
    refused(
        &trained(NOTES, "released_first = 1"),
        &["no released records"],
    );
    let both = "records = [\"data.notes\", \"data.news\"]";
    assert_eq!(trained(both, "released_first = 1"), "");
    // Where no source is private, data sets are what is trained for.
    let news = "records = \"data.news\"";
    refused(
        &trained(news, "released_first = 1"),
        &["no released records"],
    );
    let weightless = "released_first = 1, released_weight = 0.0";
    refused(&trained(both, weightless), &["released_weight"]);
    let label = [
        step("teacher", "train", NOTES, "epochs = 1"),
        step(
            "label",
            "pseudo-label",
            "model = \"teacher.model\", samples = \"data.news\"",
            "",
        ),
    ];
    let student = |reads: &str| {
        let student = step("student", "train", reads, "released_first = 1");
        said(&[&label[..], &[student]].concat())
    };
    assert_eq!(student("records = [\"data.notes\", \"label.samples\"]"), "");
    let alone = student("records = \"label.samples\"");
    refused(&alone, &["nothing but released records"]);
}

#[test]
fn patience_needs_something_to_wait_for() {
    refused(&trained(NOTES, "patience = 2"), &["validation_share"]);
    assert_eq!(trained(NOTES, "patience = 2, validation_share = 0.1"), "");
}

#[test]
fn a_base_has_a_shape_and_an_encoder_from_scratch_nothing_to_keep() {
    refused(
        &trained(NOTES, "hidden = 16, heads = 3"),
        &["do not divide"],
    );
    for with in [
        "lora_rank = 4",
        "freeze_layers = 1",
        "freeze_embeddings = true",
    ] {
        refused(&trained(NOTES, with), &["from scratch", "read a `base`"]);
    }
    let base = "records = \"data.notes\", base = \"plugin:minilm\"";
    for with in [
        "layers = 3",
        "hidden = 64",
        "heads = 2",
        "intermediate = 64",
        "vocabulary = 900",
    ] {
        refused(&trained(base, with), &["a base has its own"]);
    }
    let with = "lora_rank = 4, freeze_layers = 1, layers = 2";
    assert_eq!(trained(base, with), "");
}

/// What a step says that reads the model of two heads, or of `with`.
fn read(with: &str, reader: String) -> String {
    let reads = if with == BOTH { TWO } else { NOTES };
    said(&[step("train", "train", reads, with), reader])
}

#[test]
fn a_reader_asks_for_a_head_that_the_model_has() {
    let scored = |with: &str| {
        let reads = "model = \"train.model\", records = \"data.notes\"";
        read(BOTH, step("judge", "evaluate", reads, with))
    };
    refused(
        &scored("head = \"nope\""),
        &["no head `nope`", "`topic`, `pain`"],
    );
    refused(&scored(""), &["as there are several"]);
    assert_eq!(scored("head = \"topic\""), "");
    for kind in ["agree", "pseudo-label"] {
        let judged = |with: &str, of: &str| {
            let reads = "model = \"train.model\", samples = \"data.news\"";
            read(of, step("judge", kind, reads, with))
        };
        refused(&judged("head = \"nope\"", BOTH), &["no head `nope`"]);
        refused(&judged("head = \"pain\"", BOTH), &["is a number one"]);
        refused(
            &judged("", "task = \"multi-label\""),
            &["is a multi-label one"],
        );
        assert_eq!(judged("head = \"topic\"", BOTH), "");
    }
}

#[test]
fn a_test_set_declares_labels_that_were_trained_on() {
    let scored = |records: &str, with: &str| {
        let reads = format!("model = \"train.model\", records = \"{records}\"");
        read("epochs = 1", step("judge", "evaluate", &reads, with))
    };
    refused(&scored("data.test", ""), &["not trained on: `praise`"]);
    assert_eq!(scored("data.news", "group_column = \"ward\""), "");
    assert_eq!(scored("data.listed", ""), "");
}

#[test]
fn a_baseline_answers_the_same_question() {
    let reads = "model = \"train.model\", baseline = \"train.model\", records = \"data.notes\"";
    let many = read(
        "task = \"multi-label\"",
        step("judge", "evaluate", reads, ""),
    );
    refused(&many, &["compares heads of one label"]);
    assert_eq!(read("epochs = 1", step("judge", "evaluate", reads, "")), "");
}
