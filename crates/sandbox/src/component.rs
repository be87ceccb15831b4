//! Loading a guest: from untrusted bytes to something that may be instantiated.
//!
//! ```text
//! bytes ──size──digest──parse, validate, compile──imports──exports──> Guest
//! ```
//! After [`Guest::load`] the component is known to import nothing but the
//! kernels, to export the world's two interfaces with the right types, and to
//! fit the allocator. It has run no instruction yet. Compiling is bounded by the
//! size of the bytes and by a clock; no private byte has been read by then.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use wasmtime::Engine;
use wasmtime::component::types::{self, ComponentItem};
use wasmtime::component::{Component, ComponentNamedList, Lift, Linker, Lower, Resource};

use crate::bindings::ClientStepPre;
use crate::bindings::exports::noisegate::client::public_side::{Setup, Turn};
use crate::engine::{THREAD_STACK_BYTES, engine};
use crate::error::{SandboxError, chain};
use crate::host::Host;
use crate::kernels::{self, Accum, INTERFACE, ITEMS, TYPES_INTERFACE, Tensor};
use crate::limits::Limits;
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
    component: Component,
    pre: ClientStepPre<Host>,
}

impl Guest {
    /// Checks, compiles and audits a component.
    ///
    /// - `expected`: the digest the bytes must have, when one is known.
    ///
    /// # Errors
    /// In this order: [`SandboxError::TooLarge`], [`SandboxError::DigestMismatch`],
    /// [`SandboxError::NotAComponent`] or [`SandboxError::CompileTime`],
    /// [`SandboxError::ForbiddenImport`], [`SandboxError::ImportType`], [`SandboxError::WrongExports`];
    /// [`SandboxError::Engine`] if this machine cannot hold the sandbox.
    pub fn load(
        bytes: &[u8],
        expected: Option<&Digest>,
        limits: &Limits,
    ) -> Result<Guest, SandboxError> {
        let digest = identify(bytes, expected, limits)?;
        let engine = engine(limits)?;
        let component = compile(&engine, bytes, limits)?;
        let pre = audit(&engine, &component)?;
        let inner = Inner {
            digest,
            limits: limits.clone(),
            component,
            pre,
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

    pub(crate) fn engine(&self) -> &Engine {
        self.inner.component.engine()
    }

    pub(crate) fn pre(&self) -> &ClientStepPre<Host> {
        &self.inner.pre
    }
}

fn identify(
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
    let found = Digest::of(bytes);
    match expected {
        Some(expected) if *expected != found => Err(SandboxError::DigestMismatch {
            expected: *expected,
            found,
        }),
        _ => Ok(found),
    }
}

/// Validates and compiles; only binary components, never their text format.
///
/// Compiling runs on a thread of its own, so that this can stop waiting for it;
/// the compiler itself cannot be stopped, and then goes on until it is done or
/// the process ends.
pub(crate) fn compile(
    engine: &Engine,
    bytes: &[u8],
    limits: &Limits,
) -> Result<Component, SandboxError> {
    let (sender, receiver) = mpsc::channel();
    let (engine, bytes) = (engine.clone(), bytes.to_vec());
    thread::Builder::new()
        .stack_size(THREAD_STACK_BYTES)
        .spawn(move || sender.send(Component::from_binary(&engine, &bytes)))
        .map_err(|error| SandboxError::Engine {
            problem: error.to_string(),
        })?;
    let limit_ms = limits.compile_ms_max;
    match receiver.recv_timeout(Duration::from_millis(limit_ms)) {
        Ok(compiled) => compiled.map_err(|error| SandboxError::NotAComponent {
            problem: chain(&error),
        }),
        Err(mpsc::RecvTimeoutError::Timeout) => Err(SandboxError::CompileTime { limit_ms }),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            let problem = "the compiler panicked".to_owned();
            Err(SandboxError::NotAComponent { problem })
        }
    }
}

/// Everything that is asked of a component before it may run.
pub(crate) fn audit(
    engine: &Engine,
    component: &Component,
) -> Result<ClientStepPre<Host>, SandboxError> {
    audit_imports(engine, component)?;
    audit_exports(engine, component)
}

/// Refuses every import but the kernels, by name.
fn audit_imports(engine: &Engine, component: &Component) -> Result<(), SandboxError> {
    for import in imports(engine, component) {
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
pub(crate) fn imports(engine: &Engine, component: &Component) -> Vec<Import> {
    let mut found = Vec::new();
    for (name, import) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(instance) = import.ty else {
            found.push(Import {
                name: name.to_owned(),
                allowed: false,
            });
            continue;
        };
        let known = name == INTERFACE || name == TYPES_INTERFACE;
        found.push(Import {
            name: name.to_owned(),
            allowed: known,
        });
        for (item, export) in instance.exports(engine) {
            let is_type = matches!(export.ty, ComponentItem::Type(_));
            let allowed = match name {
                INTERFACE => is_type || ITEMS.contains(&item),
                TYPES_INTERFACE => is_type,
                _ => false,
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
) -> Result<ClientStepPre<Host>, SandboxError> {
    let mut linker = Linker::new(engine);
    kernels::link(&mut linker).map_err(|error| SandboxError::Engine {
        problem: chain(&error),
    })?;
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
