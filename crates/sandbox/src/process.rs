//! One worker process, seen from the parent.
//!
//! ```text
//! this program again, with ARGUMENT ─ no environment, `/`, a process group of its own
//!   0  the line's socket      1  the board (a memory file)      2  the null device
//! ```
//! The parent trusts a worker until guest bytes have reached it: `Ready` can be
//! believed, all later messages may be the guest's. A worker is asked one thing
//! at a time and owes one answer; waiting for it ends when the step is to end,
//! and then the worker is killed. Dropping a [`Worker`] kills it.
//!
//! Not here: what becomes of a unit whose worker died ([`crate::lanes`]).

use std::io::{self, ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::board::View;
use crate::error::SandboxError;
use crate::jail::{Layer, Layers};
use crate::limits::Limits;
use crate::messages::{self, Kind, Role};
use crate::watch::Watch;
use crate::wire::{HEADER_BYTES, Header, Line};

/// What makes this program a worker: its only argument.
pub(crate) const ARGUMENT: &str = "sandbox-worker";

/// Whether this program has said that it serves workers.
pub(crate) static CAN_SERVE: AtomicBool = AtomicBool::new(false);

/// This program, whatever has happened to its file.
const PROGRAM: &str = "/proc/self/exe";

/// How often a waiting parent looks whether the step is to end.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A worker that starts at all does so in much less.
const START_MAX: Duration = Duration::from_secs(60);

/// How long a worker that hung up may take to die by itself.
const DYING_MAX: Duration = Duration::from_secs(5);

/// A worker process.
pub(crate) struct Worker {
    child: Child,
    line: Line<UnixStream>,
    /// Of a private worker's board.
    view: Option<View>,
    bytes_max: u64,
    layers: Layers,
}

/// Why a worker did not answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The step is to end, or the machine failed; says nothing of the worker.
    Ended(SandboxError),
    /// It died, or it does not keep to the protocol (and was killed).
    Died(Death),
}

/// How a worker died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    /// By a signal that a process cannot cause in its jail: somebody, or a lack
    /// of memory, killed it.
    FromOutside(i32),
    /// It says that it could not make an instance; before any unit was shown, if it is honest.
    NoInstance,
    /// By its own doing: a crash, a forbidden system call, an exit, nonsense.
    Itself(Option<i32>),
}

impl Worker {
    /// Starts a worker and checks its jail.
    ///
    /// # Errors
    /// [`SandboxError::Jail`] if a required layer is missing;
    /// [`SandboxError::Engine`] if this machine cannot start it.
    pub(crate) fn start(role: Role, limits: &Limits) -> Result<Worker, SandboxError> {
        if !CAN_SERVE.load(Ordering::Relaxed) {
            return Err(SandboxError::engine(
                "this program does not serve workers; call `noisegate_sandbox::serve_workers()` \
                 first in `main`",
            ));
        }
        let mut worker = Worker::spawn(role, limits).map_err(SandboxError::engine)?;
        let watch = Watch::for_at_most(START_MAX);
        let hello = messages::hello(role, limits);
        let (kind, payload) = worker
            .ask(Kind::Hello, &[&hello], &watch)
            .map_err(|failure| failure.at_work("starting"))?;
        match kind {
            Kind::Ready => {
                worker.layers = messages::read_ready(&payload).map_err(SandboxError::engine)?;
            }
            Kind::Refused => {
                return Err(messages::read_refused(&payload, "").map_err(SandboxError::engine)?);
            }
            _ => {
                return Err(SandboxError::engine(
                    "a worker does not speak this program's protocol",
                ));
            }
        }
        // A compiler times itself; it sees nothing that its clock could tell on.
        let exempt = match role {
            Role::Compiler => Layers::NONE.with(Layer::Clock),
            Role::Public | Role::Private => Layers::NONE,
        };
        let required = limits.isolation.required.without(exempt);
        let missing = required.without(worker.layers);
        if !missing.is_empty() {
            return Err(SandboxError::Jail {
                missing: missing.to_string(),
            });
        }
        Ok(worker)
    }

    /// The layers of its jail.
    pub(crate) fn layers(&self) -> Layers {
        self.layers
    }

    fn spawn(role: Role, limits: &Limits) -> io::Result<Worker> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(LOOK_EVERY))?;
        let board = memory_file()?;
        let bytes_max = limits.message_bytes_max(role);
        let view = if role == Role::Private {
            // Both map the board, which may not grow by a mapping; no byte takes memory before it
            // is written, or read through a mapping.
            board.set_len(bytes_max)?;
            Some(View::map(&board, bytes_max as usize)?)
        } else {
            None
        };
        let threads = if role == Role::Compiler {
            limits.lanes()
        } else {
            1
        };
        let child = Command::new(PROGRAM)
            .arg(ARGUMENT)
            .env_clear()
            // The compiler's thread pool would read files to count the cores.
            .env("RAYON_NUM_THREADS", threads.to_string())
            .current_dir("/")
            // Ctrl-C is for the parent, which ends the step in order.
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(board.try_clone()?))
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Worker {
            child,
            line: Line {
                socket: ours,
                board,
            },
            view,
            bytes_max,
            layers: Layers::NONE,
        })
    }

    /// Asks, and waits for the answer with its payload.
    pub(crate) fn ask(
        &mut self,
        kind: Kind,
        parts: &[&[u8]],
        watch: &Watch<'_>,
    ) -> Result<(Kind, Vec<u8>), Failure> {
        let header = self.exchange(kind, parts, watch)?;
        let answer = Kind::from_number(header.kind).map_err(io::Error::from);
        let payload = self.line.payload(header, self.bytes_max);
        match (answer, payload) {
            (Ok(kind), Ok(payload)) => Ok((kind, payload)),
            _ => Err(self.misbehaved()),
        }
    }

    /// Asks for floats; the answer must be exactly as many as fill `into`.
    pub(crate) fn ask_floats(
        &mut self,
        kind: Kind,
        parts: &[&[u8]],
        into: &mut [f32],
        watch: &Watch<'_>,
    ) -> Result<(), Failure> {
        let header = self.exchange(kind, parts, watch)?;
        if header.kind == Kind::Refused as u32 {
            self.kill();
            return Err(Failure::Died(Death::NoInstance));
        }
        let expected = Header {
            kind: Kind::Contributions as u32,
            len: size_of_val(into) as u64,
        };
        match &self.view {
            Some(view) if header == expected && view.read(into).is_ok() => Ok(()),
            _ => Err(self.misbehaved()),
        }
    }

    fn exchange(
        &mut self,
        kind: Kind,
        parts: &[&[u8]],
        watch: &Watch<'_>,
    ) -> Result<Header, Failure> {
        match self.line.post(kind as u32, parts) {
            Ok(()) => self.header(watch),
            Err(error) => Err(self.hung_up_or(error)),
        }
    }

    fn header(&mut self, watch: &Watch<'_>) -> Result<Header, Failure> {
        let (mut bytes, mut filled) = ([0; HEADER_BYTES], 0);
        while filled < HEADER_BYTES {
            match self.line.socket.read(&mut bytes[filled..]) {
                Ok(0) => return Err(Failure::Died(self.bury())),
                Ok(read) => filled += read,
                Err(error) if is_no_answer_yet(&error) => {}
                Err(error) => return Err(self.hung_up_or(error)),
            }
            if let (Some(end), true) = (watch.end(), filled < HEADER_BYTES) {
                return Err(Failure::Ended(end));
            }
        }
        Header::from_bytes(&bytes).map_err(|_| self.misbehaved())
    }

    /// A worker can bring about a broken line and no other failure: any other is the machine's, and
    /// must not be taken for the doing of the unit in flight.
    fn hung_up_or(&mut self, error: io::Error) -> Failure {
        match error.kind() {
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Failure::Died(self.bury()),
            _ => Failure::Ended(SandboxError::engine(error)),
        }
    }

    fn misbehaved(&mut self) -> Failure {
        self.kill();
        Failure::Died(Death::Itself(None))
    }

    /// Finds out how a worker that hung up died.
    fn bury(&mut self) -> Death {
        let mut waited = Duration::ZERO;
        while waited < DYING_MAX {
            match self.child.try_wait() {
                Ok(Some(status)) => return Death::from(status),
                Ok(None) => std::thread::sleep(Duration::from_millis(1)),
                Err(_) => break,
            }
            waited += Duration::from_millis(1);
        }
        self.kill();
        Death::Itself(None)
    }

    fn kill(&mut self) {
        // Both fail only if it is dead and buried already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Failure {
    /// As an error, where no unit is concerned.
    pub(crate) fn at_work(self, work: &'static str) -> SandboxError {
        match self {
            Failure::Ended(end) => end,
            Failure::Died(death) => SandboxError::Worker {
                work,
                how: death.to_string(),
            },
        }
    }
}

impl From<ExitStatus> for Death {
    fn from(status: ExitStatus) -> Self {
        match status.signal() {
            Some(
                signal @ (libc::SIGKILL
                | libc::SIGTERM
                | libc::SIGINT
                | libc::SIGHUP
                | libc::SIGQUIT
                | libc::SIGXCPU),
            ) => Death::FromOutside(signal),
            other => Death::Itself(other),
        }
    }
}

impl std::fmt::Display for Death {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Death::FromOutside(signal) => write!(f, "was killed by signal {signal}"),
            Death::NoInstance => f.write_str("could not make an instance"),
            Death::Itself(Some(libc::SIGSYS)) => {
                f.write_str("aborted, or made a system call that its jail forbids")
            }
            Death::Itself(Some(signal)) => write!(f, "crashed with signal {signal}"),
            Death::Itself(None) => f.write_str("ended or did not keep to the protocol"),
        }
    }
}

fn is_no_answer_yet(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

/// A file in memory that nobody can make shorter: reading a mapping of it never ends in a signal.
#[cfg(target_os = "linux")]
fn memory_file() -> io::Result<std::fs::File> {
    use memfd::{FileSeal, MemfdOptions};
    let options = MemfdOptions::default()
        .close_on_exec(true)
        .allow_sealing(true);
    let file = options
        .create("noisegate-board")
        .map_err(io::Error::other)?;
    file.add_seals(&[FileSeal::SealShrink, FileSeal::SealSeal])
        .map_err(io::Error::other)?;
    Ok(file.into_file())
}

#[cfg(not(target_os = "linux"))]
fn memory_file() -> io::Result<std::fs::File> {
    Err(io::Error::other("guests are run on Linux alone"))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// A worker that never answers, whose board cannot be written to.
    fn idle() -> (Worker, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let worker = Worker {
            child: Command::new("sleep").arg("60").spawn().unwrap(),
            line: Line {
                socket: ours,
                board: std::fs::File::open("/dev/null").unwrap(),
            },
            view: None,
            bytes_max: 0,
            layers: Layers::NONE,
        };
        (worker, theirs)
    }

    #[test]
    fn a_board_that_cannot_be_written_to_is_no_death_of_its_worker() {
        let (mut worker, _theirs) = idle();
        let watch = Watch::for_at_most(Duration::from_secs(9));
        let failure = worker.ask_floats(Kind::Units, &[b"unit"], &mut [], &watch);
        let ended = matches!(failure, Err(Failure::Ended(SandboxError::Engine { .. })));
        assert!(ended, "{failure:?}");
        assert!(worker.child.try_wait().unwrap().is_none());
    }

    #[test]
    fn a_worker_that_hung_up_has_died() {
        let (mut worker, theirs) = idle();
        drop(theirs);
        worker.child.kill().unwrap();
        let watch = Watch::for_at_most(Duration::from_secs(9));
        let failure = worker.ask_floats(Kind::Units, &[], &mut [], &watch);
        let died = matches!(
            failure,
            Err(Failure::Died(Death::FromOutside(libc::SIGKILL)))
        );
        assert!(died, "{failure:?}");
    }

    #[test]
    fn a_board_can_be_made_longer_and_never_shorter() {
        use memfd::{FileSeal, Memfd};
        let board = Memfd::try_from_fd(memory_file().unwrap()).unwrap();
        let sealed = [FileSeal::SealShrink, FileSeal::SealSeal];
        assert_eq!(board.seals().unwrap(), sealed.into());
        assert!(board.add_seal(FileSeal::SealGrow).is_err());
        let board = board.as_file();
        board.set_len(100).unwrap();
        board.set_len(5000).unwrap();
        assert!(board.set_len(4999).is_err());
        assert_eq!(board.metadata().unwrap().len(), 5000);
    }
}
