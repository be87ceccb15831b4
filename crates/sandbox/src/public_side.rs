//! The public side: one long-lived instance that never sees private data.
//!
//! ```text
//! start(config, inputs) ──> setup ──> next ──> ask(query) ──gate──> absorb ──> next … done ──> outputs
//! ```
//! Its traps and its own error messages depend on public data and released
//! values alone, so they are shown. What it asks for is bounded here: the
//! dimension and number of queries are fixed by `start` and checked against the
//! declaration; whatever crosses the wall is bounded in bytes.
//!
//! Not here: the private side and the noise; this module has no unit in reach.

use std::sync::Arc;

use wasmtime::Store;

use crate::bindings::ClientStep;
use crate::bindings::exports::noisegate::client::public_side::{Query, Setup, Turn};
use crate::component::Guest;
use crate::error::SandboxError;
use crate::host::{Context, Host, refuel};
use crate::private_side::QueryContext;
use crate::{File, Limits};

/// Public tensors a guest may hand to its private side.
const TENSORS_MAX: usize = 4096;

/// The long-lived instance of the public side.
pub(crate) struct PublicSide {
    store: Store<Host>,
    instance: ClientStep,
    limits: Limits,
    dim: u32,
    queries: u32,
    setup_context: Vec<u8>,
    setup_tensors: Vec<Arc<Vec<f32>>>,
    asked: u32,
    working_turns: u32,
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
    ) -> Result<Self, SandboxError> {
        let limits = guest.limits().clone();
        let host = Host::new(&limits.public, Context::default(), None);
        let mut store = host.into_store(guest.engine(), &limits.public);
        let instance = guest
            .pre()
            .instantiate(&mut store)
            .map_err(SandboxError::instantiate)?;
        refuel(&mut store, limits.public.fuel_per_call);
        let setup = instance
            .noisegate_client_public_side()
            .call_start(&mut store, config, inputs)
            .map_err(|error| SandboxError::trap("start", &error))?
            .map_err(|message| SandboxError::Guest {
                call: "start",
                message,
            })?;
        check_setup(&setup, &limits, queries_max)?;
        Ok(PublicSide {
            store,
            instance,
            limits,
            dim: setup.dim,
            queries: setup.queries,
            setup_context: setup.context,
            setup_tensors: setup.tensors.into_iter().map(Arc::new).collect(),
            asked: 0,
            working_turns: 0,
        })
    }

    /// Length of every contribution.
    pub(crate) fn dim(&self) -> u32 {
        self.dim
    }

    /// How many queries it may still ask, in all.
    pub(crate) fn queries(&self) -> u32 {
        self.queries
    }

    /// Calls `next`.
    ///
    /// # Errors
    /// [`SandboxError::PublicTrap`]; [`SandboxError::OverAsk`] if it asks for
    /// more queries, tensors or turns than it may.
    pub(crate) fn next(&mut self) -> Result<Next, SandboxError> {
        refuel(&mut self.store, self.limits.public.fuel_per_call);
        let turn = self
            .instance
            .noisegate_client_public_side()
            .call_next(&mut self.store)
            .map_err(|error| SandboxError::trap("next", &error))?;
        match turn {
            Turn::Ask(query) => self.ask(query).map(Next::Ask),
            Turn::Working((done, total)) => {
                self.working_turns += 1;
                bound(
                    "a number of working turns",
                    self.working_turns,
                    self.limits.working_turns_max,
                )?;
                Ok(Next::Working { done, total })
            }
            Turn::Done => Ok(Next::Done),
        }
    }

    fn ask(&mut self, query: Query) -> Result<QueryContext, SandboxError> {
        self.asked += 1;
        bound("a number of queries", self.asked, self.queries)?;
        let tensors = self.setup_tensors.len() + query.tensors.len();
        bound("a number of tensors", tensors as u64, TENSORS_MAX as u64)?;
        let of_query = query.tensors.into_iter().map(Arc::new);
        Ok(QueryContext {
            dim: self.dim as usize,
            setup: self.setup_context.clone(),
            query: query.context,
            tensors: Arc::new(self.setup_tensors.iter().cloned().chain(of_query).collect()),
        })
    }

    /// Hands over a released value.
    ///
    /// # Errors
    /// [`SandboxError::PublicTrap`].
    pub(crate) fn absorb(&mut self, released: &[f32]) -> Result<(), SandboxError> {
        refuel(&mut self.store, self.limits.public.fuel_per_call);
        self.instance
            .noisegate_client_public_side()
            .call_absorb(&mut self.store, released)
            .map_err(|error| SandboxError::trap("absorb", &error))
    }

    /// The step's outputs.
    ///
    /// # Errors
    /// [`SandboxError::Guest`] with the guest's own words,
    /// [`SandboxError::PublicTrap`], or [`SandboxError::OverAsk`].
    pub(crate) fn outputs(&mut self) -> Result<Vec<File>, SandboxError> {
        refuel(&mut self.store, self.limits.public.fuel_per_call);
        let files = self
            .instance
            .noisegate_client_public_side()
            .call_outputs(&mut self.store)
            .map_err(|error| SandboxError::trap("outputs", &error))?
            .map_err(|message| SandboxError::Guest {
                call: "outputs",
                message,
            })?;
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
}

fn check_setup(setup: &Setup, limits: &Limits, queries_max: u32) -> Result<(), SandboxError> {
    if setup.dim == 0 {
        let message = "its contributions have length 0, so there is nothing to release".to_owned();
        return Err(SandboxError::Guest {
            call: "start",
            message,
        });
    }
    bound("a dimension", setup.dim, limits.dim_max)?;
    bound(
        "a number of queries",
        setup.queries,
        queries_max.min(limits.queries_max),
    )?;
    bound(
        "a number of tensors",
        setup.tensors.len() as u64,
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
