//! Builds one guest: sources to core module to component.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::plugin::value;
use super::toolchain::Toolchain;
use super::zig;
use crate::run::cargo;

/// What a guest is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// A crate that uses the SDK.
    Rust,
    /// One file `guest.c` that fits the world by hand.
    C,
}

impl Language {
    /// By the files in its folder.
    pub fn of(sources: &Path) -> Result<Self, String> {
        if sources.join("Cargo.toml").is_file() {
            Ok(Language::Rust)
        } else if sources.join("guest.c").is_file() {
            Ok(Language::C)
        } else {
            Err(format!(
                "`{}` has neither a `Cargo.toml` nor a `guest.c`",
                sources.display()
            ))
        }
    }
}

/// Compilers, each set up when a guest needs it.
pub struct Builder<'a> {
    root: &'a Path,
    rust: Option<Toolchain>,
}

impl<'a> Builder<'a> {
    /// Nothing is set up yet.
    pub fn new(root: &'a Path) -> Self {
        Builder { root, rust: None }
    }

    /// The component's bytes, and what built them.
    pub fn build(
        &mut self,
        sources: &Path,
        language: Language,
    ) -> Result<(Vec<u8>, String), String> {
        match language {
            Language::Rust => self.build_rust(sources),
            Language::C => self.build_c(sources),
        }
    }

    fn build_rust(&mut self, sources: &Path) -> Result<(Vec<u8>, String), String> {
        let root = self.root;
        let toolchain = match self.rust.take() {
            Some(toolchain) => toolchain,
            None => prepare(root)?,
        };
        let toolchain = self.rust.insert(toolchain);
        let target = target(root);
        let manifest = sources.join("Cargo.toml");
        let text = std::fs::read_to_string(&manifest)
            .map_err(|error| format!("cannot read `{}`: {error}", manifest.display()))?;
        let package = value(&text, "name")?.to_owned();
        let mut command = Command::new(cargo());
        command
            .args([
                "build",
                "--release",
                "--target",
                "wasm32-unknown-unknown",
                "--package",
                &package,
            ])
            .arg("--target-dir")
            .arg(&target)
            .current_dir(sources);
        // A guest just made has no lock file yet.
        if sources.starts_with(root.join("wasm-guests")) || sources.join("Cargo.lock").is_file() {
            command.arg("--locked");
        }
        let mut flags = flags(root, toolchain)?;
        if !sources.starts_with(root) {
            flags.push(format!("--remap-path-prefix={}=/guest", sources.display()));
        }
        toolchain.dress(&mut command, &flags);
        finish(&mut command, "the guest's build")?;
        let module = target
            .join("wasm32-unknown-unknown/release")
            .join(format!("{}.wasm", package.replace('-', "_")));
        Ok((componentize(root, &module, &[])?, toolchain.builder.clone()))
    }

    fn build_c(&self, sources: &Path) -> Result<(Vec<u8>, String), String> {
        let module = target(self.root).join("c-guest.wasm");
        let builder = zig::compile(self.root, &sources.join("guest.c"), &module)?;
        let wit = self.root.join("crates/sandbox/wit").display().to_string();
        Ok((componentize(self.root, &module, &["--wit", &wit])?, builder))
    }
}

fn target(root: &Path) -> PathBuf {
    root.join("wasm-guests/target")
}

fn prepare(root: &Path) -> Result<Toolchain, String> {
    let toolchain = Toolchain::prepare(&root.join("target/noisegate/wasm-toolchain"))?;
    let old = target(root).join("wasm32-unknown-unknown");
    if toolchain.fresh && old.exists() {
        std::fs::remove_dir_all(&old)
            .map_err(|error| format!("cannot remove `{}`: {error}", old.display()))?;
    }
    Ok(toolchain)
}

/// Makes a component of a core module.
fn componentize(root: &Path, module: &Path, options: &[&str]) -> Result<Vec<u8>, String> {
    let component = module.with_extension("component.wasm");
    let mut command = Command::new(cargo());
    command
        .args(["run", "--quiet", "--profile", "native", "--locked"])
        .args(["--package", "noisegate-componentize", "--target-dir"])
        .arg(target(root))
        .arg("--")
        .args(options)
        .args([module, &component])
        .current_dir(root.join("wasm-guests"));
    finish(&mut command, "making a component of it")?;
    std::fs::read(&component)
        .map_err(|error| format!("cannot read `{}`: {error}", component.display()))
}

/// What makes the bytes the same everywhere, and the guest quick.
fn flags(root: &Path, toolchain: &Toolchain) -> Result<Vec<String>, String> {
    let mut flags = vec!["-Ctarget-feature=+simd128".to_owned()];
    flags.extend(registry_remaps()?);
    for (place, name) in [(root, "/noisegate"), (&toolchain.folder, "/toolchain")] {
        flags.push(format!("--remap-path-prefix={}={name}", place.display()));
    }
    Ok(flags)
}

/// Flags that give every third-party source the same short path on any machine.
///
/// The sources must have been fetched: a registry's folder has a name of its own.
pub(super) fn registry_remaps() -> Result<Vec<String>, String> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    let cargo_home = cargo_home.ok_or("no home folder is known; set `CARGO_HOME`")?;
    let sources = cargo_home.join("registry/src");
    let registries = std::fs::read_dir(&sources).into_iter().flatten().flatten();
    let remap = |place: &Path| format!("--remap-path-prefix={}=/crates", place.display());
    // The last remap that fits is the one that counts.
    let mut remaps = vec![remap(&cargo_home)];
    remaps.extend(registries.map(|registry| remap(&registry.path())));
    Ok(remaps)
}

/// Runs a command with the terminal attached.
pub(super) fn finish(command: &mut Command, what: &str) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .map_err(|error| format!("could not start `{program}`: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!(
            "{what} failed: `{program}` ended with {status}; its messages stand above"
        ))
    }
}
