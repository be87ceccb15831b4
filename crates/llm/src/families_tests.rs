//! Every family on a small folder of random weights, against the logits of `transformers`.
//!
//! The folders are made by `fixtures/families.py`; logits there are rounded to five digits.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use candle_core::Device;

use crate::device_network::DeviceNetwork;
use crate::families::{Family, describe};
use crate::generate::{GenerateOptions, Request, Sampling, generate};
use crate::host::Segment;
use crate::load::load;
use crate::model::LanguageModel;
use crate::network::Network;

#[derive(serde::Deserialize)]
struct Expected {
    ids: Vec<u32>,
    /// Of the last positions.
    logits: Vec<Vec<f32>>,
    greedy: Vec<u32>,
}

const FAMILIES: [&str; 9] = [
    "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi", "phi3",
];

fn folder(family: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/families")
        .join(family)
}

fn expected(family: &str) -> Expected {
    let bytes = std::fs::read(folder(family).join("expected.json")).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn assert_logits(family: &str, network: &Network, expected: &Expected) {
    let mut session = network.session(1, 64, 1).unwrap();
    let rows = expected.logits.len();
    // In two pieces, so that the cache and its positions are part of the proof.
    let (first, second) = expected.ids.split_at(17);
    for (position, tokens, keep) in [(0, first, 0), (17, second, rows)] {
        let segment = Segment {
            slot: 0,
            position,
            tokens,
            keep,
        };
        session.forward(&[segment]).unwrap();
    }
    let found = session.logits(0, rows).unwrap().to_vec();
    let expected: Vec<f32> = expected.logits.iter().flatten().copied().collect();
    let largest = found
        .iter()
        .zip(&expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert_eq!(found.len(), expected.len());
    assert!(largest < 1e-4, "{family}: off by {largest}");
}

#[test]
fn every_family_has_the_logits_of_transformers() {
    for family in FAMILIES {
        let model = load(&folder(family), &Device::Cpu).unwrap();
        let expected = expected(family);
        assert_logits(family, &model.network, &expected);
        let device = DeviceNetwork::new(
            model.architecture().clone(),
            model.network.decoder(),
            &Device::Cpu,
        );
        assert_logits(family, &Network::Device(device.unwrap()), &expected);
    }
}

fn request(model: &LanguageModel, ids: &[u32], tokens: usize) -> Request {
    Request {
        prompt: model.tokenizer.decode(ids).unwrap(),
        max_new_tokens: tokens,
        sampling: Sampling::greedy(),
        ..Request::default()
    }
}

#[test]
fn every_family_goes_on_with_the_greedy_text_of_transformers() {
    for family in FAMILIES {
        let model = load(&folder(family), &Device::Cpu).unwrap();
        let expected = expected(family);
        // Gemma 2's text runs into its padding token, which is never drawn here.
        let tokens = expected.greedy.iter().take_while(|id| **id > 3).count();
        let begun: Vec<u32> = model
            .begin_token()
            .into_iter()
            .chain(expected.ids.clone())
            .collect();
        assert_eq!(
            model
                .encode_prompt(&model.tokenizer.decode(&expected.ids).unwrap())
                .unwrap(),
            begun
        );
        if model.begin_token().is_some() {
            continue;
        }
        let options = GenerateOptions::default();
        let requests = [
            request(&model, &expected.ids, tokens),
            request(&model, &expected.ids[..9], 3),
        ];
        let made = generate(
            &model,
            &requests,
            &options,
            &mut |_| (),
            &AtomicBool::new(false),
        );
        let text = model.tokenizer.decode(&expected.greedy[..tokens]).unwrap();
        assert_eq!(made.unwrap()[0].text, text, "{family}");
    }
}

#[test]
fn a_model_that_cannot_be_trained_says_so() {
    let model = load(&folder("qwen2"), &Device::Cpu).unwrap();
    let message = model.llama().map(|_| ()).unwrap_err().to_string();
    assert!(
        message.contains("`qwen2`") && message.contains("adapt_epochs"),
        "{message}"
    );
}

#[test]
fn numbers_that_no_model_has_are_refused() {
    let bytes = std::fs::read(folder("llama").join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    for (key, value, part) in [
        ("rms_norm_eps", (-1.0).into(), "`rms_norm_eps` is -1"),
        ("rope_theta", 0.0.into(), "`rope_theta` is 0"),
        ("rope_theta", (-5.0).into(), "`rope_theta` is -5"),
        (
            "rope_scaling",
            "linear".into(),
            "`rope_scaling` is \"linear\"",
        ),
    ] {
        let mut changed = config.clone();
        changed.as_object_mut().unwrap().remove("rope_parameters");
        changed[key] = value;
        let message = describe(Family::Llama, &changed).unwrap_err();
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn weights_that_are_no_numbers_are_refused_by_name() {
    let made = tempfile::tempdir().unwrap();
    for file in ["config.json", "tokenizer.json"] {
        std::fs::copy(folder("llama").join(file), made.path().join(file)).unwrap();
    }
    let mut weights = std::fs::read(folder("llama").join("model.safetensors")).unwrap();
    let end = weights.len();
    // Not a number, in f32 and in bf16.
    weights[end - 2..].copy_from_slice(&[0xc0, 0x7f]);
    std::fs::write(made.path().join("model.safetensors"), weights).unwrap();
    let message = load(made.path(), &Device::Cpu).unwrap_err().to_string();
    assert!(message.contains("a number that is not finite"), "{message}");
}
