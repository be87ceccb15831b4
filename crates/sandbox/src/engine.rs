//! The wasmtime engine: which WebAssembly a guest may use, and how instances
//! are allocated.
//!
//! Anything that could tell two runs apart (threads, shared memory, relaxed
//! operations with platform-dependent results) is off or forced deterministic.
//! NaN payloads are not canonicalised: a contribution with a NaN becomes zero,
//! and a NaN inside a guest reaches nobody but that guest.
//!
//! Fuel decides about units; a clock can only end a whole worker ([`crate::watch`]),
//! from outside, so that compiled code needs no checks for it.
//!
//! Not here: fuel and per-instance limits, which belong to a store
//! ([`crate::host`]).

use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OperatorCost, OptLevel,
    PoolingAllocationConfig,
};

use crate::error::{SandboxError, chain};
use crate::limits::{IMAGE_BYTES_MAX, Limits};
use crate::wasi::Wasi;

/// Bytes of WebAssembly stack; deeper recursion traps.
const STACK_BYTES_MAX: usize = 1 << 20;

/// Instances alive at once in a worker: one, and one about to be dropped.
const INSTANCES: u32 = 2;

/// A component of this world is three core instances (the guest and two shims
/// made by the component encoder); some room for those composed of more.
const CORE_INSTANCES: u32 = 8;
const MEMORIES: u32 = 2;
const TABLES: u32 = 4;
/// A guest in a language with a runtime is linked of so many modules.
const CORE_INSTANCES_WITH_WASI: u32 = 40;
const TABLE_KEEP_RESIDENT: usize = 64 << 10;

/// Address space kept for one linear memory: with 4 GiB and guard pages, no
/// bounds check is needed in compiled code.
const RESERVATION_BYTES: u64 = 4 << 30;

/// Kept mapped where every kept byte must be written between units.
const KEEP_RESIDENT_WITHOUT_SCAN: usize = 128 << 10;

/// Builds the engine for these limits.
///
/// # Errors
/// [`SandboxError::Engine`] if the machine cannot reserve the address space.
pub(crate) fn engine(limits: &Limits) -> Result<Engine, SandboxError> {
    Engine::new(&config(limits)).map_err(|error| SandboxError::Engine {
        problem: chain(&error),
    })
}

fn config(limits: &Limits) -> Config {
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .operator_cost(operator_cost())
        .max_wasm_stack(STACK_BYTES_MAX)
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_nan_canonicalization(false)
        .relaxed_simd_deterministic(true)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_custom_page_sizes(false)
        .concurrency_support(false)
        .generate_address_map(false)
        .memory_reservation(RESERVATION_BYTES)
        .memory_init_cow(true)
        .force_memory_init_memfd(true)
        .memory_guaranteed_dense_image_size(IMAGE_BYTES_MAX.min(limits.memory_bytes_max()) as u64)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(limits)));
    config
}

/// One fuel for an instruction, but more for those that call into the host,
/// so that a fuel limit bounds time.
fn operator_cost() -> OperatorCost {
    OperatorCost {
        MemoryGrow: 200,
        TableGrow: 200,
        ..OperatorCost::new()
    }
}

/// With `PAGEMAP_SCAN` (Linux 6.7 or newer) only the pages that a unit touched
/// are reset, which makes a fresh instance two to three times cheaper.
fn pool(limits: &Limits) -> PoolingAllocationConfig {
    let scan = PoolingAllocationConfig::is_pagemap_scan_available();
    let keep_resident_max = if scan {
        usize::MAX
    } else {
        KEEP_RESIDENT_WITHOUT_SCAN
    };
    let core_instances = match limits.wasi {
        Wasi::Refused => CORE_INSTANCES,
        Wasi::Frozen => CORE_INSTANCES_WITH_WASI,
    };
    let table_elements = limits
        .public
        .table_elements_max
        .max(limits.private.table_elements_max);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(INSTANCES)
        .total_core_instances(INSTANCES * core_instances)
        .total_memories(INSTANCES * MEMORIES)
        .total_tables(INSTANCES * TABLES)
        .max_core_instances_per_component(core_instances)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .max_memories_per_module(1)
        .table_elements(table_elements)
        .max_memory_size(limits.memory_bytes_max())
        .max_unused_warm_slots(INSTANCES * MEMORIES)
        .linear_memory_keep_resident(limits.keep_resident_bytes.min(keep_resident_max))
        .table_keep_resident(TABLE_KEEP_RESIDENT)
        .pagemap_scan(if scan { Enabled::Yes } else { Enabled::No });
    pool
}
