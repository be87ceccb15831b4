//! What a run writes out, where, and where it may not.
//!
//! Where a path may lead depends on who wrote it: one that stands in the workflow file stays in
//! that file's folder (`check` has refused what plainly leaves it), one that the operator typed
//! leads wherever there is nothing yet but the home folder.

pub mod write;

use std::path::{Component, Path, PathBuf};

use noisegate_workflow::{PlannedExport, RelativeTo};

use self::write::is_former_export;

use crate::exit::Exit;
use crate::project::Project;

/// Refuses, before anything runs, an export that would overwrite something or write
/// below the home folder: a workflow file must not be able to reach a ledger.
pub fn check(project: &Project, home: &Path) -> Result<(), Exit> {
    let plan = &project.checked.plan;
    let home = home.canonicalize().ok();
    let mut taken = Vec::new();
    for export in &plan.exports {
        let to = export.path.resolve(&project.folder);
        let refuse = |why: &str| {
            Err(Exit::Wrong(format!(
                "export `{}` to `{}` is refused: {why}",
                export.name,
                to.display()
            )))
        };
        let former = home
            .as_ref()
            .is_some_and(|home| is_former_export(home, &to));
        if to.symlink_metadata().is_ok() && !former {
            return refuse("something is there already; move it away or choose another path");
        }
        let real = match real(&to, home.as_deref()) {
            Ok(real) => real,
            Err(why) => return refuse(why),
        };
        if let Some(why) = misplaced(project, export, &real) {
            return refuse(&why);
        }
        let other = taken
            .iter()
            .find(|(_, other): &&(_, PathBuf)| real.starts_with(other) || other.starts_with(&real));
        if let Some((name, _)) = other {
            return refuse(&format!(
                "export `{name}` leads there too; choose another path"
            ));
        }
        taken.push((&export.name, real));
    }
    Ok(())
}

/// Where a path leads, links followed as far as there is something.
///
/// # Errors
/// If that is below the home folder, or cannot be told.
fn real(to: &Path, home: Option<&Path>) -> Result<PathBuf, &'static str> {
    let from_here = Path::new(".").join(to);
    let climbs = to.components().any(|part| part == Component::ParentDir);
    let missing = from_here.parent().is_some_and(|parent| !parent.exists());
    if climbs && missing {
        return Err("it climbs through a folder that is not there; make the folder first");
    }
    let found = from_here.ancestors().skip(1).find_map(|above| {
        let rest = from_here.strip_prefix(above).ok()?;
        Some((above.canonicalize().ok()?, rest))
    });
    let Some((above, rest)) = found else {
        return Err("no folder above it is there");
    };
    if !above.is_dir() {
        return Err("it leads through a file");
    }
    if home.is_some_and(|home| above.starts_with(home)) {
        return Err("it lies below the home folder, which holds ledgers and private artifacts");
    }
    Ok(above.join(rest))
}

/// Why the workflow file may not name a path that leads to `real`.
fn misplaced(project: &Project, export: &PlannedExport, real: &Path) -> Option<String> {
    if export.path.relative_to == RelativeTo::WorkingFolder {
        return None;
    }
    let below = |folder: &Path| {
        let folder = folder.canonicalize().ok()?;
        real.strip_prefix(folder).ok()
    };
    let why = match (below(&project.folder), below(&project.plugins_folder)) {
        (None, _) => "it leads out of the workflow file's folder",
        (_, Some(_)) => "it leads into the folder of plugins",
        (Some(rest), _) if is_hidden(rest) => "it leads to a hidden place",
        _ => return None,
    };
    Some(format!(
        "{why}; whoever runs the workflow may lead it there with `--set exports.{}=PATH`",
        export.name
    ))
}

fn is_hidden(path: &Path) -> bool {
    let mut parts = path.components();
    parts.any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"."))
}
