//! `report`: one page about a past run that an auditor can file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use noisegate_ledger::begun;
use noisegate_report::{GuestFacts, Import, SiteLedger, Sources, gather, html};
use noisegate_sandbox::Isolation;
use noisegate_steps::{Plugins, audit::Record, guest_terms::limits, ledger::LEDGER_FILE};
use noisegate_workflow::Plan;
use serde::Deserialize;

use crate::args::{Place, ReportWhich};
use crate::commands::audit::AUDIT_FILE;
use crate::commands::{exports, ledger, runs};
use crate::exit::Exit;
use crate::project;
use crate::show;

/// What a report needs of `result.json`.
#[derive(Deserialize)]
struct Ended {
    ending: String,
    artifacts: BTreeMap<String, Stored>,
}

#[derive(Deserialize)]
struct Stored {
    digest: String,
}

/// What a report needs of `audit.json`.
#[derive(Deserialize)]
struct Audited {
    steps: Vec<Record>,
}

/// Writes `report.html` beside the run's plan or where a person says, or prints the report as JSON.
pub fn report(place: &Place, which: &ReportWhich) -> Result<(), Exit> {
    let folder = runs::find(place, &which.run)?;
    let plan: Plan = runs::read_json(&folder.join("plan.json"))?;
    let ended: Option<Ended> = optional(&folder.join("result.json"))?;
    let audited: Option<Audited> = optional(&folder.join(AUDIT_FILE))?;
    let (outcome, stored) = match ended {
        Some(ended) => (ended.ending, ended.artifacts),
        None => ("unfinished".to_owned(), BTreeMap::new()),
    };
    let digests = stored
        .into_iter()
        .map(|(name, stored)| (name, stored.digest));
    let audits = audited.into_iter().flat_map(|audited| audited.steps);
    let found = gather(&Sources {
        run: &folder.file_name().unwrap_or_default().to_string_lossy(),
        outcome: &outcome,
        plan: &plan,
        ledgers: &ledgers(place, &plan)?,
        served: &runs::served(&folder)?,
        guests: &guests(place, &plan)?,
        digests: &digests.collect(),
        audits: &audits
            .map(|record| (record.step, record.findings))
            .collect(),
    })
    .map_err(Exit::failed)?;
    if which.json {
        return show::json_line(&found);
    }
    let path = match &which.out {
        Some(out) => {
            exports::write::file(out, &place.home, &html(&found))?;
            out.clone()
        }
        None => {
            let path = folder.join("report.html");
            write(&path, &html(&found))?;
            path
        }
    };
    println!("{}", path.display());
    Ok(())
}

/// The ledger of every site of the plan that has one, verified.
fn ledgers(place: &Place, plan: &Plan) -> Result<Vec<SiteLedger>, Exit> {
    let mut ledgers = Vec::new();
    for site in &plan.sites {
        let folder = project::site_folder(&place.home, site.as_str());
        if begun(&folder.join(LEDGER_FILE)).map_err(ledger::refused)? {
            ledgers.push(SiteLedger {
                site: site.to_string(),
                verified: ledger::read(&folder)?,
            });
        }
    }
    Ok(ledgers)
}

/// The plan's guests, inspected as they lie in the plugins folder now.
fn guests(place: &Place, plan: &Plan) -> Result<Vec<GuestFacts>, Exit> {
    let mut uses: Vec<&str> = plan.steps.iter().map(|step| step.uses.as_str()).collect();
    uses.sort_unstable();
    uses.dedup();
    uses.retain(|uses| uses.starts_with("guest:"));
    if uses.is_empty() {
        return Ok(Vec::new());
    }
    let plugins = Plugins::scan(&plugins_folder(place, plan)?).map_err(Exit::wrong)?;
    uses.into_iter().map(|uses| guest(&plugins, uses)).collect()
}

fn guest(plugins: &Plugins, uses: &str) -> Result<GuestFacts, Exit> {
    let lacks = || {
        Exit::Wrong(format!(
            "the plugin of `{uses}` is not there; name the folder of plugins with `--plugins DIR`"
        ))
    };
    let plugin = plugins
        .get(uses.trim_start_matches("guest:"))
        .ok_or_else(lacks)?;
    let component = plugin.manifest.component.as_ref().ok_or_else(lacks)?;
    let path = plugin.folder.join(&component.file);
    let bytes = std::fs::read(&path)
        .map_err(|error| Exit::Wrong(format!("could not read `{}`: {error}", path.display())))?;
    let limits = limits(component, 1, Isolation::default()).map_err(Exit::failed)?;
    let found = noisegate_sandbox::inspect(&bytes, &limits).map_err(Exit::wrong)?;
    let import = |import: &noisegate_sandbox::component::Import| Import {
        name: import.name.clone(),
        allowed: import.allowed,
    };
    Ok(GuestFacts {
        uses: uses.to_owned(),
        sha256: found.digest.to_string(),
        imports: found.imports.iter().map(import).collect(),
        loadable: found.verdict.is_ok(),
    })
}

fn plugins_folder(place: &Place, plan: &Plan) -> Result<PathBuf, Exit> {
    match &place.plugins {
        Some(given) => Ok(given.clone()),
        None => match Path::new(&plan.file).parent() {
            Some(folder) if folder.is_dir() => project::plugins_above(folder),
            _ => project::plugins_above(Path::new(".")),
        },
    }
}

/// A file of a run's folder, if the run got that far.
fn optional<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, Exit> {
    path.is_file().then(|| runs::read_json(path)).transpose()
}

/// Writes `text` to `path`, whole or not at all.
fn write(path: &Path, text: &str) -> Result<(), Exit> {
    let half = path.with_extension("half");
    std::fs::write(&half, text)
        .and_then(|()| std::fs::rename(&half, path))
        .map_err(|error| Exit::Failed(format!("could not write `{}`: {error}", path.display())))
}
