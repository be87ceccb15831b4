//! What a guest makes is told where it is not what its manifest says; what its step took is told to
//! the second.

use noisegate_tests::{Story, gated, root};
use serde_json::Value;

use super::budget::{done, rows};

#[test]
fn what_cannot_be_read_as_records_is_told_by_the_step_that_made_it() {
    let story = gated::story(&rows());
    let told = gated::tell(&story, &["run", "gated.toml"]);
    assert_eq!(told.code, Some(0), "{}", told.err);
    let said = "the guest's output `released` is no good as `records`";
    assert!(told.err.contains(said), "{}", told.err);
}

/// The packaged guest that gives public candidates back makes two outputs.
#[test]
fn an_output_that_the_manifest_does_not_name_is_told() {
    let story = Story::new();
    let packaged = root().join("plugins/private-evolution");
    let manifest = std::fs::read_to_string(packaged.join("plugin.toml")).unwrap();
    let from = manifest.rfind("[[outputs]]").unwrap();
    let to = from + manifest[from..].find("\n\n").unwrap();
    let manifest = format!("{}{}", &manifest[..from], &manifest[to..]);
    let code = std::fs::read(packaged.join("private-evolution.wasm")).unwrap();
    story.write("plugins/private-evolution/plugin.toml", manifest);
    story.write("plugins/private-evolution/private-evolution.wasm", code);
    story.write("notes.jsonl", rows());
    let both = rows() + &rows().replace("delay", "billing");
    story.write("open.jsonl", both);
    story.write(
        "evolve.toml",
        r#"
[workflow]
name = "evolve"
[sites.clinic]
[data.notes]
site = "clinic"
path = "notes.jsonl"
private = true
unit = "record"
units_public = 20
labels = ["billing", "delay"]
budget = { epsilon = 4.0, delta = 1e-5 }
[data.open]
site = "clinic"
path = "open.jsonl"
private = false
labels = ["billing", "delay"]
[steps.vote]
uses = "guest:private-evolution"
site = "clinic"
reads = { records = "data.notes", candidates = "data.open" }
privacy = { epsilon = 2.0, delta = 1e-5 }
with = { keep_per_label = 2, threshold = -100.0 }
"#,
    );
    let told = gated::tell(&story, &["run", "evolve.toml"]);
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    assert!(
        told.err.contains("the guest made `votes.json` too"),
        "{}",
        told.err
    );
    assert!(told.err.contains("dropped"), "{}", told.err);
}

/// How long a look at private records took may depend on what they say.
#[test]
fn what_a_step_that_reads_private_records_took_is_told_in_whole_seconds() {
    let story = done();
    let runs = std::fs::read_dir(story.path().join("home/runs")).unwrap();
    let run = runs.map(|run| run.unwrap().path()).next().unwrap();
    let read = |name: &str| std::fs::read_to_string(run.join(name)).unwrap();
    let result: Value = serde_json::from_str(&read("result.json")).unwrap();
    let seconds = result["seconds"]["count"].as_f64().unwrap();
    assert!(seconds >= 1.0 && seconds.fract() == 0.0, "{result}");
    for line in read("events.jsonl").lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["at_ms"].as_u64().unwrap() % 1000, 0, "{event}");
        let seconds = event["seconds"].as_f64().unwrap_or_default();
        assert_eq!(seconds.fract(), 0.0, "{event}");
    }
}
