//! `noisegate ledger set-cap`: where it may write, and that what it registers binds the first run.

use noisegate_tests::{Story, Told, gated};

use super::budget::{ledger, rows};
use super::refused;

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
    assert!(!told.out.contains("no such file"), "{}", told.out);
    // A file may come later, or its path be mistyped.
    let later = real.with_file_name("later.jsonl");
    let told = set_cap(&story, "clinic", later.to_str().unwrap(), &new);
    assert_eq!(told.code, Some(0), "{}", told.err);
    assert!(
        told.out.contains("there is no such file yet"),
        "{}",
        told.out
    );
    // It binds: a workflow that states another is refused, one that states this is not.
    let other = ["run", "gated.toml", "--set", "data.notes.budget.epsilon=5"];
    refused(&gated::tell(&story, &other), 3, &["the ledger holds 4"]);
    assert_eq!(gated::tell(&story, &["run", "gated.toml"]).code, Some(0));
    for reason in ["", "  ", "two\nlines"] {
        let told = set_cap(&story, "clinic", "notes.jsonl", &["--reason", reason]);
        refused(&told, 2, &["the reason must have"]);
    }
}
