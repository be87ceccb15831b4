//! Ends a whole step from outside: cancelled, or too long on the clock.
//!
//! ```text
//! cancel flag, clock ──every 20 ms──> watch thread ──epoch──> running guests trap ──> the step's error
//! ```
//! A clock must never decide about a single unit: if one unit's load could turn
//! another's contribution into zero, its influence would not be bounded. So an
//! interrupted guest is no zero vector but the end of the step, with the charge
//! kept. A guest cannot bring this trap about itself.
//!
//! The epoch belongs to the loaded [`crate::Guest`]: two sessions of one guest at
//! the same time end together. A kernel cannot be interrupted; its size is bounded
//! ([`crate::kernels::FLOPS_MAX`]).

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use wasmtime::{Engine, Trap};

use crate::error::SandboxError;

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Why and when a step is to end.
pub(crate) struct Watch<'a> {
    engine: &'a Engine,
    cancel: &'a AtomicBool,
    limit: Duration,
    over_time: AtomicBool,
    finished: AtomicBool,
}

impl<'a> Watch<'a> {
    /// Runs `step` and ends it early when `cancel` is set or `limit` is over.
    ///
    /// # Errors
    /// The step's own; [`SandboxError::Cancelled`] becomes
    /// [`SandboxError::TimedOut`] if the clock was the reason.
    pub(crate) fn run<T>(
        engine: &'a Engine,
        cancel: &'a AtomicBool,
        limit: Duration,
        step: impl FnOnce(&Watch<'a>) -> Result<T, SandboxError>,
    ) -> Result<T, SandboxError> {
        let (over_time, finished) = (AtomicBool::new(false), AtomicBool::new(false));
        let watch = Watch {
            engine,
            cancel,
            limit,
            over_time,
            finished,
        };
        thread::scope(|scope| {
            let watcher = scope.spawn(|| watch.look());
            // Also when `step` panics, or the scope would wait for ever.
            let done = Finish {
                finished: &watch.finished,
                watcher: watcher.thread(),
            };
            let ended = step(&watch);
            drop(done);
            match ended {
                Err(SandboxError::Cancelled) if watch.over_time.load(Ordering::Relaxed) => {
                    Err(SandboxError::TimedOut {
                        limit_seconds: limit.as_secs(),
                    })
                }
                ended => ended,
            }
        })
    }

    /// Whether the step is to end.
    pub(crate) fn ends(&self) -> bool {
        self.cancel.load(Ordering::Relaxed) || self.over_time.load(Ordering::Relaxed)
    }

    fn look(&self) {
        let started = Instant::now();
        while !self.finished.load(Ordering::Relaxed) {
            if started.elapsed() > self.limit {
                self.over_time.store(true, Ordering::Relaxed);
            }
            if self.ends() {
                // Each time: instances made since the last look have a later deadline.
                self.engine.increment_epoch();
            }
            thread::park_timeout(LOOK_EVERY);
        }
    }
}

struct Finish<'a> {
    finished: &'a AtomicBool,
    watcher: &'a thread::Thread,
}

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.finished.store(true, Ordering::Relaxed);
        self.watcher.unpark();
    }
}

/// Whether a guest ended because the step is to end.
pub(crate) fn interrupted(error: &wasmtime::Error) -> bool {
    matches!(error.downcast_ref::<Trap>(), Some(Trap::Interrupt))
}
