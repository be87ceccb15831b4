//! Ends a whole step from outside: cancelled, or too long on the clock.
//!
//! A clock must never decide about a single unit: if one unit's load could turn
//! another's contribution into zero, its influence would not be bounded. So a
//! step that is to end kills its workers and ends with an error, with the charge
//! kept. A guest cannot bring this about itself, but by working until then.
//!
//! The parent looks whenever it waits for a worker ([`crate::process`]).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::SandboxError;

/// Why and when waiting is to end.
pub(crate) struct Watch<'a> {
    cancel: Option<&'a AtomicBool>,
    started: Instant,
    limit: Duration,
}

impl<'a> Watch<'a> {
    /// From now on for at most `seconds`, or until `cancel` is set.
    pub(crate) fn step(cancel: Option<&'a AtomicBool>, seconds: u64) -> Self {
        Watch {
            cancel,
            started: Instant::now(),
            limit: Duration::from_secs(seconds),
        }
    }

    /// From now on for at most `limit`.
    pub(crate) fn for_at_most(limit: Duration) -> Watch<'static> {
        Watch {
            cancel: None,
            started: Instant::now(),
            limit,
        }
    }

    /// Why the step is to end, if it is.
    pub(crate) fn end(&self) -> Option<SandboxError> {
        if self.cancel.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
            return Some(SandboxError::Cancelled);
        }
        (self.started.elapsed() > self.limit).then_some(SandboxError::TimedOut {
            limit_seconds: self.limit.as_secs(),
        })
    }

    /// Sleeps until `ms` divides the time since `from`, unless the step ends.
    pub(crate) fn sleep_to_multiple(&self, from: Instant, ms: u64) -> Result<(), SandboxError> {
        let Some(tick) = (ms > 0).then(|| Duration::from_millis(ms)) else {
            return Ok(());
        };
        let ticks = from.elapsed().as_nanos().div_ceil(tick.as_nanos());
        let until = from + tick.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX));
        loop {
            if let Some(end) = self.end() {
                return Err(end);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(20)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_waits_for_the_next_tick() {
        let watch = Watch::for_at_most(Duration::from_secs(60));
        let from = Instant::now();
        watch.sleep_to_multiple(from, 0).unwrap();
        std::thread::sleep(Duration::from_millis(35));
        watch.sleep_to_multiple(from, 30).unwrap();
        assert!(from.elapsed() >= Duration::from_millis(60));
    }

    #[test]
    fn a_step_that_is_cancelled_waits_no_longer() {
        let cancel = AtomicBool::new(true);
        let watch = Watch::step(Some(&cancel), 60);
        let slept = watch.sleep_to_multiple(Instant::now(), 60_000);
        assert!(matches!(slept, Err(SandboxError::Cancelled)));
    }
}
