//! `audit`: attacks the gate of a past run with made-up canaries.

use std::collections::BTreeMap;
use std::path::Path;

use noisegate_engine::StepFailure;
use noisegate_steps::audit::{Chances, Options, Record, audit as attack, of_run, text};
use noisegate_workflow::Plan;
use serde::Serialize;

use crate::args::{AuditWhich, Place};
use crate::commands::{ledger, runs};
use crate::exit::Exit;
use crate::project;
use crate::show;

/// Where a run keeps its audit.
pub const AUDIT_FILE: &str = "audit.json";
/// Said with every result.
const CAN_REFUTE_ONLY: &str = "an audit can refute a claim, never certify it";

#[derive(Serialize)]
struct Audit<'a> {
    run: &'a str,
    confidence: f64,
    caveat: &'static str,
    steps: &'a [Record],
}

/// Audits every guest step of a run and writes `audit.json` beside its plan.
pub fn audit(place: &Place, which: &AuditWhich) -> Result<(), Exit> {
    let folder = runs::find(place, &which.run)?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let plan: Plan = runs::read_json(&folder.join("plan.json"))?;
    let mut charges = BTreeMap::new();
    for step in plan.steps.iter().filter(|step| step.charge.is_some()) {
        let verified = ledger::read(&project::site_folder(&place.home, step.site.as_str()))?;
        charges.insert(step.site.to_string(), verified.charges);
    }
    let audited = of_run(&plan, &name, &charges, &runs::served(&folder)?).map_err(exit)?;
    if audited.is_empty() {
        return Err(Exit::Wrong(format!(
            "run `{name}` has no step behind the gate; there is nothing to audit"
        )));
    }
    let options = Options {
        canaries: which.canaries,
        confidence: which.confidence,
        cores: std::thread::available_parallelism().map_or(1, usize::from),
    };
    let mut steps = Vec::new();
    for one in &audited {
        steps.push(attack(one, &options, Chances::from_os().map_err(exit)?).map_err(exit)?);
    }
    let audit = Audit {
        run: &name,
        confidence: which.confidence,
        caveat: CAN_REFUTE_ONLY,
        steps: &steps,
    };
    write(&folder.join(AUDIT_FILE), &audit)?;
    if which.json {
        return show::json_line(&audit);
    }
    println!(
        "run {name}, lower bounds at {} % confidence; canaries only, no private data, no charge\n",
        100.0 * which.confidence
    );
    steps.iter().for_each(|record| print!("{}", text(record)));
    println!("\n{CAN_REFUTE_ONLY}");
    Ok(())
}

/// Writes `audit` to `path`, whole or not at all.
fn write(path: &Path, audit: &Audit<'_>) -> Result<(), Exit> {
    let text = serde_json::to_string_pretty(audit).map_err(Exit::failed)?;
    let half = path.with_extension("half");
    std::fs::write(&half, text)
        .and_then(|()| std::fs::rename(&half, path))
        .map_err(|error| Exit::Failed(format!("could not write `{}`: {error}", path.display())))
}

fn exit(failure: StepFailure) -> Exit {
    match failure {
        StepFailure::Failed(_) | StepFailure::Cancelled => Exit::failed(failure),
        StepFailure::BadInput(_) => Exit::wrong(failure),
        StepFailure::Refused(_) => Exit::Refused(failure.to_string()),
    }
}
