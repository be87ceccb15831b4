//! Running another program and saying clearly what went wrong.

use std::path::Path;
use std::process::{Command, Stdio};

/// Runs `program` in `folder` with the terminal attached.
pub fn run(folder: &Path, program: &str, arguments: &[&str]) -> Result<(), String> {
    run_with(folder, program, arguments, &[])
}

/// As [`run`], with extra environment variables.
pub fn run_with(
    folder: &Path,
    program: &str,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> Result<(), String> {
    let status = Command::new(program)
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(folder)
        .status()
        .map_err(|error| format!("could not start `{program}`: {error}"))?;
    if status.success() {
        return Ok(());
    }
    let line = arguments.join(" ");
    Err(match status.code() {
        Some(code) => format!("`{program} {line}` ended with exit code {code}"),
        None => format!("`{program} {line}` was stopped by a signal"),
    })
}

/// Whether `program --version` can be run at all.
pub fn is_available(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The cargo that started this program, so that one toolchain serves throughout.
pub fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}
