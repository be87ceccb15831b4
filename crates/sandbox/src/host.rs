//! What the host holds for one instance, and the bounds it keeps it within.
//!
//! ```text
//! Store<Host> ── context: tensors shared read-only by all instances of a query
//!             ── own:     tensors the instance made
//!             ── accum:   the unit's contribution, born zero
//! ```
//! It all dies with the instance. wasmtime's own limiter sees linear memory and
//! tables only; the rest is counted here.

use std::sync::Arc;

use wasmtime::{ResourceLimiter, Store, Trap};

use crate::board::Contribution;
use crate::kernels::KernelError;
use crate::limits::InstanceLimits;

/// Public tensors that every instance of a query may read.
pub(crate) type Context = Arc<Vec<Arc<Vec<f32>>>>;

/// Tensors one instance may hold at once, however small they are.
const TENSORS_MAX: usize = 1 << 16;

/// State of one instance on the host's side of the wall.
pub(crate) struct Host {
    context: Context,
    own: Vec<Option<Vec<f32>>>,
    free: Vec<usize>,
    accum: Option<Contribution>,
    host_bytes: usize,
    host_bytes_max: usize,
    memory_bytes: usize,
    memory_bytes_max: usize,
    table_elements: usize,
    table_elements_max: usize,
    frozen_words: u64,
}

impl Host {
    /// State for a fresh instance; `accum` must be all zeros.
    pub(crate) fn new(
        limits: &InstanceLimits,
        context: Context,
        accum: Option<Contribution>,
    ) -> Self {
        let numbers = accum.as_ref().map_or(&[][..], Contribution::numbers);
        debug_assert!(numbers.iter().all(|value| value.to_bits() == 0));
        let host_bytes = size_of_val(numbers);
        Host {
            context,
            own: Vec::new(),
            free: Vec::new(),
            accum,
            host_bytes,
            host_bytes_max: limits.host_bytes_max.max(host_bytes),
            memory_bytes: 0,
            memory_bytes_max: limits.memory_bytes_max,
            table_elements: 0,
            table_elements_max: limits.table_elements_max,
            frozen_words: 0,
        }
    }

    /// A store around this state, with fuel for one call.
    pub(crate) fn into_store(
        self,
        engine: &wasmtime::Engine,
        limits: &InstanceLimits,
    ) -> Store<Host> {
        let mut store = Store::new(engine, self);
        store.limiter(|host| host);
        store.set_hostcall_fuel(limits.call_bytes_max);
        refuel(&mut store, limits.fuel_per_call);
        store
    }

    /// A tensor by its handle: the context's first, the instance's own after.
    pub(crate) fn tensor(&self, handle: u32) -> Result<&[f32], KernelError> {
        let index = handle as usize;
        if let Some(tensor) = self.context.get(index) {
            return Ok(tensor);
        }
        self.own
            .get(index - self.context.len())
            .and_then(Option::as_deref)
            .ok_or(KernelError::Handle)
    }

    /// Keeps a tensor of the instance's own; its handle.
    pub(crate) fn insert_tensor(&mut self, values: Vec<f32>) -> Result<u32, KernelError> {
        self.reserve(values.len() as u64)?;
        self.host_bytes += size_of_val(values.as_slice());
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.own.len() < TENSORS_MAX => {
                self.own.push(None);
                self.own.len() - 1
            }
            None => return Err(KernelError::Memory),
        };
        self.own[slot] = Some(values);
        u32::try_from(self.context.len() + slot).map_err(|_| KernelError::Memory)
    }

    /// Forgets a tensor of the instance's own.
    pub(crate) fn drop_tensor(&mut self, handle: u32) {
        let Some(slot) = (handle as usize).checked_sub(self.context.len()) else {
            return;
        };
        let Some(values) = self.own.get_mut(slot).and_then(Option::take) else {
            return;
        };
        self.host_bytes -= size_of_val(values.as_slice());
        self.free.push(slot);
    }

    /// Length of the contribution.
    pub(crate) fn accum_len(&self) -> Result<u64, KernelError> {
        self.accum
            .as_ref()
            .map(|accum| accum.numbers().len() as u64)
            .ok_or(KernelError::Handle)
    }

    /// Takes the contribution out: for a kernel that writes to it, and when the instance has
    /// ended. A public side has none.
    pub(crate) fn take_accum(&mut self) -> Option<Contribution> {
        self.accum.take()
    }

    /// Puts it back after a kernel.
    pub(crate) fn return_accum(&mut self, accum: Contribution) {
        self.accum = Some(accum);
    }

    /// How many words of frozen randomness the instance drew before this one.
    pub(crate) fn next_frozen_word(&mut self) -> u64 {
        self.frozen_words += 1;
        self.frozen_words - 1
    }

    /// Whether the host may hold `numbers` more numbers for this instance.
    pub(crate) fn reserve(&self, numbers: u64) -> Result<(), KernelError> {
        let room = (self.host_bytes_max - self.host_bytes.min(self.host_bytes_max)) as u64;
        match numbers.checked_mul(4) {
            Some(bytes) if bytes <= room => Ok(()),
            _ => Err(KernelError::Memory),
        }
    }
}

impl ResourceLimiter for Host {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(grow(
            &mut self.memory_bytes,
            self.memory_bytes_max,
            current,
            desired,
        ))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(grow(
            &mut self.table_elements,
            self.table_elements_max,
            current,
            desired,
        ))
    }
}

fn grow(held: &mut usize, limit: usize, current: usize, desired: usize) -> bool {
    let wanted = held.saturating_add(desired.saturating_sub(current));
    if wanted > limit {
        return false;
    }
    *held = wanted;
    true
}

/// Gives a store fuel for its next call.
pub(crate) fn refuel(store: &mut Store<Host>, fuel: u64) {
    store
        .set_fuel(fuel)
        .expect("the engine is configured to consume fuel");
}

/// Takes `fuel` from the instance, or traps as an instruction would.
pub(crate) fn charge(
    store: &mut wasmtime::StoreContextMut<'_, Host>,
    fuel: u64,
) -> wasmtime::Result<()> {
    let left = store.get_fuel()?;
    match left.checked_sub(fuel) {
        Some(rest) => store.set_fuel(rest),
        None => {
            store.set_fuel(0)?;
            Err(Trap::OutOfFuel.into())
        }
    }
}
