//! Invented messages that patients might write to a clinic's portal, for the demo and its tests.
//!
//! ```text
//! topic ─> opening? + aside? + request + detail? + closing? ─> typos ─> 6 to 50 words
//!              (asides speak of other topics)   (some requests fit two topics)
//! ```
//!
//! Meant to be as hard as real mail: topics share most of their words, one message in ten could be
//! filed under either of two topics, and people mistype. The phrases are in `phrases.rs`, written
//! for this project; every name, drug, insurer and date is made up.
//!
//! Deliberately absent: any claim that results on these messages carry over to real ones.

mod grammar;
mod phrases;
mod typos;

use std::collections::HashSet;

use grammar::{Grammar, pick};
use phrases::{ASIDES, BLENDS, CLOSINGS, DETAILS, OPENINGS, REQUESTS};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The topics and their share of the mail, in percent.
pub const TOPICS: [(&str, u64); 8] = [
    ("appointment", 22),
    ("prescription", 17),
    ("test-results", 14),
    ("billing", 13),
    ("symptoms", 12),
    ("insurance", 8),
    ("portal-access", 8),
    ("referral", 6),
];

const WORDS_MIN: usize = 6;
const WORDS_MAX: usize = 50;

/// `count` different messages with their topics, the same for the same seed.
///
/// A longer list begins with the shorter one, so it may be split into train and test by position.
pub fn generate(seed: u64, count: usize) -> Vec<(String, String)> {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let mut seen = HashSet::new();
    let mut messages = Vec::with_capacity(count);
    while messages.len() < count {
        let (text, topic) = message(&mut rng);
        let words = text.split_whitespace().count();
        if (WORDS_MIN..=WORDS_MAX).contains(&words) && seen.insert(text.clone()) {
            messages.push((text, TOPICS[topic].0.to_owned()));
        }
    }
    messages
}

/// One message and the number of its topic.
fn message(rng: &mut ChaCha20Rng) -> (String, usize) {
    let drawn = topic(rng);
    let (request, topic) = request(rng, drawn);
    let mut parts: Vec<&str> = Vec::new();
    if chance(rng, 35) {
        parts.push(pick(rng, OPENINGS));
    }
    let aside = if chance(rng, 45) {
        Some(aside(rng, topic))
    } else {
        None
    };
    let aside_first = chance(rng, 60);
    if aside_first {
        parts.extend(aside);
    }
    parts.push(request);
    if chance(rng, 40) {
        parts.push(pick(rng, DETAILS));
    }
    if !aside_first {
        parts.extend(aside);
    }
    if chance(rng, 35) {
        parts.push(pick(rng, CLOSINGS));
    }
    let text = Grammar::new(rng).expand(&parts.join(" "));
    (typos::mistype(rng, &text), topic)
}

/// A request of the topic, or one that lies between it and a neighbour and is filed under either.
fn request(rng: &mut ChaCha20Rng, topic: usize) -> (&'static str, usize) {
    let name = TOPICS[topic].0;
    let blends: Vec<_> = BLENDS
        .iter()
        .filter(|blend| blend.topics[0] == name)
        .collect();
    if blends.is_empty() || !chance(rng, 22) {
        return (pick(rng, REQUESTS[topic]), topic);
    }
    let blend = pick(rng, &blends);
    // Two clerks would not always agree: a quarter of these are filed under the neighbour.
    let filed = blend.topics[usize::from(chance(rng, 27))];
    let filed = TOPICS.iter().position(|(topic, _)| *topic == filed);
    (pick(rng, blend.requests), filed.unwrap_or(topic))
}

/// A remark about another topic than the message's own.
fn aside(rng: &mut ChaCha20Rng, topic: usize) -> &'static str {
    let other = (topic + 1 + below(rng, TOPICS.len() - 1)) % TOPICS.len();
    pick(rng, ASIDES[other])
}

fn topic(rng: &mut ChaCha20Rng) -> usize {
    let mut left = rng.next_u64() % 100;
    for (topic, (_, share)) in TOPICS.iter().enumerate() {
        if left < *share {
            return topic;
        }
        left -= share;
    }
    0
}

fn chance(rng: &mut ChaCha20Rng, percent: u64) -> bool {
    rng.next_u64() % 100 < percent
}

/// Uniform enough for a demo: the remainder's bias is below 2^-50 here.
fn below(rng: &mut ChaCha20Rng, bound: usize) -> usize {
    (rng.next_u64() % bound as u64) as usize
}

#[cfg(test)]
mod tests;
