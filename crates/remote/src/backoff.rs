//! How long to wait before asking again: exponential, capped, spread out.
//!
//! # Source
//! Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 ("equal jitter").

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);
/// A server that asks for more patience than this is not waited for any longer.
const LONGEST_ASKED: Duration = Duration::from_secs(120);

/// The wait before attempt `attempt + 1`.
///
/// - `attempt`: attempts made so far, from 1.
/// - `asked`: the server's `Retry-After`; at least that long is waited, up to two minutes.
/// - `spread`: any number; half of the wait is a share of it, so that workers that failed
///   together do not come back together.
pub(crate) fn wait(attempt: u32, asked: Option<Duration>, spread: u64) -> Duration {
    let doubled = FIRST.saturating_mul(1 << attempt.saturating_sub(1).min(16));
    let longest = doubled.min(LONGEST);
    let share = (spread >> 11) as f64 / (1u64 << 53) as f64;
    let jittered = longest.mul_f64(0.5 + 0.5 * share);
    jittered.max(asked.unwrap_or_default().min(LONGEST_ASKED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_cap_and_spread_over_half_of_it() {
        let bounds = |attempt| (wait(attempt, None, 0), wait(attempt, None, u64::MAX));
        let ms = Duration::from_millis;
        assert_eq!(bounds(1).0, ms(250));
        assert!(bounds(1).1 > ms(499) && bounds(1).1 <= ms(500));
        assert_eq!(bounds(3).0, ms(1000));
        for attempt in 8..40 {
            assert_eq!(bounds(attempt).0, LONGEST / 2);
            assert!(bounds(attempt).1 <= LONGEST);
        }
    }

    #[test]
    fn a_server_is_waited_for_as_long_as_it_asks_within_reason() {
        let asked = |seconds| wait(1, Some(Duration::from_secs(seconds)), 0);
        assert_eq!(asked(7), Duration::from_secs(7));
        assert_eq!(asked(100_000), LONGEST_ASKED);
        assert_eq!(asked(0), Duration::from_millis(250));
    }
}
