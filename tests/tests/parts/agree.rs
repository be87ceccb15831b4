//! `slm:agree` and `slm:pseudo-label`: samples that a site's own model agrees with or labels, which
//! stay at that site.

use noisegate_tests::Story;

const WORKFLOW: &str = r#"
[workflow]
name = "agreement"

[sites.clinic]

[data.notes]
site = "clinic"
path = "notes.jsonl"
private = true
labels = ["billing", "care", "delay"]

# What a server sent: a third of it under a wrong label.
[data.offered]
site = "clinic"
path = "offered.jsonl"
private = false
labels = ["billing", "care", "delay"]

[steps.train]
uses = "slm:train"
site = "clinic"
reads = { records = "data.notes" }
with = { epochs = 8, layers = 1, hidden = 32, heads = 2, intermediate = 32, learning_rate = 0.005, vocabulary = 300 }

[steps.agree]
uses = "slm:agree"
site = "clinic"
reads = { model = "train.model", samples = "data.offered" }

[steps.sure]
uses = "slm:agree"
site = "clinic"
reads = { model = "train.model", samples = "data.offered" }
with = { confidence = 1.0 }

[steps.label]
uses = "slm:pseudo-label"
site = "clinic"
reads = { model = "train.model", samples = "data.offered" }

[steps.other]
uses = "slm:train"
site = "clinic"
reads = { records = "data.notes" }
with = { epochs = 3, layers = 1, hidden = 16, heads = 2, intermediate = 32, learning_rate = 0.005, vocabulary = 300, seed = 5 }

[steps.label-by-other]
uses = "slm:pseudo-label"
site = "clinic"
reads = { model = "other.model", samples = "data.offered" }

[steps.label-by-both]
uses = "slm:pseudo-label"
site = "clinic"
reads = { model = ["train.model", "other.model"], samples = "data.offered" }

[steps.student]
uses = "slm:train"
site = "clinic"
reads = { records = "label.samples" }
with = { epochs = 30, layers = 1, hidden = 32, heads = 2, intermediate = 32, learning_rate = 0.005, vocabulary = 300 }

[steps.marks]
uses = "slm:evaluate"
site = "clinic"
reads = { model = "student.model", records = "data.notes" }

# It reads no data set, and what it reads is private all the same.
[steps.again]
uses = "slm:train"
site = "clinic"
reads = { records = "agree.samples" }
with = { epochs = 1, layers = 1, hidden = 16, heads = 2, intermediate = 16, vocabulary = 300 }
"#;

fn rows(label: impl Fn(usize) -> usize) -> String {
    let topics = [
        ("invoice", "billing"),
        ("nurse", "care"),
        ("waiting", "delay"),
    ];
    let row = |i: usize| {
        format!(
            "{{\"text\":\"about the {} again {}\",\"label\":\"{}\"}}\n",
            topics[i % 3].0,
            i % 7,
            topics[label(i) % 3].1
        )
    };
    (0..90).map(row).collect()
}

#[test]
fn a_site_keeps_the_samples_that_its_own_model_agrees_with_and_tells_nobody() {
    let story = Story::new();
    story.write("notes.jsonl", rows(|i| i));
    story.write("offered.jsonl", rows(|i| i + usize::from(i < 30)));
    story.write("workflow.toml", WORKFLOW);
    let told = story.tell(&["run", "workflow.toml", "--json"]);
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    let summary: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    let artifact = |name: &str| {
        let made = summary["artifacts"].as_array().unwrap();
        let found = made.iter().find(|one| one["name"] == name).unwrap();
        assert_eq!(found["label"], "private to clinic", "{found}");
        std::fs::read(story.path().join(found["path"].as_str().unwrap()))
    };
    let report: serde_json::Value =
        serde_json::from_slice(&artifact("agree.report").unwrap()).unwrap();
    assert_eq!(report["samples"], 90);
    let kept = report["kept"].as_u64().unwrap();
    assert!((55..=62).contains(&kept), "{report}");
    // The first thirty texts came with the label after their own.
    let taken_for = &report["by_label"]["care"]["taken_for"];
    assert!(taken_for["billing"].as_u64().unwrap() >= 9, "{report}");
    let samples = String::from_utf8(artifact("agree.samples").unwrap()).unwrap();
    assert_eq!(samples.lines().count() as u64, kept);
    let offered = rows(|i| i + usize::from(i < 30));
    assert!(
        samples
            .lines()
            .all(|line| offered.contains(line.trim_end_matches('}')))
    );
    // Nothing is certain to a whole 1; that none is kept is no failure that somebody could see.
    assert!(artifact("sure.samples").unwrap().len() < samples.len());

    let rows_of = |name: &str| -> Vec<serde_json::Value> {
        let text = String::from_utf8(artifact(name).unwrap()).unwrap();
        let parsed = text.lines().map(|line| serde_json::from_str(line).unwrap());
        parsed.collect()
    };
    // Of two models the mean counts.
    let (one, other) = (rows_of("label.samples"), rows_of("label-by-other.samples"));
    assert_ne!(one, other);
    let shares = |row: &serde_json::Value| {
        ["billing", "care", "delay"].map(|label| row["probabilities"][label].as_f64().unwrap())
    };
    for ((both, one), other) in rows_of("label-by-both.samples")
        .iter()
        .zip(&one)
        .zip(&other)
    {
        let (both, one, other) = (shares(both), shares(one), shares(other));
        for at in 0..3 {
            assert!(
                (both[at] - (one[at] + other[at]) / 2.0).abs() < 1e-6,
                "{both:?}"
            );
        }
    }

    let labelled = String::from_utf8(artifact("label.samples").unwrap()).unwrap();
    let labelled: Vec<serde_json::Value> = labelled
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let right = std::iter::zip(&labelled, rows(|i| i).lines())
        .filter(|(one, line)| line.contains(&format!("\"label\":{}}}", one["label"])))
        .count();
    assert!(labelled.len() == 90 && right >= 85, "{right}");
    let soft = labelled[0]["probabilities"].as_object().unwrap();
    let sum: f64 = soft.values().map(|share| share.as_f64().unwrap()).sum();
    assert!(soft.len() == 3 && (sum - 1.0).abs() < 1e-3, "{soft:?}");
    let report: serde_json::Value =
        serde_json::from_slice(&artifact("label.report").unwrap()).unwrap();
    let had_it = |label: &str| report["by_label"][label]["had_it"].as_u64().unwrap();
    let had_it = had_it("billing") + had_it("care") + had_it("delay");
    assert!((55..=62).contains(&had_it), "{report}");
    // A third of the labels that were offered is wrong; what the student learnt is right.
    let accuracy = summary["scores"][0]["accuracy"].as_f64().unwrap();
    assert!(accuracy > 0.9, "{accuracy}");

    let runs = std::fs::read_dir(story.path().join("home/runs")).unwrap();
    let run = runs.map(|run| run.unwrap().path()).next().unwrap();
    let log = std::fs::read_to_string(run.join("events.jsonl")).unwrap();
    let told = |word: &str| log.lines().any(|line| line.contains(word));
    assert!(told("again") && told("percent"), "{log}");
    assert!(
        !told("loss") && !told("epoch") && !told("step-note"),
        "{log}"
    );
}
