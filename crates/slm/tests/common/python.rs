//! Asks Python's `onnx` and `onnxruntime` about a folder of `.onnx` files.

use std::path::Path;
use std::process::Command;

/// What `check_graphs.py` says of the files, or `None` with the reason printed.
pub fn judge(folder: &Path) -> Option<String> {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");
    let python = std::env::var("NOISEGATE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let told = Command::new(&python)
        .arg(format!("{fixtures}/check_graphs.py"))
        .arg(folder)
        .arg(format!("{fixtures}/vjps.safetensors"))
        .output();
    let Ok(told) = told else {
        println!("skipped: no `{python}`");
        return None;
    };
    let words = String::from_utf8_lossy(&told.stderr);
    if told.status.code() == Some(3) {
        println!("skipped: `{python}` lacks a package: {words}");
        return None;
    }
    assert!(told.status.success(), "{words}");
    Some(String::from_utf8_lossy(&told.stdout).into_owned())
}
