//! An audited run: canaries alone, through the gate that a run used.
//!
//! ```text
//! plan.json + ledger ── of_run() ──> Audited: the mechanism as charged
//! coins ── made-up canaries ──> sandbox, sampler, clip, noise ──> Played ──> noisegate_audit::findings
//! ```
//! Every lane is a coordinate that only its own canary contributes to. The canary is
//! a guest ([`CANARY`]) run by the same [`Session`] as any other guest: the same
//! sampling coins, fresh instances, clip, integer sum, noise and normalisation.
//! Nothing private is read, so nothing is charged.
//!
//! Not here: the attacks and the theorems (`noisegate-audit`), and the run's own
//! guest, whose contributions the gate bounds whatever they are.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use noisegate_audit::{Attack, Claim, Findings, Mechanism, Method, Played, Verdict, findings};
use noisegate_engine::StepFailure;
use noisegate_ledger::Charge;
use noisegate_privacy::{ClipBound, Delta, Event, NoiseMultiplier, PoissonSampler, SamplingRate};
use noisegate_sandbox::{
    Declaration, Digest, File, Guest, Limits, Mechanism as Gated, Randomness, SandboxError,
    Session, TextRecord, Unit,
};
use noisegate_workflow::{ArtifactId, Plan, PlannedStep};
use serde::{Deserialize, Serialize};

use crate::catalog::VOTES_PER_UNIT;
use crate::with::With;

/// The canary's component, as text.
pub const CANARY: &str = include_str!("canary.wat");
/// The fewest canaries that could show anything.
const CANARIES_MIN: usize = 16;
/// Released numbers that an audit keeps in memory at most.
const NUMBERS_MAX: usize = 32 << 20;

/// A guest step of a run, and what the ledger says was charged for it.
#[derive(Debug, Clone)]
pub struct Audited {
    /// The step.
    pub step: String,
    /// The gate as the ledger was charged for it.
    pub declaration: Declaration,
    /// What was charged.
    pub events: Vec<Event>,
    /// Delta of the step's target.
    pub delta: Delta,
}

/// How an audit is done.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Made-up units; each takes part by a fair coin.
    pub canaries: usize,
    /// Of the bounds.
    pub confidence: f64,
    /// Threads.
    pub cores: usize,
}

/// What is kept of an audit.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The step.
    pub step: String,
    /// The canary's digest.
    pub canary: String,
    /// Canaries that a coin was flipped for.
    pub canaries: usize,
    /// The gate that was attacked.
    pub mechanism: Mechanism,
    /// The attacks that were tried.
    pub attacks: Vec<Attack>,
    /// A rule of the gate that no attack met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unattacked: Option<String>,
    /// The bounds and the verdict.
    pub findings: Findings,
}

/// The coins and the gate's randomness: one for the game, one for the control run.
pub struct Chances {
    /// Decides which canaries take part.
    pub coins: PoissonSampler,
    /// Of the run with canaries.
    pub game: Randomness,
    /// Of the run without.
    pub control: Randomness,
}

impl Chances {
    /// Fresh from the operating system.
    ///
    /// # Errors
    /// [`StepFailure::Failed`] if it gives none.
    pub fn from_os() -> Result<Self, StepFailure> {
        Ok(Self {
            coins: PoissonSampler::from_os().map_err(failed)?,
            game: Randomness::from_os().map_err(failed)?,
            control: Randomness::from_os().map_err(failed)?,
        })
    }
}

/// The guest steps of a run whose charges the ledger holds.
///
/// - `charges`: of each site, from its verified ledger.
/// - `served`: by step, the entry whose output the run was served again.
///
/// # Errors
/// [`StepFailure::BadInput`] for a step without a charge.
pub fn of_run(
    plan: &Plan,
    run: &str,
    charges: &BTreeMap<String, Vec<Charge>>,
    served: &BTreeMap<String, u64>,
) -> Result<Vec<Audited>, StepFailure> {
    let guests = plan.steps.iter().filter(|step| step.charge.is_some());
    guests
        .map(|step| {
            let charges = charges.get(step.site.as_str());
            let charges = charges.map_or(&[][..], Vec::as_slice);
            // A repeated request is served from the ledger: then an earlier run was charged.
            let own = format!("run {run}, step {}", step.name);
            let served = served.get(step.name.as_str());
            let charge = charges.iter().rev().find(|charge| charge.note == own);
            let charge = charge.or_else(|| {
                charges
                    .iter()
                    .find(|charge| Some(&charge.reservation) == served)
            });
            audited(plan, run, step, charge)
        })
        .collect()
}

fn audited(
    plan: &Plan,
    run: &str,
    step: &PlannedStep,
    charge: Option<&Charge>,
) -> Result<Audited, StepFailure> {
    let lacks = |what: &str| {
        StepFailure::BadInput(format!(
            "step `{}` of run `{run}` cannot be audited: {what}",
            step.name
        ))
    };
    let target = step
        .charge
        .as_ref()
        .ok_or_else(|| lacks("it charges nothing"))?;
    let with = With(&step.with);
    let mechanism = attacked(&with)?;
    let declared = (with.float("sampling_rate")?, with.count("steps")?);
    let (charge, (q, sigma, steps)) = charge
        .and_then(|charge| Some((charge, sampled(&charge.events)?)))
        .filter(|(_, (q, _, steps))| {
            SamplingRate::new(declared.0).is_ok_and(|rate| rate.get() == *q) && *steps == declared.1 as u64
        })
        .ok_or_else(|| lacks("the ledger of its site holds no charge for it; audit a run that got as far as the gate"))?;
    let units_public = step
        .inputs
        .iter()
        .flat_map(|input| &input.artifacts)
        .find_map(|artifact| match artifact {
            ArtifactId::Data(name) => plan.data(name)?.units_public,
            _ => None,
        })
        .ok_or_else(|| lacks("its data set has no `units_public`"))?;
    Ok(Audited {
        step: step.name.to_string(),
        declaration: Declaration {
            mechanism,
            noise_multiplier: NoiseMultiplier::new(sigma).map_err(bad_input)?,
            sampling_rate: SamplingRate::new(q).map_err(bad_input)?,
            units_public,
            steps: u32::try_from(steps).map_err(bad_input)?,
        },
        events: charge.events.clone(),
        delta: target.delta,
    })
}

/// The gate as its canaries meet it.
///
/// Under votes, a canary has one mark and one mark is all a unit may have: then its own
/// lane shows the whole sensitivity, with the same noise over it as the run's. Not attacked:
/// the rule for more marks than that (see [`unattacked`]).
fn attacked(with: &With<'_>) -> Result<Gated, StepFailure> {
    if with.0.contains_key(VOTES_PER_UNIT) {
        return Ok(Gated::Votes { per_unit: 1 });
    }
    let clip = ClipBound::new(with.float("clip")?).map_err(bad_input)?;
    Ok(Gated::GaussianSum { clip })
}

fn unattacked(mechanism: Gated) -> Option<String> {
    let rule = "each canary had one mark and was allowed one; that a unit with more marks than it may have counts as zero was not attacked";
    matches!(mechanism, Gated::Votes { .. }).then(|| rule.to_owned())
}

fn sampled(events: &[Event]) -> Option<(f64, f64, u64)> {
    events.iter().find_map(|event| match event {
        Event::SampledGaussian { q, sigma, steps } => Some((*q, *sigma, *steps)),
        _ => None,
    })
}

/// Plays the game against the gate and weighs the claim.
///
/// # Errors
/// [`StepFailure::BadInput`] for options that do not fit the mechanism.
pub fn audit(
    audited: &Audited,
    options: &Options,
    chances: Chances,
) -> Result<Record, StepFailure> {
    let mechanism = Mechanism {
        noise_multiplier: audited.declaration.noise_multiplier.get(),
        sampling_rate: audited.declaration.sampling_rate.get(),
        steps: audited.declaration.steps.into(),
    };
    let claim = Claim::of(&audited.events, audited.delta).map_err(bad_input)?;
    let played = play(&audited.declaration, options, chances)?;
    Ok(Record {
        step: audited.step.clone(),
        canary: Digest::of(&component()?).to_string(),
        canaries: options.canaries,
        attacks: Attack::of(&mechanism),
        unattacked: unattacked(audited.declaration.mechanism),
        findings: findings(&played, &mechanism, &claim, options.confidence).map_err(bad_input)?,
        mechanism,
    })
}

/// Runs the canaries, and then nobody, through the sandbox's gate.
///
/// # Errors
/// [`StepFailure::BadInput`] for too few canaries or too many released numbers.
pub fn play(
    declaration: &Declaration,
    options: &Options,
    mut chances: Chances,
) -> Result<Played, StepFailure> {
    let (lanes, steps) = (options.canaries, declaration.steps as usize);
    if lanes < CANARIES_MIN || lanes.saturating_mul(steps) > NUMBERS_MAX {
        let most = NUMBERS_MAX / steps.max(1);
        return Err(StepFailure::BadInput(format!(
            "`{lanes}` canaries do not fit a mechanism of `{steps}` steps; give `--canaries` from {CANARIES_MIN} to {most}"
        )));
    }
    let fair = SamplingRate::new(0.5).map_err(bad_input)?;
    let took_part: Vec<bool> = (0..lanes).map(|_| chances.coins.includes(fair)).collect();
    let canaries: Vec<Unit> = (0..lanes)
        .filter(|lane| took_part[*lane])
        .map(canary)
        .collect();
    let gate = Gate {
        guest: load(options.cores)?,
        declaration,
        lanes,
    };
    Ok(Played {
        released: gate.run(&canaries, chances.game)?,
        control: gate.run(&[], chances.control)?,
        took_part,
    })
}

/// The made-up unit of a lane.
fn canary(lane: usize) -> Unit {
    Unit {
        records: vec![TextRecord {
            text: lane.to_string(),
            label: String::new(),
        }],
    }
}

fn component() -> Result<Vec<u8>, StepFailure> {
    wat::parse_str(CANARY).map_err(failed)
}

fn load(cores: usize) -> Result<Guest, StepFailure> {
    let limits = Limits {
        threads: cores,
        ..Limits::default()
    };
    Guest::load(&component()?, None, &limits).map_err(failed)
}

struct Gate<'a> {
    guest: Guest,
    declaration: &'a Declaration,
    lanes: usize,
}

impl Gate<'_> {
    /// Shape `[steps, lanes]`, in clip bounds: sums, not means.
    fn run(&self, units: &[Unit], randomness: Randomness) -> Result<Vec<Vec<f64>>, StepFailure> {
        let shape = [self.lanes as u32, self.declaration.steps];
        let shape = File {
            name: "shape".to_owned(),
            data: shape.into_iter().flat_map(u32::to_le_bytes).collect(),
        };
        let session = Session::start(&self.guest, "{}", &[shape], self.declaration.clone())
            .map_err(bad_input)?;
        let never = AtomicBool::new(false);
        let released = session
            .run(units, randomness, &mut |_| {}, &never)
            .map_err(stopped)?;
        let declared = self.declaration;
        let to_clips = declared.sampling_rate.get() * declared.units_public as f64
            / declared.mechanism.sensitivity();
        let numbers = |file: &File| {
            let floats = file.data.as_chunks::<4>().0.iter();
            floats
                .map(|bytes| f64::from(f32::from_le_bytes(*bytes)) * to_clips)
                .collect()
        };
        Ok(released.value().iter().map(numbers).collect())
    }
}

/// A record in plain words, one finding a line.
#[must_use]
pub fn text(record: &Record) -> String {
    let found = &record.findings;
    let mut text = format!(
        "step {}: claimed epsilon {:.4} at delta {:e}\n",
        record.step, found.claimed_epsilon, found.delta
    );
    for evidence in &found.evidence {
        let name = match evidence.method {
            Method::OneRun => "any mechanism (Steinke, Nasr, Jagielski 2023)",
            Method::Gaussian => "a Gaussian one (Mahloujifar, Melis, Chaudhuri 2024)",
        };
        text.push_str(&format!(
            "  epsilon is at least {:.4} for {name}; {} of {} guesses right, {} canaries; at most {:.4} could have been shown\n",
            evidence.epsilon_at_least,
            evidence.game.correct,
            evidence.game.guesses,
            evidence.game.canaries,
            evidence.epsilon_provable
        ));
    }
    if let Some(rule) = &record.unattacked {
        text.push_str(&format!("  {rule}\n"));
    }
    text.push_str(match found.verdict {
        Verdict::NotRefuted => {
            "  not refuted: no attack contradicts the claim; that does not certify it\n"
        }
        Verdict::Doubtful => {
            "  doubtful: an attack contradicts the claim at this confidence, as may happen to a true one; repeat the audit with more canaries\n"
        }
        Verdict::Refuted => {
            "  REFUTED: an attack contradicts the claim; a true claim would be called so once in a thousand audits\n"
        }
    });
    text
}

fn bad_input(error: impl std::fmt::Display) -> StepFailure {
    StepFailure::BadInput(error.to_string())
}

fn failed(error: impl std::fmt::Display) -> StepFailure {
    StepFailure::Failed(error.to_string())
}

fn stopped(error: SandboxError) -> StepFailure {
    match error {
        SandboxError::Cancelled => StepFailure::Cancelled,
        other => failed(other),
    }
}

#[cfg(test)]
mod test;
