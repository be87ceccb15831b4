//! Against PyTorch: fixtures made by `fixtures/make.py` and `fixtures/vjps.py`.

mod common;
#[path = "parts/vjps.rs"]
mod vjps;

use std::collections::HashMap;
use std::path::Path;

use common::{Feed, Runner};
use noisegate_slm::graph::{Dim, Dtype, Graph, Op, TensorId, Weights, gradients};
use noisegate_slm::model::config::{Activation, EncoderConfig, Family};
use noisegate_slm::model::encoder::{Additions, encoder, head, mean_pool};
use noisegate_slm::params::{Array, Parameters};
use noisegate_slm::{Embedder, Model, ServeOptions};
use safetensors::{Dtype as Stored, SafeTensors};

const TEXTS: [&str; 4] = [
    "I was charged twice for the same appointment, please refund one of them.",
    "when will my lab results be back?",
    "Ma pharmacie dit que l'ordonnance a expiré",
    "ok",
];

fn fixture(name: &str) -> HashMap<String, (Vec<usize>, Feed)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name);
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.iter()
        .map(|(name, view)| {
            let feed = match view.dtype() {
                Stored::F32 => {
                    let (values, _) = view.data().as_chunks::<4>();
                    Feed::F32(values.iter().map(|b| f32::from_le_bytes(*b)).collect())
                }
                Stored::I64 => {
                    let (values, _) = view.data().as_chunks::<8>();
                    Feed::I64(values.iter().map(|b| i64::from_le_bytes(*b)).collect())
                }
                other => panic!("{other:?}"),
            };
            (name.to_owned(), (view.shape().to_vec(), feed))
        })
        .collect()
}

fn floats(feed: &Feed) -> &[f32] {
    match feed {
        Feed::F32(values) => values,
        Feed::I64(_) => panic!("expected floats"),
    }
}

#[test]
fn minilm_embeds_as_sentence_transformers_does() {
    let (Some(runtime), Some(folder)) = (common::runtime(), common::minilm()) else {
        return;
    };
    let model = Model::read(&folder).unwrap();
    let mut embedder = Embedder::new(&runtime, &model, &ServeOptions::default()).unwrap();
    let ours = embedder.embed(&TEXTS).unwrap();
    let theirs = &fixture("minilm.safetensors")["embeddings"];
    assert_eq!(theirs.0, [ours.rows, ours.width]);
    for (a, b) in ours.values.iter().zip(floats(&theirs.1)) {
        assert!((a - b).abs() < 1e-5, "{a} vs {b}");
    }
}

fn config(family: Family) -> EncoderConfig {
    EncoderConfig {
        family,
        vocabulary: 29,
        hidden: 16,
        layers: 2,
        heads: 4,
        intermediate: 24,
        positions: 12,
        types: match family {
            Family::Bert => 2,
            Family::Roberta => 1,
            Family::Distilbert => 0,
        },
        activation: Activation::Gelu,
        epsilon: if family == Family::Roberta {
            1e-5
        } else {
            1e-12
        },
        pad: usize::from(family == Family::Roberta),
    }
}

/// Logits, loss and the gradient of every weight equal PyTorch's.
fn check(name: &str, family: Family) {
    let Some(runtime) = common::runtime() else {
        return;
    };
    let fixture = fixture(name);
    let config = config(family);
    let mut graph = Graph::new();
    let (batch, length) = (Dim::Size(4), Dim::Size(7));
    let states = encoder(
        &mut graph,
        &config,
        batch,
        length,
        &mut Additions::default(),
    )
    .unwrap();
    let pooled = mean_pool(&mut graph, &states).unwrap();
    let logits = head(&mut graph, &config, pooled, 3).unwrap();
    let targets = graph.input("targets", Dtype::F32, &[batch, Dim::Size(3)]);
    let logs = graph.unary(Op::LogSoftmax, logits);
    let weighted = graph.mul(targets, logs).unwrap();
    let sum = graph.reduce_sum(weighted, &[0, 1], false).unwrap();
    let loss = graph.unary(Op::Neg, sum);
    let ids: Vec<TensorId> = graph.parameters().collect();
    let names: Vec<String> = ids
        .iter()
        .map(|id| graph.tensor(*id).name.clone())
        .collect();
    graph.output("loss", loss);
    graph.output("logits", logits);
    for (i, id) in gradients(&mut graph, loss, &ids)
        .unwrap()
        .into_iter()
        .enumerate()
    {
        graph.output(&format!("g{i}"), id);
    }
    let mut weights = Parameters::default();
    let mut feeds: Vec<(&str, &Feed)> = Vec::new();
    for name in &names {
        let (shape, feed) = &fixture[&format!("p.{name}")];
        let data = floats(feed).to_vec();
        weights.insert(
            name.clone(),
            Array {
                shape: shape.clone(),
                data,
            },
        );
        feeds.push((name, feed));
    }
    for (ours, theirs) in [
        ("input_ids", "ids"),
        ("attention_mask", "mask"),
        ("targets", "targets"),
    ] {
        feeds.push((ours, &fixture[theirs].1));
    }
    let out = Runner::new(&runtime, &graph, Weights::Fed).run(&feeds);
    close("loss", &out[0], floats(&fixture["loss"].1));
    close("logits", &out[1], floats(&fixture["logits"].1));
    for (name, gradient) in names.iter().zip(&out[2..]) {
        close(name, gradient, floats(&fixture[&format!("g.{name}")].1));
    }
}

/// Equal to 1e-4 of the largest value.
fn close(name: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{name}");
    let largest = theirs.iter().fold(0.1f32, |m, v| m.max(v.abs()));
    for (a, b) in ours.iter().zip(theirs) {
        assert!((a - b).abs() < 1e-4 * largest, "{name}: {a} vs {b}");
    }
}

#[test]
fn bert_has_the_gradients_of_pytorch() {
    check("tiny_bert.safetensors", Family::Bert);
}

#[test]
fn roberta_has_the_gradients_of_pytorch() {
    check("tiny_roberta.safetensors", Family::Roberta);
}

#[test]
fn distilbert_has_the_gradients_of_pytorch() {
    check("tiny_distilbert.safetensors", Family::Distilbert);
}
