//! Drives a step: the only way from a private unit to a released value.
//!
//! ```text
//! public side ──ask──> sample units ──> private sides (lanes) ──> clip + sum ──> noise
//!  (a worker)                            (worker processes)                        │
//!      ▲                                                                           │
//!      └───────────────────────────── absorb <─────────────────────────────────────┘
//! ```
//! Guests run in worker processes alone; sampling, clipping, sums and noise
//! happen here, in a process that no guest has ever run in.
//!
//! [`Session::start`] runs the public side alone, so that a wrong configuration
//! costs nothing. [`Session::run`] is the part that reads units: by then the
//! ledger must hold the charge. Integer sums commute, so the released values
//! depend on the units and on the gate's randomness, not on workers.
//!
//! Nothing said while a step runs depends on the units: [`Progress`] counts
//! queries and public work. What remains visible is how long a query takes.
//!
//! Not here: the ledger (the caller's), the mathematics (`noisegate-privacy`).

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use noisegate_privacy::{Event, NoiseSource, PoissonSampler, PrivacyError, Released};

use crate::component::Guest;
use crate::error::SandboxError;
use crate::lanes::{Lane, Work};
use crate::public_side::{Next, PublicSide, QueryContext};
use crate::tally::{Declaration, Spec, Tally};
use crate::watch::Watch;
use crate::{File, Unit};

/// The gate's randomness.
pub struct Randomness {
    /// For the noise.
    pub noise: NoiseSource,
    /// For choosing units.
    pub sampler: PoissonSampler,
}

impl Randomness {
    /// Fresh randomness from the operating system.
    ///
    /// # Errors
    /// [`SandboxError::Mechanism`] if the system gives none.
    pub fn from_os() -> Result<Self, SandboxError> {
        Ok(Randomness {
            noise: NoiseSource::from_os().map_err(mechanism)?,
            sampler: PoissonSampler::from_os().map_err(mechanism)?,
        })
    }
}

/// Public facts about how far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The public side works, by its own account.
    Working {
        /// Done so far.
        done: u32,
        /// In all.
        total: u32,
    },
    /// A query is about to be run.
    Query {
        /// Counted from 1.
        index: u32,
        /// At most this many.
        total: u32,
    },
}

/// What a made-up unit did; never made from a private one.
#[derive(Debug, Clone, PartialEq)]
pub struct Rehearsal {
    /// Why the contribution is zero, if the guest failed.
    pub problem: Option<String>,
    /// Fuel it used, of [`crate::InstanceLimits::fuel_per_call`].
    pub fuel_used: u64,
    /// L2 norm of the contribution before clipping.
    pub norm: f64,
}

/// A step whose public side has started; no unit has been read.
pub struct Session {
    guest: Guest,
    public: PublicSide,
    declaration: Declaration,
    pending: Option<QueryContext>,
    lanes: Vec<Lane>,
}

impl Session {
    /// Starts the public side, and makes one private instance to see that it can.
    ///
    /// - `config_json`: the step's parameters and the public facts of the run.
    /// - `inputs`: the files of the public inputs.
    ///
    /// # Errors
    /// Whatever is wrong with the configuration or the guest, before any charge.
    pub fn start(
        guest: &Guest,
        config_json: &str,
        inputs: &[File],
        declaration: Declaration,
    ) -> Result<Session, SandboxError> {
        let watch = Watch::step(None, guest.limits().step_seconds_max);
        let public = PublicSide::start(guest, config_json, inputs, declaration.steps, &watch)?;
        let mut session = Session {
            guest: guest.clone(),
            public,
            declaration,
            pending: None,
            lanes: Vec::new(),
        };
        // Two refusals while nothing has been charged: a specification the gate
        // cannot run, and a guest that does not fit a private instance.
        Tally::new(&session.spec())?;
        session.lanes.push(Lane::start(&session.guest)?);
        Ok(session)
    }

    /// What `releases` queries of this session cost.
    pub fn events(&self, releases: u64) -> Vec<Event> {
        self.spec().events(releases)
    }

    /// Length of every contribution.
    pub fn dim(&self) -> u32 {
        self.public.dim()
    }

    fn spec(&self) -> Spec {
        Spec::new(&self.declaration, self.public.dim() as usize)
    }

    /// Queries the guest will ask at most.
    pub fn queries(&self) -> u32 {
        self.public.queries()
    }

    /// Runs the public side up to its first query, and a **made-up** unit
    /// through a private instance, to tell a broken guest from a working one
    /// before anything is charged.
    ///
    /// Failures of private units are silent by design; without a rehearsal, a
    /// guest that runs out of fuel on every unit would release pure noise.
    ///
    /// # Errors
    /// The public side's errors; [`SandboxError::NoQuery`] if it asks nothing.
    pub fn rehearse(
        &mut self,
        made_up: &Unit,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Rehearsal, SandboxError> {
        let watch = self.watch(None);
        let query = self
            .next_query(progress, &watch)?
            .ok_or(SandboxError::NoQuery)?;
        let lane = self.lanes.first_mut().expect("one lane was started");
        let rehearsal = lane.rehearse(&self.guest, &query, made_up, &watch);
        self.pending = Some(query);
        rehearsal
    }

    /// Runs the step: every query through the gate, then the outputs.
    ///
    /// The caller must have charged [`Session::events`] of all declared steps durably.
    ///
    /// - `progress`: told public facts alone.
    /// - `cancel`: ends the step within a fraction of a second.
    ///
    /// # Errors
    /// [`SandboxError::Cancelled`], [`SandboxError::TimedOut`], or an error of the public side or the
    /// machine. A unit's own failure is never one, but [`SandboxError::TimedOut`] and
    /// [`SandboxError::Killed`] may depend on units: on how long they take, and on the memory
    /// they need (see `README.md`). The charge stays.
    pub fn run(
        mut self,
        units: &[Unit],
        mut randomness: Randomness,
        progress: &mut dyn FnMut(Progress),
        cancel: &AtomicBool,
    ) -> Result<Released<Vec<File>>, SandboxError> {
        let watch = &self.watch(Some(cancel));
        let total = self.queries();
        let mut proof: Option<Released<()>> = None;
        let mut index = 0;
        while let Some(query) = self.next_query(progress, watch)? {
            index += 1;
            progress(Progress::Query { index, total });
            let released = self.answer(&query, units, &mut randomness, watch)?;
            self.public.absorb(released.value(), watch)?;
            let released = released.map(drop);
            proof = Some(match proof {
                Some(before) => before.zip(released).map(drop),
                None => released,
            });
        }
        let outputs = self.public.outputs(watch)?;
        let proof = proof.ok_or(SandboxError::NoQuery)?;
        Ok(proof.map_with(outputs, |(), outputs| outputs))
    }

    fn watch<'a>(&self, cancel: Option<&'a AtomicBool>) -> Watch<'a> {
        Watch::step(cancel, self.guest.limits().step_seconds_max)
    }

    fn next_query(
        &mut self,
        progress: &mut dyn FnMut(Progress),
        watch: &Watch<'_>,
    ) -> Result<Option<QueryContext>, SandboxError> {
        if let Some(query) = self.pending.take() {
            return Ok(Some(query));
        }
        loop {
            if let Some(end) = watch.end() {
                return Err(end);
            }
            match self.public.next(watch)? {
                Next::Ask(query) => return Ok(Some(query)),
                Next::Working { done, total } => progress(Progress::Working { done, total }),
                Next::Done => return Ok(None),
            }
        }
    }

    fn answer(
        &mut self,
        query: &QueryContext,
        units: &[Unit],
        randomness: &mut Randomness,
        watch: &Watch<'_>,
    ) -> Result<Released<Vec<f32>>, SandboxError> {
        let asked = Instant::now();
        let rate = self.declaration.sampling_rate;
        let chosen: Vec<&Unit> = units
            .iter()
            .filter(|_| randomness.sampler.includes(rate))
            .collect();
        let isolation = &self.guest.limits().isolation;
        let padded = (chosen.as_slice(), self.padding(chosen.len()));
        let work = Work::new(&self.guest, query, self.spec(), padded, watch);
        let sum = work.sum(&mut self.lanes)?;
        let released = sum.release(&mut randomness.noise);
        watch.sleep_to_multiple(asked, isolation.query_ms)?;
        Ok(released)
    }

    /// Made-up units beside `drawn` ones, up to six standard deviations above the
    /// mean of a public number of units: more are drawn once in a thousand million times.
    fn padding(&self, drawn: usize) -> usize {
        if !self.guest.limits().isolation.pad_batches {
            return 0;
        }
        let rate = self.declaration.sampling_rate.get();
        let mean = rate * self.declaration.units_public as f64;
        let most = mean + 6.0 * (mean * (1.0 - rate)).sqrt();
        (most.ceil() as usize).saturating_sub(drawn)
    }
}

fn mechanism(error: PrivacyError) -> SandboxError {
    SandboxError::Mechanism {
        problem: error.to_string(),
    }
}
