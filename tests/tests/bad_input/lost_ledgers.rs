//! Ledgers that are broken, older than they were, or gone: each is refused with place and remedy,
//! nothing is charged and nothing is released.

use noisegate_tests::{Story, gated};

use super::budget::{done, ledger, nothing_is_released};
use super::refused;

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

/// What cannot be looked into is not taken for nothing. (Permissions bind no superuser, so that
/// here a file stands where a folder should.)
#[test]
fn a_home_that_cannot_be_read_is_not_said_to_hold_no_ledger() {
    let story = Story::new();
    story.write("home/sites", "");
    let told = story.tell(&["ledger", "show"]);
    refused(&told, 1, &["could not read", "sites", "make it readable"]);
}
