//! Models in a folder, told through the command line: a GGUF file with its chat template, and
//! texts that are shown as they are made.

use noisegate_sandbox::Digest;
use noisegate_tests::{Story, Told, root};

const TEXTS: [(&str, &str); 4] = [
    ("I was billed twice for one visit in May", "billing"),
    ("The invoice shows a test I never had", "billing"),
    ("When will the results of my blood test arrive?", "results"),
    ("My scan was a week ago and nobody has called me", "results"),
];

fn story(steps: &str) -> Story {
    let story = Story::new();
    let row = |(text, label)| serde_json::json!({ "text": text, "label": label }).to_string();
    story.write("samples.jsonl", TEXTS.map(row).join("\n"));
    let head = r#"
[workflow]
name = "models"

[sites.server]

[data.released]
site = "server"
path = "samples.jsonl"
private = false
labels = ["billing", "results"]
"#;
    story.write("models.toml", format!("{head}\n{steps}"));
    story
}

fn events(story: &Story) -> String {
    let runs = std::fs::read_dir(story.path().join("home/runs")).unwrap();
    let read = |run: std::fs::DirEntry| std::fs::read_to_string(run.path().join("events.jsonl"));
    runs.flatten().map(|run| read(run).unwrap()).collect()
}

const JUDGE: &str = r#"
[steps.judge]
uses = "llm:judge"
site = "server"
reads = { clusters = "data.released", model = "plugin:small" }
"#;

/// Runs the judge with a random model of four bits, whose folder also holds `extra`.
fn judged(extra: &[(&str, &str)], changes: &[&str]) -> (Story, Told) {
    let story = story(JUDGE);
    let fixture = root().join("crates/llm/fixtures/gguf/qwen3-q4_k.gguf");
    let model = std::fs::read(fixture).unwrap();
    let digest = Digest::of(&model);
    story.write("plugins/small/model.gguf", model);
    for (name, content) in extra {
        story.write(&format!("plugins/small/{name}"), content);
    }
    let manifest = format!(
        "[plugin]\nname = \"small\"\nkind = \"language-model\"\nversion = \"1\"\n\
         licence = \"Apache-2.0\"\nhelp = \"random\"\n\n[model]\n\n[model.sha256]\n\
         \"model.gguf\" = \"{digest}\"\n"
    );
    story.write("plugins/small/plugin.toml", manifest);
    let mut command = story.command(&["run", "models.toml"]);
    command.env("NOISEGATE_PLUGINS", story.path().join("plugins"));
    for change in changes {
        command.args(["--set", change]);
    }
    let output = command.output().unwrap();
    let told = Told {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    (story, told)
}

#[test]
fn a_gguf_file_with_a_chat_template_is_asked_like_an_instructed_model() {
    // The judge of a model that cannot be trained asks, or it would be refused.
    let (story, told) = judged(&[], &[]);
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    assert!(events(&story).contains("kept 4 of 4 samples"));
    let (_, told) = judged(&[], &["steps.judge.with.chat=off"]);
    assert_ne!(told.code, Some(0));
    assert!(
        told.err
            .contains("a `qwen3` model can be used but not trained"),
        "{}",
        told.err
    );
}

#[test]
fn a_chat_template_that_the_plugin_does_not_pin_is_refused() {
    let (_, told) = judged(&[("chat_template.jinja", "{{ messages[0].content }}")], &[]);
    assert_ne!(told.code, Some(0));
    let remedy = "add its SHA-256 to `[model.sha256]`";
    assert!(told.err.contains(remedy), "{}", told.err);
}

#[test]
fn texts_are_shown_as_they_are_made_only_where_that_is_asked_for() {
    let story = story(
        r#"
[steps.augment]
uses = "llm:augment"
site = "server"
reads = { demonstrations = "data.released", model = "plugin:tiny-lm" }
with = { samples_per_label = 4, adapt_epochs = 0, retries_max = 0, rivals = 0 }
"#,
    );
    let told = story.tell(&["run", "models.toml"]);
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    assert!(!events(&story).contains("step-text"));
    let told = story.tell(&[
        "run",
        "models.toml",
        "--set",
        "steps.augment.with.show_text=true",
    ]);
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    assert!(events(&story).contains(r#""event":"step-text","step":"augment","text":""#));
}

#[test]
fn a_model_trained_from_text_is_measured_on_other_text_and_goes_on_with_a_third() {
    let steps = r#"
[data.others]
site = "server"
path = "others.jsonl"
private = false

[steps.pretrain]
uses = "llm:pretrain"
site = "server"
reads = { text = "data.released", held_out = "data.others" }
with = { vocabulary = 300, hidden = 16, layers = 1, heads = 2, intermediate = 32, context = 32, batch = 4, tokens = 2000 }

[steps.augment]
uses = "llm:augment"
site = "server"
reads = { demonstrations = "data.released", model = "pretrain.model" }
with = { samples_per_label = 1, adapt_epochs = 0, rivals = 0, tokens_max = 8 }

[exports.report]
from = "pretrain.report"
path = "report.json"
"#;
    let story = story(steps);
    let other = r#"{"text": "Please send my results by post", "label": "results"}"#;
    story.write("others.jsonl", other);
    let told = story.tell(&["run", "models.toml"]);
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    let report = std::fs::read_to_string(story.path().join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let bits = report["bits_per_byte"].as_f64().unwrap();
    // Not a model at all would need eight.
    assert!((0.5..8.0).contains(&bits), "{report}");
    assert!(report["tokens"].as_u64().unwrap() >= 2000, "{report}");

    // Held out is the corpus itself: nothing is left to train on.
    let same = [
        "run",
        "models.toml",
        "--set",
        "data.others.path=samples.jsonl",
    ];
    let told = story.tell(&same);
    assert_eq!(told.code, Some(2), "{}", told.err);
    let why = "nothing of `released` is left to train on: each of its 4 documents";
    assert!(told.err.contains(why), "{}", told.err);
}
