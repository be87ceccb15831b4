//! `guest:NAME`: the step that may read private records, because nothing but
//! noised sums can leave it.
//!
//! ```text
//! 1 public    load the component, calibrate the noise, start the public side, rehearse
//! 2 ledger    RESERVED: durable, before the first private row is read
//!             (or: the same request was answered before, the same bytes again)
//! 3 private   read the units, run every query through the gate
//! 4 ledger    SEALED with the outputs, then RELEASED
//! ```
//!
//! Everything that can be wrong with a workflow, a guest or a model shows in 1,
//! where it costs nothing. From 2 on the charge stays, whatever happens.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use noisegate_engine::{Event, Input, Made, Step, StepContext, StepFailure};
use noisegate_sandbox::{File, Progress, Randomness, SandboxError, Session, TextRecord, Unit};
use noisegate_workflow::{Charge, PortType};

use crate::guest_request::{parameters_digest, public_files};
use crate::guest_terms::{Terms, component, load};
use crate::ledger::{Account, Answer, Cap, Order, digest, name_of};
use crate::plugin::{Output, Plugin};
use crate::policy;
use crate::resolve::{Row, read_data};
use crate::samples;
use crate::schedule::Schedule;

/// Runs one guest plugin.
pub struct GuestStep {
    /// The plugin.
    pub plugin: Plugin,
    /// One folder a site, with its ledger and key.
    pub sites: PathBuf,
}

impl Step for GuestStep {
    fn run(&self, context: &StepContext<'_>) -> Result<Vec<Made>, StepFailure> {
        let mechanism = Mechanism::of(context, &self.plugin)?;
        // Read once: the answer is sealed under the digest of what the guest was given.
        let public = public_files(&context.inputs)?;
        let mut session = self.start(context, &mechanism, &public)?;
        rehearse(&mut session, context, &mechanism)?;

        let mut account = Account::open(&self.sites.join(context.step.site.as_str()))?;
        let charged = digest(mechanism.records)?;
        let order = Order {
            data: charged,
            data_set: mechanism.data_set(),
            cap: mechanism.cap()?,
            unit: mechanism.unit()?,
            events: session.events(u64::from(mechanism.terms.steps)),
            guest: component(&self.plugin)?.sha256.parse().map_err(bad_input)?,
            parameters: parameters_digest(
                context.step,
                &context.inputs,
                component(&self.plugin)?,
                &public,
            ),
            note: format!("run {}, step {}", context.run, context.step.name),
        };
        let answer = account.reserve(order, context.cancel, || {
            context.note("waiting until another step or run of this home has made its charge");
        })?;
        let reservation = match answer {
            Answer::Charged(reservation) => reservation,
            Answer::Again { entry, files } => {
                let step = context.step.name.to_string();
                (context.record)(Event::ServedAgain { step, entry });
                context.note(
                    "the same request was answered before: the same bytes again, at no charge",
                );
                return self.write(context, files);
            }
        };
        (context.record)(Event::Charged {
            step: context.step.name.to_string(),
            data_set: mechanism.data_set(),
            epsilon: mechanism.charge.epsilon.get(),
            delta: mechanism.charge.delta.get(),
            spent_epsilon: account.spent_epsilon(&mechanism.data_set())?,
        });

        let units = read_units(mechanism.records).map_err(after_the_charge)?;
        if digest(mechanism.records)? != charged {
            return Err(StepFailure::Refused(format!(
                "`{}` was changed while the step was reading it; nothing is released, and the \
                 charge stays; run again when nobody writes to the file",
                mechanism.records.path().display()
            )));
        }
        let randomness = Randomness::from_os().map_err(failed)?;
        let mut progress = |progress: Progress| match progress {
            Progress::Working { done, total } => {
                context.progress(done.into(), total.into(), "working on released values")
            }
            Progress::Query { index, total } => {
                context.progress(index.into(), total.into(), "asking the gate")
            }
        };
        let released = session
            .run(&units, randomness, &mut progress, context.cancel)
            .map_err(failed)?;
        let files = account.seal_and_release(&reservation, released.value())?;
        self.write(context, files)
    }
}

/// The mechanism as the workflow declares it.
struct Mechanism<'a> {
    records: &'a Input,
    charge: &'a Charge,
    terms: Terms,
}

impl<'a> Mechanism<'a> {
    fn of(context: &'a StepContext<'_>, plugin: &Plugin) -> Result<Self, StepFailure> {
        let records = context
            .inputs
            .one("records")
            .ok_or_else(|| defect("the port `records` is not connected"))?;
        let Input::Data { data, .. } = records else {
            return Err(defect("`records` is not a data set"));
        };
        let charge = context
            .step
            .charge
            .as_ref()
            .ok_or_else(|| defect("the plan has no charge for it"))?;
        let schedule =
            Schedule::of(context.step)?.ok_or_else(|| defect("the plan has no charge for it"))?;
        let units_public = data
            .units_public
            .ok_or_else(|| defect("the data set has no `units_public`"))?;
        Ok(Self {
            records,
            charge,
            terms: Terms::new(plugin, &context.step.with, schedule, units_public)?,
        })
    }

    /// The data set as the ledger names it.
    fn data_set(&self) -> String {
        name_of(self.records.path())
    }

    fn cap(&self) -> Result<Cap, StepFailure> {
        let budget = match self.records {
            Input::Data { data, .. } => data.budget.as_ref(),
            Input::Path { .. } => None,
        };
        let budget = budget.ok_or_else(|| defect("the data set has no `budget`"))?;
        Ok(Cap {
            epsilon: budget.epsilon,
            delta: budget.delta,
        })
    }

    /// The privacy unit as the workflow states it.
    fn unit(&self) -> Result<String, StepFailure> {
        match self.records {
            Input::Data { data, .. } => match &data.unit {
                Some(unit) => Ok(unit.name().to_owned()),
                None => Err(defect("the data set has no `unit`")),
            },
            Input::Path { .. } => Err(defect("`records` is not a data set")),
        }
    }

    fn labels(&self) -> &[String] {
        labels_of(self.records)
    }
}

impl GuestStep {
    /// Loads the guest and starts its public side: public inputs alone.
    fn start(
        &self,
        context: &StepContext<'_>,
        mechanism: &Mechanism<'_>,
        public: &[File],
    ) -> Result<Session, StepFailure> {
        let site = self.sites.join(context.step.site.as_str());
        let policy = policy::read(&site).map_err(StepFailure::Refused)?;
        let accepted = policy.accept(&self.plugin, &site);
        accepted.map_err(StepFailure::Refused)?;
        let guest = load(&self.plugin, context.cores, policy.isolation)?;
        let with = &context.step.with;
        let config = mechanism
            .terms
            .config(&self.plugin, with, mechanism.labels());
        Session::start(
            &guest,
            &config.to_string(),
            public,
            mechanism.terms.declaration(),
        )
        .map_err(before_the_charge)
    }

    /// Writes the outputs that the manifest names; a name chosen by the guest is never a path.
    fn write(&self, context: &StepContext<'_>, files: Vec<File>) -> Result<Vec<Made>, StepFailure> {
        let mut by_name: BTreeMap<String, Vec<u8>> = files
            .into_iter()
            .map(|file| (file.name, file.data))
            .collect();
        let labels = context.inputs.one("records").map_or(&[][..], labels_of);
        let write = |output: &Output| {
            let data = by_name.remove(&output.file).ok_or_else(|| {
                StepFailure::Failed(format!(
                    "the guest did not output `{}`, which its manifest promises",
                    output.file
                ))
            })?;
            if let Some(problem) = samples::unfit(output.holds, &data, labels) {
                context.note(format!(
                    "the guest's output `{}` is no good as `{}`: {problem}; a step that reads it \
                     will fail",
                    output.file, output.holds
                ));
            }
            let ending = match output.holds {
                PortType::Report | PortType::Centroids => "json",
                _ => "jsonl",
            };
            let path = context.work.join(format!("{}.{ending}", output.port));
            fs::write(&path, data).map_err(|error| {
                StepFailure::Failed(format!("could not write `{}`: {error}", path.display()))
            })?;
            Ok(Made {
                port: output.port.clone(),
                path,
            })
        };
        let made = self.plugin.manifest.outputs.iter().map(write).collect();
        if let Some(name) = by_name.keys().next() {
            context.note(format!(
                "the guest made `{name}` too, or more, which no `[[outputs]]` of its manifest \
                 names: dropped"
            ));
        }
        made
    }
}

fn labels_of(records: &Input) -> &[String] {
    match records {
        Input::Data { labels, .. } => labels,
        Input::Path { .. } => &[],
    }
}

/// Shows a made-up record to a private instance, so that a guest that cannot work
/// is told from one that can before anything is charged.
fn rehearse(
    session: &mut Session,
    context: &StepContext<'_>,
    mechanism: &Mechanism<'_>,
) -> Result<(), StepFailure> {
    let label = mechanism.labels().first().cloned().unwrap_or_default();
    let text =
        "this is a made-up record of about the usual length, to see that the guest works at all"
            .to_owned();
    let unit = Unit {
        records: vec![TextRecord { text, label }],
    };
    let mut progress = |progress: Progress| {
        if let Progress::Working { done, total } = progress {
            context.progress(done.into(), total.into(), "preparing");
        }
    };
    let rehearsal = session.rehearse(&unit, &mut progress).map_err(bad_input)?;
    if let Some(problem) = rehearsal.problem {
        return Err(StepFailure::BadInput(format!(
            "the guest failed on a made-up record: {problem}; nothing was charged"
        )));
    }
    Ok(())
}

/// Rows are looked at after the charge; there is a way to look at them before (decision 010).
fn after_the_charge(failure: StepFailure) -> StepFailure {
    match failure {
        StepFailure::BadInput(problem) => StepFailure::BadInput(format!(
            "{problem}; the charge stays: `noisegate check --rows` finds such rows before one is made"
        )),
        other => other,
    }
}

/// The private units, in the file's order.
fn read_units(records: &Input) -> Result<Vec<Unit>, StepFailure> {
    let rows = read_data(records)?;
    let record = |row: Row| TextRecord {
        text: row.text,
        label: row.label,
    };
    if rows.iter().all(|row| row.unit.is_none()) {
        return Ok(rows
            .into_iter()
            .map(|row| Unit {
                records: vec![record(row)],
            })
            .collect());
    }
    let mut by_unit: BTreeMap<String, Vec<TextRecord>> = BTreeMap::new();
    for row in rows {
        let unit = row.unit.clone().unwrap_or_default();
        by_unit.entry(unit).or_default().push(record(row));
    }
    Ok(by_unit
        .into_values()
        .map(|records| Unit { records })
        .collect())
}

pub(crate) fn defect(what: &str) -> StepFailure {
    StepFailure::Failed(format!(
        "{what}; `check` should have refused this workflow, please report it"
    ))
}

pub(crate) fn bad_input(error: impl std::fmt::Display) -> StepFailure {
    StepFailure::BadInput(error.to_string())
}

/// A machine that lacks what the site's policy requires is refused, not a wrong input.
pub(crate) fn before_the_charge(error: SandboxError) -> StepFailure {
    match error {
        SandboxError::Jail { .. } => StepFailure::Refused(error.to_string()),
        other => bad_input(other),
    }
}

pub(crate) fn failed(error: impl Into<Failure>) -> StepFailure {
    error.into().0
}

/// Errors that mean that the step could not do its work.
pub(crate) struct Failure(StepFailure);

impl From<SandboxError> for Failure {
    fn from(error: SandboxError) -> Self {
        Self(match error {
            SandboxError::Cancelled => StepFailure::Cancelled,
            other => StepFailure::Failed(other.to_string()),
        })
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self(StepFailure::Failed(error.to_string()))
    }
}
