//! Small language models on stock ONNX Runtime: fine-tune, serve, embed, save.
//!
//! ```text
//! runtime::load ──> Runtime ─┐
//! Base + examples ───────────┼─ train::train ──> Model ──save──> folder (Hugging Face + model.onnx)
//! folder ──Model::read───────┘                     ├── Embedder::embed   ──> vectors
//!                                                  └── Classifier::predict ──> labels
//! ```
//!
//! ONNX Runtime's own training ended with version 1.19. Here the training step is a plain ONNX
//! graph, forward and backward, made by a small autodiff ([`graph`]), so it trains wherever stock
//! ONNX Runtime runs. Start reading at [`train::train`], then [`graph`].
//!
//! Deliberately absent: metrics (`noisegate-records` has them), data files, printing, environment
//! variables, downloads, and any knowledge of other noisegate crates but `noisegate-tokens`.

#![deny(unsafe_code)] // but for `kernels::simd`, which says why

pub mod error;
mod files;
pub mod graph;
pub mod kernels;
pub mod model;
pub mod params;
mod random;
pub mod runtime;
pub mod serve;
pub mod tokens;
pub mod train;

pub use error::SlmError;
pub use model::{Base, Head, Lora, Model, ScratchConfig, Task, Vocabulary};
pub use runtime::{Device, Runtime};
pub use serve::{Classifier, Embedder, Embeddings, Prediction, ServeOptions};
pub use train::{
    CheckpointOptions, ClassWeights, Example, Freeze, Hooks, Precision, Progress, Schedule,
    Summary, Target, TrainOptions, TrainingData, Validation,
};
