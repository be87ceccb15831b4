//! The workflows whose guests take votes: private evolution on top of the generator,
//! and the histograms. On made-up messages, with few steps.

use std::fmt::Write as _;

use noisegate_tests::{Story, Told, root};

const LABELS: [&str; 3] = ["billing", "prescription", "test-results"];
const SETS: [&str; 4] = [
    "data.train=train.jsonl",
    "data.train.labels=billing,prescription,test-results",
    "data.train.units_public=240",
    "params.seed=5",
];

/// Messages of a few patterns, two thirds of them about billing.
fn messages(rows: usize) -> String {
    let things = [
        "visit",
        "scan",
        "check-up",
        "blood draw",
        "consultation",
        "vaccination",
    ];
    let mut text = String::new();
    for row in 0..rows {
        let thing = things[row % things.len()];
        let (label, message) = match row % 6 {
            0..4 => (
                "billing",
                format!("the bill for my {thing} was charged twice, please refund payment {row}"),
            ),
            4 => (
                "prescription",
                format!("please refill the tablets you gave me at the {thing}, {row} left"),
            ),
            _ => (
                "test-results",
                format!("are the lab results of the {thing} ready, number {row}"),
            ),
        };
        writeln!(text, r#"{{"text": "{message}", "label": "{label}"}}"#).unwrap();
    }
    text
}

fn story() -> Story {
    let story = Story::new();
    story.write("train.jsonl", messages(240));
    story.write("test.jsonl", messages(60));
    story
}

fn tell(story: &Story, workflow: &str, more: &[&str]) -> Told {
    let workflow = root()
        .join("workflows")
        .join(workflow)
        .display()
        .to_string();
    let mut line = vec!["run", &workflow, "--json"];
    for set in SETS.iter().chain(more) {
        line.extend(["--set", set]);
    }
    story.tell(&line)
}

fn lines(story: &Story, summary: &serde_json::Value, artifact: &str) -> Vec<serde_json::Value> {
    let path = story.path().join(super::path_of(summary, artifact));
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

const EVOLUTION: [&str; 13] = [
    "data.test=test.jsonl",
    "data.test.labels=billing,prescription,test-results",
    "params.candidates=8",
    "params.keep=3",
    "data.train.budget.epsilon=8",
    "steps.synthesise.with.steps=1",
    "steps.synthesise.with.sampling_rate=0.1",
    "steps.vary.with.adapt_epochs=1",
    "steps.vary.with.retries_max=1",
    "steps.vary.with.rivals=0",
    "steps.train-unvoted.with.epochs=1",
    "steps.train-voted.with.epochs=1",
    "steps.synthesise.with.min_words=2",
];

/// The generator and both votes are charged to one data set, under one cap; what is kept was
/// a candidate, and no more is kept than asked for.
#[test]
fn private_records_vote_for_candidates_and_all_charges_share_one_cap() {
    let story = story();
    let first = super::json(&tell(&story, "private-evolution.toml", &EVOLUTION));
    assert_eq!(first["outcome"], "done");
    let charges = first["charges"].as_array().unwrap();
    let steps: Vec<&str> = charges
        .iter()
        .map(|it| it["step"].as_str().unwrap())
        .collect();
    assert_eq!(steps, ["synthesise", "vote", "vote-again"]);
    let spent: Vec<f64> = charges
        .iter()
        .map(|it| it["spent_epsilon"].as_f64().unwrap())
        .collect();
    // Each step's epsilon holds at its own delta, a tenth of the cap's: at the cap's it is less.
    assert!(
        spent[0] > 3.5 && spent[0] < spent[1] && spent[1] < spent[2] && spent[2] <= 8.0,
        "{spent:?}"
    );

    for (vote, candidates) in [("vote", "synthesise"), ("vote-again", "vary")] {
        let candidates = lines(&story, &first, &format!("{candidates}.samples"));
        let kept = lines(&story, &first, &format!("{vote}.samples"));
        for label in LABELS {
            let count = kept.iter().filter(|row| row["label"] == label).count();
            assert!((1..=3).contains(&count), "{vote}, {label}: {count}");
        }
        let same = |a: &serde_json::Value, b: &serde_json::Value| {
            a["text"] == b["text"] && a["label"] == b["label"]
        };
        assert!(
            kept.iter()
                .all(|row| candidates.iter().any(|one| same(one, row))),
            "{kept:?}"
        );
    }

    // The same run again: the same bytes, at no charge.
    let second = super::json(&tell(&story, "private-evolution.toml", &EVOLUTION));
    assert!(second["charges"].as_array().unwrap().is_empty());
    assert_eq!(
        lines(&story, &first, "vote-again.samples"),
        lines(&story, &second, "vote-again.samples")
    );

    // Another generator is another charge, and the cap has no room for it.
    let other = [
        EVOLUTION.as_slice(),
        &["steps.synthesise.with.sampling_rate=0.9"],
    ]
    .concat();
    let third = tell(&story, "private-evolution.toml", &other);
    assert_eq!(third.code, Some(3), "{}{}", third.out, third.err);
    let said = format!("{}{}", third.out, third.err);
    assert!(said.contains("cap"), "{said}");
    assert_eq!(story.tell(&["ledger", "verify"]).code, Some(0));
}

/// With a large budget the histograms are those of the messages.
#[test]
fn topics_and_lengths_are_counted_and_shape_what_is_written() {
    let story = story();
    let more = [
        "data.train.budget.epsilon=30",
        "params.epsilon=10",
        "params.epsilon_lengths=10",
        "steps.write.with.samples_per_label=1",
        "steps.write.with.adapt_epochs=0",
        "steps.write.with.retries_max=0",
        "steps.write.with.rivals=0",
    ];
    let told = super::json(&tell(&story, "topic-histogram.toml", &more));
    assert_eq!(told["charges"].as_array().unwrap().len(), 2);
    let read = |artifact: &str| -> serde_json::Value {
        let path = story.path().join(super::path_of(&told, artifact));
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    };
    let topics = read("topics.histogram");
    let deviation = topics["standard_deviation"].as_f64().unwrap();
    assert!(deviation < 0.01, "{deviation}");
    let share = |topic: &str| {
        let topics = topics["topics"].as_array().unwrap();
        topics.iter().find(|it| it["topic"] == topic).unwrap()["share"]
            .as_f64()
            .unwrap()
    };
    // Eight standard deviations: a false alarm less than once in 10^14 runs.
    assert!(
        (share("billing") - 2.0 / 3.0).abs() < 8.0 * deviation,
        "{topics}"
    );
    assert!(
        (share("test-results") - 1.0 / 6.0).abs() < 8.0 * deviation,
        "{topics}"
    );
    assert!(share("referral").abs() < 8.0 * deviation, "{topics}");
    let samples = lines(&story, &told, "topics.samples");
    assert_eq!(samples.len(), 64);
    let billing = samples
        .iter()
        .filter(|row| row["label"] == "billing")
        .count();
    assert!((38..=48).contains(&billing), "{billing}");

    let lengths = read("lengths.histogram");
    let shares: Vec<f64> = lengths["bins"]
        .as_array()
        .unwrap()
        .iter()
        .map(|bin| bin["share"].as_f64().unwrap())
        .collect();
    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 0.3, "{lengths}");
    assert!(shares[4] > 0.8, "nine to sixteen words: {lengths}");
}
