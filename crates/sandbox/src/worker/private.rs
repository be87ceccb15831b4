//! The private side: a fresh instance for every privacy unit.
//!
//! ```text
//! unit ──> new store, new instance ──contribute──> accum (its place on the board, born zero) ──> the gate
//!                     └── dropped, whatever happened
//! ```
//! Whatever goes wrong once an instance has seen a unit (a trap, no fuel left, a
//! size that does not fit, a leaked handle) makes that unit's contribution the
//! zero vector, silently: no log, no count, no error. Wrong values (NaN,
//! infinity) are made zero by the gate's sum. Only a machine that cannot make
//! instances at all is an error, and then no unit has been seen.
//!
//! Not here: clipping, noise and sums (`noisegate-privacy`, in the parent),
//! sampling ([`crate::gate`]), what becomes of a unit whose worker died
//! ([`crate::lanes`]).

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use wasmtime::component::{Component, Linker, Resource};
use wasmtime::{Engine, Store};

use super::public::try_instance;
use super::{Desk, nonsense};
use crate::Unit;
use crate::bindings::{ClientStep, ClientStepPre};
use crate::board::Contribution;
use crate::error::{SandboxError, chain};
use crate::gate::Rehearsal;
use crate::host::{Context, Host};
use crate::kernels::{self, Accum, Tensor};
use crate::limits::InstanceLimits;
use crate::messages::{self, Kind, Role};
use crate::wasi::{self, Wasi};
use crate::wire::{Reader, floats};

pub(super) fn serve(desk: &mut Desk, engine: &Engine, escape: fn(&Unit)) -> io::Result<()> {
    let limits = desk.limits.private.clone();
    let board_bytes = desk.limits.message_bytes_max(Role::Private) as usize;
    let contribution = Contribution::map(&desk.line.board, board_bytes)?;
    let Some(pre) = load(desk, engine, &limits)? else {
        return Ok(());
    };
    let mut side = PrivateSide {
        pre,
        limits,
        escape,
        dim: 0,
        setup: Vec::new(),
        query: Vec::new(),
        setup_tensors: Vec::new(),
        tensors: Context::default(),
        contribution: Some(contribution),
    };
    loop {
        let (kind, payload) = desk.asked()?;
        match kind {
            Kind::Setup => {
                side.set_up(&payload)?;
                desk.answer(Kind::Done, &[])?;
            }
            Kind::Query => {
                side.ask(&payload)?;
                desk.answer(Kind::Done, &[])?;
            }
            Kind::Units => side.contribute_all(desk, &payload)?,
            Kind::Rehearse => {
                let unit = messages::read_unit(&mut Reader::new(&payload))?;
                let rehearsed = side.rehearse(&unit).map(|seen| messages::rehearsed(&seen));
                desk.answer_or_refuse(Kind::Rehearsed, rehearsed)?;
            }
            _ => return Err(nonsense()),
        }
    }
}

/// Takes the compiled guest in, and makes one instance to see that it can.
pub(super) fn load(
    desk: &mut Desk,
    engine: &Engine,
    limits: &InstanceLimits,
) -> io::Result<Option<ClientStepPre<Host>>> {
    let (Kind::Load, machine_code) = desk.asked()? else {
        return Err(nonsense());
    };
    let loaded = link(engine, &machine_code, desk.limits.wasi)
        .and_then(|pre| try_instance(&pre, limits, desk).map(|()| pre));
    match loaded {
        Ok(pre) => {
            desk.answer(Kind::Done, &[])?;
            Ok(Some(pre))
        }
        Err(error) => {
            desk.answer(Kind::Refused, &messages::refused(&error))?;
            Ok(None)
        }
    }
}

fn link(
    engine: &Engine,
    machine_code: &[u8],
    wasi: Wasi,
) -> Result<ClientStepPre<Host>, SandboxError> {
    #[allow(
        unsafe_code,
        reason = "machine code is trusted as far as the jail holds"
    )]
    // SAFETY: the bytes come from a compiler worker of this same program by way
    // of the parent. A component that took that worker over could have put any
    // machine code here; it would then run in this jail, like a guest that
    // has broken out of WebAssembly, and that is what the jail is for.
    let component = unsafe { Component::deserialize(engine, machine_code) };
    let linked = component.and_then(|component| {
        // Now rather than with the first instance, when the jail makes no files any more.
        component.initialize_copy_on_write_image()?;
        let mut linker = Linker::new(engine);
        kernels::link(&mut linker)?;
        if wasi == Wasi::Frozen {
            wasi::link(&mut linker, engine, &component)?;
        }
        ClientStepPre::new(linker.instantiate_pre(&component)?)
    });
    linked.map_err(|error| SandboxError::Engine {
        problem: chain(&error),
    })
}

/// Runs units of one query, one at a time.
struct PrivateSide {
    pre: ClientStepPre<Host>,
    limits: InstanceLimits,
    escape: fn(&Unit),
    dim: usize,
    setup: Vec<u8>,
    query: Vec<u8>,
    setup_tensors: Vec<Arc<Vec<f32>>>,
    /// The setup's tensors, then the query's.
    tensors: Context,
    /// An instance has it while it runs.
    contribution: Option<Contribution>,
}

impl PrivateSide {
    fn set_up(&mut self, payload: &[u8]) -> io::Result<()> {
        let (announced, context) = messages::read_started(payload)?;
        self.dim = announced.dim as usize;
        self.setup = context.bytes.to_vec();
        self.setup_tensors = tensors(&context.tensors);
        Ok(())
    }

    fn ask(&mut self, payload: &[u8]) -> io::Result<()> {
        let context = messages::read_context(&mut Reader::new(payload))?;
        self.query = context.bytes.to_vec();
        let of_query = tensors(&context.tensors);
        self.tensors = Arc::new(self.setup_tensors.iter().cloned().chain(of_query).collect());
        Ok(())
    }

    /// Leaves one contribution after the other on the board.
    fn contribute_all(&mut self, desk: &mut Desk, payload: &[u8]) -> io::Result<()> {
        let mut from = Reader::new(payload);
        let count = from.count(4)?;
        for place in 0..count {
            let unit = messages::read_unit(&mut from)?;
            if let Err(error) = self.contribute(place, &unit) {
                return desk.answer(Kind::Refused, &messages::refused(&error));
            }
        }
        let bytes = 4 * (count * self.dim) as u64;
        desk.line.announce(Kind::Contributions as u32, bytes)
    }

    /// One unit's contribution: `dim` numbers at its place, zero if the guest failed.
    ///
    /// # Errors
    /// [`SandboxError::Instantiate`] if no instance could be made; decided
    /// before the unit is shown to the guest.
    fn contribute(&mut self, place: usize, unit: &Unit) -> Result<(), SandboxError> {
        let (mut store, instance) = self.instantiate(place)?;
        (self.escape)(unit);
        // A panic in the host would be a bug, but must not tell on a unit either.
        let called = catch_unwind(AssertUnwindSafe(|| self.call(&mut store, &instance, unit)));
        self.take_contribution(&mut store, matches!(called, Ok(Ok(()))));
        Ok(())
    }

    /// As [`PrivateSide::contribute`], for a **made-up** unit: says what happened.
    fn rehearse(&mut self, unit: &Unit) -> Result<Rehearsal, SandboxError> {
        let (mut store, instance) = self.instantiate(0)?;
        let called = self.call(&mut store, &instance, unit);
        let fuel_left = store.get_fuel().unwrap_or(0);
        self.take_contribution(&mut store, called.is_ok());
        let contribution = self.contribution.as_ref();
        let norm_squared: f64 = contribution
            .map_or(&[][..], Contribution::numbers)
            .iter()
            .map(|&value| f64::from(value) * f64::from(value))
            .sum();
        let problem = match called {
            Err(error) => Some(chain(&error)),
            Ok(()) if !norm_squared.is_finite() => Some("a NaN or an infinity".to_owned()),
            Ok(()) => None,
        };
        Ok(Rehearsal {
            problem,
            fuel_used: self.limits.fuel_per_call - fuel_left,
            norm: norm_squared.sqrt(),
        })
    }

    fn instantiate(&mut self, place: usize) -> Result<(Store<Host>, ClientStep), SandboxError> {
        // Gone only if no instance could be made before: then the parent ends this worker.
        let mut accum = self
            .contribution
            .take()
            .ok_or_else(|| SandboxError::engine("no memory for a contribution"))?;
        accum.begin(place, self.dim).map_err(SandboxError::engine)?;
        let host = Host::new(&self.limits, self.tensors.clone(), Some(accum));
        let mut store = host.into_store(self.pre.engine(), &self.limits);
        let instance = self
            .pre
            .instantiate(&mut store)
            .map_err(SandboxError::instantiate)?;
        Ok((store, instance))
    }

    fn call(
        &self,
        store: &mut Store<Host>,
        instance: &ClientStep,
        unit: &Unit,
    ) -> wasmtime::Result<()> {
        // The guest owns these handles; dropping one leaves the shared tensor alone.
        let tensors: Vec<Resource<Tensor>> = (0..self.tensors.len() as u32)
            .map(Resource::new_own)
            .collect();
        instance.noisegate_client_private_side().call_contribute(
            store,
            unit,
            &self.setup,
            &self.query,
            &tensors,
            Resource::<Accum>::new_borrow(0),
        )
    }

    fn take_contribution(&mut self, store: &mut Store<Host>, succeeded: bool) {
        self.contribution = store.data_mut().take_accum();
        if let (false, Some(contribution)) = (succeeded, &mut self.contribution) {
            contribution.clear();
        }
    }
}

fn tensors(bytes: &[&[u8]]) -> Vec<Arc<Vec<f32>>> {
    bytes.iter().map(|bytes| Arc::new(floats(bytes))).collect()
}
