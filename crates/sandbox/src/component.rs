//! Loading a guest: from untrusted bytes to something that may be instantiated.
//!
//! ```text
//! bytes ──size──digest──> compiler worker: parse, validate, imports, exports, compile ──> Guest
//! ```
//! After [`Guest::load`] the component is known to import nothing but the
//! kernels (and frozen WASI, constants only, where its limits say so), to export the world's two interfaces with the right types, and to
//! fit the allocator. It has run no instruction yet. Compiling is bounded by the
//! size of the bytes and by a clock; no private byte has been read by then.
//!
//! The parent looks at the bytes' size and shape ([`crate::shape`]) and holds the guest as machine
//! code that it never runs. `audit` is
//! what the worker asks of the component.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::Engine;
use wasmtime::component::types::{self, ComponentItem};
use wasmtime::component::{Component, ComponentNamedList, Lift, Linker, Lower, Resource};

use crate::bindings::ClientStepPre;
use crate::bindings::exports::noisegate::client::public_side::{Setup, Turn};
use crate::error::{SandboxError, chain};
use crate::host::Host;
use crate::kernels::{self, Accum, INTERFACE, ITEMS, TYPES_INTERFACE, Tensor};
use crate::limits::Limits;
use crate::messages::{self, Kind, Role};
use crate::process::{Failure, Worker};
use crate::shape;
use crate::wasi::{self, Wasi};
use crate::watch::Watch;
use crate::{Digest, File, Unit};

const PUBLIC: &str = "noisegate:client/public-side@0.1.0";
const PRIVATE: &str = "noisegate:client/private-side@0.1.0";

/// A compiled component that passed the audit; cheap to clone.
#[derive(Clone)]
pub struct Guest {
    inner: Arc<Inner>,
}

struct Inner {
    digest: Digest,
    limits: Limits,
    machine_code: Vec<u8>,
}

impl Guest {
    /// Checks, compiles and audits a component.
    ///
    /// - `expected`: the digest the bytes must have, when one is known.
    ///
    /// # Errors
    /// In this order: [`SandboxError::TooLarge`], [`SandboxError::TooComplex`], [`SandboxError::DigestMismatch`],
    /// [`SandboxError::NotAComponent`] or [`SandboxError::CompileTime`],
    /// [`SandboxError::ForbiddenImport`], [`SandboxError::ImportType`], [`SandboxError::WrongExports`];
    /// [`SandboxError::Engine`] or [`SandboxError::Jail`] if this machine cannot hold the sandbox.
    pub fn load(
        bytes: &[u8],
        expected: Option<&Digest>,
        limits: &Limits,
    ) -> Result<Guest, SandboxError> {
        let digest = identify(bytes, expected, limits)?;
        let machine_code = ask_compiler(Kind::Compile, Kind::Compiled, bytes, limits)?;
        let inner = Inner {
            digest,
            limits: limits.clone(),
            machine_code,
        };
        Ok(Guest {
            inner: Arc::new(inner),
        })
    }

    /// Digest of the bytes it was loaded from.
    pub fn digest(&self) -> &Digest {
        &self.inner.digest
    }

    /// The limits it was loaded with.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// A fresh worker that has loaded this guest and seen that it can make an instance.
    ///
    /// # Errors
    /// [`SandboxError::Instantiate`] if the guest does not fit; those of the machine.
    pub(crate) fn worker(&self, role: Role) -> Result<Worker, SandboxError> {
        let mut worker = Worker::start(role, self.limits())?;
        let watch = Watch::for_at_most(LOAD_MAX);
        let (kind, payload) = worker
            .ask(Kind::Load, &[&self.inner.machine_code], &watch)
            .map_err(|failure| failure.at_work("loading the guest"))?;
        match kind {
            Kind::Done => Ok(worker),
            Kind::Refused => {
                Err(messages::read_refused(&payload, "").map_err(SandboxError::engine)?)
            }
            _ => Err(SandboxError::engine("a worker answered what was not asked")),
        }
    }
}

/// Loading takes milliseconds; a start function has its fuel.
const LOAD_MAX: Duration = Duration::from_secs(600);

/// Has a compiler worker look at untrusted bytes; its answer's payload.
pub(crate) fn ask_compiler(
    question: Kind,
    answer: Kind,
    bytes: &[u8],
    limits: &Limits,
) -> Result<Vec<u8>, SandboxError> {
    let mut worker = Worker::start(Role::Compiler, limits)?;
    let limit_ms = limits.compile_ms_max;
    let watch = Watch::for_at_most(Duration::from_millis(limit_ms));
    match worker.ask(question, &[bytes], &watch) {
        Ok((kind, payload)) if kind == answer => Ok(payload),
        Ok((Kind::Refused, payload)) => {
            Err(messages::read_refused(&payload, "").map_err(SandboxError::engine)?)
        }
        Ok(_) => Err(SandboxError::engine("a worker answered what was not asked")),
        Err(Failure::Ended(SandboxError::TimedOut { .. })) => {
            Err(SandboxError::CompileTime { limit_ms })
        }
        Err(Failure::Ended(end)) => Err(end),
        Err(Failure::Died(death)) => Err(SandboxError::NotAComponent {
            problem: format!("the compiler's worker {death}"),
        }),
    }
}

pub(crate) fn identify(
    bytes: &[u8],
    expected: Option<&Digest>,
    limits: &Limits,
) -> Result<Digest, SandboxError> {
    if bytes.len() > limits.component_bytes_max {
        let limit = limits.component_bytes_max;
        return Err(SandboxError::TooLarge {
            bytes: bytes.len(),
            limit,
        });
    }
    shape::check(bytes)?;
    let found = Digest::of(bytes);
    match expected {
        Some(expected) if *expected != found => Err(SandboxError::DigestMismatch {
            expected: *expected,
            found,
        }),
        _ => Ok(found),
    }
}

/// Everything that is asked of a component before it may run; in the worker.
pub(crate) fn audit(
    engine: &Engine,
    component: &Component,
    wasi: Wasi,
) -> Result<ClientStepPre<Host>, SandboxError> {
    audit_imports(engine, component, wasi)?;
    audit_exports(engine, component, wasi)
}

/// Refuses every import but the kernels, and frozen WASI where that is agreed, by name.
fn audit_imports(engine: &Engine, component: &Component, wasi: Wasi) -> Result<(), SandboxError> {
    for import in imports(engine, component, wasi) {
        if !import.allowed {
            return Err(SandboxError::ForbiddenImport {
                import: import.name,
                allowed: INTERFACE,
            });
        }
    }
    Ok(())
}

/// One thing a component imports, and whether it may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// `interface` or `interface/item`.
    pub name: String,
    /// Whether a guest may import it.
    pub allowed: bool,
}

/// Everything a component imports, functions of interfaces one by one.
pub(crate) fn imports(engine: &Engine, component: &Component, wasi: Wasi) -> Vec<Import> {
    let mut found = Vec::new();
    for (name, import) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(instance) = import.ty else {
            found.push(Import {
                name: name.to_owned(),
                allowed: false,
            });
            continue;
        };
        let frozen = wasi == Wasi::Frozen && wasi::is_wasi(name);
        let known = name == INTERFACE || name == TYPES_INTERFACE || frozen;
        found.push(Import {
            name: name.to_owned(),
            allowed: known,
        });
        for (item, export) in instance.exports(engine) {
            let is_type = matches!(export.ty, ComponentItem::Type(_));
            let allowed = match name {
                INTERFACE => is_type || ITEMS.contains(&item),
                TYPES_INTERFACE => is_type,
                _ => frozen && wasi::knows(name, &export.ty, item),
            };
            if !is_type {
                found.push(Import {
                    name: format!("{name}/{item}"),
                    allowed,
                });
            }
        }
    }
    found
}

/// Links the component, and compares its exports' types without running it.
fn audit_exports(
    engine: &Engine,
    component: &Component,
    wasi: Wasi,
) -> Result<ClientStepPre<Host>, SandboxError> {
    let engine_error = |error: wasmtime::Error| SandboxError::Engine {
        problem: chain(&error),
    };
    let mut linker = Linker::new(engine);
    kernels::link(&mut linker).map_err(engine_error)?;
    if wasi == Wasi::Frozen {
        wasi::link(&mut linker, engine, component).map_err(engine_error)?;
    }
    let pre = linker
        .instantiate_pre(component)
        .map_err(|error| SandboxError::ImportType {
            problem: chain(&error),
        })?;
    let found = linker
        .substituted_component_type(component)
        .map_err(|error| SandboxError::ImportType {
            problem: chain(&error),
        })?;
    check_type::<(&str, &[File]), (Result<Setup, String>,)>(engine, &found, PUBLIC, "start")?;
    check_type::<(), (Turn,)>(engine, &found, PUBLIC, "next")?;
    check_type::<(&[f32],), ()>(engine, &found, PUBLIC, "absorb")?;
    check_type::<(), (Result<Vec<File>, String>,)>(engine, &found, PUBLIC, "outputs")?;
    type Contribute<'a> = (
        &'a Unit,
        &'a [u8],
        &'a [u8],
        &'a [Resource<Tensor>],
        Resource<Accum>,
    );
    check_type::<Contribute<'_>, ()>(engine, &found, PRIVATE, "contribute")?;
    ClientStepPre::new(pre).map_err(|error| SandboxError::WrongExports {
        problem: chain(&error),
    })
}

fn check_type<Parameters, Return>(
    engine: &Engine,
    component: &types::Component,
    interface: &str,
    function: &str,
) -> Result<(), SandboxError>
where
    Parameters: ComponentNamedList + Lower,
    Return: ComponentNamedList + Lift,
{
    let wrong = |problem: String| {
        let problem = format!("`{interface}/{function}` {problem}");
        SandboxError::WrongExports { problem }
    };
    let missing = || wrong("is missing".to_owned());
    let export = component
        .get_export(engine, interface)
        .ok_or_else(missing)?;
    let ComponentItem::ComponentInstance(instance) = export.ty else {
        return Err(missing());
    };
    let export = instance.get_export(engine, function).ok_or_else(missing)?;
    let ComponentItem::ComponentFunc(found) = export.ty else {
        return Err(missing());
    };
    found
        .typecheck::<Parameters, Return>(&component.instance_type())
        .map_err(|error| wrong(format!("has another type: {}", chain(&error))))
}
