//! The public side, seen from the parent: a worker that never sees private data.
//!
//! ```text
//! start(config, inputs) ──> setup ──> next ──> ask(query) ──gate──> absorb ──> next … done ──> outputs
//! ```
//! Its traps and its own error messages depend on public data and released
//! values alone, so they are shown. What it asks for is bounded here, where a
//! guest that took over its worker cannot change the rules: the dimension and
//! number of queries are fixed by `start` and checked against the declaration;
//! whatever crosses the wall is bounded in bytes.
//!
//! Not here: the private side and the noise; this module has no unit in reach.

use std::sync::Arc;

use crate::component::Guest;
use crate::error::SandboxError;
use crate::messages::{
    self, ANNOUNCED_BYTES, Announced, ContextParts, Kind, Role, TURN_BYTES, Turned,
};
use crate::process::{Failure, Worker};
use crate::watch::Watch;
use crate::wire::{Malformed, Reader, Writer};
use crate::{File, Limits};

/// Public tensors a guest may hand to its private side.
const TENSORS_MAX: usize = 4096;

/// The worker that runs the public side.
pub(crate) struct PublicSide {
    worker: Worker,
    limits: Limits,
    announced: Announced,
    setup: Arc<Vec<u8>>,
    setup_tensors: usize,
    asked: u32,
    working_turns: u32,
}

/// Everything public that the units of one query have in common, as it goes to
/// the private sides.
pub(crate) struct QueryContext {
    /// Counted from 1.
    pub(crate) index: u32,
    pub(crate) dim: usize,
    /// A [`Kind::Setup`]; the same for all queries of a step.
    pub(crate) setup: Arc<Vec<u8>>,
    turned: Vec<u8>,
}

impl QueryContext {
    /// A [`Kind::Query`].
    pub(crate) fn query(&self) -> &[u8] {
        &self.turned[TURN_BYTES..]
    }
}

/// What the public side wants next.
pub(crate) enum Next {
    Ask(QueryContext),
    Working { done: u32, total: u32 },
    Done,
}

impl PublicSide {
    /// Instantiates the guest and calls `start`.
    ///
    /// # Errors
    /// [`SandboxError::Instantiate`], [`SandboxError::Guest`] with the guest's
    /// own words, [`SandboxError::PublicTrap`], or [`SandboxError::OverAsk`].
    pub(crate) fn start(
        guest: &Guest,
        config: &str,
        inputs: &[File],
        queries_max: u32,
        watch: &Watch<'_>,
    ) -> Result<Self, SandboxError> {
        let limits = guest.limits().clone();
        let mut worker = guest.worker(Role::Public)?;
        let mut start = Writer::default();
        start.text(config);
        messages::write_files(&mut start, inputs);
        let started = call(
            &mut worker,
            "start",
            (Kind::Start, Kind::Started),
            &start.0,
            watch,
        )?;
        let (announced, context) =
            messages::read_started(&started).map_err(|malformed| nonsense("start", malformed))?;
        check_setup(announced, &context, &limits, queries_max)?;
        let setup_tensors = context.tensors.len();
        debug_assert!(started.len() >= ANNOUNCED_BYTES);
        Ok(PublicSide {
            worker,
            limits,
            announced,
            setup: Arc::new(started),
            setup_tensors,
            asked: 0,
            working_turns: 0,
        })
    }

    /// Length of every contribution.
    pub(crate) fn dim(&self) -> u32 {
        self.announced.dim
    }

    /// How many queries it may still ask, in all.
    pub(crate) fn queries(&self) -> u32 {
        self.announced.queries
    }

    /// Calls `next`.
    ///
    /// # Errors
    /// [`SandboxError::PublicTrap`]; [`SandboxError::OverAsk`] if it asks for
    /// more queries, tensors or turns than it may.
    pub(crate) fn next(&mut self, watch: &Watch<'_>) -> Result<Next, SandboxError> {
        let payload = self.call("next", (Kind::Next, Kind::Turned), &[], watch)?;
        let turned =
            messages::read_turned(&payload).map_err(|malformed| nonsense("next", malformed))?;
        match turned {
            Turned::Ask(context) => {
                self.asked += 1;
                bound("a number of queries", self.asked, self.queries())?;
                let tensors = self.setup_tensors + context.tensors.len();
                bound("a number of tensors", tensors as u64, TENSORS_MAX as u64)?;
                Ok(Next::Ask(QueryContext {
                    index: self.asked,
                    dim: self.announced.dim as usize,
                    setup: self.setup.clone(),
                    turned: payload,
                }))
            }
            Turned::Working { done, total } => {
                self.working_turns += 1;
                bound(
                    "a number of working turns",
                    self.working_turns,
                    self.limits.working_turns_max,
                )?;
                Ok(Next::Working { done, total })
            }
            Turned::Done => Ok(Next::Done),
        }
    }

    /// Hands over a released value.
    ///
    /// # Errors
    /// [`SandboxError::PublicTrap`].
    pub(crate) fn absorb(
        &mut self,
        released: &[f32],
        watch: &Watch<'_>,
    ) -> Result<(), SandboxError> {
        let payload = bytemuck::cast_slice(released);
        self.call("absorb", (Kind::Absorb, Kind::Done), payload, watch)
            .map(drop)
    }

    /// The step's outputs.
    ///
    /// # Errors
    /// [`SandboxError::Guest`] with the guest's own words,
    /// [`SandboxError::PublicTrap`], or [`SandboxError::OverAsk`].
    pub(crate) fn outputs(&mut self, watch: &Watch<'_>) -> Result<Vec<File>, SandboxError> {
        let payload = self.call("outputs", (Kind::Outputs, Kind::Files), &[], watch)?;
        let files = messages::read_files(&mut Reader::new(&payload))
            .map_err(|malformed| nonsense("outputs", malformed))?;
        let bytes: u64 = files
            .iter()
            .map(|file| (file.name.len() + file.data.len()) as u64)
            .sum();
        bound(
            "a number of output bytes",
            bytes,
            self.limits.output_bytes_max as u64,
        )?;
        Ok(files)
    }

    fn call(
        &mut self,
        name: &'static str,
        kinds: (Kind, Kind),
        payload: &[u8],
        watch: &Watch<'_>,
    ) -> Result<Vec<u8>, SandboxError> {
        call(&mut self.worker, name, kinds, payload, watch)
    }
}

/// Asks the first kind and wants the second one back.
fn call(
    worker: &mut Worker,
    name: &'static str,
    (question, answer): (Kind, Kind),
    payload: &[u8],
    watch: &Watch<'_>,
) -> Result<Vec<u8>, SandboxError> {
    match worker.ask(question, &[payload], watch) {
        Ok((kind, payload)) if kind == answer => Ok(payload),
        Ok((Kind::Refused, payload)) => Err(messages::read_refused(&payload, name)
            .map_err(|malformed| nonsense(name, malformed))?),
        Ok(_) => Err(nonsense(name, Malformed)),
        Err(Failure::Ended(end)) => Err(end),
        Err(Failure::Died(death)) => Err(SandboxError::PublicTrap {
            call: name,
            problem: format!("its worker {death}"),
        }),
    }
}

fn nonsense(call: &'static str, malformed: Malformed) -> SandboxError {
    SandboxError::PublicTrap {
        call,
        problem: format!("its worker sent a {malformed}"),
    }
}

fn check_setup(
    announced: Announced,
    context: &ContextParts<'_>,
    limits: &Limits,
    queries_max: u32,
) -> Result<(), SandboxError> {
    if announced.dim == 0 {
        let message = "its contributions have length 0, so there is nothing to release".to_owned();
        return Err(SandboxError::Guest {
            call: "start",
            message,
        });
    }
    bound("a dimension", announced.dim, limits.dim_max)?;
    bound(
        "a number of queries",
        announced.queries,
        queries_max.min(limits.queries_max),
    )?;
    bound(
        "a number of tensors",
        context.tensors.len() as u64,
        TENSORS_MAX as u64,
    )
}

fn bound(
    what: &'static str,
    asked: impl Into<u64>,
    limit: impl Into<u64>,
) -> Result<(), SandboxError> {
    let (asked, limit) = (asked.into(), limit.into());
    if asked > limit {
        return Err(SandboxError::OverAsk { what, asked, limit });
    }
    Ok(())
}
