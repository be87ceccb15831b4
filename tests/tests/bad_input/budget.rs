//! What a run is charged: numbers that make no sense, and runs that are stopped, do not fit or do
//! not match the ledger, charge nothing and release nothing; what is left of a cap is told.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use noisegate_tests::{Story, gated};
use serde_json::Value;

use super::refused;

pub(super) fn rows() -> String {
    "{\"text\":\"still waiting\",\"label\":\"delay\"}\n".repeat(12)
}

pub(super) fn ledger(story: &Story) -> PathBuf {
    story.path().join("home/sites/clinic/ledger.db")
}

/// Nothing was exported.
#[track_caller]
pub(super) fn nothing_is_released(story: &Story) {
    assert!(!story.path().join("out").exists(), "something was released");
}

/// A story whose run ended well, with what it released taken away.
pub(super) fn done() -> Story {
    let story = gated::story(&rows());
    let told = gated::tell(&story, &["run", "gated.toml"]);
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    std::fs::remove_dir_all(story.path().join("out")).unwrap();
    story
}

#[test]
fn a_number_that_makes_no_sense_is_refused_before_there_is_a_ledger() {
    let story = gated::story(&rows());
    for key in [
        "steps.count.privacy.epsilon",
        "steps.count.privacy.delta",
        "steps.count.with.clip",
        "steps.count.with.sampling_rate",
        "steps.count.with.steps",
        "data.notes.budget.epsilon",
        "data.notes.budget.delta",
        "data.notes.units_public",
    ] {
        for value in ["0", "-1", "nan", "inf", "-inf", "1e999"] {
            let set = format!("{key}={value}");
            let told = gated::tell(&story, &["run", "gated.toml", "--set", &set]);
            refused(&told, 2, &[key.rsplit('.').next().unwrap()]);
            assert!(!ledger(&story).exists(), "{set}");
        }
    }
    // Above 1 / units_public one unit could be published whole.
    for (delta, units) in [("0.05", "20"), ("1e-4", "20000")] {
        let sets = [
            format!("steps.count.privacy.delta={delta}"),
            format!("data.notes.budget.delta={delta}"),
            format!("data.notes.units_public={units}"),
        ];
        let mut arguments = vec!["run", "gated.toml"];
        sets.iter()
            .for_each(|set| arguments.extend(["--set", set.as_str()]));
        let told = gated::tell(&story, &arguments);
        assert!(matches!(told.code, Some(2 | 3)), "{told:?}");
        assert!(told.err.contains("units_public"), "{}", told.err);
        assert!(!ledger(&story).exists(), "{sets:?}");
    }
    nothing_is_released(&story);
}

#[test]
fn what_is_left_of_a_cap_is_told_by_check_plan_and_show() {
    let story = gated::story(&rows());
    let plan = gated::tell(&story, &["plan", "gated.toml"]);
    assert!(plan.out.contains("nothing of its cap of 4"), "{}", plan.out);
    assert_eq!(gated::tell(&story, &["run", "gated.toml"]).code, Some(0));
    for command in ["check", "plan"] {
        let told = gated::tell(&story, &[command, "gated.toml"]);
        assert_eq!(told.code, Some(0), "{}", told.err);
        for part in [
            "of its cap of 4 (delta 1e-5) is spent in 1 charge;",
            "that fits has epsilon",
        ] {
            assert!(told.out.contains(part), "{command}: {}", told.out);
        }
    }
    let json = gated::tell(&story, &["check", "gated.toml", "--json"]).out;
    let json: Value = serde_json::from_str(&json).unwrap();
    let outlook = &json["budget"][0];
    assert!(outlook["spent"].as_f64().unwrap() > 1.9, "{json}");
    let (together, fits) = (
        outlook["together"].as_f64().unwrap(),
        outlook["fits"].as_bool(),
    );
    assert_eq!(fits, Some(together <= 4.0), "{json}");
    let largest = outlook["largest"].as_f64().unwrap();
    assert!(largest > 0.5 && largest < 3.0, "{json}");
    // What is said to fit does, and what is said not to is refused.
    let with = |epsilon: f64| format!("steps.count.privacy.epsilon={epsilon:.3}");
    let too_much = ["run", "gated.toml", "--set", &with(largest * 1.1)];
    refused(&gated::tell(&story, &too_much), 3, &["above the cap of 4"]);
    let fits = ["run", "gated.toml", "--set", &with(largest * 0.99)];
    let told = gated::tell(&story, &fits);
    assert_eq!(told.code, Some(0), "{}", told.err);
    let shown = gated::tell(&story, &["ledger", "show"]).out;
    assert!(shown.contains("left"), "{shown}");
}

/// What a row looks like is told to the operator who asks, before a charge (decision 010).
#[test]
fn rows_are_looked_at_before_a_charge_only_if_the_operator_asks() {
    let story = gated::story(&rows());
    let told = gated::tell(&story, &["check", "gated.toml", "--rows"]);
    assert_eq!(told.code, Some(0), "{}", told.err);
    assert!(
        told.out
            .contains("every row of data set `notes` can be read"),
        "{}",
        told.out
    );
    assert!(!told.out.contains("12"), "{}", told.out);
    story.write("notes.jsonl", format!("{}{{\"text\": \"a secret\n", rows()));
    let told = gated::tell(&story, &["check", "gated.toml", "--rows"]);
    refused(&told, 2, &["notes.jsonl", "line 13"]);
    assert!(!told.err.contains("secret"), "{}", told.err);
    assert!(!ledger(&story).exists(), "looking charges nothing");
    assert_eq!(gated::tell(&story, &["check", "gated.toml"]).code, Some(0));
    let told = gated::tell(&story, &["run", "gated.toml"]);
    refused(
        &told,
        2,
        &["line 13", "the charge stays", "`noisegate check --rows`"],
    );
    nothing_is_released(&story);
}

/// Whoever stops a run that waits for another's charge is charged nothing.
#[test]
fn a_run_that_is_stopped_before_its_charge_is_charged_nothing() {
    let story = done();
    let before = gated::tell(&story, &["ledger", "export"]).out;
    let turn = std::fs::File::open(story.path().join("home/sites/.turn")).unwrap();
    turn.lock().unwrap();
    let run = story
        .command(&["run", "gated.toml", "--set", "steps.count.with.clip=2"])
        .env("NOISEGATE_PLUGINS", story.path().join("plugins"))
        .stdout(std::process::Stdio::null())
        .spawn();
    let mut run = run.unwrap();
    let mut lines = BufReader::new(run.stderr.take().unwrap()).lines();
    let waits = lines.find(|line| line.as_ref().unwrap().contains("waiting until another"));
    assert!(waits.is_some(), "it does not say that it waits");
    let pid = run.id().cast_signed();
    // SAFETY: a signal to a child that has not been waited for.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(run.wait().unwrap().code(), Some(4), "{rest:?}");
    assert_eq!(gated::tell(&story, &["ledger", "export"]).out, before);
    nothing_is_released(&story);
}

#[test]
fn a_run_that_is_refused_leaves_no_cap_behind() {
    let story = done();
    std::fs::copy(
        story.path().join("notes.jsonl"),
        story.path().join("copy.jsonl"),
    )
    .unwrap();
    let copy = [
        "run",
        "gated.toml",
        "--set",
        "data.notes=copy.jsonl",
        "--set",
        "data.notes.budget.epsilon=9",
    ];
    refused(&gated::tell(&story, &copy), 3, &["was charged as data set"]);
    let shown = gated::tell(&story, &["ledger", "show"]).out;
    assert!(!shown.contains("copy.jsonl"), "{shown}");
}

/// They protect different things, so they do not add up to one promise (decision 085).
#[test]
fn a_run_for_another_privacy_unit_is_refused() {
    let rows: String = (0..12)
        .map(|i| {
            format!(
                "{{\"text\":\"a\",\"label\":\"delay\",\"patient\":\"{}\"}}\n",
                i / 2
            )
        })
        .collect();
    let story = gated::story(&rows);
    let by = |unit: &str| {
        let (unit, spend) = (
            format!("data.notes.unit={unit}"),
            "steps.count.privacy.epsilon=1",
        );
        gated::tell(
            &story,
            &["run", "gated.toml", "--set", &unit, "--set", spend],
        )
    };
    let told = by("patient");
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    let head = gated::tell(&story, &["ledger", "verify"]).out;
    refused(
        &by("record"),
        3,
        &[
            "`record`",
            "for unit `patient`",
            "state `unit = \"patient\"`",
        ],
    );
    assert_eq!(gated::tell(&story, &["ledger", "verify"]).out, head);
    let shown = gated::tell(&story, &["ledger", "show"]).out;
    assert!(shown.contains("patient"), "{shown}");
    let json = gated::tell(&story, &["ledger", "show", "--json"]).out;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["unit"], "patient", "{json}");
}

#[test]
fn check_and_plan_say_that_the_ledger_knows_another_cap_or_unit() {
    let story = done();
    for (set, why) in [
        ("data.notes.budget.epsilon=9", "the ledger holds 4 at 1e-5"),
        ("data.notes.unit=label", "is for unit `record`"),
    ] {
        for command in ["check", "plan"] {
            let told = gated::tell(&story, &[command, "gated.toml", "--set", set]);
            let code = if command == "check" { 3 } else { 0 };
            assert_eq!(told.code, Some(code), "{}", told.err);
            assert!(told.out.contains("would be REFUSED"), "{}", told.out);
            assert!(told.out.contains(why), "{}", told.out);
        }
    }
}

#[test]
fn what_is_left_after_a_small_charge_is_most_of_the_cap() {
    let story = gated::story(&rows());
    let with = |epsilon: &str| {
        let (cap, spend) = (
            "data.notes.budget.epsilon=10",
            format!("steps.count.privacy.epsilon={epsilon}"),
        );
        gated::tell(
            &story,
            &["run", "gated.toml", "--set", cap, "--set", &spend],
        )
    };
    assert_eq!(with("0.05").code, Some(0));
    let json = gated::tell(&story, &["ledger", "show", "--json"]).out;
    let json: Value = serde_json::from_str(&json).unwrap();
    let left = json[0]["left"].as_f64().unwrap();
    assert!(left > 7.0 && left < 10.0, "{left}");
    refused(&with(&format!("{:.3}", left * 1.05)), 3, &["above the cap"]);
    let told = with(&format!("{:.3}", left * 0.99));
    assert_eq!(told.code, Some(0), "{}", told.err);
}
