//! What the parent and a worker say to each other.
//!
//! ```text
//! Hello ──> Ready                    every worker: its jail stands, no guest byte has arrived
//! Compile ──> Compiled | Refused     a compiler, once
//! Inspect ──> Inspected | Refused    a compiler, once
//! Load ──> Done | Refused            a runner: the compiled guest
//!   Start, Next, Absorb, Outputs     the public side's
//!   Setup, Query, Units, Rehearse    the private sides'
//! ```
//! Decoders run in the parent on bytes of a worker that its guest may have taken
//! over; they check everything and borrow from the payload. A private worker's
//! only answer about units is a row of floats of a length that the parent knows
//! beforehand.

use crate::gate::Rehearsal;
use crate::jail::Layers;
use crate::limits::{InstanceLimits, Isolation, Limits};
use crate::wasi::Wasi;
use crate::wire::{Malformed, Reader, Writer};
use crate::{File, SandboxError, TextRecord, Unit};

/// The messages' numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    Hello = 1,
    Compile,
    Inspect,
    Load,
    Start,
    Next,
    Absorb,
    Outputs,
    Setup,
    Query,
    Units,
    Rehearse,
    Ready = 101,
    Compiled,
    Inspected,
    Done,
    Started,
    Turned,
    Files,
    Contributions,
    Rehearsed,
    Refused,
}

impl Kind {
    pub(crate) fn from_number(number: u32) -> Result<Kind, Malformed> {
        const ALL: [Kind; 22] = [
            Kind::Hello,
            Kind::Compile,
            Kind::Inspect,
            Kind::Load,
            Kind::Start,
            Kind::Next,
            Kind::Absorb,
            Kind::Outputs,
            Kind::Setup,
            Kind::Query,
            Kind::Units,
            Kind::Rehearse,
            Kind::Ready,
            Kind::Compiled,
            Kind::Inspected,
            Kind::Done,
            Kind::Started,
            Kind::Turned,
            Kind::Files,
            Kind::Contributions,
            Kind::Rehearsed,
            Kind::Refused,
        ];
        let found = ALL.into_iter().find(|kind| *kind as u32 == number);
        found.ok_or(Malformed)
    }
}

/// What a worker is for; decides what its jail lets it do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Turns a component's bytes into machine code, and describes it.
    Compiler,
    /// Runs a public side; sees no unit.
    Public,
    /// Runs private sides.
    Private,
}

pub(crate) fn hello(role: Role, limits: &Limits) -> Vec<u8> {
    let mut to = Writer::default();
    to.u8(role as u8);
    write_limits(&mut to, limits);
    to.0
}

pub(crate) fn read_hello(payload: &[u8]) -> Result<(Role, Limits), Malformed> {
    let mut from = Reader::new(payload);
    let role = match from.u8()? {
        0 => Role::Compiler,
        1 => Role::Public,
        2 => Role::Private,
        _ => return Err(Malformed),
    };
    let limits = read_limits(&mut from)?;
    from.end()?;
    Ok((role, limits))
}

pub(crate) fn ready(layers: Layers) -> Vec<u8> {
    let mut to = Writer::default();
    to.u32(layers.bits());
    to.0
}

pub(crate) fn read_ready(payload: &[u8]) -> Result<Layers, Malformed> {
    let mut from = Reader::new(payload);
    let layers = Layers::from_bits(from.u32()?);
    from.end()?;
    Ok(layers)
}

/// Public tensors and bytes, as they cross from the public side to the private ones.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ContextParts<'a> {
    /// Floats as bytes.
    pub(crate) tensors: Vec<&'a [u8]>,
    pub(crate) bytes: &'a [u8],
}

pub(crate) fn write_context(to: &mut Writer, tensors: &[Vec<f32>], bytes: &[u8]) {
    to.u32(tensors.len() as u32);
    for tensor in tensors {
        to.bytes(bytemuck::cast_slice(tensor));
    }
    to.bytes(bytes);
}

pub(crate) fn read_context<'a>(from: &mut Reader<'a>) -> Result<ContextParts<'a>, Malformed> {
    let count = from.count(8)?;
    let mut tensors = Vec::with_capacity(count);
    for _ in 0..count {
        let tensor = from.bytes()?;
        if tensor.len() % 4 != 0 {
            return Err(Malformed);
        }
        tensors.push(tensor);
    }
    let bytes = from.bytes()?;
    Ok(ContextParts { tensors, bytes })
}

/// What `start` announced, up to the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Announced {
    pub(crate) dim: u32,
    pub(crate) queries: u32,
}

/// Bytes that stand before the context in a [`Kind::Started`].
pub(crate) const ANNOUNCED_BYTES: usize = 8;

/// Bytes that stand before the context in a [`Kind::Turned`] that asks.
pub(crate) const TURN_BYTES: usize = 1;

pub(crate) fn read_started(payload: &[u8]) -> Result<(Announced, ContextParts<'_>), Malformed> {
    let mut from = Reader::new(payload);
    let announced = Announced {
        dim: from.u32()?,
        queries: from.u32()?,
    };
    let context = read_context(&mut from)?;
    from.end()?;
    Ok((announced, context))
}

/// What `next` answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Turned<'a> {
    Ask(ContextParts<'a>),
    Working { done: u32, total: u32 },
    Done,
}

pub(crate) fn read_turned(payload: &[u8]) -> Result<Turned<'_>, Malformed> {
    let mut from = Reader::new(payload);
    let turned = match from.u8()? {
        0 => Turned::Ask(read_context(&mut from)?),
        1 => Turned::Working {
            done: from.u32()?,
            total: from.u32()?,
        },
        2 => Turned::Done,
        _ => return Err(Malformed),
    };
    from.end()?;
    Ok(turned)
}

pub(crate) fn write_files(to: &mut Writer, files: &[File]) {
    to.u32(files.len() as u32);
    for file in files {
        to.text(&file.name).bytes(&file.data);
    }
}

pub(crate) fn read_files(from: &mut Reader<'_>) -> Result<Vec<File>, Malformed> {
    let count = from.count(16)?;
    let mut files = Vec::with_capacity(count);
    for _ in 0..count {
        files.push(File {
            name: from.text()?.to_owned(),
            data: from.bytes()?.to_vec(),
        });
    }
    Ok(files)
}

pub(crate) fn write_unit(to: &mut Writer, unit: &Unit) {
    to.u32(unit.records.len() as u32);
    for record in &unit.records {
        to.text(&record.text).text(&record.label);
    }
}

pub(crate) fn read_unit(from: &mut Reader<'_>) -> Result<Unit, Malformed> {
    let count = from.count(16)?;
    let mut records = Vec::with_capacity(count);
    for _ in 0..count {
        records.push(TextRecord {
            text: from.text()?.to_owned(),
            label: from.text()?.to_owned(),
        });
    }
    Ok(Unit { records })
}

pub(crate) fn rehearsed(seen: &Rehearsal) -> Vec<u8> {
    let mut to = Writer::default();
    to.u64(seen.fuel_used).u64(seen.norm.to_bits());
    to.u8(u8::from(seen.problem.is_some()));
    to.text(seen.problem.as_deref().unwrap_or_default());
    to.0
}

pub(crate) fn read_rehearsed(payload: &[u8]) -> Result<Rehearsal, Malformed> {
    let mut from = Reader::new(payload);
    let (fuel_used, norm) = (from.u64()?, f64::from_bits(from.u64()?));
    let failed = from.u8()? != 0;
    let problem = one_line(from.text()?);
    from.end()?;
    Ok(Rehearsal {
        problem: failed.then_some(problem),
        fuel_used,
        norm,
    })
}

/// A guest's words as one line, so that none of them passes for a line of this program.
fn one_line(text: &str) -> String {
    let breaks = |letter: char| letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}');
    let mut line = String::with_capacity(text.len());
    for letter in text.chars() {
        match breaks(letter) {
            true => line.extend(letter.escape_default()),
            false => line.push(letter),
        }
    }
    line
}

/// A worker's refusal, which only ever speaks of public things.
pub(crate) fn refused(error: &SandboxError) -> Vec<u8> {
    let (tag, text) = match error {
        SandboxError::NotAComponent { problem } => (1, problem.as_str()),
        SandboxError::ForbiddenImport { import, .. } => (2, import.as_str()),
        SandboxError::ImportType { problem } => (3, problem.as_str()),
        SandboxError::WrongExports { problem } => (4, problem.as_str()),
        SandboxError::Instantiate { problem } => (5, problem.as_str()),
        SandboxError::Guest { message, .. } => (6, message.as_str()),
        SandboxError::PublicTrap { problem, .. } => (7, problem.as_str()),
        SandboxError::Engine { problem } => (0, problem.as_str()),
        other => return refused_as_engine(&other.to_string()),
    };
    let mut to = Writer::default();
    to.u8(tag).text(text);
    to.0
}

fn refused_as_engine(problem: &str) -> Vec<u8> {
    let mut to = Writer::default();
    to.u8(0).text(problem);
    to.0
}

/// - `call`: the guest's function that the parent had asked for.
pub(crate) fn read_refused(payload: &[u8], call: &'static str) -> Result<SandboxError, Malformed> {
    let mut from = Reader::new(payload);
    let tag = from.u8()?;
    let text = one_line(from.text()?);
    from.end()?;
    Ok(match tag {
        0 => SandboxError::Engine { problem: text },
        1 => SandboxError::NotAComponent { problem: text },
        2 => SandboxError::ForbiddenImport {
            import: text,
            allowed: crate::kernels::INTERFACE,
        },
        3 => SandboxError::ImportType { problem: text },
        4 => SandboxError::WrongExports { problem: text },
        5 => SandboxError::Instantiate { problem: text },
        6 => SandboxError::Guest {
            call,
            message: text,
        },
        7 => SandboxError::PublicTrap {
            call,
            problem: text,
        },
        _ => return Err(Malformed),
    })
}

fn write_limits(to: &mut Writer, limits: &Limits) {
    // A worker has one lane; what only the parent enforces stays there.
    to.u64(limits.component_bytes_max as u64)
        .u64(limits.step_seconds_max)
        .u32(limits.dim_max)
        .u64(limits.output_bytes_max as u64)
        .u64(limits.keep_resident_bytes as u64)
        .u8(u8::from(limits.wasi == Wasi::Frozen));
    for side in [&limits.public, &limits.private] {
        to.u64(side.memory_bytes_max as u64)
            .u64(side.host_bytes_max as u64)
            .u64(side.call_bytes_max as u64)
            .u64(side.table_elements_max as u64)
            .u64(side.fuel_per_call);
    }
}

fn read_limits(from: &mut Reader<'_>) -> Result<Limits, Malformed> {
    let size = |value: u64| usize::try_from(value).map_err(|_| Malformed);
    let mut limits = Limits {
        threads: 1,
        component_bytes_max: size(from.u64()?)?,
        step_seconds_max: from.u64()?,
        dim_max: from.u32()?,
        output_bytes_max: size(from.u64()?)?,
        keep_resident_bytes: size(from.u64()?)?,
        wasi: match from.u8()? {
            0 => Wasi::Refused,
            1 => Wasi::Frozen,
            _ => return Err(Malformed),
        },
        isolation: Isolation::default(),
        ..Limits::default()
    };
    for side in [&mut limits.public, &mut limits.private] {
        *side = InstanceLimits {
            memory_bytes_max: size(from.u64()?)?,
            host_bytes_max: size(from.u64()?)?,
            call_bytes_max: size(from.u64()?)?,
            table_elements_max: size(from.u64()?)?,
            fuel_per_call: from.u64()?,
        };
    }
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_forges_no_line_of_this_program() {
        let message = "no\nnoisegate: all fine\r\u{2028}noisegate: done \u{1b}[2J".to_owned();
        let call = "start";
        let sent = refused(&SandboxError::Guest { call, message });
        let told = read_refused(&sent, call).unwrap().to_string();
        assert!(
            !told.contains(|it: char| it.is_control() || it == '\u{2028}'),
            "{told:?}"
        );
        assert!(
            told.contains("no\\nnoisegate: all fine\\r\\u{2028}"),
            "{told}"
        );
        let seen = Rehearsal {
            problem: Some("no\nnoisegate: all fine".to_owned()),
            fuel_used: 1,
            norm: 0.0,
        };
        let told = read_rehearsed(&rehearsed(&seen)).unwrap().problem.unwrap();
        assert_eq!(told, "no\\nnoisegate: all fine");
    }
}
