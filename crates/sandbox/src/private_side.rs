//! The private side: a fresh instance for every privacy unit.
//!
//! ```text
//! unit ──> new store, new instance ──contribute──> accum (host, born zero) ──> the gate
//!                     └── dropped, whatever happened
//! ```
//! Whatever goes wrong once an instance has seen a unit (a trap, no fuel left, a
//! size that does not fit, a leaked handle) makes that unit's contribution the
//! zero vector, silently: no log, no count, no error. Wrong values (NaN,
//! infinity) are made zero by the gate's sum. Only a machine that cannot make
//! instances at all is an error, and then no unit has been seen.
//!
//! This is the seam for worker processes: everything a worker needs is a
//! [`PrivateSide`], and everything it gives back is the contribution.
//!
//! Not here: clipping, noise and sums (`noisegate-privacy`), sampling and
//! threads ([`crate::gate`]).

use std::panic::{AssertUnwindSafe, catch_unwind};

use wasmtime::Store;
use wasmtime::component::Resource;

use crate::bindings::ClientStep;
use crate::component::Guest;
use crate::error::{SandboxError, chain};
use crate::host::{Context, Host};
use crate::kernels::{Accum, Tensor};
use crate::watch::interrupted;
use crate::{TextRecord, Unit};

/// Everything public that the units of one query have in common.
pub(crate) struct QueryContext {
    pub(crate) dim: usize,
    pub(crate) setup: Vec<u8>,
    pub(crate) query: Vec<u8>,
    pub(crate) tensors: Context,
}

/// Runs units of one query, one at a time; each thread has its own.
pub(crate) struct PrivateSide<'a> {
    guest: &'a Guest,
    context: &'a QueryContext,
    contribution: Vec<f32>,
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

impl<'a> PrivateSide<'a> {
    /// Makes an instance and drops it.
    ///
    /// # Errors
    /// [`SandboxError::Instantiate`] if private instances cannot be made.
    pub(crate) fn try_instance(guest: &Guest) -> Result<(), SandboxError> {
        let limits = &guest.limits().private;
        let host = Host::new(limits, Context::default(), None);
        instantiate(guest, host).map(drop)
    }

    /// Reuses `buffer` for the contributions, after zeroing it.
    pub(crate) fn new(guest: &'a Guest, context: &'a QueryContext, buffer: Vec<f32>) -> Self {
        PrivateSide {
            guest,
            context,
            contribution: buffer,
        }
    }

    /// One unit's contribution: `dim` numbers, zero if the guest failed.
    ///
    /// # Errors
    /// [`SandboxError::Instantiate`] if no instance could be made; decided
    /// before the unit is shown to the guest. [`SandboxError::Cancelled`] if the
    /// step was ended from outside.
    pub(crate) fn contribute(&mut self, unit: &Unit) -> Result<&[f32], SandboxError> {
        let (mut store, instance) = self.instantiate()?;
        // A panic in the host would be a bug, but must not tell on a unit either.
        let called = catch_unwind(AssertUnwindSafe(|| self.call(&mut store, &instance, unit)));
        self.take_contribution(&mut store, matches!(called, Ok(Ok(()))));
        match called {
            Ok(Err(error)) if interrupted(&error) => Err(SandboxError::Cancelled),
            _ => Ok(&self.contribution),
        }
    }

    /// As [`PrivateSide::contribute`], for a **made-up** unit: says what happened.
    ///
    /// # Errors
    /// As [`PrivateSide::contribute`].
    pub(crate) fn rehearse(&mut self, unit: &Unit) -> Result<Rehearsal, SandboxError> {
        let (mut store, instance) = self.instantiate()?;
        let called = self.call(&mut store, &instance, unit);
        let fuel_left = store.get_fuel().unwrap_or(0);
        let fuel_used = self.guest.limits().private.fuel_per_call - fuel_left;
        self.take_contribution(&mut store, called.is_ok());
        let norm_squared: f64 = self
            .contribution
            .iter()
            .map(|&value| f64::from(value) * f64::from(value))
            .sum();
        let problem = match called {
            Err(error) if interrupted(&error) => return Err(SandboxError::Cancelled),
            Err(error) => Some(chain(&error)),
            Ok(()) if !norm_squared.is_finite() => Some("a NaN or an infinity".to_owned()),
            Ok(()) => None,
        };
        Ok(Rehearsal {
            problem,
            fuel_used,
            norm: norm_squared.sqrt(),
        })
    }

    /// The buffer, for the next query.
    pub(crate) fn into_buffer(self) -> Vec<f32> {
        self.contribution
    }

    fn instantiate(&mut self) -> Result<(Store<Host>, ClientStep), SandboxError> {
        let mut accum = std::mem::take(&mut self.contribution);
        accum.clear();
        accum.resize(self.context.dim, 0.0);
        let limits = &self.guest.limits().private;
        instantiate(
            self.guest,
            Host::new(limits, self.context.tensors.clone(), Some(accum)),
        )
    }

    fn call(
        &self,
        store: &mut Store<Host>,
        instance: &ClientStep,
        unit: &Unit,
    ) -> wasmtime::Result<()> {
        // The guest owns these handles; dropping one leaves the shared tensor alone.
        let tensors: Vec<Resource<Tensor>> = (0..self.context.tensors.len() as u32)
            .map(Resource::new_own)
            .collect();
        instance.noisegate_client_private_side().call_contribute(
            store,
            unit,
            &self.context.setup,
            &self.context.query,
            &tensors,
            Resource::<Accum>::new_borrow(0),
        )
    }

    fn take_contribution(&mut self, store: &mut Store<Host>, succeeded: bool) {
        self.contribution = store.data_mut().take_accum().unwrap_or_default();
        if !succeeded || self.contribution.len() != self.context.dim {
            self.contribution.clear();
            self.contribution.resize(self.context.dim, 0.0);
        }
    }
}

fn instantiate(guest: &Guest, host: Host) -> Result<(Store<Host>, ClientStep), SandboxError> {
    let mut store = host.into_store(guest.engine(), &guest.limits().private);
    let instance = guest
        .pre()
        .instantiate(&mut store)
        .map_err(SandboxError::instantiate)?;
    Ok((store, instance))
}

/// A unit within the host's public bounds: text cut at a character, records
/// beyond the limit dropped. A function of the unit alone.
pub(crate) fn within_bounds(unit: &Unit, text_bytes_max: usize, records_max: usize) -> Unit {
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
