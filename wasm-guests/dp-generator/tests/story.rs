//! The whole step, public and private side, with a gate that adds no noise.

mod support;

use dp_generator::public::Generator;
use noisegate_guest_sdk::{Accum, ClientStep, File, Tensor, TextRecord, Turn, Unit};
use support::{config_json, folder};

fn unit(text: &str, label: &str) -> Unit {
    Unit {
        records: vec![TextRecord {
            text: text.into(),
            label: label.into(),
        }],
    }
}

fn contribution(dim: usize, context: &[u8], tensors: &[Tensor], unit: &Unit) -> Vec<f32> {
    let into = Accum::zero(dim);
    let tensors: Vec<&Tensor> = tensors.iter().collect();
    <Generator as ClientStep>::contribute(unit, context, &[], &tensors, &into);
    into.into_values()
}

/// Runs the step on units, without noise; returns the samples.
fn run(config: &str, units: &[Unit]) -> Vec<(String, String)> {
    let (mut step, setup) = <Generator as ClientStep>::start(config, folder()).unwrap();
    let dim = setup.dim as usize;
    loop {
        match step.turn() {
            Turn::Ask(query) => {
                let tensors: Vec<Tensor> = setup
                    .tensors
                    .iter()
                    .chain(&query.tensors)
                    .map(|values| Tensor::new(values))
                    .collect();
                let mut mean = vec![0.0; dim];
                for unit in units {
                    let values = contribution(dim, &setup.context, &tensors, unit);
                    mean.iter_mut()
                        .zip(&values)
                        .for_each(|(sum, value)| *sum += value / units.len() as f32);
                }
                ClientStep::absorb(&mut step, mean);
            }
            Turn::Working(done, total) => assert!(done <= total),
            Turn::Done => break,
        }
    }
    let files: Vec<File> = ClientStep::outputs(&mut step).unwrap();
    assert_eq!((files.len(), files[0].name.as_str()), (1, "samples.jsonl"));
    let text = String::from_utf8(files[0].data.clone()).unwrap();
    let rows = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    rows.map(|row| {
        (
            row["text"].as_str().unwrap().into(),
            row["label"].as_str().unwrap().into(),
        )
    })
    .collect()
}

#[test]
fn samples_resemble_their_labels_records_and_are_equally_many() {
    let changes = serde_json::json!({
        "train": "full", "label_bias": false, "learning_rate": 0.03, "warm_up": 0, "samples_per_label": 6,
    });
    let config = config_json(changes).replace("\"steps\":12", "\"steps\":60");
    let texts = [
        ("aa ba ab", "lost card"),
        ("ab aa ba", "lost card"),
        ("xx yx xy", "late_fee"),
        ("yx xx xy", "late_fee"),
    ];
    let units: Vec<Unit> = texts
        .iter()
        .map(|(text, label)| unit(text, label))
        .collect();
    let samples = run(&config, &units);
    let of = |label: &str| {
        samples
            .iter()
            .filter(|(_, l)| l == label)
            .map(|(text, _)| text.as_str())
            .collect::<String>()
    };
    assert_eq!(samples.len(), 12, "{samples:?}");
    assert_eq!(
        samples
            .iter()
            .filter(|(_, label)| label == "late_fee")
            .count(),
        6
    );
    let share = |text: &str, wanted: &str| {
        let letters: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
        letters.iter().filter(|c| wanted.contains(**c)).count() as f64 / letters.len() as f64
    };
    assert!(share(&of("lost card"), "ab") > 0.8, "{samples:?}");
    assert!(share(&of("late_fee"), "xy") > 0.8, "{samples:?}");
}

#[test]
fn an_undeclared_label_or_an_empty_text_contributes_nothing() {
    let (mut step, setup) =
        <Generator as ClientStep>::start(&config_json(serde_json::json!({})), folder()).unwrap();
    let Turn::Ask(query) = step.turn() else {
        panic!("the first turn asks")
    };
    let tensors: Vec<Tensor> = setup
        .tensors
        .iter()
        .chain(&query.tensors)
        .map(|values| Tensor::new(values))
        .collect();
    let zero = |unit: &Unit| {
        contribution(setup.dim as usize, &setup.context, &tensors, unit)
            .iter()
            .all(|value| *value == 0.0)
    };
    assert!(zero(&unit("a text", "unheard of")));
    assert!(zero(&unit("  \n", "late_fee")));
    assert!(zero(&Unit {
        records: Vec::new()
    }));
    assert!(!zero(&unit("a text", "late_fee")));
    assert!(
        !zero(&unit(&"long ".repeat(10_000), "late_fee")),
        "a long text is cut, not refused"
    );
}

#[test]
fn the_same_seed_draws_the_same_samples() {
    let config = config_json(serde_json::json!({ "samples_per_label": 3 }));
    let units = [unit("aa bb", "late_fee")];
    assert_eq!(run(&config, &units), run(&config, &units));
}

#[test]
fn what_cannot_work_is_refused_with_a_remedy() {
    let refusal = |changes: serde_json::Value| {
        <Generator as ClientStep>::start(&config_json(changes), folder())
            .err()
            .unwrap_or_default()
    };
    assert!(refusal(serde_json::json!({ "template": "no place" })).contains("`{text}`"));
    assert!(
        refusal(serde_json::json!({ "train": "last-layers", "layers": 3 })).contains("2 layers")
    );
    assert!(refusal(serde_json::json!({ "rank": 400 })).contains("width 16"));
    assert!(
        refusal(serde_json::json!({ "max_tokens": 12, "template": "a long control code: {text}" }))
            .contains("max_tokens")
    );
    let none = <Generator as ClientStep>::start(&config_json(serde_json::json!({})), Vec::new());
    assert!(none.err().unwrap().contains("config.json"));
}
