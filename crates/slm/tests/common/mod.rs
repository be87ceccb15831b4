//! Shared by the tests: where the library and the model lie, and how to run a graph once.

#![allow(dead_code, reason = "each test binary uses a part")]

pub mod cases;
pub mod python;
pub mod task;

use std::path::PathBuf;

use noisegate_slm::graph::{self, Graph, SessionOptions, Weights};
use noisegate_slm::runtime::{self, Runtime};
use ort::session::SessionInputValue;
use ort::value::Tensor;

pub fn fetched(name: &str) -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../target/noisegate"
    ))
    .join(name)
}

/// The runtime, or `None` with the reason printed.
pub fn runtime() -> Option<Runtime> {
    let path = fetched("onnxruntime/libonnxruntime.so.1.32.0");
    if !path.exists() {
        println!("skipped: no `{}`; run `cargo xtask setup`", path.display());
        return None;
    }
    Some(runtime::load(&path).expect("the fetched library loads"))
}

/// The MiniLM folder, or `None` with the reason printed.
pub fn minilm() -> Option<PathBuf> {
    let path = fetched("minilm");
    if !path.join("model.safetensors").exists() {
        println!("skipped: no `{}`; run `cargo xtask setup`", path.display());
        return None;
    }
    Some(path)
}

pub enum Feed {
    F32(Vec<f32>),
    I64(Vec<i64>),
}

/// Opens a session once and runs it on many feeds.
pub struct Runner {
    session: ort::session::Session,
    shapes: Vec<(String, Vec<i64>)>,
}

impl Runner {
    pub fn new(runtime: &Runtime, graph: &Graph, weights: Weights<'_>) -> Self {
        let onnx = graph::lower(graph, weights).expect("the graph lowers");
        let shapes = onnx
            .inputs
            .iter()
            .map(|(name, _, shape)| (name.clone(), sizes(shape)))
            .collect();
        let session = graph::open(runtime, &onnx, SessionOptions::default()).expect("opens");
        Self { session, shapes }
    }

    pub fn run(&mut self, feeds: &[(&str, &Feed)]) -> Vec<Vec<f32>> {
        let inputs: Vec<(String, SessionInputValue<'_>)> = self
            .shapes
            .iter()
            .map(|(name, shape)| {
                let (_, feed) = feeds
                    .iter()
                    .find(|(n, _)| n == name)
                    .unwrap_or_else(|| panic!("no feed for `{name}`"));
                let value: SessionInputValue<'_> = match feed {
                    Feed::F32(v) => Tensor::from_array((shape.clone(), v.clone()))
                        .unwrap()
                        .into(),
                    Feed::I64(v) => Tensor::from_array((shape.clone(), v.clone()))
                        .unwrap()
                        .into(),
                };
                (name.clone(), value)
            })
            .collect();
        let outputs = self.session.run(inputs).expect("the graph runs");
        outputs
            .values()
            .map(|value| value.try_extract_tensor::<f32>().unwrap().1.to_vec())
            .collect()
    }
}

fn sizes(shape: &[graph::Dim]) -> Vec<i64> {
    shape
        .iter()
        .map(|dim| match dim {
            graph::Dim::Size(n) => *n as i64,
            other => panic!("`{other}` is not a fixed size"),
        })
        .collect()
}

/// A small deterministic generator, uniform in -1..1.
pub struct Noise(pub u64);

impl Noise {
    pub fn next(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        ((self.0 >> 40) as f32 / (1u64 << 24) as f32) * 2.0 - 1.0
    }

    pub fn many(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.next()).collect()
    }
}
