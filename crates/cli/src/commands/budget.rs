//! What a plan would be charged, as the ledgers stand: shown by `check` and `plan`, obeyed by `run`.

use noisegate_engine::StepFailure;
use noisegate_steps::outlook::{Ground, Outlook, outlook as judge};

use crate::args::Place;
use crate::exit::Exit;
use crate::project::Project;

/// Every charge of a project's plan, each after the ones before it.
///
/// # Errors
/// If a ledger is there but is not whole, or a charge has no price.
pub fn outlook(place: &Place, project: &Project) -> Result<Vec<Outlook>, Exit> {
    let ground = Ground {
        plan: &project.checked.plan,
        workflow_folder: &project.folder,
        plugins: &project.plugins,
        sites: &place.home.join("sites"),
    };
    judge(ground).map_err(|failure| match failure {
        StepFailure::Refused(why) => Exit::Refused(why),
        other => Exit::wrong(other),
    })
}

/// Whether a run would be refused.
pub fn is_refused(outlook: &[Outlook]) -> bool {
    outlook.iter().any(|one| one.refused.is_some())
}

/// Stops a run of which a charge is known to be refused, before its first one.
///
/// # Errors
/// [`Exit::Refused`] with every reason.
pub fn refuse(outlook: &[Outlook]) -> Result<(), Exit> {
    if !is_refused(outlook) {
        return Ok(());
    }
    let refused = outlook.iter().filter(|one| one.refused.is_some());
    let lines: String = refused.map(Outlook::line).collect();
    Err(Exit::Refused(format!("{lines}nothing was charged")))
}
