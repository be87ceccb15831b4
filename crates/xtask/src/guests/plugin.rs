//! Where a built guest belongs, and whether what lies there is what its sources give.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Where a component belongs.
pub enum Place {
    /// Beside a `plugin.toml`, which states its digest and builder.
    Plugin(Plugin),
    /// A file that tests read.
    Fixture(PathBuf),
}

impl Place {
    /// Puts the component there.
    pub fn write(&self, component: &[u8], builder: &str) -> Result<(), String> {
        match self {
            Place::Plugin(plugin) => plugin.write(component, builder),
            Place::Fixture(path) => put(path, component),
        }
    }

    /// Compares a rebuild with what lies there.
    pub fn compare(&self, component: &[u8], builder: &str) -> Result<(), String> {
        match self {
            Place::Plugin(plugin) => plugin.compare(component, builder),
            Place::Fixture(path) if read(path)? == component => {
                println!("{}: a rebuild gives the same bytes", path.display());
                Ok(())
            }
            Place::Fixture(path) => Err(format!(
                "`{}` is not what its sources give with `{builder}`; run `cargo xtask guests` and commit the result",
                path.display()
            )),
        }
    }
}

/// A plugin's folder.
pub struct Plugin {
    /// Where `plugin.toml` lies.
    pub folder: PathBuf,
}

impl Plugin {
    /// The component's file, the first that the table `[component]` names.
    fn component_path(&self, manifest: &str) -> Result<PathBuf, String> {
        let table = manifest.find("[component]").unwrap_or(manifest.len());
        let line = manifest[table..]
            .lines()
            .find_map(|line| line.strip_prefix("file = \""));
        let file = line.and_then(|rest| rest.strip_suffix('"'));
        let file =
            file.ok_or("`[component]` in plugin.toml must have a line `file = \"NAME.wasm\"`")?;
        Ok(self.folder.join(file))
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
        let component_path = self.component_path(&manifest)?;
        let manifest = with_value(&manifest, "sha256", &digest)?;
        let manifest = with_value(&manifest, "builder", builder)?;
        put(&component_path, component)?;
        put(&path, manifest.as_bytes())?;
        println!(
            "{}: {} bytes, sha256 {digest}",
            component_path.display(),
            component.len()
        );
        Ok(())
    }

    /// Compares a rebuild with what is committed.
    fn compare(&self, component: &[u8], builder: &str) -> Result<(), String> {
        let (_, manifest) = self.manifest()?;
        let declared = value(&manifest, "sha256")?;
        let path = self.component_path(&manifest)?;
        let (committed, name) = (read(&path)?, path.display());
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

fn put(path: &Path, bytes: &[u8]) -> Result<(), String> {
    std::fs::write(path, bytes)
        .map_err(|error| format!("cannot write `{}`: {error}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))
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

pub fn value<'a>(manifest: &'a str, key: &str) -> Result<&'a str, String> {
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

    const MANIFEST: &str =
        "[plugin]\n[component]\nfile = \"a.wasm\"\nsha256 = \"00\"\nbuilder = \"x\"\n";

    #[test]
    fn a_digest_is_replaced_in_its_place() {
        let changed = with_value(MANIFEST, "sha256", "ff").unwrap();
        assert_eq!(changed, MANIFEST.replace("00", "ff"));
        assert_eq!(value(&changed, "builder").unwrap(), "x");
    }

    #[test]
    fn the_component_is_the_file_of_its_table_and_of_no_other() {
        let plugin = Plugin {
            folder: PathBuf::from("/p"),
        };
        let outputs = format!("{MANIFEST}[[outputs]]\nfile = \"x.jsonl\"\n");
        assert_eq!(
            plugin.component_path(&outputs).unwrap(),
            Path::new("/p/a.wasm")
        );
        assert!(
            plugin
                .component_path("[[outputs]]\nfile = \"x\"\n")
                .is_err()
        );
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
