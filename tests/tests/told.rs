//! What the command line says when it cannot do what was asked: a place and a remedy, nothing that
//! steers the terminal, and an exit code that tells what happened.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;

use noisegate_tests::{Story, Told, gated, root};

const ROWS: &str = "{\"text\":\"still waiting\",\"label\":\"delay\"}\n";

/// Asserts the exit code and that the error names every one of `parts`.
#[track_caller]
fn refused(told: &Told, code: i32, parts: &[&str]) {
    assert_eq!(told.code, Some(code), "{}{}", told.out, told.err);
    for part in parts {
        assert!(told.err.contains(part), "`{part}` is not in: {}", told.err);
    }
}

/// Where a guest of the project lies.
fn guest(name: &str) -> String {
    let file = root().join("plugins").join(name);
    file.join(format!("{name}.wasm")).display().to_string()
}

#[test]
fn output_that_cannot_be_written_is_a_failure_unless_nobody_reads_it() {
    let story = gated::story(&ROWS.repeat(12));
    for arguments in [&["runs", "--json"][..], &["graph", "gated.toml"]] {
        let mut command = story.command(arguments);
        command.env("NOISEGATE_PLUGINS", story.path().join("plugins"));
        let full = File::options().write(true).open("/dev/full").unwrap();
        let ended = command.stdout(full).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{said}");
        assert!(said.contains("could not write to stdout"), "{said}");
        assert!(
            said.contains("No space left") && said.contains("make room"),
            "{said}"
        );

        let (nobody, pipe) = std::io::pipe().unwrap();
        drop(nobody);
        let ended = command.stdout(pipe).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.signal(), None);
        assert_eq!((ended.status.code(), &*said), (Some(141), ""));
    }
}

#[test]
fn a_very_long_line_is_refused_by_its_place() {
    let story = Story::new();
    story.write("long.toml", format!("a = [{}[\n", "1,".repeat(60_000)));
    let told = story.tell(&["check", "long.toml"]);
    refused(&told, 2, &["long.toml:1:", "remedy"]);
    assert!(!told.err.contains("defect") && told.err.len() < 4000);
}

#[test]
fn the_last_run_is_the_one_that_began_last_and_a_start_means_one() {
    let story = gated::story(&ROWS.repeat(12));
    // However it ends, it began.
    gated::tell(&story, &["run", "gated.toml"]);
    let listed = story.tell(&["runs"]).out;
    let run = listed.trim_end();
    let runs = story.path().join("home/runs");
    // As a busy second leaves them, with what does not belong there.
    for number in 2..12 {
        let twin = runs.join(format!("{run}-{number}"));
        std::fs::create_dir(&twin).unwrap();
        for file in ["plan.json", "result.json", "events.jsonl"] {
            std::fs::copy(runs.join(run).join(file), twin.join(file)).unwrap();
        }
    }
    std::fs::create_dir(runs.join("zzz-never-begun")).unwrap();
    story.write("home/runs/zzz.txt", "a note");
    let shown = |which: &str| {
        let told = story.tell(&["show", which, "--json"]);
        assert_eq!(told.code, Some(0), "{}", told.err);
        let shown: serde_json::Value = serde_json::from_str(&told.out).unwrap();
        shown["run"].as_str().unwrap().to_owned()
    };
    assert_eq!(shown("last"), format!("{run}-11"));
    assert_eq!(shown(run), run);
    assert_eq!(shown(&format!("{run}-9")), format!("{run}-9"));
    refused(
        &story.tell(&["show", &run[..9]]),
        2,
        &["11 runs", &format!("`{run}-11`")],
    );
    refused(&story.tell(&["show", ""]), 2, &["empty", "noisegate runs"]);
    refused(&story.tell(&["show", "zzz"]), 2, &["no run `zzz`"]);
    let hostile = story.tell(&["show", "\u{1b}]0;title\u{7}"]);
    refused(&hostile, 2, &["\\u{1b}]0;title\\u{7}"]);
    assert!(!hostile.err.contains('\u{1b}'), "{:?}", hostile.err);
}

#[test]
fn a_run_that_was_killed_or_failed_says_so_and_what_it_spent() {
    let story = gated::story(&ROWS.repeat(12));
    let told = gated::tell(&story, &["run", "gated.toml"]);
    assert_eq!(told.code, Some(0), "{}", told.err);
    let run = story.tell(&["runs"]).out.trim_end().to_owned();
    let folder = story.path().join("home/runs").join(run);
    // A kill leaves no result.
    std::fs::remove_file(folder.join("result.json")).unwrap();
    let shown = story.tell(&["show", "last"]);
    assert_eq!(shown.code, Some(0), "{}", shown.err);
    assert!(shown.out.contains(": unfinished"), "{}", shown.out);
    assert!(shown.out.contains("privacy"), "{}", shown.out);
    let json = story.tell(&["show", "last", "--json"]).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["steps"][0]["state"], "done", "{json}");
    assert!(json["steps"][0]["seconds"].is_number(), "{json}");

    let problem = "no room left\u{1b}]0;title\u{7}; free some";
    let failed = serde_json::json!({ "event": "step-failed", "step": "count", "problem": problem });
    let events = folder.join("events.jsonl");
    let before = std::fs::read_to_string(&events).unwrap();
    std::fs::write(&events, format!("{before}{failed}\n")).unwrap();
    let shown = story.tell(&["show", "last"]).out;
    assert!(
        shown.contains("step `count` failed: no room left"),
        "{shown}"
    );
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
    let json = story.tell(&["show", "last", "--json"]).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["problems"][0]["problem"], problem);
}

#[test]
fn a_bad_plugin_is_named_by_its_manifest_and_stops_those_who_use_it() {
    let story = gated::story(&ROWS.repeat(12));
    let manifest = story.path().join("plugins/counter/plugin.toml");
    let good = std::fs::read_to_string(&manifest).unwrap();
    for (name, bad, value) in [
        ("tally", "kind = \"votes\"\nvotes_per_unit = 0", "`0`"),
        (
            "rare",
            "kind = \"gaussian-sum\"\nsampling_rate = nan",
            "NaN",
        ),
    ] {
        let bad = good
            .replace("name = \"counter\"", &format!("name = \"{name}\""))
            .replace("kind = \"gaussian-sum\"", bad);
        story.write(&format!("plugins/{name}/plugin.toml"), bad);
        let told = gated::tell(&story, &["check", "gated.toml"]);
        assert_eq!(told.code, Some(0), "{}", told.err);
        let uses = format!("steps.count.uses=guest:{name}");
        let told = gated::tell(&story, &["check", "gated.toml", "--json", "--set", &uses]);
        assert_eq!(told.code, Some(2), "{}{}", told.out, told.err);
        for part in [name, value, &format!("plugins/{name}/plugin.toml")] {
            assert!(told.out.contains(part), "`{part}` is not in: {}", told.out);
        }
    }
}

#[test]
fn a_home_that_cannot_be_made_is_named() {
    let story = gated::story(&ROWS.repeat(12));
    let home = story.write("home", "a file").display().to_string();
    let told = gated::tell(&story, &["run", "gated.toml"]);
    refused(&told, 1, &[&home, "home folder", "--home"]);
}

#[test]
fn what_a_guest_is_tried_with_and_where_it_goes_is_named() {
    let story = Story::new();
    story.write("sample.jsonl", ROWS.repeat(4));
    let guest = guest("length-histogram");
    let tried = |more: &[&str]| {
        let tried = ["guest", "test", &guest, "--records", "sample.jsonl"];
        story.tell(&[&tried[..], more].concat())
    };
    refused(
        &tried(&["--out", "sample.jsonl/x"]),
        1,
        &["sample.jsonl/x", "another folder"],
    );
    refused(&tried(&["--input", "modle=."]), 2, &["`modle`", "none"]);
    refused(
        &story.tell(&["guest", "new", "my-step", "--sdk", "nowhere"]),
        2,
        &["`nowhere`", "--sdk"],
    );
    let counted = gated::story(&ROWS.repeat(12));
    let told = counted.tell(&[
        "guest",
        "test",
        "plugins/counter/counter.wasm",
        "--records",
        "notes.jsonl",
        "--input",
        "bsae=plugins/shape/files",
    ]);
    refused(&told, 2, &["`bsae`", "it has base"]);
}
