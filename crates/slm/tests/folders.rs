//! Model folders: MiniLM as it is, the `.onnx` file, and every way a folder can be broken.

#[path = "parts/checker.rs"]
mod checker;
mod common;
#[path = "parts/int8.rs"]
mod int8;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use noisegate_slm::graph::{self, SessionOptions};
use noisegate_slm::model::Serve;
use noisegate_slm::model::names::{HEAD_BIAS, HEAD_WEIGHT};
use noisegate_slm::params::Array;
use noisegate_slm::{
    Base, Classifier, Device, Embedder, Head, Model, ScratchConfig, ServeOptions, SlmError,
    Vocabulary,
};
use ort::value::TensorRef;

const TEXTS: [&str; 4] = [
    "a bill I do not owe",
    "my invoice charges me for something I never bought",
    "the nurse was kind",
    "x",
];

fn scratch() -> Model {
    let config = ScratchConfig {
        layers: 1,
        hidden: 16,
        heads: 2,
        intermediate: 32,
        length_max: 16,
        vocabulary: Vocabulary::Train { size: 100 },
    };
    Model::from_base(&Base::Scratch(config), TEXTS, 1).unwrap()
}

fn saved() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    scratch().save(&path, "# card").unwrap();
    (folder, path)
}

fn edit(path: &Path, file: &str, from: &str, to: &str) {
    let path = path.join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(&path, text.replace(from, to)).unwrap();
}

#[test]
fn minilm_puts_similar_texts_close_together() {
    let (Some(runtime), Some(folder)) = (common::runtime(), common::minilm()) else {
        return;
    };
    let model = Model::read(&folder).unwrap();
    assert_eq!(model.parameter_count(), 22_565_376);
    let options = ServeOptions {
        threads: 2,
        batch: 8,
        ..ServeOptions::default()
    };
    let mut embedder = Embedder::new(&runtime, &model, &options).unwrap();
    let found = embedder.embed(&TEXTS).unwrap();
    let cosine = |a: usize, b: usize| -> f32 {
        found
            .row(a)
            .iter()
            .zip(found.row(b))
            .map(|(x, y)| x * y)
            .sum()
    };
    assert!((cosine(0, 0) - 1.0).abs() < 1e-5);
    assert!(cosine(0, 1) > 0.4, "{}", cosine(0, 1));
    assert!(cosine(0, 2) < 0.2, "{}", cosine(0, 2));
}

#[test]
fn the_onnx_file_scores_as_the_model_does() {
    let Some(runtime) = common::runtime() else {
        return;
    };
    let model = scratch();
    let mut embedder = Embedder::new(&runtime, &model, &ServeOptions::default()).unwrap();
    let ours = embedder.embed(&TEXTS).unwrap();
    let (_keep, path) = saved();
    let bytes = fs::read(path.join("model.onnx")).unwrap();
    let mut session = graph::open_file(&runtime, &bytes, SessionOptions::default()).unwrap();
    for (row, encoded) in model.tokens.encode(&TEXTS).unwrap().iter().enumerate() {
        let ids: Vec<i64> = encoded.ids.iter().map(|id| i64::from(*id)).collect();
        let mask = vec![1i64; ids.len()];
        let outputs = session
            .run(ort::inputs![
                "input_ids" => TensorRef::from_array_view(([1, ids.len()], ids.as_slice())).unwrap(),
                "attention_mask" => TensorRef::from_array_view(([1, ids.len()], mask.as_slice())).unwrap(),
            ])
            .unwrap();
        let theirs = outputs["sentence_embedding"]
            .try_extract_tensor::<f32>()
            .unwrap()
            .1;
        for (a, b) in ours.row(row).iter().zip(theirs) {
            assert!((a - b).abs() < 1e-4, "{a} vs {b}");
        }
    }
}

#[test]
fn the_graph_for_a_card_computes_what_the_other_does() {
    let Some(runtime) = common::runtime() else {
        return;
    };
    let model = scratch();
    let mut embedder = Embedder::new(&runtime, &model, &ServeOptions::default()).unwrap();
    let ours = embedder.embed(&TEXTS[..1]).unwrap();
    let onnx = model
        .serving_graph_on(Serve::Embeddings, Device::Cuda(0))
        .unwrap();
    let mut session = graph::open(&runtime, &onnx, SessionOptions::default()).unwrap();
    let ids: Vec<i64> = model.tokens.encode(&TEXTS[..1]).unwrap()[0]
        .ids
        .iter()
        .map(|id| i64::from(*id))
        .collect();
    let mask = vec![1i64; ids.len()];
    let places: Vec<i64> = (0..ids.len() as i64).collect();
    let outputs = session
        .run(ort::inputs![
            "input_ids" => TensorRef::from_array_view(([1, ids.len()], ids.as_slice())).unwrap(),
            "attention_mask" => TensorRef::from_array_view(([1, ids.len()], mask.as_slice())).unwrap(),
            "position_ids" => TensorRef::from_array_view(([ids.len()], places.as_slice())).unwrap(),
        ])
        .unwrap();
    let theirs = outputs["sentence_embedding"]
        .try_extract_tensor::<f32>()
        .unwrap()
        .1;
    for (a, b) in ours.row(0).iter().zip(theirs) {
        assert!((a - b).abs() < 1e-5, "{a} vs {b}");
    }
}

#[test]
fn python_scores_a_saved_folder_as_we_do() {
    let Some(runtime) = common::runtime() else {
        return;
    };
    let mut model = scratch();
    model.heads = vec![Head::single(["bills", "care", "other"])];
    let mut noise = common::Noise(2);
    for (name, shape) in [(HEAD_WEIGHT, vec![3, 16]), (HEAD_BIAS, vec![3])] {
        let data = noise.many(shape.iter().product());
        model.weights.insert(name, Array { shape, data });
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    model.save(&path, "# card").unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/check_folder.py");
    let python = std::env::var("NOISEGATE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let child = Command::new(&python)
        .arg(script)
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        println!("skipped: no `{python}`");
        return;
    };
    let mut stdin = child.stdin.take().unwrap();
    // A script that stops early does not read; its exit code says why.
    let _ = stdin.write_all(TEXTS.join("\n").as_bytes());
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(3) {
        println!("skipped: `{python}` lacks a package: {words}");
        return;
    }
    assert!(output.status.success(), "{words}");
    let scored: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut classifier = Classifier::new(&runtime, &model, &ServeOptions::default()).unwrap();
    let ours = classifier.predict(&TEXTS).unwrap();
    for library in ["onnx", "torch"] {
        for (row, ours) in ours.iter().enumerate() {
            let logits: Vec<f64> = scored[library][row]
                .as_array()
                .unwrap()
                .iter()
                .map(|v| v.as_f64().unwrap().exp())
                .collect();
            let total: f64 = logits.iter().sum();
            for (theirs, ours) in logits.iter().zip(&ours.probabilities) {
                let theirs = theirs / total;
                assert!(
                    (theirs - f64::from(*ours)).abs() < 1e-4,
                    "{library}: {theirs} vs {ours}"
                );
            }
        }
    }
}

#[test]
fn a_missing_file_is_named() {
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        let (_keep, path) = saved();
        fs::remove_file(path.join(file)).unwrap();
        let error = Model::read(&path).unwrap_err();
        assert!(matches!(error, SlmError::Read { .. }), "{error:?}");
        assert!(error.to_string().contains(file), "{error}");
    }
}

#[test]
fn weights_cut_short_are_refused() {
    let (_keep, path) = saved();
    let file = path.join("model.safetensors");
    let bytes = fs::read(&file).unwrap();
    for length in [0, 4, 100, bytes.len() - 1] {
        fs::write(&file, &bytes[..length]).unwrap();
        let error = Model::read(&path).unwrap_err();
        assert!(matches!(error, SlmError::Weights { .. }), "{error:?}");
    }
}

#[test]
fn a_wrong_shape_prints_both() {
    let (_keep, path) = saved();
    edit(
        &path,
        "config.json",
        "\"intermediate_size\": 32",
        "\"intermediate_size\": 48",
    );
    let error = Model::read(&path).unwrap_err().to_string();
    assert!(
        error.contains("[32, 16]") && error.contains("[48, 16]"),
        "{error}"
    );
}

#[test]
fn a_missing_weight_is_named() {
    let (_keep, path) = saved();
    edit(
        &path,
        "config.json",
        "\"num_hidden_layers\": 1",
        "\"num_hidden_layers\": 2",
    );
    let error = Model::read(&path).unwrap_err().to_string();
    assert!(error.contains("`encoder.layer.1."), "{error}");
}

/// Their names alone would fill the memory.
#[test]
fn layers_without_number_are_refused_at_the_first_that_is_not_there() {
    let (_keep, path) = saved();
    let layers = |count: u32| format!("\"num_hidden_layers\": {count}");
    edit(&path, "config.json", &layers(1), &layers(100_000_000));
    let error = Model::read(&path).unwrap_err().to_string();
    assert!(error.contains("`encoder.layer.1."), "{error}");
}

#[test]
fn a_model_that_says_no_numbers_is_refused() {
    let words = "embeddings.word_embeddings.weight";
    for wrong in [f32::NAN, f32::INFINITY] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        let mut model = scratch();
        let mut array = model.weights.get(words).unwrap().clone();
        array.data[3] = wrong;
        model.weights.insert(words, array);
        model.save(&path, "# card").unwrap();
        let error = Model::read(&path).unwrap_err();
        assert!(matches!(error, SlmError::WeightNotFinite { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    let Some(runtime) = common::runtime() else {
        return;
    };
    // Finite weights, of which the products are not.
    let mut model = scratch();
    model.heads = vec![Head::single(["a", "b"])];
    model
        .weights
        .insert(HEAD_WEIGHT, Array::filled(&[2, 16], 0.1));
    model.weights.insert(HEAD_BIAS, Array::filled(&[2], 0.0));
    let up = "encoder.layer.0.intermediate.dense.weight";
    model.weights.insert(up, Array::filled(&[32, 16], f32::MAX));
    let mut classifier = Classifier::new(&runtime, &model, &ServeOptions::default()).unwrap();
    let error = classifier.predict(&TEXTS).unwrap_err();
    assert!(matches!(error, SlmError::OutputNotFinite { .. }), "{error}");
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let (_keep, path) = saved();
    let vocabulary = scratch().config.vocabulary;
    let (from, to) = (
        format!("\"vocab_size\": {vocabulary}"),
        "\"vocab_size\": 20",
    );
    edit(&path, "config.json", &from, to);
    let error = Model::read(&path).unwrap_err();
    assert!(
        matches!(error, SlmError::VocabularyMismatch { rows: 20, .. }),
        "{error:?}"
    );
}

#[test]
fn an_encoder_is_no_classifier() {
    let (_keep, path) = saved();
    let error = Model::read_classifier(&path).unwrap_err();
    assert!(
        matches!(error, SlmError::NotAClassifier { .. }),
        "{error:?}"
    );
}

#[test]
fn a_config_that_is_no_json_is_refused() {
    let (_keep, path) = saved();
    fs::write(path.join("config.json"), "{ \"model_type\": ").unwrap();
    let error = Model::read(&path).unwrap_err().to_string();
    assert!(error.contains("it is not JSON"), "{error}");
    fs::write(path.join("tokenizer.json"), "{}").unwrap();
    fs::write(path.join("config.json"), "[]").unwrap();
    let error = Model::read(&path).unwrap_err().to_string();
    assert!(error.contains("no JSON object"), "{error}");
}

#[test]
fn a_tokenizer_that_is_none_is_refused() {
    let (_keep, path) = saved();
    fs::write(path.join("tokenizer.json"), "{}").unwrap();
    let error = Model::read(&path).unwrap_err();
    assert!(matches!(error, SlmError::Tokenizer { .. }), "{error:?}");
}

#[test]
fn a_tokenizer_that_pads_otherwise_is_refused() {
    let (_keep, path) = saved();
    edit(
        &path,
        "config.json",
        "\"pad_token_id\": 0",
        "\"pad_token_id\": 1",
    );
    let error = Model::read(&path).unwrap_err().to_string();
    assert!(
        error.contains("pads with id 0") && error.contains("copy `tokenizer.json`"),
        "{error}"
    );
}

#[test]
fn a_tokenizer_with_far_fewer_ids_than_the_model_has_rows_is_refused() {
    let (_keep, path) = saved();
    let vocabulary = scratch().config.vocabulary;
    let from = format!("\"vocab_size\": {vocabulary}");
    let to = format!("\"vocab_size\": {}", 3 * vocabulary);
    edit(&path, "config.json", &from, &to);
    let error = Model::read(&path).unwrap_err();
    assert!(
        matches!(error, SlmError::VocabularyMismatch { .. }),
        "{error:?}"
    );
}

#[test]
fn an_onnx_file_cut_short_is_refused() {
    let Some(runtime) = common::runtime() else {
        return;
    };
    let (_keep, path) = saved();
    let bytes = fs::read(path.join("model.onnx")).unwrap();
    let options = SessionOptions::default();
    let error = graph::open_file(&runtime, &bytes[..bytes.len() / 2], options).unwrap_err();
    assert!(matches!(error, SlmError::Runtime { .. }), "{error:?}");
}
