//! `run`: check, resolve, drive, export, and say what was gained and what it cost.

use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use noisegate_engine::driver::Environment;
use noisegate_engine::state::Ending;
use noisegate_engine::{Limits, Outcome, RunFolder, StepFailure, Store, drive};
use noisegate_steps::llm::served;
use noisegate_steps::{Tools, machine, registry, resolve};

use crate::args::{Place, RunWhich};
use crate::commands::{budget, exports, runs};
use crate::exit::Exit;
use crate::progress::Bars;
use crate::project;
use crate::show;

/// Runs a workflow to its end.
pub fn run(place: &Place, run: &RunWhich) -> Result<(), Exit> {
    let project = project::open(place, &run.which)?;
    if !project.checked.warnings.list.is_empty() && !run.which.json {
        show::diagnostics(&project.checked.warnings, false);
    }
    let plan = &project.checked.plan;
    let resolved = resolve::resolve(plan, &project.folder, &project.plugins, &place.home)
        .map_err(|lacks| Exit::Wrong(lacks.join("\nnoisegate: ")))?;
    let onnxruntime = project::onnxruntime(place, &project.plugins_folder);
    let mut lacks = served::lacks(plan, &project.plugins, environment);
    lacks.extend(machine::lacks(plan, &onnxruntime));
    if !lacks.is_empty() {
        return Err(Exit::Wrong(lacks.join("\nnoisegate: ")));
    }
    std::fs::create_dir_all(&place.home).map_err(|error| {
        Exit::Failed(format!(
            "could not make the home folder `{}`: {error}; choose another with `--home DIR`",
            place.home.display()
        ))
    })?;
    exports::check(&project, &place.home)?;
    budget::refuse(&budget::outlook(place, &project)?)?;
    let cores = run.cores.unwrap_or_else(available_cores);
    let tools = Tools {
        onnxruntime,
        sites: place.home.join("sites"),
        plugins: project.plugins,
        cache: place.home.join("cache"),
        environment,
    };
    let store = Store::new(place.home.join("store"));
    let folder =
        RunFolder::create(&place.home, &stamp(SystemTime::now()), plan).map_err(Exit::failed)?;
    let outcome = drive(
        plan,
        &Environment {
            registry: &registry(tools),
            store: &store,
            folder: &folder,
            resolved: &resolved,
            limits: Limits {
                cores,
                memory_bytes: run.memory_gib << 30,
            },
            observer: &Bars::new(run.which.json),
            cancel: &AtomicBool::new(false),
        },
    )
    .map_err(Exit::failed)?;
    end(&folder, &outcome)?;
    exports::write::all(
        plan,
        &outcome.artifacts,
        &store,
        &project.folder,
        &place.home,
    )?;
    if run.which.json {
        return show::json_line(&runs::summary(&folder.path)?);
    }
    println!("\n{}", runs::text(&runs::summary(&folder.path)?));
    Ok(())
}

/// The exit for a run that did not end well.
fn end(folder: &RunFolder, outcome: &Outcome) -> Result<(), Exit> {
    let name = &folder.name;
    let unrecorded = outcome.unrecorded.as_ref();
    let besides = unrecorded.map_or_else(String::new, |error| format!("\nnoisegate: {error}"));
    match (&outcome.failure, outcome.ending) {
        (_, Ending::Done) => unrecorded.map_or(Ok(()), |error| Err(Exit::failed(error))),
        (_, Ending::Interrupted) => Err(Exit::Interrupted(format!(
            "run `{name}` was interrupted; what had been charged stays charged{besides}"
        ))),
        (Some((step, failure)), _) => {
            let text = format!("failed to run step `{step}`: {failure}\n(run `{name}`){besides}");
            Err(match failure {
                StepFailure::Failed(_) | StepFailure::Cancelled => Exit::Failed(text),
                StepFailure::BadInput(_) => Exit::Wrong(text),
                StepFailure::Refused(_) => Exit::Refused(text),
            })
        }
        (None, Ending::Failed) => Err(Exit::Failed(format!("run `{name}` failed{besides}"))),
    }
}

/// The one place where a served model's key enters.
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn available_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Universal time as `20260102-101500`, which sorts.
fn stamp(now: SystemTime) -> String {
    let seconds = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (year, month, day) = civil_date(seconds / 86_400);
    let of_day = seconds % 86_400;
    format!(
        "{year:04}{month:02}{day:02}-{:02}{:02}{:02}",
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60
    )
}

/// Year, month and day of a day number since 1970-01-01.
///
/// # Source
/// Hinnant, "chrono-Compatible Low-Level Date Algorithms", 2021, `civil_from_days`.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_stamp_is_the_date_in_universal_time() {
        let at = |seconds| stamp(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "19700101-000000");
        assert_eq!(at(951_827_696), "20000229-123456");
        assert_eq!(at(1_798_761_599), "20261231-235959");
    }
}
