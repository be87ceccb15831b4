//! `cargo xtask test`: every test of the workspace, by nextest where it is there.

use std::path::Path;

use crate::{run, setup};

/// Runs all tests in the one profile that the demo uses too.
pub fn run(root: &Path, arguments: &[&str]) -> Result<(), String> {
    setup::run(root, &[])?;
    let cargo = run::cargo();
    // The stories run the real binary, which a test build alone would not make.
    run::run(
        root,
        &cargo,
        &["build", "--release", "--workspace", "--bins"],
    )?;
    // The guests' mathematics is a plain library; natively it needs no WebAssembly toolchain.
    let guests = root.join("wasm-guests");
    run::run(&guests, &cargo, &["test", "--quiet", "--profile", "native"])?;
    let mut line = if run::is_available("cargo-nextest", &["nextest", "--version"]) {
        vec![
            "nextest",
            "run",
            "--release",
            "--workspace",
            "--no-fail-fast",
        ]
    } else {
        vec!["test", "--release", "--workspace", "--no-fail-fast"]
    };
    line.extend(arguments);
    run::run(root, &cargo, &line)
}
