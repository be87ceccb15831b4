//! Model folders: MiniLM as it is, the `.onnx` file, and every way a folder can be broken.

mod common;

use std::fs;
use std::path::Path;

use noisegate_slm::graph::{self, SessionOptions};
use noisegate_slm::{Base, Embedder, Model, ScratchConfig, ServeOptions, SlmError, Vocabulary};
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
    let mut session = graph::open_file(&runtime, &bytes, SessionOptions { threads: 1 }).unwrap();
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
