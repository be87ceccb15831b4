//! The generator's laws, and that its messages are neither trivial nor hopeless.

use std::collections::HashMap;

use super::*;

fn words(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|letter: char| !letter.is_alphanumeric() && letter != '\'')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_same_seed_gives_the_same_messages_and_another_gives_others() {
    let one = generate(1, 300);
    assert_eq!(one, generate(1, 300));
    assert_eq!(one[..100], generate(1, 100));
    let other: HashSet<String> = generate(2, 300).into_iter().map(|(text, _)| text).collect();
    let shared = one.iter().filter(|(text, _)| other.contains(text)).count();
    assert!(
        shared < 15,
        "{shared} of 300 messages are shared by two seeds"
    );
}

#[test]
fn messages_are_distinct_filled_in_and_of_the_stated_length() {
    let messages = generate(3, 4200);
    let distinct: HashSet<&String> = messages.iter().map(|(text, _)| text).collect();
    assert_eq!(distinct.len(), messages.len());
    for (text, _) in &messages {
        assert!(!text.contains(['{', '}', '[', ']', '|']), "{text}");
        assert!(!text.contains("  ") && text.trim() == text, "{text}");
        let awkward = [
            " a a ", " the my ", " my the ", " my a ", " a my ", " a x-ray", ",.", " ,",
        ];
        assert!(!awkward.iter().any(|words| text.contains(words)), "{text}");
        let count = text.split_whitespace().count();
        assert!((WORDS_MIN..=WORDS_MAX).contains(&count), "{count}: {text}");
    }
}

#[test]
fn topics_are_as_uneven_as_stated() {
    let messages = generate(4, 4200);
    for (topic, share) in TOPICS {
        let count = messages.iter().filter(|(_, label)| label == topic).count();
        let percent = 100.0 * count as f64 / messages.len() as f64;
        // Requests between two topics move some messages to a neighbour.
        assert!(
            (percent - share as f64).abs() < 3.0,
            "{topic}: {percent} instead of {share}"
        );
    }
}

#[test]
fn every_phrase_of_every_list_can_be_expanded() {
    let mut rng = ChaCha20Rng::seed_from_u64(5);
    let lists = REQUESTS
        .iter()
        .chain(&ASIDES)
        .copied()
        .chain([OPENINGS, CLOSINGS, DETAILS]);
    let phrases: Vec<&str> = lists
        .chain(BLENDS.iter().map(|blend| blend.requests))
        .flatten()
        .copied()
        .collect();
    assert!(phrases.len() > 200);
    for phrase in phrases {
        for _ in 0..20 {
            let text = Grammar::new(&mut rng).expand(phrase);
            assert!(
                !text.contains(['{', '}', '[', ']', '|']) && !text.is_empty(),
                "{phrase}"
            );
        }
    }
    for blend in BLENDS {
        assert!(
            blend
                .topics
                .iter()
                .all(|name| TOPICS.iter().any(|(topic, _)| topic == name))
        );
    }
}

/// Multinomial naive Bayes over words and pairs of words, add-0.3 smoothing.
fn accuracy_of_word_counts(train: &[(String, String)], test: &[(String, String)]) -> f64 {
    let features = |text: &str| -> Vec<String> {
        let words = words(text);
        let pairs = words.windows(2).map(|pair| pair.join(" "));
        words.iter().cloned().chain(pairs).collect()
    };
    let mut counts: HashMap<String, [f64; 8]> = HashMap::new();
    let (mut totals, mut rows) = ([0.0; 8], [0.0; 8]);
    let class = |label: &str| {
        TOPICS
            .iter()
            .position(|(topic, _)| *topic == label)
            .unwrap()
    };
    for (text, label) in train {
        let class = class(label);
        rows[class] += 1.0;
        for feature in features(text) {
            counts.entry(feature).or_default()[class] += 1.0;
            totals[class] += 1.0;
        }
    }
    let size = counts.len() as f64;
    let right = test.iter().filter(|(text, label)| {
        let mut scores = rows.map(|count: f64| (count + 1.0).ln());
        for feature in features(text) {
            let Some(seen) = counts.get(&feature) else {
                continue;
            };
            for (class, score) in scores.iter_mut().enumerate() {
                *score += ((seen[class] + 0.3) / (totals[class] + 0.3 * size)).ln();
            }
        }
        let best = (0..8)
            .max_by(|a, b| scores[*a].total_cmp(&scores[*b]))
            .unwrap();
        best == class(label)
    });
    right.count() as f64 / test.len() as f64
}

#[test]
fn counting_words_gets_most_messages_right_and_far_from_all() {
    let messages = generate(20_240_522, 4200);
    let (train, test) = messages.split_at(3000);
    let few = accuracy_of_word_counts(&train[..400], test);
    let all = accuracy_of_word_counts(train, test);
    eprintln!("word counts: {few:.3} from 400 messages, {all:.3} from 3000");
    assert!((0.60..0.88).contains(&few), "{few}");
    assert!((0.75..0.93).contains(&all) && all > few, "{all}");
}
