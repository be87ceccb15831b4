//! What an auditor wants to know about a component, without running it.

use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use crate::Digest;
use crate::component::{Import, audit, compile, imports};
use crate::engine::engine;
use crate::error::SandboxError;
use crate::limits::Limits;
use crate::producers::producers;

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
/// [`SandboxError::TooLarge`] or [`SandboxError::NotAComponent`], when there is
/// nothing to describe; any other refusal is the [`Inspection::verdict`].
pub fn inspect(bytes: &[u8], limits: &Limits) -> Result<Inspection, SandboxError> {
    if bytes.len() > limits.component_bytes_max {
        let limit = limits.component_bytes_max;
        return Err(SandboxError::TooLarge {
            bytes: bytes.len(),
            limit,
        });
    }
    let engine = engine(limits)?;
    let component = compile(&engine, bytes, limits)?;
    let resources = component.resources_required();
    Ok(Inspection {
        digest: Digest::of(bytes),
        bytes: bytes.len(),
        imports: imports(&engine, &component),
        exports: exports(&engine, &component),
        memories: resources.as_ref().map(|needs| needs.num_memories),
        memory_bytes_min: resources
            .and_then(|needs| needs.max_initial_memory_size)
            .map(|pages| pages << 16),
        producers: producers(bytes),
        verdict: audit(&engine, &component).map(drop),
    })
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
