//! `guest inspect`: what a component is, without running it.

use noisegate_sandbox::Limits;
use serde_json::json;

use crate::args::{GuestCommand, GuestWhich};
use crate::exit::Exit;
use crate::show;

/// Looks at a guest.
pub fn guest(what: &GuestCommand) -> Result<(), Exit> {
    match what {
        GuestCommand::Inspect(which) => inspect(which),
    }
}

fn inspect(which: &GuestWhich) -> Result<(), Exit> {
    let bytes = std::fs::read(&which.file).map_err(|error| {
        Exit::Wrong(format!(
            "could not read `{}`: {error}; check the path",
            which.file.display()
        ))
    })?;
    let found = noisegate_sandbox::inspect(&bytes, &Limits::default()).map_err(Exit::wrong)?;
    let verdict = found.verdict.as_ref().map_err(ToString::to_string);
    if which.json {
        let imports: Vec<_> = found
            .imports
            .iter()
            .map(|import| json!({ "name": import.name, "allowed": import.allowed }))
            .collect();
        return show::json_line(&json!({
            "sha256": found.digest.to_string(),
            "bytes": found.bytes,
            "imports": imports,
            "exports": found.exports,
            "loadable": verdict.is_ok(),
            "problem": verdict.err(),
        }));
    }
    println!("sha256   {}\nbytes    {}", found.digest, found.bytes);
    for import in &found.imports {
        println!(
            "import   {}{}",
            import.name,
            if import.allowed { "" } else { "  (refused)" }
        );
    }
    found
        .exports
        .iter()
        .for_each(|export| println!("export   {export}"));
    match verdict {
        Ok(()) => println!("verdict  the sandbox would run it"),
        Err(problem) => println!("verdict  refused: {problem}"),
    }
    Ok(())
}
