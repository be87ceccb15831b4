//! What an auditor wants to know about a component, without running it.
//!
//! A compiler worker looks (`describe`); the parent reads its description.

use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use crate::Digest;
use crate::component::{Import, ask_compiler, audit, identify, imports};
use crate::error::SandboxError;
use crate::limits::Limits;
use crate::messages::{self, Kind};
use crate::producers::producers;
use crate::wasi::Wasi;
use crate::wire::{Malformed, Reader, Writer};

/// A component at a glance.
#[derive(Debug)]
pub struct Inspection {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Size of its bytes.
    pub bytes: usize,
    /// Everything it imports, and whether it may.
    pub imports: Vec<Import>,
    /// Everything it exports: `interface` or `interface/function(parameters)`.
    pub exports: Vec<String>,
    /// Core memories one instance needs, when that is known.
    pub memories: Option<u32>,
    /// Bytes its largest core memory starts with, when that is known.
    pub memory_bytes_min: Option<u64>,
    /// Tools that it says made it, such as `processed-by rustc 1.95.0`.
    pub producers: Vec<String>,
    /// `Ok` if [`crate::Guest::load`] accepts it, else why not.
    pub verdict: Result<(), SandboxError>,
}

/// Describes a component and says whether the sandbox would load it.
///
/// # Errors
/// [`SandboxError::TooLarge`], [`SandboxError::TooComplex`] or [`SandboxError::NotAComponent`], when there is
/// nothing to describe; any other refusal is the [`Inspection::verdict`].
pub fn inspect(bytes: &[u8], limits: &Limits) -> Result<Inspection, SandboxError> {
    let digest = identify(bytes, None, limits)?;
    let described = ask_compiler(Kind::Inspect, Kind::Inspected, bytes, limits)?;
    read_description(&described, digest, bytes.len()).map_err(SandboxError::engine)
}

/// The description as it crosses the line; made in a compiler worker.
pub(crate) fn describe(
    engine: &Engine,
    component: &Component,
    bytes: &[u8],
    wasi: Wasi,
) -> Vec<u8> {
    let resources = component.resources_required();
    let memories = resources
        .as_ref()
        .map(|needs| u64::from(needs.num_memories));
    let memory_bytes_min = resources
        .and_then(|needs| needs.max_initial_memory_size)
        .map(|pages| pages << 16);
    let mut to = Writer::default();
    let imports = imports(engine, component, wasi);
    to.u32(imports.len() as u32);
    for import in &imports {
        to.text(&import.name).u8(u8::from(import.allowed));
    }
    for list in [exports(engine, component), producers(bytes)] {
        to.u32(list.len() as u32);
        for text in &list {
            to.text(text);
        }
    }
    for figure in [memories, memory_bytes_min] {
        to.u8(u8::from(figure.is_some())).u64(figure.unwrap_or(0));
    }
    let verdict = audit(engine, component, wasi).map(drop);
    let refused = verdict.as_ref().err().map(messages::refused);
    to.bytes(&refused.unwrap_or_default());
    to.0
}

pub(crate) fn read_description(
    payload: &[u8],
    digest: Digest,
    bytes: usize,
) -> Result<Inspection, Malformed> {
    let mut from = Reader::new(payload);
    let mut imports = Vec::new();
    for _ in 0..from.count(9)? {
        imports.push(Import {
            name: from.text()?.to_owned(),
            allowed: from.u8()? != 0,
        });
    }
    let (exports, producers) = (texts(&mut from)?, texts(&mut from)?);
    let (memories, memory_bytes_min) = (figure(&mut from)?, figure(&mut from)?);
    let verdict = match from.bytes()? {
        [] => Ok(()),
        refused => Err(messages::read_refused(refused, "")?),
    };
    from.end()?;
    Ok(Inspection {
        digest,
        bytes,
        imports,
        exports,
        memories: memories.and_then(|count| u32::try_from(count).ok()),
        memory_bytes_min,
        producers,
        verdict,
    })
}

fn texts(from: &mut Reader<'_>) -> Result<Vec<String>, Malformed> {
    let count = from.count(8)?;
    (0..count).map(|_| Ok(from.text()?.to_owned())).collect()
}

fn figure(from: &mut Reader<'_>) -> Result<Option<u64>, Malformed> {
    let known = from.u8()? != 0;
    let value = from.u64()?;
    Ok(known.then_some(value))
}

fn exports(engine: &Engine, component: &Component) -> Vec<String> {
    let mut found = Vec::new();
    for (name, export) in component.component_type().exports(engine) {
        found.push(name.to_owned());
        let ComponentItem::ComponentInstance(instance) = export.ty else {
            continue;
        };
        for (item, export) in instance.exports(engine) {
            if let ComponentItem::ComponentFunc(function) = export.ty {
                let parameters: Vec<&str> = function.params().map(|(name, _)| name).collect();
                found.push(format!("{name}/{item}({})", parameters.join(", ")));
            }
        }
    }
    found
}
