//! The public side's instance: long-lived, and never shown a unit.
//!
//! What it asks for is bounded in bytes here (by `call_bytes_max`) and in kind
//! by the parent ([`crate::public_side`]), which does not trust this process.

use std::io;

use wasmtime::{Engine, Store};

use super::private::load;
use super::{Desk, nonsense};
use crate::bindings::exports::noisegate::client::public_side::Turn;
use crate::bindings::{ClientStep, ClientStepPre};
use crate::error::SandboxError;
use crate::host::{Context, Host, refuel};
use crate::jail;
use crate::limits::{InstanceLimits, Limits};
use crate::messages::{self, Kind};
use crate::wire::{Reader, Writer, floats};

pub(super) fn serve(desk: &mut Desk, engine: &Engine) -> io::Result<()> {
    let limits = desk.limits.public.clone();
    let Some(pre) = load(desk, engine, &limits)? else {
        return Ok(());
    };
    let mut side: Option<PublicInstance> = None;
    loop {
        let (kind, payload) = desk.asked()?;
        match (kind, &mut side) {
            (Kind::Start, _) => match PublicInstance::start(&pre, &desk.limits, &payload) {
                Ok((started, answer)) => {
                    side = Some(started);
                    desk.answer(Kind::Started, &answer)?;
                }
                Err(error) => desk.answer(Kind::Refused, &messages::refused(&error))?,
            },
            (Kind::Next, Some(side)) => desk.answer_or_refuse(Kind::Turned, side.next())?,
            (Kind::Absorb, Some(side)) => {
                let released = floats(&payload);
                desk.answer_or_refuse(Kind::Done, side.absorb(&released))?;
            }
            (Kind::Outputs, Some(side)) => desk.answer_or_refuse(Kind::Files, side.outputs())?,
            _ => return Err(nonsense()),
        }
    }
}

/// Closes the jail's last doors, then makes the first instance and throws it away: its start
/// function is the first of the guest to run.
pub(super) fn try_instance(
    pre: &ClientStepPre<Host>,
    limits: &InstanceLimits,
    desk: &Desk,
) -> Result<(), SandboxError> {
    if !jail::tighten(desk.role) {
        // The parent has been told of every layer; this one is part of seccomp,
        // which is there, so that this fails only for want of kernel memory.
        return Err(SandboxError::Engine {
            problem: "the jail could not be closed".to_owned(),
        });
    }
    let host = Host::new(limits, Context::default(), None);
    let mut store = host.into_store(pre.engine(), limits);
    pre.instantiate(&mut store)
        .map_err(SandboxError::instantiate)?;
    Ok(())
}

struct PublicInstance {
    store: Store<Host>,
    instance: ClientStep,
    fuel_per_call: u64,
}

impl PublicInstance {
    fn start(
        pre: &ClientStepPre<Host>,
        limits: &Limits,
        payload: &[u8],
    ) -> Result<(Self, Vec<u8>), SandboxError> {
        let mut from = Reader::new(payload);
        let config = from.text().map_err(SandboxError::engine)?;
        let inputs = messages::read_files(&mut from).map_err(SandboxError::engine)?;
        let limits = &limits.public;
        let host = Host::new(limits, Context::default(), None);
        let mut store = host.into_store(pre.engine(), limits);
        let instance = pre
            .instantiate(&mut store)
            .map_err(SandboxError::instantiate)?;
        refuel(&mut store, limits.fuel_per_call);
        let setup = instance
            .noisegate_client_public_side()
            .call_start(&mut store, config, &inputs)
            .map_err(|error| SandboxError::trap("start", &error))?
            .map_err(|message| SandboxError::Guest {
                call: "start",
                message,
            })?;
        let mut to = Writer::default();
        to.u32(setup.dim).u32(setup.queries);
        messages::write_context(&mut to, &setup.tensors, &setup.context);
        let side = PublicInstance {
            store,
            instance,
            fuel_per_call: limits.fuel_per_call,
        };
        Ok((side, to.0))
    }

    fn next(&mut self) -> Result<Vec<u8>, SandboxError> {
        refuel(&mut self.store, self.fuel_per_call);
        let turn = self
            .instance
            .noisegate_client_public_side()
            .call_next(&mut self.store)
            .map_err(|error| SandboxError::trap("next", &error))?;
        let mut to = Writer::default();
        match turn {
            Turn::Ask(query) => {
                to.u8(0);
                messages::write_context(&mut to, &query.tensors, &query.context);
            }
            Turn::Working((done, total)) => {
                to.u8(1).u32(done).u32(total);
            }
            Turn::Done => {
                to.u8(2);
            }
        }
        Ok(to.0)
    }

    fn absorb(&mut self, released: &[f32]) -> Result<Vec<u8>, SandboxError> {
        refuel(&mut self.store, self.fuel_per_call);
        self.instance
            .noisegate_client_public_side()
            .call_absorb(&mut self.store, released)
            .map_err(|error| SandboxError::trap("absorb", &error))?;
        Ok(Vec::new())
    }

    fn outputs(&mut self) -> Result<Vec<u8>, SandboxError> {
        refuel(&mut self.store, self.fuel_per_call);
        let files = self
            .instance
            .noisegate_client_public_side()
            .call_outputs(&mut self.store)
            .map_err(|error| SandboxError::trap("outputs", &error))?
            .map_err(|message| SandboxError::Guest {
                call: "outputs",
                message,
            })?;
        let mut to = Writer::default();
        messages::write_files(&mut to, &files);
        Ok(to.0)
    }
}
