//! What a run writes out, where, and where it may not.
//!
//! Where a path may lead depends on who wrote it: one that stands in the workflow file stays in
//! that file's folder (`check` has refused what plainly leaves it), one that the operator typed
//! leads wherever there is nothing yet but the home folder.

pub mod write;

use std::path::{Component, Path};

use noisegate_workflow::{PlannedExport, RelativeTo};

use self::write::is_former_export;

use crate::exit::Exit;
use crate::project::Project;

/// Refuses, before anything runs, an export that would overwrite something or write
/// below the home folder: a workflow file must not be able to reach a ledger.
pub fn check(project: &Project, home: &Path) -> Result<(), Exit> {
    let plan = &project.checked.plan;
    let home = home.canonicalize().ok();
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
        let taken = to.symlink_metadata().is_ok() && !former;
        if taken {
            return refuse("something is there already; move it away or choose another path");
        }
        let from_here = Path::new(".").join(&to);
        let above = from_here
            .ancestors()
            .skip(1)
            .find_map(|above| above.canonicalize().ok());
        let climbs = to.components().any(|part| part == Component::ParentDir);
        let missing = to
            .parent()
            .is_some_and(|parent| !parent.as_os_str().is_empty() && !parent.exists());
        let ours = above.as_ref().zip(home.as_ref());
        if ours.is_some_and(|(above, home)| above.starts_with(home)) {
            return refuse(
                "it lies below the home folder, which holds ledgers and private artifacts",
            );
        }
        if climbs && missing {
            return refuse("it climbs through a folder that is not there; make the folder first");
        }
        if let Some(why) = misplaced(project, export, above.as_deref()) {
            return refuse(&why);
        }
    }
    Ok(())
}

/// Why the workflow file may not name such a path, links followed; `above` is the nearest folder
/// that is there.
fn misplaced(project: &Project, export: &PlannedExport, above: Option<&Path>) -> Option<String> {
    if export.path.relative_to == RelativeTo::WorkingFolder {
        return None;
    }
    let inside = |folder: &Path| {
        let folder = folder.canonicalize().ok();
        above
            .zip(folder)
            .is_some_and(|(above, folder)| above.starts_with(folder))
    };
    let why = match (inside(&project.folder), inside(&project.plugins_folder)) {
        (false, _) => "it leads out of the workflow file's folder",
        (true, true) => "it leads into the folder of plugins",
        (true, false) => return None,
    };
    Some(format!(
        "{why}; whoever runs the workflow may lead it there with `--set exports.{}=PATH`",
        export.name
    ))
}
