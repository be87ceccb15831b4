//! `noisegate guest`: what a developer and an auditor are told.

use noisegate_tests::{Story, root};

fn plugin(name: &str) -> String {
    root()
        .join(format!("plugins/{name}/{name}.wasm"))
        .display()
        .to_string()
}

#[test]
fn an_inspection_shows_limits_mechanism_and_sensitivity() {
    let story = Story::new();
    let told =
        super::json(&story.tell(&["guest", "inspect", &plugin("private-evolution"), "--json"]));
    assert_eq!(told["loadable"], true);
    assert_eq!(told["manifest"]["pinned"], told["sha256"]);
    assert_eq!(told["manifest"]["mechanism"]["kind"], "votes");
    assert_eq!(told["manifest"]["mechanism"]["sensitivity_l2"], 1.0);
    assert!(
        told["imports"]
            .as_array()
            .unwrap()
            .iter()
            .all(|import| import["allowed"] == true)
    );
    let text = story.tell(&["guest", "inspect", &plugin("length-histogram")]);
    for part in [
        "written in C",
        "at most K",
        "clang",
        "verdict   the sandbox would run it",
    ] {
        assert!(text.out.contains(part), "{part}: {}", text.out);
    }
}

#[test]
fn a_component_that_no_step_would_run_ends_an_inspection_with_1() {
    let story = Story::new();
    std::fs::create_dir(story.path().join("guest")).unwrap();
    for file in ["plugin.toml", "length-histogram.wasm"] {
        let from = root().join("plugins/length-histogram").join(file);
        std::fs::copy(from, story.path().join("guest").join(file)).unwrap();
    }
    let line = ["guest", "inspect", "guest/length-histogram.wasm"];
    assert_eq!(story.tell(&line).code, Some(0));

    let manifest = std::fs::read_to_string(story.path().join("guest/plugin.toml")).unwrap();
    let at = manifest.find("sha256 = \"").unwrap() + 10;
    let mut other = manifest.clone();
    other.replace_range(at..at + 64, &"0".repeat(64));
    story.write("guest/plugin.toml", &other);
    let told = story.tell(&line);
    assert_eq!(told.code, Some(1), "{}", told.err);
    assert!(told.out.contains("pins another digest"), "{}", told.out);

    story.write("guest/length-histogram.wasm", "no component");
    let told = story.tell(&line);
    assert_ne!(told.code, Some(0), "{}", told.out);
    let all = told.out + &told.err;
    assert!(all.contains("length-histogram.wasm"), "{all}");
}

#[test]
fn a_trial_tells_of_each_record_and_charges_nothing() {
    let story = Story::new();
    story.write("sample.jsonl", "{\"text\": \"please refund the bill\", \"label\": \"a\"}\n{\"text\": \"\", \"label\": \"b\"}\n");
    story.write("topics.jsonl", "{\"text\": \"bill refund\", \"label\": \"billing\"}\n{\"text\": \"log in\", \"label\": \"access\"}\n");
    let topics = plugin("topic-histogram");
    let line = [
        "guest",
        "test",
        &topics,
        "--records",
        "sample.jsonl",
        "--input",
        "topics=topics.jsonl",
    ];
    let json = [
        line.as_slice(),
        &["--with", "samples=4", "--out", "made", "--json"],
    ]
    .concat();
    let told = super::json(&story.tell(&json));
    assert_eq!(told["dimension"], 3);
    assert_eq!(told["records"].as_array().unwrap().len(), 2);
    assert_eq!(told["records"][0]["problem"], serde_json::Value::Null);
    assert_eq!(told["records"][0]["norm"], 1.0);
    assert_eq!(told["missing"].as_array().unwrap().len(), 0);
    let samples = std::fs::read_to_string(story.path().join("made/samples.jsonl")).unwrap();
    assert_eq!(samples.lines().count(), 4);
    let not_a_release = "a trial, not a release: count and labels are those of the sample";
    assert_eq!(told["kind"], not_a_release);
    let note = std::fs::read_to_string(story.path().join("made/NOT-A-RELEASE.txt")).unwrap();
    assert_eq!(note.trim_end(), not_a_release);
    let printed = story.tell(&line);
    assert!(printed.out.contains(not_a_release), "{}", printed.out);
    assert!(!story.path().join("home").exists(), "no ledger, no run");

    let wrong = [line.as_slice(), &["--with", "sample=4"]].concat();
    let refused = story.tell(&wrong);
    assert_eq!(refused.code, Some(2), "{}", refused.err);
    assert!(
        refused.err.contains("no parameter `sample`"),
        "{}",
        refused.err
    );
    let without = story.tell(&["guest", "test", &topics, "--records", "sample.jsonl"]);
    assert_eq!(without.code, Some(2), "{}", without.err);
    assert!(without.err.contains("`topics`"), "{}", without.err);
}

#[test]
fn a_new_guest_is_whole_and_never_overwrites() {
    let story = Story::new();
    let sdk = root().join("wasm-guests/sdk").display().to_string();
    let made = story.tell(&["guest", "new", "my-step", "--sdk", &sdk]);
    assert_eq!(made.code, Some(0), "{}", made.err);
    let folder = story.path().join("my-step");
    for file in [
        "Cargo.toml",
        "src/lib.rs",
        "plugin.toml",
        "sample.jsonl",
        "README.md",
    ] {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        assert!(!text.contains("{{"), "{file}: {text}");
    }
    let code = std::fs::read_to_string(folder.join("src/lib.rs")).unwrap();
    assert!(code.contains("impl ClientStep for MyStep"), "{code}");
    assert_eq!(
        story.tell(&["guest", "new", "my-step", "--sdk", &sdk]).code,
        Some(2)
    );
    assert_eq!(
        story.tell(&["guest", "new", "My_Step", "--sdk", &sdk]).code,
        Some(2)
    );
}
