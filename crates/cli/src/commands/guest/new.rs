//! `guest new`: a folder with a guest that builds and does a little real work.
//!
//! ```text
//! template/* ──name, SDK's path──> my-step/{Cargo.toml, src/lib.rs, plugin.toml, sample.jsonl, README.md}
//! ```

use std::path::{Path, PathBuf};

use crate::args::GuestNew;
use crate::exit::Exit;

/// Where each file of the template goes.
const FILES: [(&str, &str); 6] = [
    ("Cargo.toml", include_str!("template/Cargo.toml.txt")),
    ("src/lib.rs", include_str!("template/lib.rs.txt")),
    ("plugin.toml", include_str!("template/plugin.toml.txt")),
    ("sample.jsonl", include_str!("template/sample.jsonl")),
    ("README.md", include_str!("template/README.md")),
    (".gitignore", "/target\n"),
];

/// Writes it.
pub fn new(order: &GuestNew) -> Result<(), Exit> {
    let folder = &order.folder;
    let name = folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    if !is_name(&name) {
        return Err(Exit::Wrong(format!(
            "`{name}` is no name for a guest; use small letters, digits and hyphens, a letter first"
        )));
    }
    if folder.exists() {
        return Err(Exit::Wrong(format!(
            "`{}` is there already; choose another name",
            folder.display()
        )));
    }
    let sdk = match &order.sdk {
        Some(sdk) => sdk.canonicalize().map_err(|error| {
            Exit::Wrong(format!(
                "could not find the SDK at `{}`: {error}; name a folder `wasm-guests/sdk` with `--sdk DIR`",
                sdk.display()
            ))
        })?,
        None => sdk_above(&std::env::current_dir().map_err(Exit::failed)?)?,
    };
    for (file, text) in FILES {
        let path = folder.join(file);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).map_err(|error| cannot(parent, &error))?;
        let text = text
            .replace("{{name}}", &name)
            .replace("{{Name}}", &type_name(&name))
            .replace("{{module}}", &name.replace('-', "_"))
            .replace("{{sdk}}", &sdk.display().to_string());
        std::fs::write(&path, text).map_err(|error| cannot(&path, &error))?;
    }
    println!(
        "`{0}` holds a guest that works; next:\n\n  \
         cargo xtask guests {0}        (in the repository)  builds {0}/{1}.wasm\n  \
         noisegate guest test {0}/{1}.wasm --records {0}/sample.jsonl\n  \
         noisegate guest inspect {0}/{1}.wasm",
        folder.display(),
        name
    );
    Ok(())
}

/// What could not be written, and the way out.
pub fn cannot(path: &Path, error: &std::io::Error) -> Exit {
    Exit::Failed(format!(
        "could not write `{}`: {error}; choose another folder, or make room there",
        path.display()
    ))
}

fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(fits)
        && !name.ends_with('-')
}

/// `my-step` as the name of a type.
fn type_name(name: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    name.split('-').map(capital).collect()
}

/// The SDK of the nearest repository at or above `folder`.
fn sdk_above(folder: &Path) -> Result<PathBuf, Exit> {
    let mut above = folder
        .ancestors()
        .map(|above| above.join("wasm-guests/sdk"));
    above
        .find(|sdk| sdk.join("Cargo.toml").is_file())
        .ok_or_else(|| {
            Exit::Wrong(format!(
                "there is no `wasm-guests/sdk` at or above `{}`; name it with `--sdk DIR`",
                folder.display()
            ))
        })
}
