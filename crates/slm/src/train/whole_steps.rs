//! Whole training steps as `.onnx` files, judged by Python's `onnx` and `onnxruntime`.

use super::device::{optimizer::packed_graph, packs};
use super::step::{StepShape, step_graph};
use super::{TrainOptions, add_heads};
use crate::graph::{self, OnnxGraph, Pack, Weights};
use crate::model::{Base, Head, Lora, Model, ScratchConfig, Task, Vocabulary, lora};

#[path = "../../tests/common/python.rs"]
mod python;

fn model() -> Model {
    let config = ScratchConfig {
        layers: 2,
        hidden: 16,
        heads: 2,
        intermediate: 32,
        length_max: 16,
        vocabulary: Vocabulary::Train { size: 60 },
    };
    let texts = ["a bill I do not owe", "the nurse was kind"];
    let mut model = Model::from_base(&Base::Scratch(config), texts, 1).unwrap();
    let head = |name: &str, task, labels: &[&str]| Head {
        name: name.to_owned(),
        task,
        labels: labels.iter().map(|&label| label.to_owned()).collect(),
    };
    let heads = [
        head("topic", Task::SingleLabel, &["bills", "care", "other"]),
        head("symptoms", Task::MultiLabel, &["cough", "fever"]),
        head("pain", Task::Number, &["pain"]),
    ];
    add_heads(&mut model, &heads, 1);
    model
}

/// Forward, losses of three kinds of heads, dropout, backward; with adapters; with AdamW.
#[test]
fn whole_training_steps_pass_the_checker_and_load_in_python() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, onnx: &OnnxGraph<'_>| {
        let plain = onnx.nodes.iter().all(|node| node.domain.is_empty());
        assert!(plain, "{name} holds operators that are not ONNX's own");
        std::fs::write(folder.path().join(name), graph::encode(onnx)).unwrap();
    };
    let (model, options) = (model(), TrainOptions::default());
    let shape = StepShape {
        batch: 4,
        length: 16,
        heads: &model.heads,
        dropout: 0.1,
        lora: None,
        backward: true,
    };
    let built = step_graph(&model.config, &shape, |_| true).unwrap();
    let onnx = graph::lower(&built.graph, Weights::Fed).unwrap();
    write("step.onnx", &onnx);

    let packs = packs(&model, &options);
    let built = packed_graph(&model.config, &shape, &packs, 1.0).unwrap();
    let packs: Vec<Pack> = packs.into_iter().map(|(pack, _)| pack).collect();
    let onnx = graph::lower(&built.graph, Weights::Packed(&packs)).unwrap();
    write("step-with-adamw.onnx", &onnx);

    let mut adapted = model.clone();
    lora::add(&mut adapted, Lora::default(), 0, 1);
    let shape = StepShape {
        lora: Some((Lora::default(), 0)),
        ..shape
    };
    let built = step_graph(&adapted.config, &shape, lora::is_adapter).unwrap();
    let onnx = graph::lower(&built.graph, Weights::Fed).unwrap();
    write("step-of-adapters.onnx", &onnx);

    if let Some(said) = python::judge(folder.path()) {
        assert!(said.contains("3 files pass onnx.checker"), "{said}");
    }
}
