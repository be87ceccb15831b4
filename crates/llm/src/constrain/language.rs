//! A regular language over bytes, as a table of states.
//!
//! The table holds live states only: from each of them an accepted text can be reached. Whole texts
//! are meant, as if the pattern stood between `^` and `$`.
//!
//! Deliberately absent: look-around that needs Unicode tables, captures, back references.

use std::collections::{HashMap, HashSet, VecDeque};

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, MatchKind};

/// No way on.
pub(super) const DEAD: u32 = u32::MAX;
/// No accepted text can be reached.
pub(super) const FAR: u32 = u32::MAX;

/// Most states of a table: 1 KiB each.
const STATES_MAX: usize = 8192;
/// Most memory of each stage before it, in bytes.
const BYTES_MAX: usize = 16 << 20;
/// The same for the stage whose time grows with it the most: some seconds.
const DETERMINIZE_BYTES_MAX: usize = 4 << 20;

/// The language of a pattern; state 0 is the start.
#[derive(Debug)]
pub(super) struct Language {
    /// By state and byte: the next state, or [`DEAD`].
    next: Vec<[u32; 256]>,
    accepting: Vec<bool>,
}

impl Language {
    /// Whether the pattern has an anchor, which could match nowhere in the midst of an answer.
    pub(super) fn has_anchor(pattern: &str) -> bool {
        syntax::parse(pattern).is_ok_and(|hir| hir.properties().look_set().contains_anchor())
    }

    /// The texts that `pattern` matches from beginning to end.
    ///
    /// # Errors
    /// What is wrong with the pattern, and what to do about it.
    pub(super) fn compile(pattern: &str) -> Result<Self, String> {
        syntax::parse(pattern).map_err(|error| {
            // The library draws the pattern and a caret; the last line is what it says of them.
            let drawn = error.to_string();
            let said = drawn.lines().last().unwrap_or_default();
            let said = said.trim_start_matches("error: ");
            format!("it is no regular expression: {said}")
        })?;
        let config = dense::Config::new()
            // All alternatives stay open: `a|ab` matches `ab` as a whole.
            .match_kind(MatchKind::All)
            .start_kind(StartKind::Anchored)
            .accelerate(false)
            .dfa_size_limit(Some(BYTES_MAX))
            .determinize_size_limit(Some(DETERMINIZE_BYTES_MAX));
        let dfa = dense::Builder::new()
            .configure(config)
            .thompson(thompson::Config::new().nfa_size_limit(Some(BYTES_MAX)))
            .build(pattern)
            .map_err(|error| {
                let mut said = error.to_string();
                let mut cause = std::error::Error::source(&error);
                while let Some(one) = cause {
                    said = format!("{said}: {one}");
                    cause = one.source();
                }
                format!(
                    "it is too large or uses what cannot be followed byte by byte ({said}); use \
                     smaller repetitions, ASCII classes such as `[a-z]`, and no `\\b`"
                )
            })?;
        let all = Self::table(&dfa)?;
        let live = all.distances(&[true; 256]);
        if live[0] == FAR {
            return Err("no text matches it".to_owned());
        }
        Ok(all.keep(|state| live[state] != FAR))
    }

    /// Every state that can be reached from the start.
    fn table(dfa: &dense::DFA<Vec<u32>>) -> Result<Self, String> {
        let start = dfa
            .start_state_forward(&Input::new("").anchored(Anchored::Yes))
            .map_err(|error| format!("it has no beginning ({error}); leave look-behind out"))?;
        let mut numbers = HashMap::from([(start, 0)]);
        let mut found = vec![start];
        let mut table = Self {
            next: Vec::new(),
            accepting: Vec::new(),
        };
        while let Some(&state) = found.get(table.next.len()) {
            let mut row = [DEAD; 256];
            for byte in 0..=255u8 {
                let to = dfa.next_state(state, byte);
                if dfa.is_dead_state(to) || dfa.is_quit_state(to) {
                    continue;
                }
                row[usize::from(byte)] = *numbers.entry(to).or_insert_with(|| {
                    found.push(to);
                    found.len() as u32 - 1
                });
            }
            if found.len() > STATES_MAX {
                return Err(format!(
                    "it needs more than {STATES_MAX} states; use smaller repetitions and simpler classes"
                ));
            }
            table.next.push(row);
            // The library tells a match one step late.
            let end = dfa.next_eoi_state(state);
            table.accepting.push(dfa.is_match_state(end));
        }
        Ok(table)
    }

    /// For every state the fewest `usable` bytes to an accepted text; [`FAR`] if there is no way.
    pub(super) fn distances(&self, usable: &[bool; 256]) -> Vec<u32> {
        let mut before: Vec<Vec<u32>> = vec![Vec::new(); self.next.len()];
        for (state, row) in self.next.iter().enumerate() {
            for (to, _) in row.iter().zip(usable).filter(|(_, usable)| **usable) {
                let Some(sources) = before.get_mut(*to as usize) else {
                    continue;
                };
                if sources.last() != Some(&(state as u32)) {
                    sources.push(state as u32);
                }
            }
        }
        let mut distances = vec![FAR; self.next.len()];
        let mut queue = VecDeque::new();
        for (state, _) in self.accepting.iter().enumerate().filter(|(_, a)| **a) {
            distances[state] = 0;
            queue.push_back(state);
        }
        while let Some(state) = queue.pop_front() {
            for &source in &before[state] {
                if distances[source as usize] == FAR {
                    distances[source as usize] = distances[state] + 1;
                    queue.push_back(source as usize);
                }
            }
        }
        distances
    }

    /// Without the ways into other states; the states keep their numbers.
    fn keep(mut self, live: impl Fn(usize) -> bool) -> Self {
        for to in self.next.iter_mut().flatten() {
            if *to != DEAD && !live(*to as usize) {
                *to = DEAD;
            }
        }
        self
    }

    pub(super) fn accepts(&self, state: u32) -> bool {
        self.accepting[state as usize]
    }

    /// Whether anything may follow in this state.
    pub(super) fn goes_on(&self, state: u32) -> bool {
        self.next[state as usize].iter().any(|to| *to != DEAD)
    }

    /// The state after these bytes; [`DEAD`] if they lead out of the language.
    pub(super) fn follow(&self, mut state: u32, bytes: &[u8]) -> u32 {
        for byte in bytes {
            if state == DEAD {
                break;
            }
            state = self.next[state as usize][usize::from(*byte)];
        }
        state
    }

    /// Whether, on the way to an accepted text, `part` can be read for the first time in a state
    /// for which `bad` holds.
    pub(super) fn meets(&self, part: &[u8], bad: impl Fn(u32) -> bool) -> bool {
        let mut seen = HashSet::from([(0, 0)]);
        let mut open = vec![(0u32, 0usize)];
        while let Some((state, matched)) = open.pop() {
            for byte in 0..=255u8 {
                let to = self.next[state as usize][usize::from(byte)];
                if to == DEAD {
                    continue;
                }
                let matched = continued(part, matched, byte);
                if matched == part.len() {
                    if bad(to) {
                        return true;
                    }
                    continue;
                }
                if seen.insert((to, matched)) {
                    open.push((to, matched));
                }
            }
        }
        false
    }
}

/// How much of `part` the text ends with after one more byte, if it ended with `matched` of it.
fn continued(part: &[u8], matched: usize, byte: u8) -> usize {
    let mut tail = part[..matched].to_vec();
    tail.push(byte);
    (0..=tail.len())
        .map(|skip| &tail[skip..])
        .find(|rest| part.starts_with(rest))
        .map_or(0, <[u8]>::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        let language = Language::compile(pattern).unwrap();
        let state = language.follow(0, text.as_bytes());
        state != DEAD && language.accepts(state)
    }

    #[test]
    fn whole_texts_are_matched() {
        for (pattern, yes, no) in [
            ("a|ab", &["a", "ab"][..], &["", "b", "abb"][..]),
            ("[0-9]{2,3}", &["12", "123"], &["1", "1234", "12a"]),
            ("^x+$", &["x", "xx"], &["", "xy"]),
            ("(?i:yes)|no", &["YES", "no"], &["NO"]),
            (".", &["a", "\u{e9}", "\u{1F600}"], &["", "\n", "ab"]),
            ("", &[""], &["a"]),
        ] {
            assert!(yes.iter().all(|text| matches(pattern, text)), "{pattern}");
            assert!(!no.iter().any(|text| matches(pattern, text)), "{pattern}");
        }
    }

    #[test]
    fn only_live_states_are_entered() {
        let language = Language::compile("abc|a[^\\s\\S]").unwrap();
        let state = language.follow(0, b"a");
        assert_ne!(language.follow(state, b"b"), DEAD);
        assert_eq!(language.follow(state, b"x"), DEAD);
        let half = language.follow(0, "\u{e9}".as_bytes());
        assert_eq!(half, DEAD);
    }

    #[test]
    fn distances_are_in_bytes_that_may_be_used() {
        let language = Language::compile("ab|\u{e9}").unwrap();
        assert_eq!(language.distances(&[true; 256])[0], 2);
        let mut usable = [true; 256];
        usable[usize::from(b'b')] = false;
        assert_eq!(language.distances(&usable)[0], 2, "by the other way");
        usable[0xc3] = false;
        assert_eq!(language.distances(&usable)[0], FAR);
    }

    #[test]
    fn what_cannot_be_compiled_is_refused_with_a_remedy() {
        let refusal = |pattern: &str| Language::compile(pattern).unwrap_err();
        assert!(refusal("a(b").contains("no regular expression: unclosed group"));
        assert!(refusal("[^\\s\\S]").contains("no text matches"));
        assert!(refusal("(?:[a-z]{0,900}x){0,900}").contains("smaller repetitions"));
        assert!(refusal("[a-z]{0,9000}").contains("more than 8192 states"));
        assert!(refusal("\\bword").contains("no `\\b`"));
    }

    #[test]
    fn a_part_is_met_where_it_is_first_read_whole() {
        let met = |pattern: &str, part: &str| {
            Language::compile(pattern)
                .unwrap()
                .meets(part.as_bytes(), |_| true)
        };
        assert!(met("x*aab", "aab") && met(".*", "aab") && met("aaab", "aab"));
        assert!(!met("[a-z ]+", "\n") && !met("(?:ab)+", "aa"));
    }
}
