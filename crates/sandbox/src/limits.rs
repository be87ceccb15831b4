//! Every bound the sandbox enforces, in one place.
//!
//! All of them are public constants of the step: none is derived from private
//! rows. Fuel is the only clock: it is deterministic, so that using it up (a
//! zero contribution) is a property of the guest and the unit alone, never of
//! how busy the machine is.

use crate::jail::{Layer, Layers};
use crate::messages::Role;
use crate::wasi::Wasi;

/// Bounds on one instance, public or private.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceLimits {
    /// Linear memory of the instance, all its core memories together.
    pub memory_bytes_max: usize,
    /// Numbers the host holds for the instance: its own tensors, its
    /// accumulator, and the output of the kernel being run.
    pub host_bytes_max: usize,
    /// Bytes that may cross from guest to host in one call.
    pub call_bytes_max: usize,
    /// Table elements of the instance, all its tables together.
    pub table_elements_max: usize,
    /// Fuel for one call: about one per WebAssembly instruction; kernels are
    /// priced in [`crate::kernels`].
    pub fuel_per_call: u64,
}

/// Bounds on a whole step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Size of the component's bytes.
    pub component_bytes_max: usize,
    /// Milliseconds that compiling may take. It happens before any private
    /// read, so that a clock may decide here.
    pub compile_ms_max: u64,
    /// Seconds that [`crate::Session::run`] may take; then the whole step ends.
    pub step_seconds_max: u64,
    /// Worker processes that run private sides at once.
    pub threads: usize,
    /// Length of a contribution, in numbers.
    pub dim_max: u32,
    /// Queries of a step; the declaration bounds them further.
    pub queries_max: u32,
    /// Calls of `next` that may answer `working`, over the whole step.
    pub working_turns_max: u32,
    /// Bytes of one record's text; the host cuts longer text at a character.
    pub text_bytes_max: usize,
    /// Records of one unit; the host drops those beyond.
    pub unit_records_max: usize,
    /// Bytes of all files the public side may output.
    pub output_bytes_max: usize,
    /// Bytes of a private instance's memory that stay mapped between units
    /// (reset, of course); near the working set is fastest.
    pub keep_resident_bytes: usize,
    /// Whether it may import WASI, which then does nothing.
    pub wasi: Wasi,
    /// The public side's instance.
    pub public: InstanceLimits,
    /// Each private side's instance.
    pub private: InstanceLimits,
    /// How far workers are kept apart from the world, and units from each other.
    pub isolation: Isolation,
}

/// How far workers are kept apart from the world, and units from each other.
///
/// A matter for whoever operates the site, not for a workflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Isolation {
    /// Layers of the jail without which no guest is run.
    pub required: Layers,
    /// A fresh process, not only a fresh instance, for every unit: then nothing
    /// is remembered from one to the next even if a guest breaks out of
    /// WebAssembly. Costs some tens of milliseconds a unit.
    pub process_per_unit: bool,
    /// Runs made-up units beside those drawn, up to a public number (six standard
    /// deviations above the mean), so that a query's duration says less of how
    /// many were drawn.
    pub pad_batches: bool,
    /// Answers every query after a whole multiple of this time; 0 answers at once.
    pub query_ms: u64,
}

impl Default for Isolation {
    /// What any Linux kernel has; network and Landlock where they can be had.
    fn default() -> Self {
        let required = [
            Layer::Limits,
            Layer::Capabilities,
            Layer::NoNewPrivileges,
            Layer::Seccomp,
        ];
        Isolation {
            required: required.into_iter().collect(),
            process_per_unit: false,
            pad_batches: false,
            query_ms: 0,
        }
    }
}

const MIB: usize = 1 << 20;

/// Largest memory image that is made copy-on-write even if it is mostly zeros;
/// bounds what a sparse one can make the host hold.
pub(crate) const IMAGE_BYTES_MAX: usize = 64 * MIB;

/// More lanes than this would only reserve address space.
const LANES_MAX: usize = 256;

impl Default for Limits {
    fn default() -> Self {
        Limits {
            component_bytes_max: 32 * MIB,
            compile_ms_max: 120_000,
            step_seconds_max: 24 * 60 * 60,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            dim_max: 16 << 20,
            queries_max: 100_000,
            working_turns_max: 10_000_000,
            text_bytes_max: 64 << 10,
            unit_records_max: 4096,
            // The ledger seals at most twice as many, and writes each byte as two digits.
            output_bytes_max: 120 * MIB,
            keep_resident_bytes: 64 * MIB,
            wasi: Wasi::Refused,
            public: InstanceLimits {
                memory_bytes_max: 2048 * MIB,
                host_bytes_max: 512 * MIB,
                call_bytes_max: 512 * MIB,
                table_elements_max: 20_000,
                fuel_per_call: 200_000_000_000,
            },
            private: InstanceLimits {
                memory_bytes_max: 256 * MIB,
                host_bytes_max: 256 * MIB,
                call_bytes_max: 64 * MIB,
                table_elements_max: 20_000,
                fuel_per_call: 10_000_000_000,
            },
            isolation: Isolation::default(),
        }
    }
}

impl Limits {
    /// Linear memory the allocator must be able to give to either side.
    pub(crate) fn memory_bytes_max(&self) -> usize {
        self.public
            .memory_bytes_max
            .max(self.private.memory_bytes_max)
    }

    /// Worker processes that run private sides.
    pub(crate) fn lanes(&self) -> usize {
        self.threads.clamp(1, LANES_MAX)
    }

    /// Bytes of a worker's longest message; it cannot write more to any file.
    pub(crate) fn message_bytes_max(&self, role: Role) -> u64 {
        let payload = match role {
            // Machine code is some times as long as WebAssembly.
            Role::Compiler => self.component_bytes_max.saturating_mul(16),
            Role::Public => self.public.call_bytes_max,
            Role::Private => 4 * self.dim_max as usize,
        };
        // Memory images are files too.
        (payload.max(IMAGE_BYTES_MAX) + MIB) as u64
    }
}
