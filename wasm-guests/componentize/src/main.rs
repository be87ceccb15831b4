//! Turns a core module into a component.
//!
//! ```text
//! componentize IN.wasm OUT.wasm                a module made with wit-bindgen, which says its world
//! componentize --wit DIR IN.wasm OUT.wasm      any other, which fits `client-step` in DIR by its names
//! ```
//!
//! It validates what it writes and adds nothing: no adapter, no WASI, no names
//! of producers. Run by `cargo xtask guests`, which also takes the digest.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

const WORLD: &str = "client-step";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let made = match arguments.as_slice() {
        ["--wit", wit, input, output] => componentize(Some(wit), input, output),
        [input, output] if *input != "--wit" => componentize(None, input, output),
        _ => {
            eprintln!("usage: componentize [--wit DIR] IN.wasm OUT.wasm");
            return ExitCode::from(2);
        }
    };
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("componentize: {message}");
            ExitCode::FAILURE
        }
    }
}

fn componentize(wit: Option<&str>, input: &str, output: &str) -> Result<(), String> {
    let mut module =
        std::fs::read(input).map_err(|error| format!("cannot read `{input}`: {error}"))?;
    if let Some(wit) = wit {
        embed(Path::new(wit), &mut module)?;
    }
    let component = ComponentEncoder::default()
        .module(&module)
        .map_err(|error| format!("`{input}` carries no usable component type: {error:#}"))?
        .validate(true)
        .encode()
        .map_err(|error| format!("`{input}` does not fit its world: {error:#}"))?;
    std::fs::write(output, component).map_err(|error| format!("cannot write `{output}`: {error}"))
}

/// Writes into the module which world its imports and exports belong to.
fn embed(wit: &Path, module: &mut Vec<u8>) -> Result<(), String> {
    let problem = |error| format!("the world in `{}` does not read: {error:#}", wit.display());
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit).map_err(problem)?;
    let world = resolve
        .select_world(&[package], Some(WORLD))
        .map_err(problem)?;
    embed_component_metadata(module, &resolve, world, StringEncoding::UTF8).map_err(problem)
}
