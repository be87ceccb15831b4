//! `guest inspect`: what a component is and may do, without running it.
//!
//! The component says what it imports and exports. What it is run under (memory, fuel,
//! the mechanism) stands in the `plugin.toml` beside it, if there is one; the gate holds
//! the guest to that whatever its code does. The exit code is 1 for a component that no step
//! would run, and for one that its sources do not give again.

use std::path::{Path, PathBuf};
use std::process::Command;

use noisegate_sandbox::{Inspection, Isolation, Limits};
use noisegate_steps::Plugin;
use noisegate_steps::guest_terms::limits;
use noisegate_steps::plugin::{Mechanism, MechanismKind};
use serde_json::{Value, json};

use super::manifest_beside;
use crate::args::GuestWhich;
use crate::exit::Exit;
use crate::show;

/// Prints it.
pub fn inspect(which: &GuestWhich) -> Result<(), Exit> {
    let bytes = std::fs::read(&which.file).map_err(|error| {
        Exit::Wrong(format!(
            "could not read `{}`: {error}; check the path",
            which.file.display()
        ))
    })?;
    let plugin = manifest_beside(&which.file)?;
    let component = plugin
        .as_ref()
        .and_then(|plugin| plugin.manifest.component.as_ref());
    let limits = match component {
        Some(component) => limits(component, 1, Isolation::default()).map_err(Exit::failed)?,
        None => Limits::default(),
    };
    let found = noisegate_sandbox::inspect(&bytes, &limits)
        .map_err(|error| Exit::Wrong(format!("`{}`: {error}", which.file.display())))?;
    let rebuild = which.rebuild.then(|| rebuild(&which.file, plugin.as_ref()));
    if which.json {
        show::json_line(&as_value(&found, plugin.as_ref(), rebuild.as_ref()))?;
    } else {
        print(&found, plugin.as_ref());
        if let Some(rebuild) = &rebuild {
            line(
                "rebuild",
                rebuild
                    .as_ref()
                    .map_or_else(|problem| problem.as_str(), |same| same.as_str()),
            );
        }
    }
    let pinned = component.is_none_or(|it| it.sha256 == found.digest.to_string());
    let rebuilt = !matches!(rebuild, Some(Err(_)));
    match found.verdict.is_ok() && pinned && rebuilt {
        true => Ok(()),
        false => Err(Exit::Silent(1)),
    }
}

fn line(what: &str, says: impl std::fmt::Display) {
    println!("{what:<9} {}", show::plain_line(&says.to_string()));
}

fn print(found: &Inspection, plugin: Option<&Plugin>) {
    line("sha256", found.digest);
    line("bytes", found.bytes);
    if let Some(plugin) = plugin {
        let about = &plugin.manifest.plugin;
        line(
            "plugin",
            format!(
                "{} {}, {}: {}",
                about.name, about.version, about.licence, about.help
            ),
        );
        line("world", about.world.as_deref().unwrap_or("not stated"));
    }
    for import in &found.imports {
        line(
            "import",
            format!(
                "{}{}",
                import.name,
                if import.allowed { "" } else { "  (refused)" }
            ),
        );
    }
    found
        .exports
        .iter()
        .for_each(|export| line("export", export));
    let known = |number: Option<u64>| number.map_or("unknown".to_owned(), |it| it.to_string());
    line(
        "memory",
        format!(
            "{} memories; {} bytes at the start",
            known(found.memories.map(u64::from)),
            known(found.memory_bytes_min)
        ),
    );
    found
        .producers
        .iter()
        .for_each(|tool| line("toolchain", tool));
    if let Some(plugin) = plugin {
        print_manifest(plugin, found);
    }
    match &found.verdict {
        Ok(()) => line("verdict", "the sandbox would run it"),
        Err(problem) => line("verdict", format!("refused: {problem}")),
    }
}

fn print_manifest(plugin: &Plugin, found: &Inspection) {
    if let Some(component) = &plugin.manifest.component {
        line("builder", &component.builder);
        line(
            "limits",
            format!(
                "{} bytes of memory and {} fuel for each unit",
                component.memory_bytes_max, component.fuel_per_unit
            ),
        );
        if component.wasi.is_some() {
            line(
                "wasi",
                "frozen: clocks stand still, randomness is public, nothing is granted",
            );
        }
        if component.sha256 != found.digest.to_string() {
            line(
                "manifest",
                format!(
                    "pins another digest, {}; no step would run it",
                    component.sha256
                ),
            );
        }
    }
    if let Some(mechanism) = &plugin.manifest.mechanism {
        line("mechanism", described(mechanism));
    }
    for read in &plugin.manifest.reads {
        line("reads", format!("{} ({:?}), public", read.port, read.holds));
    }
    for output in &plugin.manifest.outputs {
        line(
            "outputs",
            format!("{} ({:?}), released", output.port, output.holds),
        );
    }
}

/// The declared queries and what one unit can move in each.
fn described(mechanism: &Mechanism) -> String {
    let queries = format!(
        "at most `steps` (default {}) queries, each of a Poisson sample at `sampling_rate` (default {})",
        mechanism.steps, mechanism.sampling_rate
    );
    match mechanism.kind {
        MechanismKind::GaussianSum => format!(
            "gaussian-sum: {queries}; a unit moves each sum by an L2 norm of at most `clip` (default {})",
            mechanism.clip
        ),
        MechanismKind::Votes => format!(
            "votes: {queries}; a unit has at most K = `votes_per_unit` (default {}) whole votes in each, an L2 sensitivity of sqrt(K)",
            mechanism.votes_per_unit
        ),
    }
}

fn as_value(
    found: &Inspection,
    plugin: Option<&Plugin>,
    rebuild: Option<&Result<String, String>>,
) -> Value {
    let imports: Vec<_> = found
        .imports
        .iter()
        .map(|import| json!({ "name": import.name, "allowed": import.allowed }))
        .collect();
    let manifest = plugin.map(|plugin| {
        let component = plugin.manifest.component.as_ref();
        json!({
            "name": plugin.name(),
            "world": plugin.manifest.plugin.world,
            "builder": component.map(|it| &it.builder),
            "pinned": component.map(|it| &it.sha256),
            "fuel_per_unit": component.map(|it| it.fuel_per_unit),
            "memory_bytes_max": component.map(|it| it.memory_bytes_max),
            "mechanism": plugin.manifest.mechanism.as_ref().map(mechanism_value),
        })
    });
    let verdict = found.verdict.as_ref().map_err(ToString::to_string);
    json!({
        "sha256": found.digest.to_string(),
        "bytes": found.bytes,
        "imports": imports,
        "exports": found.exports,
        "memories": found.memories,
        "memory_bytes_min": found.memory_bytes_min,
        "producers": found.producers,
        "manifest": manifest,
        "rebuild_gives_the_same": rebuild.map(Result::is_ok),
        "loadable": verdict.is_ok(),
        "problem": verdict.err(),
    })
}

fn mechanism_value(mechanism: &Mechanism) -> Value {
    let (kind, sensitivity) = match mechanism.kind {
        MechanismKind::GaussianSum => ("gaussian-sum", mechanism.clip),
        MechanismKind::Votes => ("votes", f64::from(mechanism.votes_per_unit).sqrt()),
    };
    json!({
        "kind": kind, "steps": mechanism.steps, "sampling_rate": mechanism.sampling_rate,
        "sensitivity_l2": sensitivity,
    })
}

/// Builds the guest again from the sources at hand and compares.
fn rebuild(component: &Path, plugin: Option<&Plugin>) -> Result<String, String> {
    let plugin =
        plugin.ok_or("no `plugin.toml` beside the component says what it is built from")?;
    let (root, guest) = sources(component, plugin)
        .ok_or("its sources are not at hand: neither `wasm-guests/NAME` above it, nor beside it")?;
    let output = Command::new("cargo")
        .args(["xtask", "guests", "--check"])
        .arg(&guest)
        .current_dir(&root)
        .output()
        .map_err(|error| format!("could not start cargo: {error}"))?;
    if output.status.success() {
        return Ok(format!("`{}` gives the same bytes", guest.display()));
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = said.lines().rev().find(|line| !line.trim().is_empty());
    Err(last.unwrap_or("the rebuild failed").to_owned())
}

/// The repository to build in, and what to build: a guest's name, or the folder of its sources.
fn sources(component: &Path, plugin: &Plugin) -> Option<(PathBuf, PathBuf)> {
    let file = component.canonicalize().ok()?;
    let has_sources =
        |folder: &Path| folder.join("Cargo.toml").is_file() || folder.join("guest.c").is_file();
    let root = |from: &Path| {
        let mut above = from.ancestors();
        above
            .find(|it| it.join("crates/xtask").is_dir())
            .map(Path::to_owned)
    };
    let folder = file.parent()?;
    if has_sources(folder) {
        let here = std::env::current_dir().ok()?;
        return Some((root(folder).or_else(|| root(&here))?, folder.to_owned()));
    }
    let root = root(folder)?;
    has_sources(&root.join("wasm-guests").join(plugin.name()))
        .then(|| (root, PathBuf::from(plugin.name())))
}
