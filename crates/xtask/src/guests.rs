//! `cargo xtask guests`: builds the WebAssembly guests under `plugins/`.
//!
//! ```text
//! wasm-guests/NAME ──cargo, rustc for wasm32──> core module ──componentize──> component
//!                                                       │
//!        plugins/NAME/NAME.wasm, and its SHA-256 in plugins/NAME/plugin.toml
//! ```
//!
//! Built guests are committed, so nobody needs a wasm toolchain to run them. The same
//! toolchain gives the same bytes wherever the repository lies: paths are remapped,
//! versions locked, symbols stripped. `--check` rebuilds, compares, and writes nothing
//! under `plugins/`.

mod toolchain;

use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::run::cargo;
use toolchain::Toolchain;

/// The guests: package in `wasm-guests/`, and folder in `plugins/`.
const GUESTS: &[&str] = &["dp-generator"];

/// Builds every guest; with `check`, compares instead of writing.
///
/// # Errors
/// A sentence: the tool that failed, or the plugin whose bytes differ.
pub fn run(root: &Path, check: bool) -> Result<(), String> {
    let toolchain = Toolchain::prepare(&root.join("target/noisegate/wasm-toolchain"))?;
    let old = root.join("wasm-guests/target/wasm32-unknown-unknown");
    if toolchain.fresh && old.exists() {
        std::fs::remove_dir_all(&old)
            .map_err(|error| format!("cannot remove `{}`: {error}", old.display()))?;
    }
    for guest in GUESTS {
        let component = build(root, guest, &toolchain)?;
        let plugin = Plugin {
            folder: root.join("plugins").join(guest),
            guest,
        };
        if check {
            plugin.compare(&component, &toolchain.builder)?;
        } else {
            plugin.write(&component, &toolchain.builder)?;
        }
    }
    Ok(())
}

/// Builds one guest; returns the component's bytes.
fn build(root: &Path, guest: &str, toolchain: &Toolchain) -> Result<Vec<u8>, String> {
    println!("building guest `{guest}` with {}", toolchain.builder);
    let workspace = root.join("wasm-guests");
    let target = workspace.join("target");
    let mut command = Command::new(cargo());
    command
        .args([
            "build",
            "--release",
            "--locked",
            "--target",
            "wasm32-unknown-unknown",
        ])
        .args(["--package", guest, "--target-dir"])
        .arg(&target)
        .current_dir(&workspace);
    toolchain.dress(&mut command, &flags(root, toolchain)?);
    finish(&mut command, "the guest's build")?;
    let module = target
        .join("wasm32-unknown-unknown/release")
        .join(format!("{}.wasm", guest.replace('-', "_")));
    let component = target.join(format!("{guest}.component.wasm"));
    let mut command = Command::new(cargo());
    command
        .args(["run", "--quiet", "--profile", "native", "--locked"])
        .args(["--package", "noisegate-componentize", "--target-dir"])
        .arg(&target)
        .arg("--")
        .args([&module, &component])
        .current_dir(&workspace);
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
fn registry_remaps() -> Result<Vec<String>, String> {
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
fn finish(command: &mut Command, what: &str) -> Result<(), String> {
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

/// A plugin's folder.
struct Plugin<'a> {
    folder: PathBuf,
    guest: &'a str,
}

impl Plugin<'_> {
    fn component_path(&self) -> PathBuf {
        self.folder.join(format!("{}.wasm", self.guest))
    }

    fn manifest(&self) -> Result<(PathBuf, String), String> {
        let path = self.folder.join("plugin.toml");
        let text = std::fs::read_to_string(&path)
            .map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
        Ok((path, text))
    }

    /// Puts the component and its digest in place.
    fn write(&self, component: &[u8], builder: &str) -> Result<(), String> {
        let (path, manifest) = self.manifest()?;
        let digest = sha256(component);
        let manifest = with_value(&manifest, "sha256", &digest)?;
        let manifest = with_value(&manifest, "builder", builder)?;
        let put = |path: &Path, bytes: &[u8]| {
            std::fs::write(path, bytes)
                .map_err(|error| format!("cannot write `{}`: {error}", path.display()))
        };
        put(&self.component_path(), component)?;
        put(&path, manifest.as_bytes())?;
        println!(
            "plugins/{0}/{0}.wasm: {1} bytes, sha256 {digest}",
            self.guest,
            component.len()
        );
        Ok(())
    }

    /// Compares a rebuild with what is committed.
    fn compare(&self, component: &[u8], builder: &str) -> Result<(), String> {
        let (_, manifest) = self.manifest()?;
        let declared = value(&manifest, "sha256")?;
        let path = self.component_path();
        let committed = std::fs::read(&path)
            .map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
        let name = format!("plugins/{0}/{0}.wasm", self.guest);
        if sha256(&committed) != declared {
            return Err(format!(
                "`{name}` does not have the digest its plugin.toml declares; run `cargo xtask guests` and commit both"
            ));
        }
        if sha256(component) == declared {
            println!("{name}: a rebuild gives the same bytes, sha256 {declared}");
            return Ok(());
        }
        let declared_builder = value(&manifest, "builder")?;
        Err(if declared_builder == builder {
            format!(
                "`{name}` is not what its sources give; run `cargo xtask guests` and commit the result"
            )
        } else {
            format!(
                "`{name}` was built by `{declared_builder}`, this is `{builder}`, and the bytes differ; check with the same toolchain"
            )
        })
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The one line `key = "..."` of a manifest, as byte range of the value.
fn place(manifest: &str, key: &str) -> Result<std::ops::Range<usize>, String> {
    let opening = format!("\n{key} = \"");
    let mut found = manifest.match_indices(&opening);
    let (Some((at, _)), None) = (found.next(), found.next()) else {
        return Err(format!(
            "plugin.toml must have exactly one line `{key} = \"...\"`"
        ));
    };
    let start = at + opening.len();
    let length = manifest[start..]
        .find('"')
        .ok_or_else(|| format!("`{key}` in plugin.toml is not closed"))?;
    Ok(start..start + length)
}

fn value<'a>(manifest: &'a str, key: &str) -> Result<&'a str, String> {
    Ok(&manifest[place(manifest, key)?])
}

fn with_value(manifest: &str, key: &str, value: &str) -> Result<String, String> {
    let mut changed = manifest.to_owned();
    changed.replace_range(place(manifest, key)?, value);
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "[component]\nfile = \"a.wasm\"\nsha256 = \"00\"\nbuilder = \"x\"\n";

    #[test]
    fn a_digest_is_replaced_in_its_place() {
        let changed = with_value(MANIFEST, "sha256", "ff").unwrap();
        assert_eq!(changed, MANIFEST.replace("00", "ff"));
        assert_eq!(value(&changed, "builder").unwrap(), "x");
    }

    #[test]
    fn a_manifest_without_a_digest_is_refused() {
        assert!(
            with_value("[component]\n", "sha256", "ff")
                .unwrap_err()
                .contains("exactly one")
        );
        assert!(value(&format!("{MANIFEST}sha256 = \"1\"\n"), "sha256").is_err());
    }
}
