//! What can go wrong between loading a guest and releasing its outputs.
//!
//! What an error says are public facts: of the component's bytes, the configuration, the
//! public side's behaviour, the machine. A failing private side is none (see [`crate::lanes`]).
//!
//! Whether there is one may depend on private values where a whole step ends, its charge kept:
//! [`SandboxError::TimedOut`], if units take long; [`SandboxError::Killed`] and
//! [`SandboxError::Engine`], if they take the machine's memory; and, if a private side has broken
//! out of WebAssembly, [`SandboxError::Worker`] too, since its worker can fail when it likes.

use crate::Digest;

/// An error of the sandbox; it names nothing private.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// The component is larger than the limit.
    #[error(
        "the component has {bytes} bytes, more than the {limit} that are allowed; build it smaller (`opt-level = \"s\"`, strip, data as an input file) or raise `component_bytes_max`"
    )]
    TooLarge {
        /// Size of the component.
        bytes: usize,
        /// [`crate::Limits::component_bytes_max`].
        limit: usize,
    },
    /// The bytes are not the ones that were agreed on.
    #[error(
        "the component's digest is `{found}`, but `{expected}` is expected; fetch or build it again, or review the new one and update the digest"
    )]
    DigestMismatch {
        /// What the manifest says.
        expected: Digest,
        /// What the bytes hash to.
        found: Digest,
    },
    /// Text that is no digest.
    #[error("`{text}` is not a SHA-256 digest; write 64 hexadecimal digits")]
    BadDigest {
        /// What was given.
        text: String,
    },
    /// Not a WebAssembly component, or damaged.
    #[error(
        "not a valid WebAssembly component: {problem}; build it for the world `noisegate:client/client-step` and check that the file is whole"
    )]
    NotAComponent {
        /// What the validator says.
        problem: String,
    },
    /// Compiling took too long.
    #[error(
        "compiling the component takes more than {limit_ms} ms; build it with smaller functions, or raise `compile_ms_max` if the machine is slow"
    )]
    CompileTime {
        /// [`crate::Limits::compile_ms_max`].
        limit_ms: u64,
    },
    /// Code that could take very long to compile.
    #[error(
        "the component has {what} of {found}, more than the {limit} that are allowed; build it with smaller functions"
    )]
    TooComplex {
        /// The quantity, such as `a function's size in bytes`.
        what: &'static str,
        /// What was found.
        found: u64,
        /// What is allowed.
        limit: u64,
    },
    /// An import that a guest may not have.
    #[error(
        "the component imports `{import}`; a guest may import nothing but `{allowed}` (no clock, file, network, randomness or output): build it for `wasm32-unknown-unknown` without WASI"
    )]
    ForbiddenImport {
        /// Name of the import.
        import: String,
        /// The interface it may import.
        allowed: &'static str,
    },
    /// A kernel is imported with a type the host does not offer.
    #[error(
        "the component's imports do not fit the host's kernels: {problem}; build it against this version's `client.wit`"
    )]
    ImportType {
        /// What the linker says.
        problem: String,
    },
    /// An export is missing or has another type.
    #[error(
        "the component's exports do not fit the world `noisegate:client/client-step`: {problem}; export `public-side` and `private-side` as in `client.wit`"
    )]
    WrongExports {
        /// What does not fit.
        problem: String,
    },
    /// A fresh instance could not be made.
    #[error(
        "failed to instantiate the guest: {problem}; its memory, tables and instances must fit the limits, and its start function must not trap"
    )]
    Instantiate {
        /// What wasmtime says.
        problem: String,
    },
    /// The sandbox itself could not be set up on this machine.
    #[error("failed to set up the sandbox: {problem}; lower `threads` or the memory limits")]
    Engine {
        /// What wasmtime says.
        problem: String,
    },
    /// The jail around workers lacks a layer that the site requires.
    #[error(
        "this machine does not put up these layers around the sandbox's workers: {missing}; `noisegate doctor` shows what it has: use a kernel (and a container) that allows them, or drop them from `[sandbox] require` in the site's `policy.toml`"
    )]
    Jail {
        /// The missing layers.
        missing: String,
    },
    /// A worker failed where no unit was concerned.
    #[error(
        "a sandbox worker {how} while {work}; if it was killed, give the machine more memory, else the guest attacks the sandbox or this is a defect"
    )]
    Worker {
        /// What it was doing.
        work: &'static str,
        /// How it ended.
        how: String,
    },
    /// Workers were killed from outside again and again; whatever was charged stays charged.
    #[error(
        "the sandbox's workers are killed from outside, most likely for want of memory; the charge stays: free memory, or use fewer `--cores`"
    )]
    Killed,
    /// The guest refused its configuration, or could not make its outputs.
    #[error("the guest's `{call}` says: {message}")]
    Guest {
        /// Which function.
        call: &'static str,
        /// The guest's own words (public).
        message: String,
    },
    /// The public side trapped or used up a limit.
    #[error(
        "the guest's public side failed in `{call}`: {problem}; if it needs more fuel or memory, raise the public limits, else this is a bug in the guest"
    )]
    PublicTrap {
        /// Which function.
        call: &'static str,
        /// The trap.
        problem: String,
    },
    /// The public side asked for something it did not declare or may not have.
    #[error(
        "the guest's public side asks for {what} of {asked}, but at most {limit} is allowed; correct the guest or its parameters, or raise the limit"
    )]
    OverAsk {
        /// The quantity, such as `a dimension`.
        what: &'static str,
        /// What was asked.
        asked: u64,
        /// What is allowed.
        limit: u64,
    },
    /// A step that asks nothing has nothing to release.
    #[error(
        "the guest asked no query, so there is nothing the gate could release; call `ask` at least once, or use a step that reads no private data"
    )]
    NoQuery,
    /// The declared mechanism is not one the gate can run.
    #[error("the declared mechanism cannot be run: {problem}")]
    Mechanism {
        /// What the privacy crate says.
        problem: String,
    },
    /// The step took too long on the clock; whatever was charged stays charged.
    #[error(
        "the step takes more than {limit_seconds} s; the charge stays: ask fewer queries, draw fewer units, or raise `step_seconds_max`"
    )]
    TimedOut {
        /// [`crate::Limits::step_seconds_max`].
        limit_seconds: u64,
    },
    /// Cancelled from outside; whatever was charged stays charged.
    #[error("cancelled; the charge stays")]
    Cancelled,
}

impl SandboxError {
    /// This machine, or a defect.
    pub(crate) fn engine(problem: impl std::fmt::Display) -> Self {
        SandboxError::Engine {
            problem: problem.to_string(),
        }
    }

    /// Why no instance could be made.
    pub(crate) fn instantiate(error: wasmtime::Error) -> Self {
        SandboxError::Instantiate {
            problem: chain(&error),
        }
    }

    /// The public side's trap as an error, outermost message first.
    pub(crate) fn trap(call: &'static str, error: &wasmtime::Error) -> Self {
        SandboxError::PublicTrap {
            call,
            problem: chain(error),
        }
    }
}

/// An error and its causes in one line, without the backtrace.
pub(crate) fn chain(error: &wasmtime::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        let first = text.lines().next().unwrap_or_default().trim().to_owned();
        let is_backtrace = first.starts_with("error while executing at wasm backtrace");
        if !first.is_empty() && !is_backtrace && !parts.contains(&first) {
            parts.push(first);
        }
    }
    parts.join(": ")
}
