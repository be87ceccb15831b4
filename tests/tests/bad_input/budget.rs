//! Bad numbers, bad event lists and bad ledgers: each is refused with place and remedy, nothing is
//! charged and nothing is released.

use std::path::PathBuf;

use noisegate_tests::{Story, Told, gated};
use serde_json::Value;

use super::refused;

fn rows() -> String {
    "{\"text\":\"still waiting\",\"label\":\"delay\"}\n".repeat(12)
}

fn ledger(story: &Story) -> PathBuf {
    story.path().join("home/sites/clinic/ledger.db")
}

/// Nothing was exported.
#[track_caller]
fn nothing_is_released(story: &Story) {
    assert!(!story.path().join("out").exists(), "something was released");
}

/// A story whose run ended well, with what it released taken away.
fn done() -> Story {
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

fn epsilon(events: &str, delta: &str) -> Told {
    Story::new().tell(&[
        "privacy", "epsilon", "--events", events, "--delta", delta, "--json",
    ])
}

#[test]
fn the_accountant_answers_as_promised() {
    for (events, delta) in [
        (r#"[["sgd",0.01,1.0,1000]]"#, "1e-5"),
        (r#"[["sgd",1e-8,0.3,1000000]]"#, "1e-12"),
        (r#"[["sgd",1e-8,1000,1000000]]"#, "1e-12"),
        (
            r#"[["sgd",0.01,1,100],["gauss",10,5],["lap",20,3],["dlap",0.1,1,4],["sglap",0.01,1,100],["zcdp",0.01]]"#,
            "1e-6",
        ),
        (r#"[["sglap",0.01,1,1000]]"#, "1e-6"),
    ] {
        let told = epsilon(events, delta);
        assert_eq!(told.code, Some(0), "{events}: {}", told.err);
        let answer: Value = serde_json::from_str(&told.out).unwrap();
        let best = answer["epsilon"].as_f64().unwrap();
        let rdp = answer["epsilon_rdp"].as_f64().unwrap();
        assert!(best.is_finite() && best >= 0.0 && best <= rdp, "{answer}");
        assert!(answer["accountant"].is_string(), "{answer}");
        assert!(
            answer["epsilon_pld"].is_number() || answer["pld_refused"].is_string(),
            "{answer}"
        );
    }
    let calibrate = |last: &[&str]| {
        let mut arguments = vec![
            "privacy",
            "calibrate",
            "--epsilon",
            "2",
            "--delta",
            "1e-5",
            "--q",
            "0.01",
            "--json",
        ];
        arguments.extend(last);
        let told = Story::new().tell(&arguments);
        assert_eq!(told.code, Some(0), "{}", told.err);
        serde_json::from_str::<Value>(&told.out).unwrap()
    };
    let sigma = calibrate(&["--steps", "1000"])["noise_multiplier"]
        .as_f64()
        .unwrap();
    assert!(sigma > 0.9 && sigma < 1.0, "{sigma}");
    let steps = calibrate(&["--noise-multiplier", &sigma.to_string()])["steps"]
        .as_u64()
        .unwrap();
    assert!((1000..1005).contains(&steps), "{steps}");
}

#[test]
fn events_and_targets_that_make_no_sense_are_refused() {
    for (events, part) in [
        ("not json", "--events"),
        (
            r#"[["sdg",0.1,1,1]]"#,
            r#"write one of ["sgd",q,sigma,steps]"#,
        ),
        (r#"[["sgd",0.1,1]]"#, "`sgd` with 2 numbers"),
        (r#"[["sgd",0.1,1,1.5]]"#, "whole number"),
        (
            r#"[["gauss",1,1],["sgd",0,1,1]]"#,
            "event 1 `sgd`: q is `0`",
        ),
        (r#"[["sgd",1.5,1,1]]"#, "q is `1.5`"),
        (r#"[["gauss",0,1]]"#, "sigma is `0`"),
        (r#"[["lap",-1,1]]"#, "scale is `-1`"),
        (r#"[["zcdp",-0.1]]"#, "rho is `-0.1`"),
        (r#"[["gauss",1e999,1]]"#, "--events"),
        (r#"[["gauss",NaN,1]]"#, "--events"),
    ] {
        refused(&epsilon(events, "1e-5"), 2, &[part]);
    }
    for delta in ["0", "-1", "nan", "inf", "1"] {
        refused(
            &epsilon("[]", delta),
            2,
            &["delta is", "above 0 and below 1"],
        );
    }
    for (option, bad, part) in [
        ("--epsilon", "0", "epsilon is `0`"),
        ("--epsilon", "nan", "epsilon is `NaN`"),
        ("--epsilon", "inf", "epsilon is `inf`"),
        ("--delta", "0", "delta is `0`"),
        ("--q", "0", "sampling rate is `0`"),
        ("--q", "1.5", "sampling rate is `1.5`"),
        ("--steps", "0", "give at least 1"),
    ] {
        let mut arguments = vec!["privacy", "calibrate"];
        for (name, good) in [
            ("--epsilon", "2"),
            ("--delta", "1e-5"),
            ("--q", "0.1"),
            ("--steps", "9"),
        ] {
            let value = if name == option { bad } else { good };
            arguments.extend([name, value]);
        }
        refused(&Story::new().tell(&arguments), 2, &[part]);
    }
    let out_of_reach = [
        "privacy",
        "calibrate",
        "--epsilon",
        "0.1",
        "--delta",
        "1e-9",
        "--q",
        "0.5",
        "--noise-multiplier",
        "0.5",
    ];
    refused(
        &Story::new().tell(&out_of_reach),
        2,
        &["raise the noise multiplier"],
    );
}

/// Each breaks the ledger of a good run; what it holds is neither charged nor served then.
#[test]
fn a_broken_ledger_is_named_and_nothing_is_released() {
    type Break = fn(&Story);
    let breaks: [(&str, Break, &[&str]); 5] = [
        (
            "another version",
            |story| {
                // SQLite's user version, at offset 60 of the file.
                let mut bytes = std::fs::read(ledger(story)).unwrap();
                bytes[63] = 99;
                std::fs::write(ledger(story), bytes).unwrap();
            },
            &["format 99", "use the noisegate version that wrote it"],
        ),
        (
            "overwritten",
            |story| {
                let mut bytes = std::fs::read(ledger(story)).unwrap();
                let from = bytes.len() / 3;
                bytes[from..].fill(0x5a);
                std::fs::write(ledger(story), bytes).unwrap();
            },
            &["ledger.db", "restore a copy that verifies"],
        ),
        (
            "no ledger at all",
            |story| std::fs::write(ledger(story), "a shopping list".repeat(99)).unwrap(),
            &["is not a noisegate ledger", "check the path"],
        ),
        (
            "without its key",
            |story| std::fs::remove_file(ledger(story).with_file_name("site.key")).unwrap(),
            &["site.key", "is missing", "restore the key from its backup"],
        ),
        (
            "with a key that everybody may read",
            |story| {
                use std::os::unix::fs::PermissionsExt;
                let key = ledger(story).with_file_name("site.key");
                std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o644)).unwrap();
            },
            &["site.key", "chmod 600"],
        ),
    ];
    for (name, break_it, parts) in breaks {
        let story = done();
        break_it(&story);
        let told = gated::tell(&story, &["run", "gated.toml"]);
        refused(&told, 3, parts);
        nothing_is_released(&story);
        let new = ["run", "gated.toml", "--set", "steps.count.with.clip=2"];
        refused(&gated::tell(&story, &new), 3, parts);
        nothing_is_released(&story);
        println!("{name}: {}", told.err);
    }
}

#[test]
fn an_older_ledger_put_back_is_noticed() {
    let story = done();
    let older = std::fs::read(ledger(&story)).unwrap();
    let more = [
        "run",
        "gated.toml",
        "--set",
        "steps.count.privacy.epsilon=1",
    ];
    assert_eq!(gated::tell(&story, &more).code, Some(0));
    std::fs::remove_dir_all(story.path().join("out")).unwrap();
    std::fs::write(ledger(&story), older).unwrap();
    refused(
        &gated::tell(&story, &more),
        3,
        &[
            "ledger.begun",
            "charges are missing",
            "restore the latest one",
        ],
    );
    refused(
        &gated::tell(&story, &["ledger", "verify"]),
        3,
        &["ledger.begun"],
    );
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
