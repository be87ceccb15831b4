//! `cargo xtask guests`: builds the WebAssembly guests.
//!
//! ```text
//! wasm-guests/NAME ──rustc, or clang──> core module ──componentize──> component
//!                                                          │
//!        plugins/NAME/NAME.wasm, and its SHA-256 in plugins/NAME/plugin.toml
//! ```
//!
//! Built guests are committed, so nobody needs a wasm toolchain to run them. The same
//! toolchain gives the same bytes wherever the repository lies: paths are remapped,
//! versions locked, symbols stripped. `--check` rebuilds, compares, and writes nothing
//! under `plugins/`. The folder of any other guest, such as `noisegate guest new` makes,
//! can be named too; its component is put beside its `plugin.toml`.

mod build;
mod plugin;
mod toolchain;
mod zig;

use std::path::{Path, PathBuf};

use build::{Builder, Language};
use plugin::{Place, Plugin};

/// The guests: folder in `wasm-guests/`, and in `plugins/`.
const GUESTS: &[&str] = &[
    "class-centroids",
    "dp-generator",
    "length-histogram",
    "private-evolution",
    "topic-histogram",
];

/// The guest that attacks, which tests run: its folder, and its component.
const HOSTILE: (&str, &str) = (
    "wasm-guests/hostile",
    "crates/sandbox/tests/sandbox/hostile.wasm",
);

/// A guest to build.
struct Guest {
    name: String,
    sources: PathBuf,
    place: Place,
}

/// Builds the named guests, or all; with `check`, compares instead of writing.
///
/// # Errors
/// A sentence: the tool that failed, or the guest whose bytes differ.
pub fn run(root: &Path, check: bool, names: &[&str]) -> Result<(), String> {
    let guests = if names.is_empty() {
        all(root)
    } else {
        named(root, names)?
    };
    let mut builder = Builder::new(root);
    for guest in guests {
        let language = Language::of(&guest.sources)?;
        println!("building guest `{}`", guest.name);
        let (component, builder) = builder.build(&guest.sources, language)?;
        if check {
            guest.place.compare(&component, &builder)?;
        } else {
            guest.place.write(&component, &builder)?;
        }
    }
    Ok(())
}

fn all(root: &Path) -> Vec<Guest> {
    let hostile = Guest {
        name: "hostile".to_owned(),
        sources: root.join(HOSTILE.0),
        place: Place::Fixture(root.join(HOSTILE.1)),
    };
    GUESTS
        .iter()
        .map(|name| packaged(root, name))
        .chain([hostile])
        .collect()
}

fn packaged(root: &Path, name: &str) -> Guest {
    Guest {
        name: name.to_owned(),
        sources: root.join("wasm-guests").join(name),
        place: Place::Plugin(Plugin {
            folder: root.join("plugins").join(name),
        }),
    }
}

fn named(root: &Path, names: &[&str]) -> Result<Vec<Guest>, String> {
    let guest = |name: &&str| {
        if let Some(guest) = all(root).into_iter().find(|guest| guest.name == **name) {
            return Ok(guest);
        }
        let sources = Path::new(name)
            .canonicalize()
            .map_err(|error| format!("there is no guest `{name}`, and no folder: {error}"))?;
        if !sources.join("plugin.toml").is_file() {
            return Err(format!(
                "`{}` has no `plugin.toml`; `noisegate guest new` makes a folder that has",
                sources.display()
            ));
        }
        Ok(Guest {
            name: sources
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            place: Place::Plugin(Plugin {
                folder: sources.clone(),
            }),
            sources,
        })
    };
    names.iter().map(guest).collect()
}
