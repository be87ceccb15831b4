//! `check`, `plan` and `run` judge a workflow's charges by one judgement, before the first is made:
//! what would be refused is told by all three, and then nothing is charged at all.

use std::process::Command;

use noisegate_tests::{Story, Told, gated};
use serde_json::Value;

use super::budget::{done, ledger, nothing_is_released, rows};
use super::refused;

/// The gated workflow with a second step like the first, and what it asks for.
fn twice(story: &Story, epsilons: [f64; 2], site: &str, data: &str) {
    let workflow = std::fs::read_to_string(story.path().join("gated.toml")).unwrap();
    let privacy = "privacy = { epsilon = 2.0, delta = 1e-5 }";
    let asks = |epsilon: f64| format!("privacy = {{ epsilon = {epsilon}, delta = 4e-6 }}");
    let (head, exports) = workflow.split_once("[exports]").unwrap();
    let step = &head[head.find("[steps.count]").unwrap()..];
    let second = step
        .replace("[steps.count]", "[steps.again]")
        .replace(privacy, &asks(epsilons[1]))
        .replace("clip = 1.0", "clip = 3.0")
        .replace("site = \"clinic\"", &format!("site = \"{site}\""))
        .replace("data.notes", &format!("data.{data}"));
    let head = head.replace(privacy, &asks(epsilons[0]));
    story.write("twice.toml", format!("{head}{second}[exports]{exports}"));
}

/// Asserts that `check` and `run` refuse for all of `parts`, and that the ledgers stay as they are.
#[track_caller]
fn refused_by_all(story: &Story, workflow: &[&str], parts: &[&str]) {
    let head = |site: &str| gated::tell(story, &["ledger", "export", "--site", site]).out;
    let before = ["clinic", "clinic2"].map(head);
    let check = gated::tell(story, &[&["check"], workflow].concat());
    assert_eq!(check.code, Some(3), "{}{}", check.out, check.err);
    let plan = gated::tell(story, &[&["plan"], workflow].concat());
    let run = gated::tell(story, &[&["run"], workflow].concat());
    refused(&run, 3, parts);
    refused(&run, 3, &["would be REFUSED", "nothing was charged"]);
    for told in [&check.out, &plan.out] {
        assert!(parts.iter().all(|part| told.contains(part)), "{told}");
    }
    assert_eq!(["clinic", "clinic2"].map(head), before);
    nothing_is_released(story);
}

#[test]
fn the_charges_of_one_workflow_are_judged_together() {
    let story = gated::story(&rows());
    let three = ["gated.toml", "--set", "steps.count.privacy.epsilon=3"];
    assert_eq!(
        gated::tell(&story, &[&["run"], &three[..]].concat()).code,
        Some(0)
    );
    std::fs::remove_dir_all(story.path().join("out")).unwrap();
    twice(&story, [1.0, 1.0], "clinic", "notes");
    let json = gated::tell(&story, &["check", "twice.toml", "--json"]).out;
    let json: Value = serde_json::from_str(&json).unwrap();
    // Each of them alone would fit.
    let most = 0.9 * json["budget"][0]["largest"].as_f64().unwrap();
    twice(&story, [most, most], "clinic", "notes");
    let json = gated::tell(&story, &["check", "twice.toml", "--json"]);
    assert_eq!(json.code, Some(3), "{}", json.err);
    let json: Value = serde_json::from_str(&json.out).unwrap();
    let of = |step: usize, key: &str| json["budget"][step][key].clone();
    assert_eq!((of(0, "fits"), of(0, "before")), (true.into(), 0.into()));
    assert_eq!((of(1, "fits"), of(1, "before")), (false.into(), 1.into()));
    assert!(
        of(0, "refused").is_null() && of(1, "refused").is_string(),
        "{json}"
    );
    refused_by_all(
        &story,
        &["twice.toml"],
        &[
            "step `again`",
            "in 1 charge, and 1 charge of the steps before it comes on top",
            "above the cap of 4 (delta 1e-5)",
            "at delta 4e-6",
        ],
    );
    // What is said to fit beside the other does.
    let largest = of(1, "largest").as_f64().unwrap();
    let less = format!("steps.again.privacy.epsilon={:.4}", largest - 1e-4);
    let told = gated::tell(&story, &["check", "twice.toml", "--set", &less]);
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    let told = gated::tell(&story, &["run", "twice.toml", "--set", &less]);
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
}

#[test]
fn two_charges_of_a_new_data_set_are_judged_together_too() {
    let story = gated::story(&rows());
    twice(&story, [1.9, 1.9], "clinic", "notes");
    let told = gated::tell(&story, &["check", "twice.toml", "--json"]);
    let json: Value = serde_json::from_str(&told.out).unwrap();
    let second = &json["budget"][1];
    assert!(second["together"].as_f64().unwrap() > 2.5, "{json}");
    assert_eq!(told.code == Some(0), second["fits"] == true, "{json}");
    let run = gated::tell(&story, &["run", "twice.toml"]);
    assert_eq!(run.code, told.code, "{}{}", run.out, run.err);
}

/// The gated workflow with a second step like the first, on another site's rows.
fn two_sites() -> Story {
    let story = gated::story(&rows());
    story.write("other.jsonl", rows().replace("waiting", "here"));
    twice(&story, [1.0, 1.0], "clinic2", "other");
    let workflow = std::fs::read_to_string(story.path().join("twice.toml")).unwrap();
    let notes = &workflow[workflow.find("[data.notes]").unwrap()..];
    let notes = &notes[..notes.find("[steps").unwrap()];
    let other = notes
        .replace("data.notes", "data.other")
        .replace("notes.jsonl", "other.jsonl")
        .replace("clinic", "clinic2");
    let workflow = workflow
        .replace("[sites.clinic]", "[sites.clinic]\n[sites.clinic2]")
        .replace("[steps.count]", &format!("{other}[steps.count]"));
    story.write("twice.toml", workflow);
    story
}

/// What the second step would stumble over is found before the first is charged.
#[cfg(unix)]
#[test]
fn a_key_or_a_packed_file_that_cannot_be_used_stops_a_run_before_its_first_charge() {
    use std::os::unix::fs::PermissionsExt;
    let story = two_sites();
    story.write("home/sites/clinic2/site.key", "junk");
    let key = story.path().join("home/sites/clinic2/site.key");
    for (mode, part) in [(0o644, "644"), (0o600, "site.key")] {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        for command in ["check", "run"] {
            let told = gated::tell(&story, &[command, "twice.toml"]);
            refused(&told, 3, &[part]);
        }
    }
    std::fs::remove_file(key).unwrap();
    story.write("other.jsonl.gz", "no gzip");
    for command in ["check", "run"] {
        let line = [command, "twice.toml", "--set", "data.other=other.jsonl.gz"];
        refused(&gated::tell(&story, &line), 2, &["other.jsonl.gz"]);
    }
    story.write("oth\ter.jsonl", rows());
    for command in ["check", "run"] {
        let line = [command, "twice.toml", "--set", "data.other=oth\ter.jsonl"];
        refused(&gated::tell(&story, &line), 3, &["name of a data set"]);
    }
    assert!(!ledger(&story).exists(), "the first site was charged");
}

#[test]
fn no_site_is_charged_for_a_run_that_another_sites_ledger_refuses() {
    let story = two_sites();
    let cap = [
        "ledger", "set-cap", "--site", "clinic2", "--new", "--reason", "careful",
    ];
    let cap = [
        &cap[..],
        &[
            "--data-set",
            "other.jsonl",
            "--epsilon",
            "0.5",
            "--delta",
            "1e-5",
        ],
    ];
    assert_eq!(gated::tell(&story, &cap.concat()).code, Some(0));
    let parts = ["step `again`", "the ledger holds 0.5 at 1e-5"];
    refused_by_all(&story, &["twice.toml"], &parts);
    assert!(!ledger(&story).exists(), "the first site was charged");
    let smaller = ["twice.toml", "--set", "data.other.budget.epsilon=0.5"];
    refused(
        &gated::tell(&story, &[&["run"], &smaller[..]].concat()),
        3,
        &["0.5"],
    );
    assert!(!ledger(&story).exists(), "the first site was charged");
}

#[test]
fn a_request_that_was_answered_before_is_no_reason_to_refuse() {
    let story = done();
    for arguments in [&["check", "gated.toml"][..], &["run", "gated.toml"]] {
        let told = gated::tell(&story, arguments);
        assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    }
    let told = gated::tell(&story, &["check", "gated.toml"]);
    assert!(told.out.contains("it was answered before"), "{}", told.out);
    // A run that was charged nothing says so.
    let shown = gated::tell(&story, &["show"]).out;
    assert!(
        shown.contains("step `count` was served what the ledger's entry"),
        "{shown}"
    );
    // Another seed is another request.
    let other = ["gated.toml", "--set", "steps.count.with.clip=2", "--set"];
    let epsilon = "steps.count.privacy.epsilon=3.9";
    std::fs::remove_dir_all(story.path().join("out")).unwrap();
    refused_by_all(
        &story,
        &[&other[..], &[epsilon]].concat(),
        &["above the cap of 4"],
    );
}

fn copy(story: &Story, name: &str) -> String {
    let path = story.path().join("notes.jsonl");
    std::fs::copy(path, story.path().join(name)).unwrap();
    format!("data.notes={name}")
}

#[test]
fn a_copy_of_a_data_set_is_refused_before_a_run_however_it_is_packed() {
    let story = done();
    let plain = copy(&story, "copy.jsonl");
    let why = ["was charged as data set"];
    refused_by_all(&story, &["gated.toml", "--set", &plain], &why);
    for (tool, ending) in [("gzip", "gz"), ("zstd", "zst")] {
        let packed = copy(&story, &format!("{tool}.jsonl"));
        let file = story.path().join(format!("{tool}.jsonl"));
        match Command::new(tool).arg("-q").arg(file).status() {
            Ok(status) => assert!(status.success()),
            Err(error) => {
                println!("skipped: no `{tool}` here: {error}");
                continue;
            }
        }
        let packed = format!("{packed}.{ending}");
        refused_by_all(&story, &["gated.toml", "--set", &packed], &why);
    }
}

#[test]
fn another_sites_file_and_an_unreadable_policy_are_refused_before_a_run() {
    let story = done();
    let workflow = std::fs::read_to_string(story.path().join("gated.toml")).unwrap();
    story.write("elsewhere.toml", workflow.replace("clinic", "clinic2"));
    let why = ["is charged by site `clinic` already"];
    refused_by_all(&story, &["elsewhere.toml"], &why);
    story.write("home/sites/clinic/policy.toml", "[sandbox]\nrequires = []");
    let more = ["gated.toml", "--set", "steps.count.with.clip=2"];
    refused_by_all(&story, &more, &["policy.toml", "requires"]);
    // Fuel is a long look at one unit.
    story.write(
        "home/sites/clinic/policy.toml",
        "sandbox.fuel_per_unit_max = 9999999",
    );
    let why = ["fuel of 10000000", "more than the 9999999", "policy.toml"];
    refused_by_all(&story, &more, &why);
}

#[test]
fn a_guest_that_is_not_pinned_is_refused_by_check_as_by_run() {
    let story = gated::story(&rows());
    let manifest = story.path().join("plugins/counter/plugin.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let (head, sha256) = text.split_once("sha256 = \"").unwrap();
    let zeros = "0".repeat(64);
    let unpinned = format!("{head}sha256 = \"{zeros}{}", &sha256[64..]);
    std::fs::write(&manifest, unpinned).unwrap();
    let tell = |command: &str| -> Told { gated::tell(&story, &[command, "gated.toml"]) };
    for command in ["check", "plan", "run"] {
        refused(&tell(command), 2, &["counter.wasm", &zeros]);
    }
    std::fs::write(&manifest, text.replace("16777216", "40000000000000")).unwrap();
    refused(
        &tell("check"),
        2,
        &["`memory_bytes_max` is 40000000000000", "4294967296"],
    );
}

/// Whoever looks at the rows is told that a step would see none of them, or not all.
#[test]
fn labels_that_are_not_declared_are_told_with_the_rows_and_not_counted() {
    let story = gated::story(&rows().replace("delay", "Delay"));
    let told = gated::tell(&story, &["check", "gated.toml", "--rows"]);
    refused(
        &told,
        2,
        &[
            "`notes`",
            "no row has one of its `labels`",
            "`label_column`",
        ],
    );
    story.write("notes.jsonl", rows() + &rows().replace("delay", "Delay"));
    let told = gated::tell(&story, &["check", "gated.toml", "--rows"]);
    assert_eq!(told.code, Some(0), "{}", told.err);
    let said = "can be read, but rows whose label is not one of `labels`";
    assert!(
        told.out.contains(said) && !told.out.contains("12"),
        "{}",
        told.out
    );
    assert!(!told.out.contains("Delay"), "{}", told.out);
    let json = gated::tell(&story, &["check", "gated.toml", "--rows", "--json"]).out;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["rows_left_out"][0], "notes", "{json}");
}
