//! The whole step, public and private side, with a gate that adds no noise.

use noisegate_guest_sdk::config::{Row, to_file};
use noisegate_guest_sdk::{Accum, ClientStep, File, Setup, Tensor, TextRecord, Unit};
use private_evolution::PrivateEvolution;

const CANDIDATES: [(&str, &str); 7] = [
    ("my card was charged twice", "billing"),
    ("a rabbit ran over the meadow", "billing"),
    ("the invoice shows a wrong amount", "billing"),
    ("my parcel has not arrived", "delay"),
    ("green ideas sleep furiously", "delay"),
    ("my parcel has not arrived", "delay"),
    ("text of an undeclared label", "other"),
];

fn candidates() -> File {
    let row = |(text, label): &(&str, &str)| Row {
        text: (*text).into(),
        label: (*label).into(),
        cluster: None,
    };
    let rows: Vec<Row> = CANDIDATES.iter().map(row).collect();
    to_file("candidates/samples.jsonl", &rows)
}

fn config(with: &str, votes: u32) -> String {
    format!(
        r#"{{ "with": {{ "keep_per_label": 2, "select": "top", "threshold": 0.0, "same_label": true{with} }},
        "labels": ["billing", "delay"], "seed": 7,
        "mechanism": {{ "noise_multiplier": 0.1, "clip": 1.0, "steps": 1, "expected_batch": 4.0, "votes_per_unit": {votes} }} }}"#
    )
    .replace("\"same_label\": true, \"same_label\": false", "\"same_label\": false")
}

fn unit(records: &[(&str, &str)]) -> Unit {
    let record = |(text, label): &(&str, &str)| TextRecord {
        text: (*text).into(),
        label: (*label).into(),
    };
    Unit {
        records: records.iter().map(record).collect(),
    }
}

fn votes(setup: &Setup, unit: &Unit) -> Vec<f32> {
    let into = Accum::zero(setup.dim as usize);
    let tensors: Vec<Tensor> = setup
        .tensors
        .iter()
        .map(|values| Tensor::new(values))
        .collect();
    let tensors: Vec<&Tensor> = tensors.iter().collect();
    PrivateEvolution::contribute(unit, &setup.context, &[], &tensors, &into);
    into.into_values()
}

#[test]
fn what_private_texts_resemble_is_kept() {
    let (mut step, setup) = PrivateEvolution::start(&config("", 1), vec![candidates()]).unwrap();
    assert_eq!(
        setup.dim, 5,
        "a repeated text and an undeclared label are dropped"
    );
    let units = [
        unit(&[("I was charged two times on my card", "billing")]),
        unit(&[("wrong amount on this invoice", "billing")]),
        unit(&[("charged twice again", "billing")]),
        unit(&[("where is my parcel", "delay")]),
    ];
    let mut mean = vec![0.0; setup.dim as usize];
    for unit in &units {
        let votes = votes(&setup, unit);
        assert_eq!(votes.iter().sum::<f32>(), 1.0);
        mean.iter_mut()
            .zip(votes)
            .for_each(|(sum, vote)| *sum += vote / 4.0);
    }
    assert_eq!(mean, [0.5, 0.0, 0.25, 0.25, 0.0]);
    step.absorb(mean);
    let files = step.outputs().unwrap();
    let samples = String::from_utf8(files[0].data.clone()).unwrap();
    let texts: Vec<serde_json::Value> = samples
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let texts: Vec<&str> = texts
        .iter()
        .map(|row| row["text"].as_str().unwrap())
        .collect();
    assert_eq!(
        texts,
        [
            "my card was charged twice",
            "the invoice shows a wrong amount",
            "my parcel has not arrived"
        ]
    );
    let report: serde_json::Value = serde_json::from_slice(&files[1].data).unwrap();
    assert_eq!(report["kept"], 3);
    assert!((report["standard_deviation"].as_f64().unwrap() - 0.025).abs() < 1e-9);
}

#[test]
fn a_unit_votes_for_its_own_label_alone_and_never_more_than_it_may() {
    let (_, setup) = PrivateEvolution::start(&config("", 2), vec![candidates()]).unwrap();
    let crossed = votes(&setup, &unit(&[("my parcel has not arrived", "billing")]));
    assert_eq!(crossed[3..], [0.0, 0.0]);
    let many = unit(&[
        ("card charged twice", "billing"),
        ("rabbit meadow", "billing"),
        ("invoice wrong amount", "billing"),
        ("parcel not arrived", "delay"),
        ("green ideas sleep", "delay"),
    ]);
    assert_eq!(votes(&setup, &many).iter().sum::<f32>(), 2.0);
    assert!(
        votes(&setup, &unit(&[("card", "undeclared")]))
            .iter()
            .all(|vote| *vote == 0.0)
    );
    assert!(
        votes(&setup, &unit(&[("9 9 9", "delay")]))
            .iter()
            .all(|vote| *vote == 0.0)
    );
    assert!(votes(&setup, &unit(&[])).iter().all(|vote| *vote == 0.0));
}

#[test]
fn labels_need_not_matter() {
    let config = config(", \"same_label\": false", 1);
    let (_, setup) = PrivateEvolution::start(&config, vec![candidates()]).unwrap();
    let crossed = votes(&setup, &unit(&[("my parcel has not arrived", "billing")]));
    assert_eq!(crossed.iter().sum::<f32>(), 1.0);
    assert_eq!(setup.dim, 6);
}

#[test]
fn what_cannot_work_is_refused_with_a_remedy() {
    let refusal = |inputs| {
        PrivateEvolution::start(&config("", 1), inputs)
            .err()
            .unwrap()
    };
    assert!(refusal(Vec::new()).contains("`candidates`"));
    let one = Row {
        text: "a".into(),
        label: "billing".into(),
        cluster: None,
    };
    assert!(refusal(vec![to_file("candidates/x", [&one])]).contains("`delay` has no candidate"));
    let high = config("", 1).replace("\"threshold\": 0.0", "\"threshold\": 99.0");
    let (mut step, setup) = PrivateEvolution::start(&high, vec![candidates()]).unwrap();
    step.absorb(vec![0.1; setup.dim as usize]);
    assert!(step.outputs().unwrap_err().contains("threshold"));
}
