//! The other end: what runs in a worker process.
//!
//! ```text
//! serve_workers() ─ close files ─ engine ─ jail ─ Ready ─┬─ compiler:  bytes ──> machine code
//!                                                        ├─ public:    start, next, absorb, outputs
//!                                                        └─ private:   units ──> contributions
//! ```
//! A worker knows limits, public data and, one after the other, the units of its
//! lane. It has neither seeds, sums, ledger nor files. It answers what it is
//! asked; if the line ends or says nonsense, it exits.
//!
//! Start with [`serve_workers`], then `private.rs`.

mod compiler;
mod private;
mod public;

use std::fs::File;
use std::io;
use std::os::fd::FromRawFd;
use std::process::exit;
use std::sync::atomic::Ordering;

use crate::Unit;
use crate::engine::engine;
use crate::jail;
use crate::kernels::math;
use crate::limits::Limits;
use crate::messages::{self, Kind, Role};
use crate::process::{ARGUMENT, CAN_SERVE};
use crate::wire::{HEADER_BYTES, Header, Line, Malformed};

pub(crate) use compiler::compile;

/// Makes this program one that can run guests: call it first in `main`.
///
/// In a process that was started as a worker it serves and never returns;
/// everywhere else it returns at once.
pub fn serve_workers() {
    serve_workers_with(|_| {});
}

/// As [`serve_workers`], for tests: `escape` runs in the jailed worker with
/// every unit, just before the guest does, as code of a guest that has broken out
/// of WebAssembly would.
#[doc(hidden)]
pub fn serve_workers_with(escape: fn(&Unit)) {
    CAN_SERVE.store(true, Ordering::Relaxed);
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == ARGUMENT) {
        // The parent learns of an end by the line; nobody reads the code.
        exit(i32::from(serve(escape).is_err()));
    }
}

/// Makes a test binary, whose `main` belongs to the test harness, serve workers.
///
/// ```ignore
/// noisegate_sandbox::serve_workers_in_tests!();
/// ```
#[macro_export]
macro_rules! serve_workers_in_tests {
    () => {
        $crate::serve_workers_in_tests!(|_| {});
    };
    ($escape:expr) => {
        #[used]
        #[cfg_attr(target_os = "linux", unsafe(link_section = ".init_array"))]
        static SERVE_WORKERS: extern "C" fn() = {
            extern "C" fn serve() {
                $crate::serve_workers_with($escape);
            }
            serve
        };
    };
}

/// The worker's end of the line, and what it was told at the start.
struct Desk {
    line: Line<File>,
    role: Role,
    limits: Limits,
}

fn serve(escape: fn(&Unit)) -> io::Result<()> {
    // What panics say may be private.
    std::panic::set_hook(Box::new(|_| {}));
    jail::close_inherited();
    let mut line = take_line();
    let header = read_header(&mut line)?;
    let (role, limits) = messages::read_hello(&line.payload(header, u64::MAX)?)?;
    let mut desk = Desk { line, role, limits };
    // Before the jail: it looks at the machine (page map, caches).
    let engine = match engine(&desk.limits) {
        Ok(engine) => engine,
        Err(error) => return desk.answer(Kind::Refused, &messages::refused(&error)),
    };
    if role != Role::Compiler {
        math::warm_up();
    }
    let layers = jail::enforce(role, &desk.limits);
    desk.answer(Kind::Ready, &messages::ready(layers))?;
    match role {
        Role::Compiler => compiler::serve(&mut desk, &engine),
        Role::Public => public::serve(&mut desk, &engine),
        Role::Private => private::serve(&mut desk, &engine, escape),
    }
}

impl Desk {
    /// The next thing asked; the payload is the parent's, who may send any length.
    fn asked(&mut self) -> io::Result<(Kind, Vec<u8>)> {
        let header = read_header(&mut self.line)?;
        let payload = self.line.payload(header, u64::MAX)?;
        Ok((Kind::from_number(header.kind)?, payload))
    }

    fn answer(&mut self, kind: Kind, payload: &[u8]) -> io::Result<()> {
        self.line.post(kind as u32, &[payload])
    }

    /// Answers `kind`, or the refusal.
    fn answer_or_refuse(
        &mut self,
        kind: Kind,
        result: Result<Vec<u8>, crate::SandboxError>,
    ) -> io::Result<()> {
        match result {
            Ok(payload) => self.answer(kind, &payload),
            Err(error) => self.answer(Kind::Refused, &messages::refused(&error)),
        }
    }
}

/// The line, which the parent has put where standard input and output are.
fn take_line() -> Line<File> {
    // SAFETY: `Worker::spawn` opened both for this process alone; nothing else in
    // a worker reads standard input or writes standard output.
    #[allow(unsafe_code, reason = "descriptors 0 and 1 have no owner yet")]
    unsafe {
        Line {
            socket: File::from_raw_fd(0),
            board: File::from_raw_fd(1),
        }
    }
}

fn read_header(line: &mut Line<File>) -> io::Result<Header> {
    use std::io::Read;
    let mut bytes = [0; HEADER_BYTES];
    line.socket.read_exact(&mut bytes)?;
    Ok(Header::from_bytes(&bytes)?)
}

fn nonsense() -> io::Error {
    Malformed.into()
}
