//! Finding a workflow's file, plugins and libraries on this machine.

use std::path::{Path, PathBuf};

use noisegate_steps::{Plugins, catalog};
use noisegate_workflow::{Catalog, Checked, Source};

use crate::args::{Place, Which};
use crate::exit::Exit;
use crate::show;

/// A workflow that has passed `check`, and what it names.
pub struct Project {
    /// The proven plan and its warnings.
    pub checked: Checked,
    /// The folder of the workflow file.
    pub folder: PathBuf,
    /// The plugins.
    pub plugins: Plugins,
    /// Where `plugins/` lies.
    pub plugins_folder: PathBuf,
}

/// Reads and proves the workflow; shows every error.
///
/// # Errors
/// Exit code 2, or 3 when only budget or privacy rules are broken.
pub fn open(place: &Place, which: &Which) -> Result<Project, Exit> {
    let file = &which.workflow;
    let text = std::fs::read_to_string(file).map_err(|error| {
        Exit::Wrong(format!(
            "could not read the workflow `{}`: {error}; check the path",
            file.display()
        ))
    })?;
    let folder = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let plugins_folder = match &place.plugins {
        Some(given) => given.clone(),
        None => plugins_above(&folder)?,
    };
    let plugins = Plugins::scan(&plugins_folder).map_err(Exit::wrong)?;
    let catalog: Catalog = catalog(&plugins);
    let source = Source::new(file.display().to_string(), text);
    match noisegate_workflow::load(source, &which.overrides, &catalog) {
        Ok(checked) => Ok(Project {
            checked,
            folder,
            plugins,
            plugins_folder,
        }),
        Err(diagnostics) => {
            show::diagnostics(&diagnostics, which.json);
            Err(Exit::Silent(if diagnostics.is_policy() { 3 } else { 2 }))
        }
    }
}

/// The nearest `plugins/` at or above `folder`.
///
/// # Errors
/// If there is none.
pub fn plugins_above(folder: &Path) -> Result<PathBuf, Exit> {
    let start = folder.canonicalize().map_err(Exit::wrong)?;
    let found = start
        .ancestors()
        .map(|above| above.join("plugins"))
        .find(|path| path.is_dir());
    found.ok_or_else(|| {
        Exit::Wrong(format!(
            "there is no `plugins` folder at or above `{}`; name one with `--plugins DIR`",
            start.display()
        ))
    })
}

/// The ONNX Runtime library to load, whether it is there or not.
pub fn onnxruntime(place: &Place, plugins_folder: &Path) -> PathBuf {
    const FETCHED: &str = "target/noisegate/onnxruntime/libonnxruntime.so.1.32.0";
    match &place.onnxruntime {
        Some(given) => given.clone(),
        None => plugins_folder
            .parent()
            .unwrap_or(Path::new("."))
            .join(FETCHED),
    }
}

/// The folder of a site's own things: its ledger and its key.
pub fn site_folder(home: &Path, site: &str) -> PathBuf {
    home.join("sites").join(site)
}
