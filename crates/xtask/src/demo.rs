//! `cargo xtask demo`: the main job from nothing to its table.
//!
//! ```text
//! setup ──> build ──> target/noisegate/demo/{train,test}.jsonl ──> noisegate run workflows/fdkt.toml
//! ```
//!
//! The messages are generated (see [`portal`](crate::portal)), so nobody's data
//! is at stake; each demo starts with a fresh ledger for that reason only.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::{portal, run, setup};

const SEED: u64 = 20_240_522;
const TRAIN: usize = 3000;
const TEST: usize = 1200;

/// Runs the demo; `arguments` go to `noisegate run`.
pub fn run(root: &Path, arguments: &[&str]) -> Result<(), String> {
    setup::run(root, &[])?;
    println!("building noisegate (release; about ten minutes when nothing is cached)");
    run::run(
        root,
        &run::cargo(),
        &["build", "--release", "--workspace", "--bins"],
    )?;
    let folder = root.join("target/noisegate/demo");
    // The data are synthetic: a new demo is a new site with an untouched budget.
    let _ = fs::remove_dir_all(&folder);
    write_messages(&folder)?;
    let home = folder.join("home");
    let home = home.to_string_lossy();
    let mut line = vec!["--home", &home, "run", "workflows/fdkt.toml"];
    line.extend(arguments);
    let program = root.join("target/release/noisegate");
    run::run(root, &program.to_string_lossy(), &line)
}

/// Generates the private messages and the held-out ones.
fn write_messages(folder: &Path) -> Result<(), String> {
    let messages = portal::generate(SEED, TRAIN + TEST);
    let (train, test) = messages.split_at(TRAIN);
    fs::create_dir_all(folder)
        .map_err(|error| format!("could not create `{}`: {error}", folder.display()))?;
    for (name, part) in [("train.jsonl", train), ("test.jsonl", test)] {
        let mut lines = String::new();
        for (text, label) in part {
            let line = serde_json::json!({ "text": text, "label": label });
            writeln!(lines, "{line}").expect("writing to a string cannot fail");
        }
        let path = folder.join(name);
        fs::write(&path, lines)
            .map_err(|error| format!("could not write `{}`: {error}", path.display()))?;
    }
    Ok(())
}
