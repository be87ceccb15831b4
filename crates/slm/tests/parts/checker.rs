//! Graphs with their gradients as `.onnx` files, judged by Python's `onnx` and `onnxruntime`.

use noisegate_slm::graph::{self, Weights};

use super::common::cases::{self, CASES};
use super::common::python;

#[test]
fn graphs_with_gradients_pass_the_checker_and_run_in_python() {
    let folder = tempfile::tempdir().unwrap();
    for case in &CASES {
        let built = cases::graph(case);
        let onnx = graph::lower(&built, Weights::Fed).unwrap();
        let file = folder.path().join(format!("{}.onnx", case.0));
        std::fs::write(file, graph::encode(&onnx)).unwrap();
    }
    let Some(said) = python::judge(folder.path()) else {
        return;
    };
    assert!(
        said.contains("28 files pass onnx.checker, 28 of them were run"),
        "{said}"
    );
}
