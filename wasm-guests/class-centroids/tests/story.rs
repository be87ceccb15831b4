//! The whole step, public and private side, with a gate that adds no noise.

use class_centroids::ClassCentroids;
use noisegate_guest_sdk::maths::dot;
use noisegate_guest_sdk::{Accum, ClientStep, File, Setup, Tensor, TextRecord, Unit};

fn encoder() -> Vec<File> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../sdk/fixtures/bert");
    ["config.json", "tokenizer.json", "model.safetensors"]
        .map(|name| File {
            name: format!("encoder/{name}"),
            data: std::fs::read(format!("{folder}/{name}")).unwrap(),
        })
        .into()
}

fn config(max_tokens: usize) -> String {
    format!(
        r#"{{ "with": {{ "max_tokens": {max_tokens} }}, "labels": ["billing", "lab", "unused"], "seed": 7,
        "mechanism": {{ "noise_multiplier": 1.5, "clip": 1.0, "steps": 1, "expected_batch": 4.0 }} }}"#
    )
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

fn contribution(setup: &Setup, unit: &Unit) -> Vec<f32> {
    let into = Accum::zero(setup.dim as usize);
    let weights = Tensor::new(&setup.tensors[0]);
    ClassCentroids::contribute(unit, &setup.context, &[], &[&weights], &into);
    into.into_values()
}

fn norm(values: &[f32]) -> f32 {
    dot(values, values).sqrt()
}

#[test]
fn a_text_lies_nearest_to_the_centroid_of_its_label() {
    let (mut step, setup) = ClassCentroids::start(&config(24), encoder()).unwrap();
    assert_eq!((setup.dim, setup.queries), (48, 1));
    let units = [
        unit(&[("please refund my bill", "billing")]),
        unit(&[("refund one of the bill charges", "billing")]),
        unit(&[("lab results", "lab")]),
        unit(&[("is the lab cutting results", "lab")]),
    ];
    let mut mean = vec![0.0; 48];
    for unit in &units {
        let values = contribution(&setup, unit);
        assert!((norm(&values) - 1.0).abs() < 1e-5);
        mean.iter_mut()
            .zip(values)
            .for_each(|(sum, value)| *sum += value / 4.0);
    }
    step.absorb(mean);
    let files = step.outputs().unwrap();
    assert_eq!(files[0].name, "centroids.json");
    let file: serde_json::Value = serde_json::from_slice(&files[0].data).unwrap();
    assert_eq!((&file["format"], &file["dim"]), (&1.into(), &16.into()));
    assert_eq!(file["labels"][1], "lab");
    assert_eq!(file["noise"], 1.5);
    assert_eq!(file["encoder_sha256"].as_str().unwrap().len(), 64);
    let centroids: Vec<Vec<f32>> = serde_json::from_value(file["centroids"].clone()).unwrap();
    let norms: Vec<f32> = serde_json::from_value(file["norms"].clone()).unwrap();
    assert!(
        norms[0] > 1.5 && norms[0] <= 2.0 && norms[1] > 1.5,
        "{norms:?}"
    );
    assert_eq!(
        norms[2], 0.0,
        "without noise an unused label has no direction"
    );
    assert!((norm(&centroids[0]) - 1.0).abs() < 1e-5);
    let cosine = |text: &str, label: usize| {
        let one = contribution(&setup, &unit(&[(text, "billing")]));
        dot(&one[..16], &centroids[label])
    };
    assert!(cosine("refund the bill", 0) > cosine("refund the bill", 1));
    assert!(cosine("my lab results", 1) > cosine("my lab results", 0));
}

#[test]
fn many_records_share_one_contribution() {
    let (_, setup) = ClassCentroids::start(&config(24), encoder()).unwrap();
    let alone = |text, label| contribution(&setup, &unit(&[(text, label)]));
    let both = contribution(&setup, &unit(&[("refund", "billing"), ("results", "lab")]));
    let (bill, lab) = (alone("refund", "billing"), alone("results", "lab"));
    for ((both, bill), lab) in both.iter().zip(&bill).zip(&lab) {
        assert!((both - (bill + lab) / 2.0).abs() < 1e-5);
    }
    let hoard = vec![("refund my bill", "billing"); 50];
    assert!((norm(&contribution(&setup, &unit(&hoard))) - 1.0).abs() < 1e-4);
}

#[test]
fn what_says_nothing_contributes_nothing() {
    let (_, setup) = ClassCentroids::start(&config(24), encoder()).unwrap();
    for silent in [
        unit(&[]),
        unit(&[(" \n ", "lab")]),
        unit(&[("refund", "undeclared")]),
    ] {
        assert!(
            contribution(&setup, &silent)
                .iter()
                .all(|value| *value == 0.0)
        );
    }
    let one = contribution(&setup, &unit(&[("", "lab"), ("refund", "billing")]));
    assert!(
        (norm(&one) - 1.0).abs() < 1e-5,
        "a silent record takes no share"
    );
}

#[test]
fn what_cannot_work_is_refused_with_a_remedy() {
    let refusal = |config: &str, inputs| ClassCentroids::start(config, inputs).err().unwrap();
    assert!(refusal(&config(24), Vec::new()).contains("BERT folder"));
    assert!(refusal(&config(33), encoder()).contains("3 to 32"));
    let unlabelled = config(24).replace(r#"["billing", "lab", "unused"]"#, "[]");
    assert!(refusal(&unlabelled, encoder()).contains("`labels`"));
}
