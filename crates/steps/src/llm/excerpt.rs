//! Few and short excerpts of a text that comes in many small pieces.

use std::time::{Duration, Instant};

/// Between two excerpts.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest excerpt; of more, the end is shown.
const CHARS_MAX: usize = 400;

/// What was told since the last excerpt.
#[derive(Debug, Default)]
pub(super) struct Excerpt {
    pending: String,
    last: Option<Instant>,
}

impl Excerpt {
    /// Adds a piece; returns an excerpt if it is time for one.
    pub(super) fn take(&mut self, piece: &str, now: Instant) -> Option<String> {
        self.pending.push_str(piece);
        let skipped = self.pending.chars().count().saturating_sub(CHARS_MAX);
        if skipped > 0 {
            self.pending = self.pending.chars().skip(skipped).collect();
        }
        let early = self.last.is_some_and(|last| now < last + PAUSE);
        if early || self.pending.trim().is_empty() {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.pending))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_are_at_most_two_a_second_and_of_bounded_length() {
        let (mut excerpt, start) = (Excerpt::default(), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        let told: Vec<String> = (0..10_000)
            .filter_map(|ms| excerpt.take("abc ", at(ms)))
            .collect();
        assert_eq!(told.len(), 20);
        assert!(told.iter().all(|text| text.chars().count() <= CHARS_MAX));
    }

    #[test]
    fn nothing_is_lost_between_two_excerpts_that_are_short() {
        let (mut excerpt, start) = (Excerpt::default(), Instant::now());
        assert_eq!(excerpt.take("one", start).as_deref(), Some("one"));
        assert_eq!(excerpt.take(" two", start), None);
        let later = start + PAUSE;
        assert_eq!(excerpt.take(" three", later).as_deref(), Some(" two three"));
        assert_eq!(excerpt.take("", later + PAUSE), None);
    }
}
