//! The guests packaged under `plugins/`: pinned, and within the world.

use std::path::{Path, PathBuf};

use noisegate_sandbox::{Digest, Limits, inspect};

/// Every `plugin.toml` that names a component.
fn packaged() -> Vec<(PathBuf, toml::Table)> {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
    let folders = std::fs::read_dir(plugins).expect("the repository has plugins");
    folders
        .filter_map(|folder| {
            let folder = folder.expect("the folder can be read").path();
            let manifest = std::fs::read_to_string(folder.join("plugin.toml")).ok()?;
            let manifest: toml::Table = manifest.parse().expect("the manifest is TOML");
            let component = manifest.get("component")?.as_table()?.clone();
            Some((folder, component))
        })
        .collect()
}

#[test]
fn every_packaged_guest_has_the_pinned_bytes_and_imports_kernels_alone() {
    let guests = packaged();
    assert!(!guests.is_empty());
    for (folder, component) in guests {
        let field = |name: &str| component[name].as_str().expect("a string");
        let bytes = std::fs::read(folder.join(field("file"))).unwrap();
        let pinned: Digest = field("sha256").parse().unwrap();
        let seen = inspect(&bytes, &Limits::default()).unwrap();
        assert_eq!(seen.digest, pinned, "{}", folder.display());
        assert!(seen.verdict.is_ok(), "{:?}", seen.verdict);
        assert!(
            seen.imports.iter().all(|import| import.allowed),
            "{:?}",
            seen.imports
        );
        assert!(
            seen.producers
                .iter()
                .any(|line| line.contains("wit-component")),
            "{:?}",
            seen.producers
        );
    }
}
