//! The whole encoder: its gradient, its independence of padding, and each family's names.

mod common;

use common::{Feed, Noise, Runner};
use noisegate_slm::graph::{Dim, Dtype, Graph, Op, TensorId, Weights, gradients};
use noisegate_slm::model::config::{Activation, EncoderConfig, Family};
use noisegate_slm::model::encoder::{Additions, encoder, head, mean_pool};
use noisegate_slm::model::names;
use noisegate_slm::params::{Array, Parameters};

const BATCH: usize = 3;
const LABELS: usize = 4;

fn config(family: Family, activation: Activation) -> EncoderConfig {
    EncoderConfig {
        family,
        vocabulary: 11,
        hidden: 8,
        layers: 2,
        heads: 2,
        intermediate: 12,
        positions: 9,
        types: if family == Family::Distilbert { 0 } else { 2 },
        activation,
        epsilon: 1e-5,
        pad: 1,
    }
}

fn weights(config: &EncoderConfig) -> Parameters {
    let mut noise = Noise(21);
    let mut weights = Parameters::default();
    let head = [
        (names::HEAD_WEIGHT.to_owned(), vec![LABELS, config.hidden]),
        (names::HEAD_BIAS.to_owned(), vec![LABELS]),
    ];
    for (name, shape) in names::shapes(config).chain(head) {
        let mut data = noise.many(shape.iter().product());
        let norm = name.contains("orm.weight");
        for value in &mut data {
            *value = if norm {
                1.0 + 0.2 * *value
            } else {
                0.4 * *value
            };
        }
        weights.insert(name, Array { shape, data });
    }
    weights
}

/// A classification loss; returns the graph, the loss, and the logits.
fn classifier(config: &EncoderConfig, length: usize) -> (Graph, TensorId, TensorId) {
    let mut graph = Graph::new();
    let (batch, length) = (Dim::Size(BATCH), Dim::Size(length));
    let states = encoder(&mut graph, config, batch, length, &mut Additions::default()).unwrap();
    let pooled = mean_pool(&mut graph, &states).unwrap();
    let logits = head(&mut graph, config, pooled, LABELS).unwrap();
    let shape = [batch, Dim::Size(LABELS)];
    let targets = graph.input("targets", Dtype::F32, &shape);
    let logs = graph.unary(Op::LogSoftmax, logits);
    let weighted = graph.mul(targets, logs).unwrap();
    let sum = graph.reduce_sum(weighted, &[0, 1], false).unwrap();
    let loss = graph.unary(Op::Neg, sum);
    (graph, loss, logits)
}

/// Three rows of 5, 2 and 4 tokens in a grid of `length`.
fn grid(length: usize) -> (Feed, Feed) {
    let mut ids = vec![1i64; BATCH * length];
    let mut mask = vec![0i64; BATCH * length];
    for (row, tokens) in [[2i64, 5, 7, 10, 3].as_slice(), &[2, 3], &[2, 5, 5, 3]]
        .into_iter()
        .enumerate()
    {
        for (column, id) in tokens.iter().enumerate() {
            ids[row * length + column] = *id;
            mask[row * length + column] = 1;
        }
    }
    (Feed::I64(ids), Feed::I64(mask))
}

fn targets() -> Feed {
    let mut targets = vec![0.0; BATCH * LABELS];
    targets[1] = 1.0;
    targets[LABELS] = 0.7;
    targets[LABELS + 2] = 0.3;
    targets[2 * LABELS + 3] = 0.5;
    Feed::F32(targets)
}

/// No ReLU here: a step of a finite difference may carry it over its kink.
fn families() -> [(Family, Activation); 4] {
    [
        (Family::Bert, Activation::Gelu),
        (Family::Roberta, Activation::Gelu),
        (Family::Distilbert, Activation::Gelu),
        (Family::Bert, Activation::GeluTanh),
    ]
}

#[test]
fn the_loss_of_the_whole_encoder_has_the_right_gradient() {
    let Some(runtime) = common::runtime() else {
        return;
    };
    for (family, activation) in families() {
        let config = config(family, activation);
        let mut weights = weights(&config);
        let (mut graph, loss, _) = classifier(&config, 6);
        let ids: Vec<TensorId> = graph.parameters().collect();
        let all: Vec<String> = ids
            .iter()
            .map(|id| graph.tensor(*id).name.clone())
            .collect();
        graph.output("loss", loss);
        for id in gradients(&mut graph, loss, &ids).unwrap() {
            graph.output(&format!("g{}", id_name(&graph, id)), id);
        }
        let mut runner = Runner::new(&runtime, &graph, Weights::Fed);
        let (tokens, mask) = grid(6);
        let targets = targets();
        let mut run = |weights: &Parameters| {
            let arrays: Vec<(&str, Feed)> = weights
                .iter()
                .map(|(name, array)| (name, Feed::F32(array.data.clone())))
                .collect();
            let mut feeds: Vec<(&str, &Feed)> = arrays.iter().map(|(n, f)| (*n, f)).collect();
            feeds.push(("input_ids", &tokens));
            feeds.push(("attention_mask", &mask));
            feeds.push(("targets", &targets));
            runner.run(&feeds)
        };
        let exact = run(&weights);
        let mut noise = Noise(3);
        for (index, name) in all.iter().enumerate() {
            let size = weights.get(name).unwrap().data.len();
            for _ in 0..2 {
                let at = ((noise.next() + 1.0) / 2.0 * size as f32) as usize % size;
                let array = weights.get(name).unwrap().clone();
                let mut moved = |delta: f32| {
                    let mut array = array.clone();
                    array.data[at] += delta;
                    weights.insert(name.clone(), array);
                    f64::from(run(&weights)[0][0])
                };
                let estimate = (moved(5e-3) - moved(-5e-3)) / 1e-2;
                weights.insert(name.clone(), array);
                let gradient = f64::from(exact[index + 1][at]);
                assert!(
                    (estimate - gradient).abs() < 1e-3 + 1e-2 * gradient.abs(),
                    "{family:?} {name}[{at}]: {gradient} vs {estimate}"
                );
            }
        }
    }
}

fn id_name(graph: &Graph, id: TensorId) -> &str {
    &graph.tensor(id).name
}

#[test]
fn padding_changes_no_row() {
    let Some(runtime) = common::runtime() else {
        return;
    };
    for (family, activation) in families() {
        let config = config(family, activation);
        let weights = weights(&config);
        let mut logits = Vec::new();
        for length in [5, 7] {
            let (mut graph, _, out) = classifier(&config, length);
            graph.output("logits", out);
            let (tokens, mask) = grid(length);
            let feeds = [("input_ids", &tokens), ("attention_mask", &mask)];
            logits.push(Runner::new(&runtime, &graph, Weights::Baked(&weights)).run(&feeds));
        }
        for (a, b) in logits[0][0].iter().zip(&logits[1][0]) {
            assert!((a - b).abs() < 1e-5, "{family:?}: {a} vs {b}");
        }
    }
}

#[test]
fn baked_and_fed_weights_compute_the_same() {
    let Some(runtime) = common::runtime() else {
        return;
    };
    let config = config(Family::Bert, Activation::Gelu);
    let weights = weights(&config);
    let (mut graph, _, out) = classifier(&config, 6);
    graph.output("logits", out);
    let (tokens, mask) = grid(6);
    let feeds = [("input_ids", &tokens), ("attention_mask", &mask)];
    let baked = Runner::new(&runtime, &graph, Weights::Baked(&weights)).run(&feeds);
    let arrays: Vec<(&str, Feed)> = weights
        .iter()
        .map(|(name, array)| (name, Feed::F32(array.data.clone())))
        .collect();
    let mut feeds = feeds.to_vec();
    feeds.extend(arrays.iter().map(|(name, feed)| (*name, feed)));
    let fed = Runner::new(&runtime, &graph, Weights::Fed).run(&feeds);
    for (a, b) in baked[0].iter().zip(&fed[0]) {
        assert!((a - b).abs() < 1e-5, "{a} vs {b}");
    }
}

#[test]
fn a_row_longer_than_the_positions_is_refused_when_the_graph_is_built() {
    let config = config(Family::Bert, Activation::Gelu);
    let mut graph = Graph::new();
    let (batch, length) = (Dim::Size(1), Dim::Size(10));
    let error = encoder(
        &mut graph,
        &config,
        batch,
        length,
        &mut Additions::default(),
    );
    let error = error.unwrap_err().to_string();
    assert_eq!(error, "`rows` cannot take shapes [9, 8] and [1, 10]");
}
