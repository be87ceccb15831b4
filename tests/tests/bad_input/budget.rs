//! Bad numbers, bad event lists and bad ledgers: each is refused with place and remedy, nothing is
//! charged and nothing is released.

use std::io::{BufRead, BufReader};
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
            &["is not a noisegate ledger", "from a backup"],
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

/// Takes the ledger's file away and leaves what says that there was one.
fn lose(story: &Story) {
    for name in ["ledger.db", "ledger.db-wal", "ledger.db-shm"] {
        let _ = std::fs::remove_file(ledger(story).with_file_name(name));
    }
}

#[test]
fn a_ledger_that_is_gone_is_neither_a_new_budget_nor_an_unspent_one() {
    const GONE: [&str; 2] = ["was begun before and is gone", "restore it from a backup"];
    let story = done();
    lose(&story);
    let workflow = std::fs::read_to_string(story.path().join("gated.toml")).unwrap();
    story.write("elsewhere.toml", workflow.replace("clinic", "clinic2"));
    for arguments in [
        &["run", "gated.toml"][..],
        &["check", "gated.toml"],
        &["plan", "gated.toml"],
        &["ledger", "show"],
        &["ledger", "show", "--site", "clinic"],
        &["ledger", "export"],
        &["ledger", "verify"],
        &["ledger", "verify", "home/sites/clinic/ledger.db"],
        &["run", "elsewhere.toml"],
    ] {
        let told = gated::tell(&story, arguments);
        refused(&told, 3, &GONE);
        assert!(!told.out.contains("nothing of its cap"), "{}", told.out);
    }
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
            assert_eq!(told.code, Some(0), "{}", told.err);
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

fn set_cap(story: &Story, site: &str, data_set: &str, more: &[&str]) -> Told {
    let mut arguments = vec!["ledger", "set-cap", "--site", site, "--data-set", data_set];
    arguments.extend(["--epsilon", "4", "--delta", "1e-5"]);
    arguments.extend(more);
    gated::tell(story, &arguments)
}

#[test]
fn a_sites_name_leads_nowhere_but_to_its_folder() {
    let story = gated::story(&rows());
    for site in ["", "../../x", "/tmp", "a/b", ".", "Clinic"] {
        let told = set_cap(&story, site, "notes.jsonl", &["--reason", "x", "--new"]);
        refused(&told, 2, &["--site", "is not a name"]);
        for command in ["show", "export", "verify"] {
            let told = gated::tell(&story, &["ledger", command, "--site", site]);
            refused(&told, 2, &["--site", "is not a name"]);
        }
    }
    assert!(!story.path().join("home/sites").exists());
    assert!(!story.path().join("x").exists());
}

#[test]
fn a_cap_set_before_the_first_run_binds_it() {
    let story = gated::story(&rows());
    let new = ["--reason", "approved", "--new"];
    // No file, or no site that has begun: nothing is written.
    refused(
        &set_cap(&story, "clinic", "train.jsonl", &new),
        2,
        &["train.jsonl", "absolute path"],
    );
    refused(
        &set_cap(&story, "clinic", "notes.jsonl", &new[..2]),
        2,
        &["there is no ledger", "--new"],
    );
    assert!(!ledger(&story).exists());
    let told = set_cap(&story, "clinic", "notes.jsonl", &new);
    assert_eq!(told.code, Some(0), "{}", told.err);
    let real = story.path().join("notes.jsonl").canonicalize().unwrap();
    assert!(told.out.contains(real.to_str().unwrap()), "{}", told.out);
    // It binds: a workflow that states another is refused, one that states this is not.
    let other = ["run", "gated.toml", "--set", "data.notes.budget.epsilon=5"];
    refused(&gated::tell(&story, &other), 3, &["the ledger holds 4"]);
    assert_eq!(gated::tell(&story, &["run", "gated.toml"]).code, Some(0));
    for reason in ["", "  ", "two\nlines"] {
        let told = set_cap(&story, "clinic", "notes.jsonl", &["--reason", reason]);
        refused(&told, 2, &["the reason must have"]);
    }
}
