//! What `check` knows of this folder's steps. The command line offers `slm:train` and
//! `slm:evaluate` with the same parameters.

mod evaluate;
mod labels;
mod train;

use noisegate_workflow::ParamSpec;

pub use evaluate::evaluate_signature;
pub use labels::{agree_signature, pseudo_label_signature};
pub use train::train_signature;

fn device() -> ParamSpec {
    ParamSpec::choice("device", &["cpu", "cuda"])
        .default("cpu")
        .help("what computes; cuda needs the library of the package onnxruntime-gpu")
}

fn head(what_for: &str) -> ParamSpec {
    ParamSpec::text("head").default("").help(&format!(
        "of a model with several heads: the one to {what_for}"
    ))
}

fn batch() -> ParamSpec {
    ParamSpec::int("batch", 1, 4096)
        .default(64)
        .help("records scored together")
}
