//! Small models, told through the command line: the data that they learn, and how a test trains.
//! `by_hand` tells what a person does with one model, `heads` what several data sets come to,
//! `mistakes` how a person is helped, `refusals` what is refused.

#[path = "slm/by_hand.rs"]
mod by_hand;
#[path = "slm/heads.rs"]
mod heads;
#[path = "slm/mistakes.rs"]
mod mistakes;
#[path = "slm/refusals.rs"]
mod refusals;

use noisegate_tests::{Story, Told};
use serde_json::Value;

use super::refused;

/// A small encoder, for where there is no base.
const SMALL: [&str; 10] = [
    "--layers",
    "1",
    "--hidden",
    "32",
    "--heads",
    "2",
    "--intermediate",
    "32",
    "--vocabulary",
    "300",
];

/// Fast; the texts can be told apart by one word.
const FAST: [&str; 4] = ["--learning-rate", "0.005", "--epochs", "6"];

fn rows(row: impl Fn(usize) -> String) -> String {
    (0..90).map(|i| row(i) + "\n").collect()
}

fn topic(i: usize) -> String {
    let (word, label) = [
        ("invoice", "billing"),
        ("nurse", "care"),
        ("waiting", "delay"),
    ][i % 3];
    let ward = if i.is_multiple_of(2) {
        "north"
    } else {
        "south"
    };
    format!(
        "{{\"text\":\"about the {word} again {}\",\"label\":\"{label}\",\"ward\":\"{ward}\"}}",
        i % 7
    )
}

fn story() -> Story {
    let story = Story::new();
    story.write("topics.jsonl", rows(topic));
    story.write(
        "symptoms.jsonl",
        rows(|i| match i % 3 {
            0 => "{\"text\":\"cough and fever\",\"label\":[\"cough\",\"fever\"]}".to_owned(),
            1 => "{\"text\":\"only a cough\",\"label\":[\"cough\"]}".to_owned(),
            _ => "{\"text\":\"nothing at all\",\"label\":[]}".to_owned(),
        }),
    );
    story.write(
        "pain.csv",
        "text,label\n".to_owned()
            + &rows(|i| {
                format!(
                    "it hurts {},{}.5",
                    ["little", "some", "much"][i % 3],
                    2 * (i % 3)
                )
            }),
    );
    story
}

#[track_caller]
fn good(told: Told) -> Told {
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    told
}

fn train(story: &Story, out: &str, more: &[&str]) -> Told {
    let mut line = vec!["slm", "train", "--out", out];
    line.extend(FAST);
    if !more.contains(&"--base") {
        line.extend(SMALL);
    }
    line.extend(more);
    story.tell(&line)
}

fn json(told: &Told) -> Value {
    serde_json::from_str(&told.out).unwrap_or_else(|error| panic!("{error}: {}", told.out))
}
