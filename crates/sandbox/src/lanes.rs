//! One query's units, spread over workers.
//!
//! ```text
//! chosen units ──next batch──> lane: worker process ─> contributions ─> clip, partial integer sum ─┐
//!                              lane: …                                                             ├─merge─> sum
//! ```
//! Which lane runs a unit, and in which batch, depends on timing; the merged
//! integer sum does not, because a contribution depends on its unit alone. That
//! must hold when workers die, too:
//!
//! | what happened | what the gate does |
//! |---|---|
//! | a worker died with several units in flight | nothing of that batch counts; each runs again, alone |
//! | it crashed, was killed by its jail or spoke nonsense, alone with one unit in a fresh process | that unit is the zero vector |
//! | it was killed from outside (no memory) | the unit runs again; after [`KILLS_MAX`] times the step ends, the charge kept |
//! | the parent could not write to it, though it lives | the step ends, the charge kept |
//! | the step is cancelled or over time | the step ends, the charge kept |
//!
//! So a unit that kills workers zeroes itself and nobody else.
//!
//! Not here: which units are chosen and what becomes of the sum ([`crate::gate`]).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::component::Guest;
use crate::error::SandboxError;
use crate::gate::Rehearsal;
use crate::messages::{self, Kind, Role};
use crate::process::{Death, Failure, Worker};
use crate::public_side::QueryContext;
use crate::tally::{Spec, Tally};
use crate::watch::Watch;
use crate::wire::Writer;
use crate::{TextRecord, Unit};

/// Times a unit's worker may be killed from outside before the step ends.
const KILLS_MAX: u32 = 3;

/// Units of one message: enough to make its cost small beside an instance's.
const BATCH_UNITS_MAX: usize = 256;

/// Bytes of one message, either way, unless a single unit is larger.
const BATCH_BYTES: usize = 1 << 20;

/// The work of one query; shared by its lanes.
pub(crate) struct Work<'a> {
    guest: &'a Guest,
    query: &'a QueryContext,
    spec: Spec,
    units: &'a [&'a Unit],
    padding: usize,
    lanes: usize,
    next: Mutex<usize>,
    stop: AtomicBool,
    watch: &'a Watch<'a>,
}

/// A worker and what it has been told; kept between queries.
#[derive(Default)]
pub(crate) struct Lane {
    worker: Option<Told>,
    contributions: Vec<f32>,
}

struct Told {
    worker: Worker,
    /// The last query it knows; 0 before the setup.
    query: u32,
    /// Whether it has been shown any unit.
    fresh: bool,
}

impl<'a> Work<'a> {
    /// - `units`: those chosen for this query.
    /// - `padding`: made-up units to run besides, which count for nothing.
    pub(crate) fn new(
        guest: &'a Guest,
        query: &'a QueryContext,
        spec: Spec,
        (units, padding): (&'a [&'a Unit], usize),
        watch: &'a Watch<'a>,
    ) -> Self {
        Work {
            guest,
            query,
            spec,
            units,
            padding,
            lanes: guest.limits().lanes(),
            next: Mutex::new(0),
            stop: AtomicBool::new(false),
            watch,
        }
    }

    /// Runs every unit and sums the clipped contributions.
    ///
    /// # Errors
    /// [`SandboxError::Cancelled`], or an error of the machine.
    pub(crate) fn sum(&self, lanes: &mut Vec<Lane>) -> Result<Tally, SandboxError> {
        lanes.resize_with(self.lanes, Lane::default);
        let ends: Vec<_> = thread::scope(|scope| {
            let started: Vec<_> = lanes
                .iter_mut()
                .map(|lane| thread::Builder::new().spawn_scoped(scope, || self.run_lane(lane)))
                .collect();
            started.into_iter().map(join).collect()
        });
        let mut merged: Option<Tally> = None;
        for sum in first_cause(ends)? {
            match &mut merged {
                Some(merged) => merged.merge(sum)?,
                None => merged = Some(sum),
            }
        }
        Ok(merged.expect("there is at least one lane"))
    }

    fn run_lane(&self, lane: &mut Lane) -> Result<Tally, SandboxError> {
        let end = self.sum_batches(lane);
        if end.is_err() {
            self.stop.store(true, Ordering::Relaxed);
        }
        end
    }

    fn sum_batches(&self, lane: &mut Lane) -> Result<Tally, SandboxError> {
        let mut sum = Tally::new(&self.spec)?;
        while let Some(batch) = self.next_batch() {
            if self.stop.load(Ordering::Relaxed) {
                return Err(SandboxError::Cancelled);
            }
            if let Some(end) = self.watch.end() {
                return Err(end);
            }
            lane.run(self, batch, &mut sum)?;
        }
        Ok(sum)
    }

    /// Fewer at a time towards the end, so that the lanes end together.
    fn next_batch(&self) -> Option<std::ops::Range<usize>> {
        let total = self.units.len() + self.padding;
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let left = total.checked_sub(*next).filter(|left| *left > 0)?;
        let alone = self.guest.limits().isolation.process_per_unit;
        let fit = BATCH_BYTES / (4 * self.query.dim).max(1);
        let most = if alone { 1 } else { fit.min(BATCH_UNITS_MAX) };
        let take = left.div_ceil(4 * self.lanes).min(most).max(1);
        let batch = *next..*next + take;
        *next = batch.end;
        Some(batch)
    }

    fn unit(&self, index: usize) -> Unit {
        let limits = self.guest.limits();
        let made_up = made_up_unit();
        let unit = self.units.get(index).copied().unwrap_or(&made_up);
        within_bounds(unit, limits.text_bytes_max, limits.unit_records_max)
    }
}

impl Lane {
    /// Makes its worker ready to run units of the guest.
    ///
    /// # Errors
    /// [`SandboxError::Instantiate`] if private instances cannot be made.
    pub(crate) fn start(guest: &Guest) -> Result<Lane, SandboxError> {
        Ok(Lane {
            worker: Some(Told::load(guest)?),
            contributions: Vec::new(),
        })
    }

    /// Runs a **made-up** unit and says what happened.
    pub(crate) fn rehearse(
        &mut self,
        guest: &Guest,
        query: &QueryContext,
        unit: &Unit,
        watch: &Watch<'_>,
    ) -> Result<Rehearsal, SandboxError> {
        let limits = guest.limits();
        let unit = within_bounds(unit, limits.text_bytes_max, limits.unit_records_max);
        let mut payload = Writer::default();
        messages::write_unit(&mut payload, &unit);
        let worker = self.ready(guest, query, watch)?;
        let answer = worker.ask(Kind::Rehearse, &[&payload.0], watch);
        match answer.map_err(|failure| failure.at_work("running a made-up unit"))? {
            (Kind::Rehearsed, seen) => {
                messages::read_rehearsed(&seen).map_err(SandboxError::engine)
            }
            (Kind::Refused, refused) => {
                Err(messages::read_refused(&refused, "").map_err(SandboxError::engine)?)
            }
            _ => Err(SandboxError::engine("a worker answered what was not asked")),
        }
    }

    /// Runs a batch, in as many messages as its size needs.
    fn run(
        &mut self,
        work: &Work<'_>,
        mut batch: std::ops::Range<usize>,
        sum: &mut Tally,
    ) -> Result<(), SandboxError> {
        while !batch.is_empty() {
            let (mut units, mut count) = (Writer::default(), 0);
            while count == 0 || (count < batch.len() && units.0.len() < BATCH_BYTES) {
                messages::write_unit(&mut units, &work.unit(batch.start + count));
                count += 1;
            }
            let part = batch.start..batch.start + count;
            batch.start = part.end;
            match self.ask(work, count, &units.0)? {
                Ok(()) => self.add(work, part, sum),
                Err(_) => {
                    for index in part {
                        self.run_alone(work, index, sum)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Runs one unit of a batch that killed its worker.
    fn run_alone(
        &mut self,
        work: &Work<'_>,
        index: usize,
        sum: &mut Tally,
    ) -> Result<(), SandboxError> {
        let mut unit = Writer::default();
        messages::write_unit(&mut unit, &work.unit(index));
        let mut kills = 0;
        while kills < KILLS_MAX {
            let fresh = self.worker.as_ref().is_none_or(|told| told.fresh);
            match self.ask(work, 1, &unit.0)? {
                Ok(()) => {
                    self.add(work, index..index + 1, sum);
                    return Ok(());
                }
                // Nobody else was there: it is the unit's own doing.
                Err(Death::Itself(_)) if fresh => return Ok(()),
                Err(Death::Itself(_)) => {}
                Err(Death::FromOutside(_) | Death::NoInstance) => kills += 1,
            }
        }
        Err(SandboxError::Killed)
    }

    /// Contributions of `count` units, or how the worker died.
    fn ask(
        &mut self,
        work: &Work<'_>,
        count: usize,
        units: &[u8],
    ) -> Result<Result<(), Death>, SandboxError> {
        self.contributions.resize(count * work.query.dim, 0.0);
        self.ready(work.guest, work.query, work.watch)?;
        let told = self.worker.as_mut().expect("it has just been made ready");
        told.fresh = false;
        let count = (count as u32).to_le_bytes();
        let asked = told.worker.ask_floats(
            Kind::Units,
            &[&count, units],
            &mut self.contributions,
            work.watch,
        );
        if asked.is_err() || work.guest.limits().isolation.process_per_unit {
            self.worker = None;
        }
        match asked {
            Ok(()) => Ok(Ok(())),
            Err(Failure::Died(death)) => Ok(Err(death)),
            Err(Failure::Ended(end)) => Err(end),
        }
    }

    fn add(&self, work: &Work<'_>, units: std::ops::Range<usize>, sum: &mut Tally) {
        let contributions = self.contributions.chunks_exact(work.query.dim);
        for (index, contribution) in units.zip(contributions) {
            if index < work.units.len() {
                sum.add(contribution);
            }
        }
    }

    /// A worker that knows the guest, the setup and this query.
    fn ready(
        &mut self,
        guest: &Guest,
        query: &QueryContext,
        watch: &Watch<'_>,
    ) -> Result<&mut Worker, SandboxError> {
        let told = match &mut self.worker {
            Some(told) => told,
            none => none.insert(Told::load(guest)?),
        };
        if told.query == 0 {
            tell(&mut told.worker, Kind::Setup, &query.setup, watch)?;
        }
        if told.query != query.index {
            tell(&mut told.worker, Kind::Query, query.query(), watch)?;
            told.query = query.index;
        }
        Ok(&mut told.worker)
    }
}

impl Told {
    fn load(guest: &Guest) -> Result<Told, SandboxError> {
        Ok(Told {
            worker: guest.worker(Role::Private)?,
            query: 0,
            fresh: true,
        })
    }
}

/// Gives public context; a worker that has run units may be its guest's by now,
/// so its answer is looked at no further than for being there.
fn tell(
    worker: &mut Worker,
    kind: Kind,
    payload: &[u8],
    watch: &Watch<'_>,
) -> Result<(), SandboxError> {
    let answer = worker.ask(kind, &[payload], watch);
    match answer.map_err(|failure| failure.at_work("taking in a query"))? {
        (Kind::Done, _) => Ok(()),
        _ => Err(SandboxError::engine("a worker answered what was not asked")),
    }
}

fn join<T>(
    lane: std::io::Result<thread::ScopedJoinHandle<'_, Result<T, SandboxError>>>,
) -> Result<T, SandboxError> {
    lane.map_err(SandboxError::engine)?
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// All lanes' ends, or the error that made the others stop.
fn first_cause<T>(ends: Vec<Result<T, SandboxError>>) -> Result<Vec<T>, SandboxError> {
    let (mut good, mut cause) = (Vec::new(), None);
    for end in ends {
        match (end, &cause) {
            (Ok(end), _) => good.push(end),
            (Err(error), None | Some(SandboxError::Cancelled)) => cause = Some(error),
            (Err(_), Some(_)) => {}
        }
    }
    match cause {
        Some(cause) => Err(cause),
        None => Ok(good),
    }
}

fn made_up_unit() -> Unit {
    let record = TextRecord {
        text: "a made-up record of about the usual length, which counts for nothing".to_owned(),
        label: String::new(),
    };
    Unit {
        records: vec![record],
    }
}

/// A unit within the host's public bounds: text cut at a character, records
/// beyond the limit dropped. A function of the unit alone.
fn within_bounds(unit: &Unit, text_bytes_max: usize, records_max: usize) -> Unit {
    let records = unit
        .records
        .iter()
        .take(records_max)
        .map(|record| TextRecord {
            text: cut(&record.text, text_bytes_max).to_owned(),
            label: cut(&record.label, text_bytes_max).to_owned(),
        })
        .collect();
    Unit { records }
}

fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_at_a_character() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
        assert_eq!(cut("aé", 100), "aé");
    }
}
