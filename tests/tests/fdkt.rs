//! The main job, whole: private text in, released samples, augmentation, a
//! trained classifier, scores and the cost out. On a few hundred rows of real
//! text, with few steps, so that it takes a minute or two.

use std::io::{BufRead, BufReader};
use std::path::Path;

use noisegate_tests::{Story, Told, root, shared_data};

#[path = "fdkt/centroids.rs"]
mod centroids;
#[path = "fdkt/guests.rs"]
mod guests;
#[path = "fdkt/votes.rs"]
mod votes;

/// A story with 240 private and 120 held-out rows of ag_news, or nothing where it is absent.
fn story() -> Option<Story> {
    let story = Story::new();
    for (name, file, rows) in [
        ("train", "ag_news.train.jsonl.zst", 240),
        ("test", "ag_news.test.jsonl.zst", 120),
    ] {
        let packed = shared_data(file)?;
        let unpacked = std::process::Command::new("zstd")
            .arg("-dc")
            .arg(packed)
            .output();
        let Ok(unpacked) = unpacked else {
            println!("skipped: `zstd` is not installed");
            return None;
        };
        let text = String::from_utf8(unpacked.stdout).unwrap();
        let lines: Vec<&str> = text.lines().take(rows).collect();
        story.write(&format!("{name}.jsonl"), lines.join("\n") + "\n");
    }
    Some(story)
}

/// `noisegate COMMAND workflows/fdkt.toml` on the story's rows, made small.
fn arguments<'a>(
    command: &'a str,
    workflow: &'a str,
    labels: &'a str,
    more: &[&'a str],
) -> Vec<&'a str> {
    let mut line = vec![command, workflow];
    let sets = [
        "data.train=train.jsonl",
        "data.test=test.jsonl",
        "data.train.units_public=240",
        "data.train.budget.epsilon=8",
        "params.samples=6",
        "params.augmented=6",
        "steps.synthesise.with.steps=3",
        "steps.augment.with.adapt_epochs=1",
        "steps.augment.with.retries_max=1",
        "steps.train-local.with.epochs=1",
        "steps.train-augmented.with.epochs=1",
        "steps.train-teacher.with.epochs=1",
        "steps.train-fdkt.with.epochs=1",
    ];
    for set in sets.iter().chain(more) {
        line.extend(["--set", set]);
    }
    line.extend(["--set", labels, "--set"]);
    line
}

fn tell(story: &Story, command: &str, more: &[&str]) -> Told {
    let (workflow, train, test) = names();
    let mut line = arguments(command, &workflow, &train, more);
    line.push(&test);
    line.push("--json");
    story.tell(&line)
}

fn names() -> (String, String, String) {
    let labels = root().join("workflows/labels/ag_news.txt");
    (
        root().join("workflows/fdkt.toml").display().to_string(),
        format!("data.train.labels={}", labels.display()),
        format!("data.test.labels={}", labels.display()),
    )
}

fn json(told: &Told) -> serde_json::Value {
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    serde_json::from_str(&told.out).unwrap_or_else(|error| panic!("{error}: {}", told.out))
}

fn path_of(summary: &serde_json::Value, artifact: &str) -> std::path::PathBuf {
    let made = summary["artifacts"].as_array().unwrap();
    let found = made.iter().find(|one| one["name"] == artifact).unwrap();
    found["path"].as_str().unwrap().into()
}

/// The whole story in one test, because the parts build on each other: run, the
/// same again, another request beyond the cap, the ledger.
#[test]
fn fdkt_runs_end_to_end_and_charges_once() {
    let Some(story) = story() else { return };
    let first = json(&tell(&story, "run", &[]));
    assert_eq!(first["outcome"], "done");
    let names: Vec<&str> = first["scores"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["step"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["local-only", "augmented-only", "fdkt", "teacher"]);
    for score in first["scores"].as_array().unwrap() {
        let (accuracy, rows) = (
            score["accuracy"].as_f64().unwrap(),
            score["rows"].as_u64().unwrap(),
        );
        assert!((0.0..=1.0).contains(&accuracy) && rows == 120, "{score}");
    }
    let charges = first["charges"].as_array().unwrap();
    assert_eq!(charges.len(), 2);
    // Together they cost more than either, and no more than their sum.
    let spent = charges[1]["spent_epsilon"].as_f64().unwrap();
    assert!(spent > 6.0 && spent <= 8.0, "{spent}");

    labels_are_kept(&story, &first);
    samples_are_new_text(&story, &first);
    the_model_folder_is_whole(&path_of(&first, "train-fdkt.model"), &story);
    let public = story.path().join(path_of(&first, "train-augmented.model"));
    let card = std::fs::read_to_string(public.join("README.md")).unwrap();
    assert!(
        card.contains("**public**: all it read") && card.contains("| 8 | 0.00001 |"),
        "{card}"
    );

    // The same request is served the same bytes and costs nothing.
    let second = json(&tell(&story, "run", &[]));
    assert!(second["charges"].as_array().unwrap().is_empty());
    let released =
        |summary| std::fs::read(story.path().join(path_of(summary, "synthesise.samples"))).unwrap();
    assert_eq!(released(&first), released(&second));

    // A changed request would be charged, and the cap has no room for it.
    let third = tell(&story, "run", &["params.seed=8"]);
    assert_eq!(third.code, Some(3), "{}{}", third.out, third.err);
    assert!(
        third.err.contains("cap") && third.err.contains("epsilon"),
        "{}",
        third.err
    );

    let verified = story.tell(&["ledger", "verify"]);
    assert_eq!(verified.code, Some(0), "{}", verified.err);
    assert!(verified.out.contains("whole"), "{}", verified.out);
}

fn labels_are_kept(story: &Story, summary: &serde_json::Value) {
    for made in summary["artifacts"].as_array().unwrap() {
        let name = made["name"].as_str().unwrap();
        let private = [
            "train-local.model",
            "train-fdkt.model",
            "train-teacher.model",
            "label.samples",
            "label.report",
            "local-only.report",
            "augmented-only.report",
            "fdkt.report",
            "teacher.report",
            "local-only.page",
            "augmented-only.page",
            "fdkt.page",
            "teacher.page",
        ];
        let expected = if private.contains(&name) {
            "private to clinic"
        } else {
            "public"
        };
        assert_eq!(made["label"], expected, "{name}");
        assert!(
            story.path().join(made["path"].as_str().unwrap()).exists(),
            "{name}"
        );
    }
}

/// Released samples carry declared labels only, and none is a private row.
fn samples_are_new_text(story: &Story, summary: &serde_json::Value) {
    let private = std::fs::read_to_string(story.path().join("train.jsonl")).unwrap();
    let declared = std::fs::read_to_string(root().join("workflows/labels/ag_news.txt")).unwrap();
    let samples =
        std::fs::read_to_string(story.path().join(path_of(summary, "synthesise.samples"))).unwrap();
    assert!(samples.lines().count() >= 4, "{samples}");
    for line in samples.lines() {
        let sample: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(
            declared.lines().any(|label| sample["label"] == label),
            "{line}"
        );
        let text = sample["text"].as_str().unwrap();
        assert!(
            !text.is_empty() && !private.contains(&format!("\"{text}\"")),
            "{line}"
        );
    }
}

fn the_model_folder_is_whole(model: &Path, story: &Story) {
    let folder = story.path().join(model);
    for file in [
        "config.json",
        "tokenizer.json",
        "model.safetensors",
        "model.onnx",
        "README.md",
    ] {
        assert!(folder.join(file).is_file(), "{file}");
    }
    let card = std::fs::read_to_string(folder.join("README.md")).unwrap();
    for part in [
        "**private to clinic**: it read private records",
        "| records | `data.train` | private to clinic |",
        "| records | `label.samples` | private to clinic |",
        "| `synthesise` | `data.train` | 6 | 0.000005 |",
        "| `centroids` | `data.train` | 2 | 0.000005 |",
    ] {
        assert!(card.contains(part), "`{part}` is not in {card}");
    }
}

#[test]
fn a_run_killed_after_its_charge_stays_charged_and_the_ledger_stays_whole() {
    let Some(story) = story() else { return };
    let (workflow, train, test) = names();
    let mut line = arguments(
        "run",
        &workflow,
        &train,
        &["steps.synthesise.with.steps=40"],
    );
    line.push(&test);
    let mut child = story.start(&line);
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let charged = lines
        .map_while(Result::ok)
        .any(|line| line.contains("charged epsilon"));
    assert!(charged, "the run ended before it was charged");
    child.kill().unwrap();
    child.wait().unwrap();

    assert_eq!(story.tell(&["ledger", "verify"]).code, Some(0));
    let shown = story.tell(&["ledger", "show", "--json"]);
    let spent =
        serde_json::from_str::<serde_json::Value>(&shown.out).unwrap()[0]["spent"]["epsilon"]
            .as_f64()
            .unwrap();
    assert!(spent > 5.5, "{spent}");
    // Fresh noise on the burned charge would be a second release: refused.
    let again = story.tell(&line);
    assert_eq!(again.code, Some(3), "{}{}", again.out, again.err);
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_stops_soon_and_says_so() {
    let Some(story) = story() else { return };
    let (workflow, train, test) = names();
    let mut line = arguments(
        "run",
        &workflow,
        &train,
        &[
            "steps.synthesise.with.steps=2000",
            "steps.synthesise.with.sampling_rate=0.5",
        ],
    );
    line.push(&test);
    let mut child = story.start(&line);
    let mut lines = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map_while(Result::ok);
    assert!(
        lines.any(|line| line.contains("charged epsilon")),
        "the run ended before it was charged"
    );
    let interrupted = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(interrupted.success());
    let said: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(4), "{said:?}");
    assert!(
        said.iter().any(|line| line.contains("interrupted")),
        "{said:?}"
    );
}
