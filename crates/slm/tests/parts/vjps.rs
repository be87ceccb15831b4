//! Every operator's gradient, and the loss of all kinds of head, against PyTorch in fp64.

use noisegate_slm::graph::{Graph, Weights, gradients};
use noisegate_slm::train::loss;
use noisegate_slm::{Head, Task};

use super::common::cases::{CASES, graph};
use super::common::{Feed, Runner, runtime};
use super::{close, fixture, floats};

#[test]
fn every_operator_has_the_value_and_the_gradients_of_pytorch() {
    let Some(runtime) = runtime() else { return };
    let fixture = fixture("vjps.safetensors");
    for case in &CASES {
        let (name, shapes, _) = case;
        let mut feeds: Vec<(String, &Feed)> = (0..shapes.len())
            .map(|i| (format!("x{i}"), &fixture[&format!("{name}/x{i}")].1))
            .collect();
        feeds.push(("r".to_owned(), &fixture[&format!("{name}/r")].1));
        let feeds: Vec<(&str, &Feed)> = feeds.iter().map(|(n, f)| (n.as_str(), *f)).collect();
        let out = Runner::new(&runtime, &graph(case), Weights::Fed).run(&feeds);
        let expected = (0..shapes.len()).map(|i| format!("{name}/g{i}"));
        let expected = [format!("{name}/y")].into_iter().chain(expected);
        for (ours, theirs) in out.iter().zip(expected) {
            close(&theirs, ours, floats(&fixture[&theirs].1));
        }
    }
}

#[test]
fn the_loss_of_all_kinds_of_head_has_the_gradient_of_pytorch() {
    let Some(runtime) = runtime() else { return };
    let fixture = fixture("vjps.safetensors");
    let head = |name: &str, task, labels: &[&str]| Head {
        name: name.to_owned(),
        ..Head::only(task, labels.iter().copied())
    };
    let heads = [
        head("a", Task::SingleLabel, &["x", "y"]),
        head("b", Task::MultiLabel, &["p", "q"]),
        head("c", Task::Number, &["n"]),
    ];
    let mut graph = Graph::new();
    let logits = graph.parameter("logits", &[4, 5]);
    let loss = loss::build(&mut graph, logits, 4, &heads).unwrap();
    let gradient = gradients(&mut graph, loss, &[logits]).unwrap()[0];
    graph.output("y", loss);
    graph.output("g", gradient);
    let names = [
        "logits",
        "targets",
        "allowed",
        "pairs",
        "numbers",
        "number_weights",
    ];
    let feeds = names.map(|name| (name, &fixture[&format!("loss/{name}")].1));
    let out = Runner::new(&runtime, &graph, Weights::Fed).run(&feeds);
    close("loss", &out[0], floats(&fixture["loss/y"].1));
    close("gradient", &out[1], floats(&fixture["loss/g"].1));
}
