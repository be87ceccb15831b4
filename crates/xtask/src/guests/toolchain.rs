//! A Rust compiler for `wasm32-unknown-unknown`.
//!
//! ```text
//! rustup has the target?  ──yes──> that compiler
//!          │ no
//!          ▼
//! Debian's rustc-web, unpacked (never installed) under target/noisegate/wasm-toolchain/,
//! and its std built once for wasm
//! ```
//!
//! The unpacked compiler finds its own sysroot; only its libraries need a search path.
//! Nothing outside of that folder is changed.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::build::{finish, registry_remaps};
use crate::run::cargo;

const TARGET: &str = "wasm32-unknown-unknown";

/// Compiler, sources of std, linker, and what they load.
const PACKAGES: &[&str] = &[
    "rustc-web",
    "rust-web-src",
    "libstd-rust-web-dev",
    "libstd-rust-web-1.96",
    "lld-22",
    "libllvm22",
];

/// The empty package whose build brings std with it.
const STD_BUILD: &str = r#"[package]
name = "std-build"
edition = "2024"

[lib]
path = "std-build/lib.rs"

[workspace]
"#;

/// Counted up when the set-up below changes, so that an older folder is set up again.
const SETUP: u32 = 3;

/// A compiler ready to build guests.
pub struct Toolchain {
    /// Where it lies; its paths are remapped in what it builds.
    pub folder: PathBuf,
    /// How the plugin's manifest names it.
    pub builder: String,
    /// Whether it was set up just now: libraries built before do not fit its std.
    pub fresh: bool,
    unpacked: bool,
}

impl Toolchain {
    /// Finds or sets up a compiler; `folder` is used only if rustup has no wasm target.
    ///
    /// # Errors
    /// A sentence: what could not be fetched, unpacked or built, and the remedy.
    pub fn prepare(folder: &Path) -> Result<Self, String> {
        if let Some(version) = rustup_version() {
            let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
            let builder = format!("cargo xtask guests, rustc {version} (rustup)");
            return Ok(Toolchain {
                folder: PathBuf::from(sysroot),
                builder,
                fresh: false,
                unpacked: false,
            });
        }
        let stamp = folder.join("ready");
        let ready = std::fs::read_to_string(&stamp).ok();
        let ready =
            ready.and_then(|line| line.strip_prefix(&format!("{SETUP} ")).map(str::to_owned));
        if let Some(builder) = ready {
            return Ok(Toolchain {
                folder: folder.to_owned(),
                builder,
                fresh: false,
                unpacked: true,
            });
        }
        let builder = unpack(folder)?;
        let toolchain = Toolchain {
            folder: folder.to_owned(),
            builder,
            fresh: true,
            unpacked: true,
        };
        toolchain.build_std()?;
        write(&stamp, &format!("{SETUP} {}", toolchain.builder))?;
        Ok(toolchain)
    }

    /// Makes a cargo command use this compiler with these flags, and nothing else from outside.
    pub fn dress(&self, command: &mut Command, flags: &[String]) {
        for variable in [
            "RUSTFLAGS",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
            "CARGO_INCREMENTAL",
        ] {
            command.env_remove(variable);
        }
        command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
        if self.unpacked {
            command.env("RUSTC", self.folder.join("usr/bin/rustc"));
            command.env(
                "LD_LIBRARY_PATH",
                self.folder.join("usr/lib/x86_64-linux-gnu"),
            );
        }
    }

    /// Builds std for wasm from the unpacked sources into the unpacked sysroot.
    ///
    /// The empty package that asks for it lies at the root of the unpacked tree: cargo
    /// hashes paths relative to that root into symbol names, which must not depend on
    /// where the repository lies.
    fn build_std(&self) -> Result<(), String> {
        println!("building std for {TARGET} (once)");
        let package = self.folder.join("std-build");
        if package.exists() {
            // Libraries of an interrupted build would stand beside the new ones.
            std::fs::remove_dir_all(&package)
                .map_err(|error| format!("cannot remove `{}`: {error}", package.display()))?;
        }
        make_folder(&package)?;
        write(&self.folder.join("Cargo.toml"), STD_BUILD)?;
        write(&package.join("lib.rs"), "#![no_std]\n")?;
        let mut command = Command::new(cargo());
        command
            .args([
                "build",
                "--release",
                "--target",
                TARGET,
                "-Zbuild-std=std,panic_abort",
            ])
            .args(["--target-dir", "std-build/target"])
            .env("RUSTC_BOOTSTRAP", "1")
            .current_dir(&self.folder);
        let mut flags = vec!["-Cembed-bitcode=yes".to_owned()];
        flags.extend(registry_remaps()?);
        flags.push(format!(
            "--remap-path-prefix={}=/toolchain",
            self.folder.display()
        ));
        self.dress(&mut command, &flags);
        finish(&mut command, "building std for wasm")?;
        let library = self.folder.join("usr/lib/rustlib").join(TARGET).join("lib");
        make_folder(&library)?;
        let built = package.join("target").join(TARGET).join("release/deps");
        for file in files(&library)? {
            std::fs::remove_file(&file)
                .map_err(|error| format!("cannot remove `{}`: {error}", file.display()))?;
        }
        for file in files(&built)? {
            let name = file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if name.ends_with(".rlib") && !name.starts_with("libstd_build") {
                std::fs::copy(&file, library.join(&name))
                    .map_err(|error| format!("cannot copy `{name}`: {error}"))?;
            }
        }
        Ok(())
    }
}

/// The version of rustup's compiler, if it can build for wasm.
fn rustup_version() -> Option<String> {
    let installed = output(Command::new("rustup").args(["target", "list", "--installed"])).ok()?;
    installed.lines().any(|line| line == TARGET).then_some(())?;
    let version = output(Command::new("rustc").arg("--version")).ok()?;
    version.split(' ').nth(1).map(str::to_owned)
}

/// Fetches and unpacks Debian's packages; returns the builder's name.
fn unpack(folder: &Path) -> Result<String, String> {
    println!(
        "rustup has no {TARGET}; fetching Debian's compiler into `{}`",
        folder.display()
    );
    let packages = folder.join("packages");
    make_folder(&packages)?;
    finish(Command::new("apt-get").arg("download").args(PACKAGES).current_dir(&packages), "fetching the compiler")
        .map_err(|problem| {
            format!("{problem}; run `apt-get update` first, or give rustup the target: `rustup target add {TARGET}`")
        })?;
    let mut version = None;
    for file in files(&packages)? {
        finish(
            Command::new("dpkg").arg("-x").args([&file, folder]),
            "unpacking the compiler",
        )?;
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        version = version.or_else(|| package_version(&name, "rustc-web"));
    }
    let version = version.ok_or(
        "`apt-get download rustc-web` brought no such package; run `apt-get update` first",
    )?;
    // rustc looks for its wasm linker beside its libraries, Debian keeps it elsewhere.
    let bin = folder.join("usr/lib/rustlib/x86_64-unknown-linux-gnu/bin");
    make_folder(&bin)?;
    let linker = folder.join("usr/bin/lld-22");
    let place = bin.join("rust-lld");
    if !place.exists() {
        std::fs::copy(&linker, &place)
            .map_err(|error| format!("cannot copy `{}`: {error}", linker.display()))?;
    }
    let release = version.split(['+', '-']).next().unwrap_or(&version);
    Ok(format!(
        "cargo xtask guests, rustc {release} (Debian rustc-web {version})"
    ))
}

/// The version in a file name such as `rustc-web_1.96.0+dfsg1-1_amd64.deb`.
fn package_version(file: &str, package: &str) -> Option<String> {
    let mut parts = file.strip_suffix(".deb")?.split('_');
    let version = (parts.next()? == package).then(|| parts.next())??;
    Some(version.replace("%3a", ":"))
}

fn output(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("could not start `{program}`: {error}"))?;
    if !output.status.success() {
        return Err(format!("`{program}` ended with {}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let problem = |error: std::io::Error| format!("cannot list `{}`: {error}", folder.display());
    let entries = std::fs::read_dir(folder).map_err(problem)?;
    let mut files = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(problem)?;
    files.sort();
    Ok(files)
}

fn make_folder(folder: &Path) -> Result<(), String> {
    std::fs::create_dir_all(folder)
        .map_err(|error| format!("cannot make the folder `{}`: {error}", folder.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text)
        .map_err(|error| format!("cannot write `{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::package_version;

    #[test]
    fn a_package_file_name_tells_its_version() {
        let name = "rustc-web_1.96.0+dfsg1-1~deb12u2_amd64.deb";
        assert_eq!(
            package_version(name, "rustc-web").as_deref(),
            Some("1.96.0+dfsg1-1~deb12u2")
        );
        assert_eq!(package_version(name, "rust-web-src"), None);
        assert_eq!(
            package_version("lld-22_1%3a22.1_amd64.deb", "lld-22").as_deref(),
            Some("1:22.1")
        );
    }
}
