//! The whole step, public and private side, with a gate that adds no noise.

use noisegate_guest_sdk::config::{Row, to_file};
use noisegate_guest_sdk::{Accum, ClientStep, Setup, Tensor, TextRecord, Unit};
use topic_histogram::TopicHistogram;

const TOPICS: [(&str, &str); 4] = [
    ("invoice, bill, charge, payment, refund", "billing"),
    ("parcel, delivery, late, arrived", "delivery"),
    ("the payment was taken twice", "billing"),
    ("login, password, account locked", "login"),
];

fn start(votes: u32) -> (TopicHistogram, Setup) {
    let row = |(text, label): &(&str, &str)| Row {
        text: (*text).into(),
        label: (*label).into(),
        cluster: None,
    };
    let rows: Vec<Row> = TOPICS.iter().map(row).collect();
    let config = format!(
        r#"{{ "with": {{ "samples": 4 }}, "labels": ["any"], "seed": 7,
        "mechanism": {{ "noise_multiplier": 0.1, "clip": 1.0, "steps": 2, "expected_batch": 4.0, "votes_per_unit": {votes} }} }}"#
    );
    TopicHistogram::start(&config, vec![to_file("topics/topics.jsonl", &rows)]).unwrap()
}

fn marks(setup: &Setup, texts: &[&str]) -> Vec<f32> {
    let record = |text: &&str| TextRecord {
        text: (*text).into(),
        label: "any".into(),
    };
    let unit = Unit {
        records: texts.iter().map(record).collect(),
    };
    let into = Accum::zero(setup.dim as usize);
    let tensors: Vec<Tensor> = setup
        .tensors
        .iter()
        .map(|values| Tensor::new(values))
        .collect();
    let tensors: Vec<&Tensor> = tensors.iter().collect();
    TopicHistogram::contribute(&unit, &setup.context, &[], &tensors, &into);
    into.into_values()
}

#[test]
fn each_record_counts_for_its_nearest_topic_and_a_unit_has_a_few_at_most() {
    let (_, setup) = start(2);
    assert_eq!(
        setup.dim, 4,
        "three topics, and one for texts that none fits"
    );
    assert_eq!(
        marks(&setup, &["a refund of my payment"]),
        [1.0, 0.0, 0.0, 0.0]
    );
    assert_eq!(marks(&setup, &["zzz"]), [0.0, 0.0, 0.0, 1.0]);
    let many = [
        "late parcel",
        "my password",
        "payment",
        "the account is locked",
        "invoice",
        "refund",
    ];
    assert_eq!(
        marks(&setup, &many),
        [1.0, 0.0, 1.0, 0.0],
        "the two topics with most records"
    );
    assert_eq!(marks(&setup, &[]), [0.0; 4]);
}

#[test]
fn the_histogram_is_the_mean_of_the_counts_and_shapes_the_samples() {
    let (mut step, _) = start(1);
    step.absorb(vec![0.5, 0.1, -0.02, 0.0]);
    step.absorb(vec![0.7, 0.3, 0.02, 0.2]);
    let files = step.outputs().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&files[0].data).unwrap();
    let shares: Vec<f64> = report["topics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["share"].as_f64().unwrap())
        .collect();
    assert!(
        shares
            .iter()
            .zip([0.6, 0.2, 0.0])
            .all(|(found, known)| (found - known).abs() < 1e-6)
    );
    assert!((report["other"].as_f64().unwrap() - 0.1).abs() < 1e-6);
    assert!((report["standard_deviation"].as_f64().unwrap() - 0.025 / 2_f64.sqrt()).abs() < 1e-9);
    let samples = String::from_utf8(files[1].data.clone()).unwrap();
    let of = |label: &str| {
        samples
            .lines()
            .filter(|line| line.contains(&format!("\"label\":\"{label}\"")))
            .count()
    };
    assert_eq!((of("billing"), of("delivery"), of("login")), (3, 1, 0));
}
