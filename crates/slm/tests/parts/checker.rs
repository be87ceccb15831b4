//! Graphs with their gradients as `.onnx` files, judged by Python's `onnx` and `onnxruntime`.

use std::process::Command;

use noisegate_slm::graph::{self, Weights};

use super::common::cases::{self, CASES};

#[test]
fn graphs_with_gradients_pass_the_checker_and_run_in_python() {
    let folder = tempfile::tempdir().unwrap();
    for case in &CASES {
        let built = cases::graph(case);
        let onnx = graph::lower(&built, Weights::Fed).unwrap();
        let file = folder.path().join(format!("{}.onnx", case.0));
        std::fs::write(file, graph::encode(&onnx)).unwrap();
    }
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");
    let python = std::env::var("NOISEGATE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let told = Command::new(&python)
        .arg(format!("{fixtures}/check_graphs.py"))
        .arg(folder.path())
        .arg(format!("{fixtures}/vjps.safetensors"))
        .output();
    let Ok(told) = told else {
        println!("skipped: no `{python}`");
        return;
    };
    let words = String::from_utf8_lossy(&told.stderr);
    if told.status.code() == Some(3) {
        println!("skipped: `{python}` lacks a package: {words}");
        return;
    }
    assert!(told.status.success(), "{words}");
    let said = String::from_utf8_lossy(&told.stdout);
    assert!(
        said.contains("28 files pass onnx.checker, 28 of them were run"),
        "{said}"
    );
}
