//! A served model, told through the command line: the key goes to the server and nowhere else.

mod llama_cpp;
#[path = "../../../crates/remote/tests/stub/mod.rs"]
mod stub;

use std::path::Path;

use noisegate_tests::{Story, Told};
use stub::{Reply, Seen, Stub};

const KEY: &str = "sk-ward-9f8e7d6c5b4a";

const STEPS: &str = r#"
[steps.judge]
uses = "llm:judge"
site = "server"
reads = { clusters = "data.released", model = "plugin:ward-llm" }

[steps.augment]
uses = "llm:augment"
site = "server"
reads = { demonstrations = "judge.samples", model = "plugin:ward-llm" }
with = { samples_per_label = 6, samples_per_answer = 3, retries_max = 1 }

[exports]
samples = { from = "augment.samples", path = "out/samples.jsonl" }
"#;

fn story(url: &str, allowed: &str) -> Story {
    write_story(url, allowed, STEPS)
}

/// A plugin at `url`, and a workflow with these steps on a site that may send to `allowed`.
fn write_story(url: &str, allowed: &str, steps: &str) -> Story {
    let story = Story::new();
    let rows = [
        ("I was billed twice for one visit in May", "billing"),
        ("The invoice shows a test I never had", "billing"),
        ("When will the results of my blood test arrive?", "results"),
        ("My scan was a week ago and nobody has called me", "results"),
    ];
    let rows = rows.map(|(text, label)| {
        serde_json::json!({ "text": text, "label": label }).to_string() + "\n"
    });
    story.write("samples.jsonl", rows.concat());
    story.write(
        "plugins/ward-llm/plugin.toml",
        format!(
            r#"
[plugin]
name = "ward-llm"
kind = "served-model"
version = "1"
licence = "Apache-2.0"
help = "a server of this machine"

[endpoint]
url = "{url}"
model = "ward-1"
key_env = "NOISEGATE_KEY_WARD"
retries_max = 1

[price]
prompt_per_million = 1.0
answer_per_million = 2.0
currency = "EUR"
"#
        ),
    );
    story.write(
        "served.toml",
        format!(
            r#"
[workflow]
name = "served"

[sites.server]
sends_to = ["{allowed}"]

[data.released]
site = "server"
path = "samples.jsonl"
private = false
labels = ["billing", "results"]

{steps}
"#
        ),
    );
    story
}

fn tell(story: &Story, arguments: &[&str], key: Option<&str>) -> Told {
    let mut command = story.command(arguments);
    command.env("NOISEGATE_PLUGINS", story.path().join("plugins"));
    match key {
        Some(key) => command.env("NOISEGATE_KEY_WARD", key),
        None => command.env_remove("NOISEGATE_KEY_WARD"),
    };
    let output = command.output().expect("noisegate can be started");
    Told {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Keeps every sample as a judge, and writes three new ones as a writer.
fn reply(number: usize, seen: &Seen) -> Reply {
    let asked = seen.body["messages"][0]["content"]
        .as_str()
        .unwrap_or_default();
    if asked.contains("worth keeping") {
        return Reply::answer(seen, "1, 2, 3, 4");
    }
    let label = if asked.contains("topic \"billing\"") {
        "billing"
    } else {
        "results"
    };
    let lines: Vec<String> = ["first", "second", "third"]
        .iter()
        .map(|nth| {
            format!("{label} ||| the {nth} new text of answer {number} about {label} matters")
        })
        .collect();
    Reply::answer(seen, &lines.join("\n"))
}

/// Every file below `folder` that holds `needle`.
fn holding(folder: &Path, needle: &str, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            holding(&path, needle, found);
        } else if String::from_utf8_lossy(&std::fs::read(&path).unwrap()).contains(needle) {
            found.push(path.display().to_string());
        }
    }
}

/// What the reports in the store tell of a served model.
fn bills(story: &Story) -> Vec<serde_json::Value> {
    let mut reports = Vec::new();
    let store = story.path().join("home/store");
    holding(&store, "\"currency\": \"EUR\"", &mut reports);
    let served = |path: &String| {
        let text = std::fs::read_to_string(path).unwrap();
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        report["served"].clone()
    };
    reports.iter().map(served).collect()
}

fn origin(stub: &Stub) -> String {
    stub.url.trim_end_matches("/v1").to_owned()
}

#[test]
fn a_served_model_judges_and_writes_and_its_key_is_written_nowhere() {
    let stub = Stub::start(reply);
    let story = story(&stub.url, &origin(&stub));
    let plan = tell(&story, &["plan", "served.toml"], None);
    assert!(
        plan.out.contains(&format!("to {}", origin(&stub))),
        "{}",
        plan.out
    );

    let told = tell(&story, &["run", "served.toml"], Some(KEY));
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    let made = std::fs::read_to_string(story.path().join("out/samples.jsonl")).unwrap();
    assert!(made.lines().count() > 4 + 6, "{made}");
    let asked = stub.seen().len();
    assert!(
        stub.seen()
            .iter()
            .all(|seen| seen.header("authorization") == Some(&format!("Bearer {KEY}")))
    );
    let mut found = Vec::new();
    holding(story.path(), KEY, &mut found);
    assert!(
        found.is_empty() && !told.out.contains(KEY) && !told.err.contains(KEY),
        "{found:?}"
    );
    let first = bills(&story);
    assert_eq!(first.len(), 1, "the report tells the cost");
    assert!(first[0]["cost"].as_f64().unwrap() > 0.0);
    assert_eq!(first[0]["cost"], first[0]["cost_now"]);

    // The same run again is answered from the journal.
    std::fs::remove_dir_all(story.path().join("out")).unwrap();
    let again = tell(&story, &["run", "served.toml"], Some(KEY));
    assert_eq!(again.code, Some(0), "{}{}", again.out, again.err);
    assert_eq!(stub.seen().len(), asked);
    assert_eq!(
        std::fs::read_to_string(story.path().join("out/samples.jsonl")).unwrap(),
        made
    );
    // It cost as much in all, and nothing more.
    let second = bills(&story).into_iter().find(|bill| !first.contains(bill));
    let second = second.expect("a report of its own");
    assert_eq!(second["cost"], first[0]["cost"]);
    assert_eq!(second["prompt_tokens"], first[0]["prompt_tokens"]);
    assert_eq!(second["cost_now"].as_f64(), Some(0.0));
}

#[test]
fn answers_without_text_are_counted_and_made_up_for_in_the_next_round() {
    let stub = Stub::start(|number, seen| {
        let asked = seen.body["messages"][0]["content"].as_str().unwrap();
        if asked.contains("worth keeping") || number < 3 {
            let spent = r#"{"choices":[{"message":{"content":null},"finish_reason":"length"}]}"#;
            return Reply::new(200, spent);
        }
        reply(number, seen)
    });
    let story = story(&stub.url, &origin(&stub));
    let told = tell(&story, &["run", "served.toml"], Some(KEY));
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    let made = std::fs::read_to_string(story.path().join("out/samples.jsonl")).unwrap();
    assert!(made.lines().count() > 4 + 3, "{made}");
    for line in made.lines().take(4) {
        assert!(
            !line.contains("new text"),
            "the judge kept all four: {line}"
        );
    }
    assert!(stub.seen().len() > 1 + 4, "a second round");
    let said = told.out + &told.err;
    for part in ["kept without a judgement", "Unparsable"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

/// One that heeds neither `stop` nor `max_tokens`, and counts as it likes.
#[test]
fn samples_of_a_server_that_heeds_nothing_are_one_line_each_and_clean() {
    let stub = Stub::start(|number, _| {
        let text = format!(
            " the {number}. \u{1b}[31mclean\u{7} text about a matter\nText: \"the next\"\n{}",
            "x".repeat(500_000)
        );
        let body = serde_json::json!({
            "choices": [{ "text": text, "finish_reason": "length" }],
            "usage": { "prompt_tokens": u64::MAX, "completion_tokens": -1 },
        });
        Reply::new(200, body.to_string())
    });
    let steps = r#"
[steps.augment]
uses = "llm:augment"
site = "server"
reads = { demonstrations = "data.released", model = "plugin:ward-llm" }
with = { samples_per_label = 2, style = "completion", keep_demonstrations = false }

[exports]
samples = { from = "augment.samples", path = "out/samples.jsonl" }
"#;
    let story = write_story(&stub.url, &origin(&stub), steps);
    let told = tell(&story, &["run", "served.toml"], Some(KEY));
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    let made = std::fs::read_to_string(story.path().join("out/samples.jsonl")).unwrap();
    assert_eq!(made.lines().count(), 4, "{made}");
    for line in made.lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = row["text"].as_str().unwrap();
        assert!(text.ends_with(". [31mclean text about a matter"), "{line}");
    }
    let bill = &bills(&story)[0];
    assert_eq!(bill["prompt_tokens"].as_u64(), Some(u64::MAX));
    assert_eq!(bill["answer_tokens"].as_u64(), Some(0));
    let mut kept = Vec::new();
    holding(&story.path().join("home/cache"), "clean text", &mut kept);
    assert!(std::fs::metadata(&kept[0]).unwrap().len() < 10_000);
}

#[test]
fn numbers_that_no_endpoint_and_no_price_may_have_are_refused_with_their_place() {
    let story = story("http://127.0.0.1:9/v1", "http://127.0.0.1:9");
    let plugin = std::fs::read_to_string(story.path().join("plugins/ward-llm/plugin.toml"));
    let plugin = plugin.unwrap();
    for (from, to, said) in [
        (
            "retries_max = 1",
            "retries_max = 4294967295",
            "`retries_max` is 4294967295; write a number from 0 to 100",
        ),
        (
            "retries_max = 1",
            "timeout_seconds = 9223372036854775807",
            "`timeout_seconds` is 9223372036854775807; write a number from 1 to 86400",
        ),
        (
            "prompt_per_million = 1.0",
            "prompt_per_million = -1.0",
            "`prompt_per_million` of `[price]` is -1; write a number from 0 to",
        ),
        (
            "answer_per_million = 2.0",
            "answer_per_million = nan",
            "`answer_per_million` of `[price]` is NaN; write a number from 0 to",
        ),
    ] {
        story.write("plugins/ward-llm/plugin.toml", plugin.replace(from, to));
        let told = tell(&story, &["check", "served.toml"], Some(KEY));
        assert_eq!(told.code, Some(2), "{}{}", told.out, told.err);
        for part in ["plugins/ward-llm/plugin.toml`", said] {
            assert!(told.err.contains(part), "{part}: {}", told.err);
        }
    }
}

#[test]
fn a_step_that_fails_half_way_says_what_it_has_cost_so_far() {
    let stub = Stub::start(|number, seen| match number {
        0 | 1 => reply(number, seen),
        _ => Reply::new(400, "enough"),
    });
    let story = story(&stub.url, &origin(&stub));
    let told = tell(&story, &["run", "served.toml"], Some(KEY));
    assert_eq!(told.code, Some(1), "{}{}", told.out, told.err);
    let so_far = "so far: 1 answers, 0 more kept from before, 0 retries; \
                  10 tokens of prompts (10 now), 3 of answers (3 now); 0.0000 EUR (0.0000 now)";
    assert!(told.err.contains(so_far), "{}", told.err);
}

#[test]
fn what_a_site_did_not_allow_and_a_key_that_is_not_set_stop_before_anything_runs() {
    let stub = Stub::start(reply);
    let elsewhere = story(&stub.url, "https://gpu.internal:8000");
    let told = tell(&elsewhere, &["run", "served.toml"], Some(KEY));
    assert_eq!(told.code, Some(3), "{}{}", told.out, told.err);
    assert!(told.err.contains("address-not-allowed"), "{}", told.err);

    let keyless = story(&stub.url, &origin(&stub));
    let told = tell(&keyless, &["run", "served.toml"], None);
    assert_eq!(told.code, Some(2), "{}{}", told.out, told.err);
    assert!(
        told.err.contains("`NOISEGATE_KEY_WARD`, which is not set"),
        "{}",
        told.err
    );
    assert!(stub.seen().is_empty());
}

#[test]
fn a_server_that_refuses_fails_the_step_and_never_echoes_the_key() {
    let stub = Stub::start(|_, _| {
        Reply::new(
            401,
            format!("{{\"error\":{{\"message\":\"bad key {KEY}\"}}}}"),
        )
    });
    let story = story(&stub.url, &origin(&stub));
    let told = tell(&story, &["run", "served.toml"], Some(KEY));
    assert_eq!(told.code, Some(1), "{}{}", told.out, told.err);
    assert!(
        told.err.contains("refused the key (HTTP 401)"),
        "{}",
        told.err
    );
    let mut found = Vec::new();
    holding(story.path(), KEY, &mut found);
    assert!(found.is_empty() && !told.err.contains(KEY), "{found:?}");
}
