//! Frozen WASI: what a guest in a language with a runtime imports, and never gets.
//!
//! ```text
//! plugin.toml `wasi = "frozen"` ──> every function of these interfaces is answered by a constant
//!
//!   clocks        stand still at zero          files, network   there are none
//!   randomness    a stream from a public       arguments,       there are none
//!                 constant, the same in every  environment
//!                 instance                     output           taken and discarded
//! ```
//! An answer depends on nothing but what the instance itself has asked before, so a
//! guest learns nothing, and nothing of it gets out: with WASI frozen the promise is
//! what it is without. Whatever has no answer here traps, which makes a unit's
//! contribution zero.
//!
//! Without that line in the manifest a component that imports WASI is refused by name,
//! as for any import. These are stubs of this crate, and not the `wasmtime-wasi` crate:
//! what cannot reach the system needs no code that could.
//!
//! # Source
//! WASI 0.2, the WIT packages `wasi:cli`, `clocks`, `filesystem`, `io`, `random`, `sockets`.

use sha2::{Digest as _, Sha256};
use wasmtime::component::types::{ComponentItem, Type};
use wasmtime::component::{Component, Linker, LinkerInstance, ResourceDynamic, ResourceType, Val};
use wasmtime::{Engine, Result, StoreContextMut, bail};

use crate::host::{Host, charge};
use crate::kernels::fuel;

/// What a guest may do with WASI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wasi {
    /// It may not import it.
    #[default]
    Refused,
    /// It may import it, and gets constants.
    Frozen,
}

/// Interfaces of WASI 0.2 that can be frozen.
const INTERFACES: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/types",
    "wasi:filesystem/preopens",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/random",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// Their resources; a resource's place here is its type.
const RESOURCES: &[&str] = &[
    "error",
    "pollable",
    "input-stream",
    "output-stream",
    "descriptor",
    "directory-entry-stream",
    "terminal-input",
    "terminal-output",
    "network",
    "resolve-address-stream",
    "tcp-socket",
    "udp-socket",
    "incoming-datagram-stream",
    "outgoing-datagram-stream",
];

/// The seed of every instance's randomness; public, and the same for all.
const SEED: &[u8] = b"noisegate: frozen randomness protects nothing";

/// Bytes that a frozen output stream says it takes at once.
const WRITE_AT_ONCE: u64 = 64 << 10;

/// Whether an item of an interface is one that is answered when WASI is frozen.
pub(crate) fn knows(interface: &str, item: &ComponentItem, name: &str) -> bool {
    match item {
        ComponentItem::Resource(_) => resource(name).is_some(),
        ComponentItem::Type(_) => is_wasi(interface),
        ComponentItem::ComponentFunc(function) => {
            is_wasi(interface) && function.params().all(|(_, ty)| has_short_names(&ty, 0))
        }
        _ => false,
    }
}

/// Longest name of a case, a flag or a field; WASI 0.2 has none longer than half of it.
const NAME_MAX: usize = 64;
/// Types inside of types; WASI 0.2 has three.
const NESTED_MAX: usize = 8;

/// Whether the names that come with a value are short.
///
/// A function's type is the guest's word. With a name of megabytes, each byte passed would
/// become megabytes here before anything is charged.
fn has_short_names(ty: &Type, nested: usize) -> bool {
    if nested > NESTED_MAX {
        return false;
    }
    let inside = |ty: Type| has_short_names(&ty, nested + 1);
    let short = |name: &str| name.len() <= NAME_MAX;
    match ty {
        Type::List(list) => inside(list.ty()),
        Type::Option(option) => inside(option.ty()),
        Type::Result(result) => result.ok().into_iter().chain(result.err()).all(inside),
        Type::Tuple(tuple) => tuple.types().all(inside),
        Type::Record(record) => record.fields().all(|it| short(it.name) && inside(it.ty)),
        Type::Variant(variant) => variant
            .cases()
            .all(|it| short(it.name) && it.ty.is_none_or(inside)),
        Type::Enum(cases) => cases.names().all(short),
        Type::Flags(flags) => flags.names().all(short),
        _ => true,
    }
}

/// Whether an interface can be frozen.
pub(crate) fn is_wasi(interface: &str) -> bool {
    interface
        .split_once('@')
        .is_some_and(|(name, version)| INTERFACES.contains(&name) && version.starts_with("0.2."))
}

fn resource(name: &str) -> Option<ResourceType> {
    let at = RESOURCES.iter().position(|one| *one == name)?;
    Some(ResourceType::host_dynamic(at as u32))
}

/// Answers whatever of WASI the component imports.
///
/// # Errors
/// Only if an item is defined twice, which a valid component's imports are not.
pub(crate) fn link(
    linker: &mut Linker<Host>,
    engine: &Engine,
    component: &Component,
) -> Result<()> {
    for (interface, import) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(instance) = import.ty else {
            continue;
        };
        if !is_wasi(interface) {
            continue;
        }
        let mut linked = linker.instance(interface)?;
        for (name, item) in instance.exports(engine) {
            match item.ty {
                ComponentItem::Resource(_) => {
                    if let Some(kind) = resource(name) {
                        linked.resource(name, kind, |_, _| Ok(()))?;
                    }
                }
                ComponentItem::ComponentFunc(_) => answer_always(&mut linked, interface, name)?,
                _ => {}
            }
        }
    }
    Ok(())
}

fn answer_always(linked: &mut LinkerInstance<'_, Host>, interface: &str, name: &str) -> Result<()> {
    let interface = interface.split('@').next().unwrap_or_default().to_owned();
    let function = name.to_owned();
    linked.func_new(name, move |mut store, _, parameters, results| {
        // wasmtime has made values of what was passed by now: at most the bytes that may
        // cross in one call, so that no more than that is ever done for nothing.
        charge(
            &mut store,
            fuel(0, 100_u64.saturating_add(weight(parameters))),
        )?;
        let answered = answer(&mut store, &interface, &function, parameters);
        give_back(&mut store, parameters)?;
        let answered = answered?;
        match (results, answered) {
            ([], None) => Ok(()),
            ([result], Some(answer)) => {
                *result = answer;
                Ok(())
            }
            _ => bail!("`{interface}/{function}` has another type than in WASI 0.2"),
        }
    })
}

/// What values passed cost to make, in fuel: a dynamic value takes some ten times the
/// byte it may hold, and a case, a flag or a field comes with its name, which the guest's own
/// type may make long.
fn weight(values: &[Val]) -> u64 {
    let sum = |sum: u64, value: &Val| sum.saturating_add(weight_of(value));
    values.iter().fold(0, sum)
}

fn weight_of(value: &Val) -> u64 {
    let inside = match value {
        Val::String(text) => text.len() as u64,
        Val::List(values) | Val::Tuple(values) => weight(values),
        Val::Record(fields) => fields.iter().fold(0, |sum: u64, (name, value)| {
            let field = (name.len() as u64).saturating_add(weight_of(value));
            sum.saturating_add(field)
        }),
        Val::Enum(name) | Val::Variant(name, None) => name.len() as u64,
        Val::Variant(name, Some(value)) => (name.len() as u64).saturating_add(weight_of(value)),
        Val::Flags(names) => names.iter().fold(0, |sum: u64, name| {
            sum.saturating_add(name.len() as u64 + 10)
        }),
        Val::Option(Some(value)) | Val::Result(Ok(Some(value)) | Err(Some(value))) => {
            weight_of(value)
        }
        _ => 0,
    };
    inside.saturating_add(10)
}

/// Gives lent handles back; a call must not end with one kept.
fn give_back(store: &mut StoreContextMut<'_, Host>, parameters: &[Val]) -> Result<()> {
    for parameter in parameters {
        match parameter {
            Val::Resource(handle) => handle.resource_drop(&mut *store)?,
            Val::List(handles) => give_back(store, handles)?,
            _ => {}
        }
    }
    Ok(())
}

/// The constant answer of a function, or a trap.
fn answer(
    store: &mut StoreContextMut<'_, Host>,
    interface: &str,
    function: &str,
    parameters: &[Val],
) -> Result<Option<Val>> {
    let of = interface.strip_prefix("wasi:").unwrap_or_default();
    let answer = match (of, function) {
        ("cli/environment", "get-environment" | "get-arguments")
        | ("filesystem/preopens", "get-directories") => Val::List(Vec::new()),
        ("cli/environment", "initial-cwd") | ("filesystem/types", "filesystem-error-code") => {
            Val::Option(None)
        }
        (_, "get-terminal-stdin" | "get-terminal-stdout" | "get-terminal-stderr") => {
            Val::Option(None)
        }
        ("cli/stdin", "get-stdin") => handle(store, "input-stream")?,
        ("cli/stdout", "get-stdout") | ("cli/stderr", "get-stderr") => {
            handle(store, "output-stream")?
        }
        ("clocks/monotonic-clock", "now") => Val::U64(0),
        ("clocks/monotonic-clock", "resolution") => Val::U64(1),
        ("clocks/monotonic-clock", "subscribe-instant" | "subscribe-duration") => {
            handle(store, "pollable")?
        }
        ("clocks/wall-clock", "now") => datetime(0),
        ("clocks/wall-clock", "resolution") => datetime(1),
        ("io/error", "[method]error.to-debug-string") => Val::String(String::new()),
        ("io/poll", "[method]pollable.ready") => Val::Bool(true),
        ("io/poll", "[method]pollable.block") => return Ok(None),
        ("io/poll", "poll") => all_ready(parameters)?,
        ("io/streams", _) => return stream(store, function).map(Some),
        ("random/random", "get-random-bytes")
        | ("random/insecure", "get-insecure-random-bytes") => {
            Val::List(bytes(store, parameters)?.into_iter().map(Val::U8).collect())
        }
        ("random/random", "get-random-u64") | ("random/insecure", "get-insecure-random-u64") => {
            Val::U64(word(store))
        }
        ("random/insecure-seed", "insecure-seed") => {
            Val::Tuple(vec![Val::U64(word(store)), Val::U64(word(store))])
        }
        _ => bail!("`{interface}/{function}` is not there: WASI is frozen"),
    };
    Ok(Some(answer))
}

/// Output is taken and discarded; input is at its end.
fn stream(store: &mut StoreContextMut<'_, Host>, function: &str) -> Result<Val> {
    let Some((kind, method)) = function
        .strip_prefix("[method]")
        .and_then(|method| method.split_once('.'))
    else {
        bail!("`wasi:io/streams/{function}` is not there: WASI is frozen");
    };
    Ok(match (kind, method) {
        (_, "subscribe") => handle(store, "pollable")?,
        ("output-stream", "check-write") => {
            Val::Result(Ok(Some(Box::new(Val::U64(WRITE_AT_ONCE)))))
        }
        ("output-stream", "splice" | "blocking-splice") | ("input-stream", _) => {
            Val::Result(Err(Some(Box::new(Val::Variant("closed".to_owned(), None)))))
        }
        ("output-stream", _) => Val::Result(Ok(None)),
        _ => bail!("`wasi:io/streams/{function}` is not there: WASI is frozen"),
    })
}

/// A handle to nothing: all of a kind are alike.
fn handle(store: &mut StoreContextMut<'_, Host>, kind: &str) -> Result<Val> {
    let at = RESOURCES
        .iter()
        .position(|one| *one == kind)
        .unwrap_or_default();
    let handle = ResourceDynamic::new_own(0, at as u32);
    Ok(Val::Resource(handle.try_into_resource_any(store)?))
}

fn datetime(nanoseconds: u32) -> Val {
    Val::Record(vec![
        ("seconds".to_owned(), Val::U64(0)),
        ("nanoseconds".to_owned(), Val::U32(nanoseconds)),
    ])
}

fn all_ready(parameters: &[Val]) -> Result<Val> {
    match parameters {
        [Val::List(pollables)] => Ok(Val::List(
            (0..pollables.len() as u32).map(Val::U32).collect(),
        )),
        _ => bail!("`wasi:io/poll/poll` has another type than in WASI 0.2"),
    }
}

fn bytes(store: &mut StoreContextMut<'_, Host>, parameters: &[Val]) -> Result<Vec<u8>> {
    let [Val::U64(len)] = parameters else {
        bail!("random bytes are asked for by their number")
    };
    charge(store, fuel(0, *len))?;
    // A dynamic value takes some ten times the byte it holds.
    store.data().reserve(len.saturating_mul(10))?;
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < *len {
        bytes.extend_from_slice(&word(store).to_le_bytes());
    }
    bytes.truncate(*len as usize);
    Ok(bytes)
}

/// The next word of the public stream.
fn word(store: &mut StoreContextMut<'_, Host>) -> u64 {
    let drawn = store.data_mut().next_frozen_word();
    let block = Sha256::new()
        .chain_update(SEED)
        .chain_update(drawn.to_le_bytes())
        .finalize();
    let mut word = [0; 8];
    word.copy_from_slice(&block[..8]);
    u64::from_le_bytes(word)
}
