//! Bad input: each gets an error that names the place and the remedy, the exit
//! code of the design, and leaves nothing half written. `served` tells what a served
//! model, and one that makes trouble, comes to.

mod served;

#[path = "bad_input/accountant.rs"]
mod accountant;
#[path = "bad_input/budget.rs"]
mod budget;
#[path = "bad_input/judged.rs"]
mod judged;
#[path = "bad_input/lost_ledgers.rs"]
mod lost_ledgers;
#[path = "parts/models.rs"]
mod models;
#[path = "bad_input/outputs.rs"]
mod outputs;
#[path = "bad_input/set_cap.rs"]
mod set_cap;
#[path = "parts/slm.rs"]
mod slm;
#[path = "parts/sources.rs"]
mod sources;

use noisegate_tests::{Story, Told};

const TRAIN_AND_EVALUATE: &str = r#"
[workflow]
name = "train"

[sites.clinic]

[data.train]
site = "clinic"
path = "train.jsonl"
private = true
labels = ["billing", "delay"]

[data.test]
site = "clinic"
path = "test.jsonl"
private = true
labels = ["billing", "delay"]

[steps.train]
uses = "slm:train"
site = "clinic"
reads = { records = "data.train" }
with = { epochs = 1, layers = 1, hidden = 16, heads = 2, intermediate = 16 }

[steps.score]
uses = "slm:evaluate"
site = "clinic"
reads = { model = "train.model", records = "data.test" }
"#;

const GOOD: &str = "{\"text\":\"the bill is wrong\",\"label\":\"billing\"}\n{\"text\":\"still waiting\",\"label\":\"delay\"}\n";

/// A story whose data sets are good until it says otherwise.
fn story() -> Story {
    let story = Story::new();
    story.write("workflow.toml", TRAIN_AND_EVALUATE);
    story.write("train.jsonl", GOOD.repeat(8));
    story.write("test.jsonl", GOOD);
    story
}

/// One whose encoder is to have the shape of a base.
fn of_a_base() -> Story {
    let story = story();
    let shape = ", layers = 1, hidden = 16, heads = 2, intermediate = 16";
    story.write("workflow.toml", TRAIN_AND_EVALUATE.replace(shape, ""));
    story
}

/// Asserts the exit code and that the error names every one of `parts`.
#[track_caller]
fn refused(told: &Told, code: i32, parts: &[&str]) {
    assert_eq!(told.code, Some(code), "{}{}", told.out, told.err);
    for part in parts {
        assert!(told.err.contains(part), "`{part}` is not in: {}", told.err);
    }
}

/// No artifact was stored.
#[track_caller]
fn nothing_is_stored(story: &Story) {
    assert!(
        !story.path().join("home/store").exists(),
        "something was stored"
    );
}

#[test]
fn the_good_story_ends_well() {
    let told = story().tell(&["run", "workflow.toml"]);
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    assert!(
        told.out.contains("accuracy") && told.out.contains("macro-F1"),
        "{}",
        told.out
    );
}

#[test]
fn a_malformed_row_is_named_by_file_and_line_without_its_text() {
    let story = story();
    story.write(
        "train.jsonl",
        format!("{GOOD}{{\"text\": \"a secret of the clinic\", \n"),
    );
    let told = story.tell(&["run", "workflow.toml"]);
    refused(&told, 2, &["train.jsonl", "line 3"]);
    assert!(!told.err.contains("secret"), "{}", told.err);
    nothing_is_stored(&story);
}

#[test]
fn an_empty_data_set_is_refused() {
    let story = story();
    story.write("train.jsonl", "");
    refused(
        &story.tell(&["run", "workflow.toml"]),
        2,
        &["train.jsonl", "no row"],
    );
    nothing_is_stored(&story);
}

#[test]
fn bytes_that_are_not_utf_8_are_refused_with_their_line() {
    let story = story();
    story.write(
        "train.jsonl",
        [
            GOOD.as_bytes(),
            b"{\"text\":\"\xff\xfe\",\"label\":\"delay\"}\n",
        ]
        .concat(),
    );
    refused(
        &story.tell(&["run", "workflow.toml"]),
        2,
        &["train.jsonl", "line 3", "UTF-8"],
    );
    nothing_is_stored(&story);
}

#[test]
fn a_truncated_zst_is_refused() {
    let Some(whole) = noisegate_tests::shared_data("banking77.test.jsonl.zst") else {
        return;
    };
    let story = story();
    let bytes = std::fs::read(whole).unwrap();
    story.write("cut.jsonl.zst", &bytes[..bytes.len() / 2]);
    let told = story.tell(&["run", "workflow.toml", "--set", "data.train=cut.jsonl.zst"]);
    refused(&told, 2, &["cut.jsonl.zst", "ends in the middle"]);
    nothing_is_stored(&story);
}

#[test]
fn a_missing_file_is_refused_before_a_run_is_made() {
    let story = story();
    let told = story.tell(&["run", "workflow.toml", "--set", "data.train=nowhere.jsonl"]);
    refused(&told, 2, &["nowhere.jsonl", "--set data.train=PATH"]);
    assert!(!story.path().join("home").exists());
}

#[test]
fn a_label_that_training_never_saw_is_named() {
    let story = story();
    let told = story.tell(&[
        "run",
        "workflow.toml",
        "--set",
        "data.test.labels=billing,delay,parking",
    ]);
    refused(&told, 2, &["`data.test`", "`parking`", "not trained on"]);
}

#[test]
fn a_text_longer_than_the_model_is_cut_and_trained_on() {
    let story = story();
    let long = "waiting and ".repeat(5000);
    story.write(
        "train.jsonl",
        format!(
            "{}{{\"text\":\"{long}\",\"label\":\"delay\"}}\n",
            GOOD.repeat(8)
        ),
    );
    let told = story.tell(&["run", "workflow.toml"]);
    assert_eq!(told.code, Some(0), "{}", told.err);
}

#[test]
fn a_missing_onnxruntime_names_the_command_that_fetches_it() {
    let told = story().tell(&[
        "run",
        "workflow.toml",
        "--onnxruntime",
        "nowhere/libonnxruntime.so",
    ]);
    refused(
        &told,
        2,
        &["nowhere/libonnxruntime.so", "cargo xtask setup"],
    );
}

#[test]
fn a_file_that_is_no_library_is_refused() {
    let story = story();
    story.write("libonnxruntime.so", "not a library");
    let told = story.tell(&["run", "workflow.toml", "--onnxruntime", "libonnxruntime.so"]);
    refused(&told, 2, &["libonnxruntime.so"]);
}

#[test]
fn a_plugin_that_was_changed_is_refused_by_its_digest() {
    let story = of_a_base();
    story.write("plugins/model/config.json", "{}");
    let zeros = "0".repeat(64);
    story.write(
        "plugins/model/plugin.toml",
        format!("[plugin]\nname = \"model\"\nkind = \"encoder\"\nversion = \"1\"\nlicence = \"MIT\"\nhelp = \"x\"\n[model.sha256]\n\"config.json\" = \"{zeros}\"\n"),
    );
    let told = story.tell(&[
        "--plugins",
        "plugins",
        "run",
        "workflow.toml",
        "--set",
        "steps.train.reads.base=plugin:model",
    ]);
    refused(
        &told,
        2,
        &["plugin `model`", "config.json", "SHA-256", &zeros],
    );
}

#[test]
fn a_plugin_without_its_files_says_how_to_get_them() {
    let story = of_a_base();
    story.write(
        "plugins/model/plugin.toml",
        "[plugin]\nname = \"model\"\nkind = \"encoder\"\nversion = \"1\"\nlicence = \"MIT\"\nhelp = \"x\"\n[model]\nremedy = \"ask Ann for the disk\"\n[model.sha256]\n\"config.json\" = \"00\"\n",
    );
    let told = story.tell(&[
        "--plugins",
        "plugins",
        "run",
        "workflow.toml",
        "--set",
        "steps.train.reads.base=plugin:model",
    ]);
    refused(
        &told,
        2,
        &[
            "plugin `model` lacks",
            "config.json",
            "ask Ann for the disk",
        ],
    );
}

#[test]
fn a_full_disk_fails_the_step_and_keeps_nothing_half_written() {
    let story = story();
    let home = story.path().join("home");
    std::fs::create_dir_all(&home).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
        .arg(&home)
        .status()
        .is_ok_and(|status| status.success());
    if !mounted {
        println!("skipped: this user may not mount a small file system");
        return;
    }
    let told = story.tell(&[
        "run",
        "workflow.toml",
        "--set",
        "steps.train.with.hidden=512",
    ]);
    let stored = home.join("store").exists();
    let unmounted = std::process::Command::new("umount").arg(&home).status();
    assert!(unmounted.is_ok_and(|status| status.success()));
    assert_ne!(told.code, Some(0));
    assert!(
        told.err.contains("No space left") || told.err.contains("disk is full"),
        "{}",
        told.err
    );
    assert!(!stored, "something was stored");
}

#[test]
fn an_unknown_override_is_named() {
    let told = story().tell(&["check", "workflow.toml", "--set", "data.trian=x.jsonl"]);
    refused(&told, 2, &["trian"]);
}

#[test]
fn every_error_of_a_workflow_is_reported_at_once() {
    let story = story();
    story.write(
        "two.toml",
        TRAIN_AND_EVALUATE
            .replace("epochs = 1", "epochs = 0")
            .replace("model = \"train.model\"", "model = \"trian.model\""),
    );
    refused(&story.tell(&["check", "two.toml"]), 2, &["epochs", "trian"]);
}
