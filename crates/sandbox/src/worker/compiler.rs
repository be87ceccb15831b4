//! From a component's untrusted bytes to machine code and a report.
//!
//! Parsing, validating and compiling hostile bytes is the largest piece of code
//! that a guest's author can reach, so it happens in a jailed worker that sees
//! nothing but those bytes, and dies afterwards.

use std::io;

use wasmtime::Engine;
use wasmtime::component::Component;

use super::{Desk, nonsense};
use crate::component::audit;
use crate::error::{SandboxError, chain};
use crate::inspect;
use crate::messages::Kind;
use crate::wasi::Wasi;

pub(super) fn serve(desk: &mut Desk, engine: &Engine) -> io::Result<()> {
    let (kind, bytes) = desk.asked()?;
    match kind {
        Kind::Compile => desk.answer_or_refuse(
            Kind::Compiled,
            machine_code(engine, &bytes, desk.limits.wasi),
        ),
        Kind::Inspect => {
            desk.answer_or_refuse(Kind::Inspected, describe(engine, &bytes, desk.limits.wasi))
        }
        _ => Err(nonsense()),
    }
}

fn machine_code(engine: &Engine, bytes: &[u8], wasi: Wasi) -> Result<Vec<u8>, SandboxError> {
    let component = compile(engine, bytes)?;
    audit(engine, &component, wasi)?;
    component.serialize().map_err(|error| SandboxError::Engine {
        problem: chain(&error),
    })
}

/// An [`crate::Inspection`], as it crosses the line.
fn describe(engine: &Engine, bytes: &[u8], wasi: Wasi) -> Result<Vec<u8>, SandboxError> {
    let component = compile(engine, bytes)?;
    Ok(inspect::describe(engine, &component, bytes, wasi))
}

/// Validates and compiles; only binary components, never their text format.
pub(crate) fn compile(engine: &Engine, bytes: &[u8]) -> Result<Component, SandboxError> {
    Component::from_binary(engine, bytes).map_err(|error| SandboxError::NotAComponent {
        problem: chain(&error),
    })
}
