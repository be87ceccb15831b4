//! Turns a core module built with wit-bindgen into a component.
//!
//! ```text
//! componentize IN.wasm OUT.wasm
//! ```
//!
//! It validates what it writes and adds nothing: no adapter, no WASI, no names
//! of producers. Run by `cargo xtask guests`, which also takes the digest.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, output] = arguments.as_slice() else {
        eprintln!("usage: componentize IN.wasm OUT.wasm");
        return ExitCode::from(2);
    };
    match componentize(Path::new(input), Path::new(output)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("componentize: {message}");
            ExitCode::FAILURE
        }
    }
}

fn componentize(input: &Path, output: &Path) -> Result<(), String> {
    let module = std::fs::read(input)
        .map_err(|error| format!("cannot read `{}`: {error}", input.display()))?;
    let component = wit_component::ComponentEncoder::default()
        .module(&module)
        .map_err(|error| {
            format!(
                "`{}` carries no usable component type: {error:#}",
                input.display()
            )
        })?
        .validate(true)
        .encode()
        .map_err(|error| format!("`{}` does not fit its world: {error:#}", input.display()))?;
    std::fs::write(output, component)
        .map_err(|error| format!("cannot write `{}`: {error}", output.display()))
}
