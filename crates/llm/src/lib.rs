//! Language models on candle: load, generate, score, cluster, judge, augment, pretrain.
//!
//! ```text
//! documents ─ pretrain ─> model folder ─ load ─> LanguageModel ─┬─ generate, score
//!                                                               │
//! released samples ─ cluster ─ judge ─ (adapt) ─ augment ───────┴─> new samples with provenance
//! ```
//! Start reading at [`load`] and [`augment`]. Everything here sees released or public text only;
//! this crate knows nothing of privacy, workflows or the other crates, but for `noisegate-tokens`.
//!
//! This crate never prints, never reads environment variables, and touches only the files whose
//! paths it is given.
#![deny(unsafe_code)]

pub mod adapt;
pub mod architecture;
mod assemble;
pub mod augment;
mod begin_and_end;
pub mod centroids;
pub mod chat;
#[cfg(test)]
mod chat_tests;
pub mod cluster;
pub mod config;
mod config_values;
mod constrain;
mod decoder;
pub mod device;
mod device_network;
pub mod error;
mod families;
#[cfg(test)]
mod families_tests;
pub mod generate;
mod gguf;
mod host;
pub mod judge;
pub mod llama2c;
pub mod load;
pub mod model;
pub mod near_duplicates;
mod network;
pub mod pretrain;
pub mod progress;
mod prompts;
pub mod quality;
pub mod sample;
mod sampling;
pub mod score;
mod shards;
pub mod template;
#[cfg(test)]
mod testing;
pub mod tokenizer;
mod weight;
pub mod weights;
pub mod writer;

pub use adapt::{AdaptOptions, adapt};
pub use augment::{AugmentOptions, Augmented, AugmentedSample, Provenance, augment};
pub use centroids::{Centroids, Nearest};
pub use chat::ChatTemplate;
pub use cluster::{ClusterOptions, cluster};
pub use config::LlamaConfig;
pub use device::Place;
pub use error::{Error, Result};
pub use generate::{Finish, GenerateOptions, Generation, Request, Sampling, generate};
pub use judge::{JudgeMode, JudgeOptions, Judged, judge};
pub use load::{load, reads};
pub use model::LanguageModel;
pub use progress::Progress;
pub use prompts::PromptStyle;
pub use quality::QualityOptions;
pub use sample::Sample;
pub use score::{Score, ScoreRequest, score};
pub use tokenizer::TextTokenizer;
pub use weights::LlamaWeights;
pub use writer::{Answering, Writer};
