//! Products of 8-bit integers, beside those of f32.

use std::fs;

use noisegate_slm::graph::{self, SessionOptions};
use noisegate_slm::model::Serve;
use noisegate_slm::model::names::{HEAD_BIAS, HEAD_WEIGHT};
use noisegate_slm::params::Array;
use noisegate_slm::{Embedder, Head, Model, ServeOptions};
use ort::value::TensorRef;

use super::{TEXTS, common, scratch};

#[test]
fn eight_bit_products_change_an_embedding_little() {
    let (Some(runtime), Some(folder)) = (common::runtime(), common::minilm()) else {
        return;
    };
    let model = Model::read(&folder).unwrap();
    let embed = |int8| {
        let options = ServeOptions {
            int8,
            ..ServeOptions::default()
        };
        let mut embedder = Embedder::new(&runtime, &model, &options).unwrap();
        embedder.embed(&TEXTS).unwrap()
    };
    let (exact, rounded) = (embed(false), embed(true));
    for row in 0..TEXTS.len() {
        let pairs = exact.row(row).iter().zip(rounded.row(row));
        let cosine: f32 = pairs.map(|(a, b)| a * b).sum();
        // 0.977 on a processor with AVX512-VNNI; how it rounds differs between processors.
        assert!((0.96..0.999_999).contains(&cosine), "{cosine}");
    }
}

#[test]
fn a_file_with_8_bit_weights_is_written_beside_the_other_and_runs() {
    let Some(runtime) = common::runtime() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    let model = scratch();
    model.save(&path, "# card").unwrap();
    model.save_int8(&path).unwrap();
    let read = |file: &str| fs::read(path.join(file)).unwrap();
    let (exact, rounded) = (read("model.onnx"), read("model.int8.onnx"));
    assert!(
        rounded.len() < exact.len(),
        "{} {}",
        rounded.len(),
        exact.len()
    );
    graph::open_file(&runtime, &rounded, SessionOptions::default()).unwrap();
}

/// On processors without VNNI they would saturate at 16 bits.
#[test]
fn large_products_of_8_bit_integers_do_not_saturate() {
    let Some(runtime) = common::runtime() else {
        return;
    };
    let mut model = scratch();
    model.heads = vec![Head::single(["a", "b"])];
    model
        .weights
        .insert(HEAD_WEIGHT, Array::filled(&[2, 16], 1.0));
    model.weights.insert(HEAD_BIAS, Array::filled(&[2], 0.0));
    // Every value behind the last norm is 3: the largest byte, in every place.
    let norm = "encoder.layer.0.output.LayerNorm";
    model
        .weights
        .insert(format!("{norm}.weight"), Array::filled(&[16], 0.0));
    model
        .weights
        .insert(format!("{norm}.bias"), Array::filled(&[16], 3.0));
    let onnx = model.quantised_graph(Serve::Classes).unwrap();
    let mut session = graph::open(&runtime, &onnx, SessionOptions::default()).unwrap();
    let ids = TensorRef::from_array_view(([1usize, 3], [2i64, 7, 3].as_slice())).unwrap();
    let mask = TensorRef::from_array_view(([1usize, 3], [1i64; 3].as_slice())).unwrap();
    let inputs = ort::inputs!["input_ids" => ids, "attention_mask" => mask];
    let outputs = session.run(inputs).unwrap();
    let (_, logits) = outputs["logits"].try_extract_tensor::<f32>().unwrap();
    assert!(logits.iter().all(|z| (z - 48.0).abs() < 0.5), "{logits:?}");
}
