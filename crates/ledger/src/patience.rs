//! Waiting for other processes: for how long, and how long it has been.
//!
//! SQLite's own wait covers most cases. It turns a process away at once where two processes could
//! wait for each other, such as while one of them makes the ledger's file; what it refused then is
//! tried again here, less and less often, until the time is over.
//!
//! Deliberately absent: waiting for anything but a lock.

use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// The first pause between two tries; it doubles up to the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(1);
const PAUSE_LONGEST: Duration = Duration::from_millis(50);

/// A wait that has begun and will end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    limit: Duration,
    since: Instant,
}

impl Patience {
    /// Begins to wait, for `limit_ms` at most.
    pub(crate) fn of(limit_ms: u64) -> Self {
        Self {
            limit: Duration::from_millis(limit_ms),
            since: Instant::now(),
        }
    }

    /// The same limit, from now on.
    pub(crate) fn again(self) -> Self {
        Self {
            since: Instant::now(),
            ..self
        }
    }

    pub(crate) fn limit(self) -> Duration {
        self.limit
    }

    /// Until the limit; zero once it is over.
    pub(crate) fn left(self) -> Duration {
        self.limit.saturating_sub(self.since.elapsed())
    }

    /// Since this wait began, in whole milliseconds.
    pub(crate) fn waited_ms(self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Tries until nobody holds a lock that is in the way, or the time is over.
    ///
    /// # Errors
    /// That of the last try; any other than [`Error::Locked`] ends the wait at once.
    pub(crate) fn try_until_free<T>(self, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
        let mut pause = PAUSE_FIRST;
        loop {
            match attempt() {
                Err(Error::Locked { .. }) if !self.left().is_zero() => {
                    thread::sleep(pause.min(self.left()));
                    pause = (pause * 2).min(PAUSE_LONGEST);
                }
                // The try looked at the clock before this did.
                Err(Error::Locked { path, .. }) => {
                    let waited_ms = self.waited_ms();
                    return Err(Error::Locked { path, waited_ms });
                }
                ended => return ended,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locked(patience: Patience) -> Error {
        Error::Locked {
            path: "ledger.db".into(),
            waited_ms: patience.waited_ms(),
        }
    }

    #[test]
    fn a_lock_is_tried_again_until_it_is_free() {
        let patience = Patience::of(60_000);
        let mut tries = 0;
        let ended = patience.try_until_free(|| {
            tries += 1;
            (tries == 4).then_some(tries).ok_or(locked(patience))
        });
        assert_eq!(ended.unwrap(), 4);
    }

    #[test]
    fn a_lock_that_stays_is_given_up_after_the_whole_time_and_not_before() {
        let patience = Patience::of(120);
        let ended = patience.try_until_free(|| Err::<(), _>(locked(patience)));
        match ended.unwrap_err() {
            Error::Locked { waited_ms, .. } => assert!(waited_ms >= 120, "{waited_ms}"),
            other => panic!("{other:?}"),
        }
    }

    /// Also where the time ends while a try goes on.
    #[test]
    fn what_is_told_of_the_wait_is_its_whole_length() {
        let patience = Patience::of(20);
        let ended = patience.try_until_free(|| {
            let early = locked(patience);
            thread::sleep(Duration::from_millis(30));
            Err::<(), _>(early)
        });
        match ended.unwrap_err() {
            Error::Locked { waited_ms, .. } => assert!(waited_ms >= 20, "{waited_ms}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn another_error_is_not_tried_again() {
        let mut tries = 0;
        let ended: Result<()> = Patience::of(60_000).try_until_free(|| {
            tries += 1;
            Err(Error::NotALedger { path: "x".into() })
        });
        assert!(ended.is_err() && tries == 1, "{tries}");
    }
}
