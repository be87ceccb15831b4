//! Tries a guest out on a developer's own sample, whole: public side, private side,
//! gate, outputs.
//!
//! ```text
//! plugin.toml + with + sample ──> rehearsals (one a record, told apart) ──> run ──> files
//! ```
//!
//! A trial says of each record what the guest did with it, which a real step never
//! tells anyone. So the sample must be made up or public. Nothing is charged, and the
//! noise is what the same step would get for the asked epsilon. What it makes is no
//! release: the number of records and their labels are read off the sample.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use noisegate_engine::StepFailure;
use noisegate_engine::store::files_below;
use noisegate_privacy::{Delta, Epsilon};
use noisegate_records::{Columns, ReadOptions};
use noisegate_sandbox::{File, Isolation, Randomness, Rehearsal, Session, TextRecord, Unit};
use noisegate_workflow::{ParamKind, ParamSpec};
use serde_json::{Map, Value};

use crate::catalog::guest_step;
use crate::guest::bad_input;
use crate::guest_terms::{Terms, load};
use crate::plugin::Plugin;
use crate::schedule::Schedule;
use crate::with::With;

/// Said with everything that a trial gives.
pub const NOT_A_RELEASE: &str = "a trial, not a release: count and labels are those of the sample";

/// What to try.
pub struct Trial {
    /// The guest.
    pub plugin: Plugin,
    /// Made-up or public records; each is a unit.
    pub records: Vec<TextRecord>,
    /// Parameters, as `key=value`.
    pub with: Vec<(String, String)>,
    /// Public inputs: port, and file or folder.
    pub inputs: Vec<(String, PathBuf)>,
    /// The budget that the noise is sized for.
    pub epsilon: Epsilon,
    /// Its delta.
    pub delta: Delta,
    /// Threads.
    pub cores: usize,
}

/// What happened.
pub struct Tried {
    /// Length of every contribution.
    pub dimension: u32,
    /// Queries it announced.
    pub queries: u32,
    /// What the noise is, over the sensitivity.
    pub noise_multiplier: f64,
    /// Fuel that one record may use.
    pub fuel_max: u64,
    /// Of each rehearsed record, in order.
    pub rehearsals: Vec<Rehearsal>,
    /// How long the rehearsals took, all together.
    pub rehearsed_in: Duration,
    /// The step's files.
    pub outputs: Vec<File>,
    /// Promised outputs that are not among them.
    pub missing: Vec<String>,
    /// How long the whole run took.
    pub ran_in: Duration,
}

/// Records that are told apart at most.
const REHEARSALS_MAX: usize = 100;

impl Trial {
    /// Runs it.
    ///
    /// # Errors
    /// [`StepFailure::BadInput`]: what the guest, its manifest or the parameters lack.
    pub fn run(&self) -> Result<Tried, StepFailure> {
        if self.records.is_empty() {
            return Err(bad_input("the sample has no records; give at least one"));
        }
        let with = self.parameters()?;
        let schedule = Schedule::calibrated(&With(&with), self.epsilon, self.delta)?;
        let units_public = self.records.len() as u64;
        let terms = Terms::new(&self.plugin, &with, schedule, units_public)?;
        let guest = load(&self.plugin, self.cores, Isolation::default())?;
        let config = terms.config(&self.plugin, &with, &self.labels());
        let mut session = Session::start(
            &guest,
            &config.to_string(),
            &self.files()?,
            terms.declaration(),
        )
        .map_err(bad_input)?;
        let (dimension, queries) = (session.dim(), session.queries());

        let units: Vec<Unit> = self.records.iter().map(unit).collect();
        let started = Instant::now();
        let rehearsals: Result<Vec<Rehearsal>, _> = units
            .iter()
            .take(REHEARSALS_MAX)
            .map(|unit| session.rehearse(unit, &mut |_| {}))
            .collect();
        let rehearsals = rehearsals.map_err(bad_input)?;
        let rehearsed_in = started.elapsed();

        let started = Instant::now();
        let randomness = Randomness::from_os().map_err(bad_input)?;
        let never = AtomicBool::new(false);
        let outputs = session
            .run(&units, randomness, &mut |_| {}, &never)
            .map_err(bad_input)?
            .into_value();
        let promised = self
            .plugin
            .manifest
            .outputs
            .iter()
            .map(|output| &output.file);
        let missing = promised
            .filter(|file| outputs.iter().all(|made| made.name != **file))
            .cloned()
            .collect();
        Ok(Tried {
            dimension,
            queries,
            noise_multiplier: terms.noise_multiplier.get(),
            fuel_max: guest.limits().private.fuel_per_call,
            rehearsals,
            rehearsed_in,
            outputs,
            missing,
            ran_in: started.elapsed(),
        })
    }

    /// The sample's labels stand for the public ones, in order of appearance.
    fn labels(&self) -> Vec<String> {
        let mut labels: Vec<String> = Vec::new();
        for record in &self.records {
            if !labels.contains(&record.label) {
                labels.push(record.label.clone());
            }
        }
        labels
    }

    /// Every declared parameter: the given value, or the default.
    fn parameters(&self) -> Result<Map<String, Value>, StepFailure> {
        let known = guest_step(&self.plugin).with;
        if let Some((name, _)) = self
            .with
            .iter()
            .find(|(name, _)| known.iter().all(|one| one.name != *name))
        {
            let names: Vec<&str> = known.iter().map(|one| one.name.as_str()).collect();
            return Err(bad_input(format!(
                "the guest has no parameter `{name}`; it has {}",
                names.join(", ")
            )));
        }
        let value = |spec: &ParamSpec| {
            let given = self.with.iter().rev().find(|(name, _)| *name == spec.name);
            let value = match (given, &spec.default) {
                (Some((_, text)), _) => parse(spec, text)?,
                (None, Some(default)) => default.clone(),
                (None, None) => {
                    return Err(bad_input(format!(
                        "parameter `{0}` has no default; give `--with {0}=VALUE`",
                        spec.name
                    )));
                }
            };
            Ok((spec.name.clone(), value))
        };
        known.iter().map(value).collect()
    }

    fn files(&self) -> Result<Vec<File>, StepFailure> {
        let mut files = Vec::new();
        for (port, path) in &self.inputs {
            let found = if path.is_dir() {
                files_below(path).map_err(bad_input)?
            } else {
                let name = path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                vec![(name, path.clone())]
            };
            for (name, path) in found {
                files.push(File {
                    name: format!("{port}/{name}"),
                    data: read(&path)?,
                });
            }
        }
        Ok(files)
    }
}

fn unit(record: &TextRecord) -> Unit {
    Unit {
        records: vec![record.clone()],
    }
}

fn read(path: &Path) -> Result<Vec<u8>, StepFailure> {
    std::fs::read(path)
        .map_err(|error| bad_input(format!("could not read `{}`: {error}", path.display())))
}

/// A parameter's text as its declared kind, within its bounds.
fn parse(spec: &ParamSpec, text: &str) -> Result<Value, StepFailure> {
    let parsed = match &spec.kind {
        ParamKind::Int { min, max } => text
            .parse::<i64>()
            .ok()
            .filter(|it| min <= it && it <= max)
            .map(Value::from),
        ParamKind::Float { min, max } => text
            .parse::<f64>()
            .ok()
            .filter(|it| min <= it && it <= max)
            .map(Value::from),
        ParamKind::Bool => text.parse::<bool>().ok().map(Value::from),
        ParamKind::Text => Some(Value::from(text)),
        ParamKind::Choice(choices) => choices
            .iter()
            .any(|it| it == text)
            .then(|| Value::from(text)),
    };
    parsed.ok_or_else(|| {
        bad_input(format!(
            "`{text}` does not fit parameter `{}`: {}",
            spec.name, spec.help
        ))
    })
}

/// Reads a sample: rows with `text` and `label`.
///
/// # Errors
/// [`StepFailure::BadInput`] with file and line.
pub fn sample(path: &Path) -> Result<Vec<TextRecord>, StepFailure> {
    let options = ReadOptions {
        columns: Columns {
            text: "text".to_owned(),
            label: Some("label".to_owned()),
            unit: None,
            group: None,
        },
        ..ReadOptions::default()
    };
    let rows = noisegate_records::read_all(path, &options).map_err(bad_input)?;
    let record = |row: noisegate_records::Record| TextRecord {
        text: row.text,
        label: row.label.unwrap_or_default(),
    };
    Ok(rows.into_iter().map(record).collect())
}
