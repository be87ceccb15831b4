//! What there is to say about a run, as plain data.

use std::collections::BTreeMap;

use noisegate_audit::Findings;
use noisegate_ledger::{Charge, State, Verified};
use noisegate_privacy::{Event, accountant};
use noisegate_workflow::{ArtifactId, Plan, PlannedData, PlannedStep};
use serde::Serialize;

use crate::curve::{Curve, Point};
use crate::error::ReportError;
use crate::flow::{Flow, flows};

/// Everything a report is made from.
pub struct Sources<'a> {
    /// The run's name.
    pub run: &'a str,
    /// How it ended: `done`, `failed`, `interrupted` or `unfinished`.
    pub outcome: &'a str,
    /// What was planned.
    pub plan: &'a Plan,
    /// The verified ledger of each site that has one.
    pub ledgers: &'a [SiteLedger],
    /// The ledger entry whose output a step of this run was served again, by step.
    pub served: &'a BTreeMap<String, u64>,
    /// The guests that the plan uses.
    pub guests: &'a [GuestFacts],
    /// SHA-256 of stored results, by artifact name.
    pub digests: &'a BTreeMap<String, String>,
    /// Findings of an audit, by step.
    pub audits: &'a BTreeMap<String, Findings>,
}

/// A site's ledger, verified.
pub struct SiteLedger {
    /// The site.
    pub site: String,
    /// Its ledger.
    pub verified: Verified,
}

/// A guest as the sandbox saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GuestFacts {
    /// The step kind, such as `guest:dp-generator`.
    pub uses: String,
    /// SHA-256 of its component.
    pub sha256: String,
    /// What it imports.
    pub imports: Vec<Import>,
    /// Whether the sandbox loads it.
    pub loadable: bool,
}

/// One import of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Import {
    /// The interface.
    pub name: String,
    /// Whether the world allows it.
    pub allowed: bool,
}

/// A report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The run.
    pub run: String,
    /// Its workflow.
    pub workflow: String,
    /// The workflow's line for people.
    pub help: String,
    /// How it ended.
    pub outcome: String,
    /// The formulas' version.
    pub accountant: String,
    /// The steps behind the gate.
    pub gates: Vec<Gate>,
    /// Every artifact and where it went.
    pub artifacts: Vec<Flow>,
    /// The guests.
    pub guests: Vec<GuestFacts>,
    /// The sites' ledgers.
    pub ledgers: Vec<LedgerFacts>,
}

/// A step behind the gate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gate {
    /// The step.
    pub step: String,
    /// Its guest.
    pub uses: String,
    /// Its site.
    pub site: String,
    /// The data set it reads.
    pub data_set: String,
    /// The unit: `record`, or `all records of one COLUMN`.
    pub unit: String,
    /// The public figure for the number of units.
    pub units_public: Option<u64>,
    /// Target epsilon.
    pub epsilon: f64,
    /// Target delta.
    pub delta: f64,
    /// L2 bound of one unit's contribution.
    pub clip: Option<f64>,
    /// Marks that a unit may have, where the mechanism is votes; else the sum is clipped.
    pub votes_per_unit: Option<u64>,
    /// Chance of a unit to be in a query.
    pub sampling_rate: Option<f64>,
    /// Queries.
    pub steps: Option<u64>,
    /// The charge of this run; of an earlier one if that output was served again.
    pub charge: Option<Charged>,
    /// Epsilon of the charge at every delta; empty without a charge.
    pub curve: Vec<Point>,
    /// An audit of the gate, if one was made.
    pub audit: Option<Findings>,
}

/// One charge of a ledger.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Charged {
    /// The entry.
    pub entry: u64,
    /// The data set as the ledger names it.
    pub data_set: String,
    /// How far it came.
    pub state: State,
    /// The run and the step.
    pub note: String,
    /// SHA-256 of the guest.
    pub guest: String,
    /// What was charged.
    pub events: Vec<Event>,
    /// Whether this run made it.
    pub of_this_run: bool,
}

/// A site's ledger in short.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LedgerFacts {
    /// The site.
    pub site: String,
    /// Whose signature every entry bears.
    pub public_key: String,
    /// Entries.
    pub entries: u64,
    /// Hash of the last entry.
    pub head: String,
    /// The site's signature of the head.
    pub head_signature: String,
    /// Caps and what is spent, by data set: (name, charges, spent, cap, delta).
    pub accounts: Vec<Account>,
    /// Every charge, of every run.
    pub charges: Vec<Charged>,
}

/// What a data set has spent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Account {
    /// As the ledger names it.
    pub data_set: String,
    /// Charges so far; absent if this accountant cannot price them.
    pub charges: Option<usize>,
    /// Epsilon spent under the cap; absent likewise.
    pub spent: Option<f64>,
    /// The cap's epsilon.
    pub cap: f64,
    /// The cap's delta.
    pub delta: f64,
}

/// Gathers a report.
///
/// # Errors
/// [`ReportError::Unpriced`] if a charge of this run has no epsilon at any delta.
pub fn gather(sources: &Sources<'_>) -> Result<Report, ReportError> {
    let ledgers: Vec<LedgerFacts> = sources
        .ledgers
        .iter()
        .map(|of| ledger(of, sources.run))
        .collect();
    let behind = sources
        .plan
        .steps
        .iter()
        .filter(|step| step.charge.is_some());
    let gates: Result<Vec<Gate>, ReportError> =
        behind.map(|step| gate(step, &ledgers, sources)).collect();
    Ok(Report {
        run: sources.run.to_owned(),
        workflow: sources.plan.workflow.to_string(),
        help: sources.plan.help.clone(),
        outcome: sources.outcome.to_owned(),
        accountant: accountant::ACCOUNTANT_VERSION.to_owned(),
        gates: gates?,
        artifacts: flows(sources.plan, sources.digests),
        guests: sources.guests.to_vec(),
        ledgers,
    })
}

fn ledger(of: &SiteLedger, run: &str) -> LedgerFacts {
    let verified = &of.verified;
    let account = |set: &noisegate_ledger::DataSet| Account {
        data_set: set.name.clone(),
        charges: set.spent.as_ref().map(|spent| spent.charges),
        spent: set.spent.as_ref().map(|spent| spent.epsilon),
        cap: set.cap.epsilon.get(),
        delta: set.cap.delta.get(),
    };
    LedgerFacts {
        site: of.site.clone(),
        public_key: verified.public_key.to_string(),
        entries: verified.head.count,
        head: verified.head.hash.to_string(),
        head_signature: verified.head_signature.clone(),
        accounts: verified.data_sets.iter().map(account).collect(),
        charges: verified
            .charges
            .iter()
            .map(|charge| charged(charge, run))
            .collect(),
    }
}

fn charged(charge: &Charge, run: &str) -> Charged {
    Charged {
        entry: charge.reservation,
        data_set: charge.data_set.clone(),
        state: charge.state,
        note: charge.note.clone(),
        guest: charge.guest.to_string(),
        events: charge.events.clone(),
        of_this_run: charge.note.starts_with(&format!("run {run}, ")),
    }
}

fn gate(
    step: &PlannedStep,
    ledgers: &[LedgerFacts],
    sources: &Sources<'_>,
) -> Result<Gate, ReportError> {
    let note = format!("run {}, step {}", sources.run, step.name);
    let own = ledgers
        .iter()
        .filter(|ledger| ledger.site == step.site.as_str());
    let charges: Vec<&Charged> = own.flat_map(|ledger| &ledger.charges).rev().collect();
    let made = charges.iter().find(|charge| charge.note == note);
    let entry = sources.served.get(step.name.as_str());
    let served = || entry.and_then(|entry| charges.iter().find(|charge| charge.entry == *entry));
    let charge = made.or_else(served).copied();
    let curve = match charge {
        None => Vec::new(),
        Some(charge) => {
            Curve::of(&charge.events)
                .map_err(|source| ReportError::Unpriced {
                    site: step.site.to_string(),
                    reservation: charge.entry,
                    source,
                })?
                .0
        }
    };
    let data = data_of(sources.plan, step);
    let target = step.charge.as_ref();
    Ok(Gate {
        step: step.name.to_string(),
        uses: step.uses.clone(),
        site: step.site.to_string(),
        data_set: data.map_or_else(String::new, |data| data.name.to_string()),
        unit: data.map_or_else(String::new, unit),
        units_public: data.and_then(|data| data.units_public),
        epsilon: target.map_or(0.0, |target| target.epsilon.get()),
        delta: target.map_or(0.0, |target| target.delta.get()),
        clip: sensitivity(step),
        votes_per_unit: step
            .with
            .get("votes_per_unit")
            .and_then(|value| value.as_u64()),
        sampling_rate: step
            .with
            .get("sampling_rate")
            .and_then(|value| value.as_f64()),
        steps: step.with.get("steps").and_then(|value| value.as_u64()),
        charge: charge.cloned(),
        curve,
        audit: sources.audits.get(step.name.as_str()).cloned(),
    })
}

/// L2 norm of what a unit may contribute: the clip bound, or the square root of its votes.
fn sensitivity(step: &PlannedStep) -> Option<f64> {
    let number = |name: &str| step.with.get(name).and_then(|value| value.as_f64());
    number("clip").or_else(|| number("votes_per_unit").map(f64::sqrt))
}

/// The private data set that a step behind the gate reads.
fn data_of<'a>(plan: &'a Plan, step: &PlannedStep) -> Option<&'a PlannedData> {
    let mut artifacts = step.inputs.iter().flat_map(|input| &input.artifacts);
    artifacts.find_map(|artifact| match artifact {
        ArtifactId::Data(name) => plan.data(name).filter(|data| data.private),
        _ => None,
    })
}

fn unit(data: &PlannedData) -> String {
    match &data.unit {
        Some(noisegate_workflow::Unit::Column(column)) => {
            format!("all records with the same `{column}`")
        }
        Some(noisegate_workflow::Unit::Record) | None => "one record".to_owned(),
    }
}
