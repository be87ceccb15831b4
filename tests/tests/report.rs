//! Audit and report of a run: told through the command line, and nothing private in either.

use noisegate_tests::{Story, gated};
use serde_json::Value;

/// In texts, in a label that is not declared, and in a column that nothing reads.
const MARKER: &str = "zanzibar-7731";

fn rows() -> String {
    let row = |i: usize| {
        let label = if i == 3 { MARKER } else { "delay" };
        format!("{{\"text\":\"note {i} {MARKER}\",\"label\":\"{label}\",\"name\":\"{MARKER}\"}}\n")
    };
    (0..12).map(row).collect()
}

/// A story whose run ended well.
fn done() -> Story {
    let story = gated::story(&rows());
    let told = gated::tell(&story, &["run", "gated.toml"]);
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    story
}

fn page(story: &Story) -> String {
    let told = gated::tell(story, &["report", "--out", "page.html"]);
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    std::fs::read_to_string(story.path().join("page.html")).unwrap()
}

#[test]
fn a_run_is_audited_and_reported() {
    let story = done();
    assert!(page(&story).contains("No audit was made of this run"));

    let told = gated::tell(&story, &["audit", "--canaries", "500", "--json"]);
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    let audit: Value = serde_json::from_str(&told.out).unwrap();
    let found = &audit["steps"][0]["findings"];
    assert_ne!(found["verdict"], "refuted", "{audit}");
    let claimed = found["claimed_epsilon"].as_f64().unwrap();
    // The step asks for epsilon 2.
    assert!(claimed > 1.9 && claimed <= 2.0, "{claimed}");
    assert!(
        audit["caveat"].as_str().unwrap().contains("never certify"),
        "{audit}"
    );

    let page = page(&story);
    for part in [
        "Privacy parameters",
        "Unit of privacy",
        "Composition and budget",
        "Not covered",
        "<svg",
        "one record",
        "guest:counter",
        "noisegate:client/kernels@0.1.0",
        "private to clinic",
        "not refuted",
        "counts &lt;units&gt; &amp; releases the count",
    ] {
        assert!(page.contains(part), "`{part}` is not in the page");
    }
    for outside in [
        "http:", "https:", "<script", "<link", "<img", "url(", "@import",
    ] {
        assert!(!page.contains(outside), "`{outside}` is in the page");
    }

    let report = gated::tell(&story, &["report", "--json"]).out;
    let report: Value = serde_json::from_str(&report).unwrap();
    let verified = gated::tell(&story, &["ledger", "verify", "--json"]).out;
    let verified: Value = serde_json::from_str(&verified).unwrap();
    assert_eq!(report["ledgers"][0]["head"], verified["head"]);
    assert_eq!(report["ledgers"][0]["public_key"], verified["public_key"]);
    assert_eq!(report["gates"][0]["charge"]["of_this_run"], true);
    assert_eq!(report["gates"][0]["curve"].as_array().unwrap().len(), 17);
}

/// The second run of the same request: the ledger does not grow, and the report says whose charge
/// it shows.
#[test]
fn a_release_served_again_is_reported_as_such() {
    let story = done();
    assert!(!page(&story).contains("served again"));
    let told = gated::tell(&story, &["run", "gated.toml", "--json"]);
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    let run: Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(run["charges"], serde_json::json!([]), "{run}");
    let report = gated::tell(&story, &["report", "--json"]).out;
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["gates"][0]["charge"]["of_this_run"], false);
    let told = gated::tell(&story, &["audit", "--canaries", "100"]);
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    assert_eq!(report["ledgers"][0]["charges"].as_array().unwrap().len(), 1);
    let page = page(&story);
    assert!(
        page.contains("made by an earlier run of the step, whose output was served again"),
        "{page}"
    );
}

/// A charge of an earlier run is not this one's, though step, rate and queries are the same.
#[test]
fn a_run_that_ended_before_its_charge_is_shown_without_one_and_cannot_be_audited() {
    let story = done();
    let manifest = story.path().join("plugins/counter/plugin.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let fuel = "fuel_per_unit = 10000000";
    assert!(text.contains(fuel));
    let starved = text.replace(fuel, "fuel_per_unit = 1");
    std::fs::write(&manifest, starved).unwrap();
    let told = gated::tell(&story, &["run", "gated.toml"]);
    assert_eq!(told.code, Some(2), "{}{}", told.out, told.err);
    let report = gated::tell(&story, &["report", "--json"]).out;
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["outcome"], "failed");
    assert_eq!(report["gates"][0]["charge"], Value::Null);
    assert_eq!(report["ledgers"][0]["charges"].as_array().unwrap().len(), 1);
    assert!(!page(&story).contains("served again"));
    let told = gated::tell(&story, &["audit", "--canaries", "100"]);
    assert_eq!(told.code, Some(2), "{}{}", told.out, told.err);
    assert!(told.err.contains("holds no charge for it"), "{}", told.err);
}

/// A run that was killed before it logged anything.
#[test]
fn a_run_without_events_is_reported_too() {
    let story = done();
    for run in std::fs::read_dir(story.path().join("home/runs")).unwrap() {
        std::fs::remove_file(run.unwrap().path().join("events.jsonl")).unwrap();
    }
    assert!(page(&story).contains("guest:counter"));
}

/// An audit reads no private data and charges nothing: it works with the data gone, and the
/// ledger stays as it was.
#[test]
fn an_audit_needs_no_data_and_charges_nothing() {
    let story = done();
    std::fs::remove_file(story.path().join("notes.jsonl")).unwrap();
    let before = gated::tell(&story, &["ledger", "export"]).out;
    let told = gated::tell(&story, &["audit", "--canaries", "100"]);
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    assert!(
        told.out.contains("can refute a claim, never certify it"),
        "{}",
        told.out
    );
    assert_eq!(gated::tell(&story, &["ledger", "export"]).out, before);
}

#[test]
fn no_private_value_appears_in_anything_that_is_said_or_kept() {
    let story = done();
    let mut said = String::new();
    for arguments in [
        &["run", "gated.toml"][..],
        &["run", "gated.toml", "--json"],
        &["show"],
        &["show", "--json"],
        &["runs"],
        &["ledger", "show"],
        &["ledger", "export"],
        &["ledger", "verify"],
        &["audit", "--canaries", "64"],
        &["report"],
        &["report", "--json"],
        &["plan", "gated.toml"],
    ] {
        let told = gated::tell(&story, arguments);
        assert_eq!(
            told.code,
            Some(0),
            "{arguments:?}: {}{}",
            told.out,
            told.err
        );
        said.push_str(&told.out);
        said.push_str(&told.err);
    }
    assert!(!said.contains(MARKER), "{said}");
    let mut waiting = vec![story.path().join("home"), story.path().join("out")];
    let mut files = 0;
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes
                .windows(MARKER.len())
                .any(|window| window == MARKER.as_bytes());
            assert!(!found, "the marker is in `{}`", path.display());
            files += 1;
        }
    }
    assert!(files > 8, "{files}");
}

#[test]
fn a_ledger_that_was_tampered_with_is_neither_audited_nor_reported() {
    let story = done();
    let key = story.path().join("home/sites/clinic/site.pub");
    std::fs::write(&key, "00".repeat(32)).unwrap();
    for command in ["audit", "report"] {
        let told = gated::tell(&story, &[command]);
        assert!(
            matches!(told.code, Some(2 | 3)),
            "{command}: {:?} {}",
            told.code,
            told.err
        );
    }
}

#[test]
fn a_run_that_is_not_there_is_named() {
    for command in ["audit", "report"] {
        let told = gated::tell(&Story::new(), &[command, "nowhere"]);
        assert_eq!(told.code, Some(2), "{command}: {}{}", told.out, told.err);
        assert!(
            told.err.contains("there is no run `nowhere`"),
            "{}",
            told.err
        );
    }
}

#[test]
fn options_that_make_no_sense_are_refused_with_a_remedy() {
    let story = done();
    for (arguments, part) in [
        (["audit", "--canaries", "3"], "from 16 to"),
        (["audit", "--canaries", "99999999999"], "from 16 to"),
        (["audit", "--confidence", "1.5"], "above 0 and below 1"),
        (["audit", "--confidence", "nan"], "above 0 and below 1"),
    ] {
        let told = gated::tell(&story, &arguments);
        assert_eq!(
            told.code,
            Some(2),
            "{arguments:?}: {}{}",
            told.out,
            told.err
        );
        assert!(told.err.contains(part), "{}", told.err);
    }
}

/// The report inspects a guest under its manifest's limits, as the run did.
#[test]
fn a_guest_with_frozen_wasi_is_reported_as_one_that_the_sandbox_loads() {
    let story = gated::story(&rows());
    let exit = "(component\n  (import \"wasi:cli/exit@0.2.3\" (instance \
                (type $status (result)) (export \"exit\" (func (param \"status\" $status)))))\n";
    let text = gated::counter_text().replacen("(component\n", exit, 1);
    let guest = wat::parse_str(text).unwrap();
    let path = story.path().join("plugins/counter/plugin.toml");
    let pinned = |component: &[u8]| {
        let sha256 = noisegate_sandbox::Digest::of(component);
        format!("sha256 = \"{sha256}\"\n")
    };
    let frozen = format!("{}wasi = \"frozen\"\n", pinned(&guest));
    let manifest = std::fs::read_to_string(path).unwrap();
    let manifest = manifest.replace(&pinned(&gated::counter()), &frozen);
    story.write("plugins/counter/plugin.toml", manifest);
    story.write("plugins/counter/counter.wasm", &guest);
    let told = gated::tell(&story, &["run", "gated.toml"]);
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    let report = gated::tell(&story, &["report", "--json"]).out;
    let report: Value = serde_json::from_str(&report).unwrap();
    let guest = &report["guests"][0];
    assert_eq!(guest["loadable"], true, "{guest}");
    let imports = guest["imports"].as_array().unwrap();
    assert!(
        imports
            .iter()
            .any(|import| import["name"] == "wasi:cli/exit@0.2.3")
    );
    assert!(imports.iter().all(|import| import["allowed"] == true));
}
