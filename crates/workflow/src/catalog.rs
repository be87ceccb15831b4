//! What steps and plugins exist, told by the caller.
//!
//! This crate knows no step. Whoever can run one describes it as a [`StepSignature`]; `check` then
//! wires the workflow against the signatures. A signature says nothing about how a step works.
//!
//! ```
//! use noisegate_workflow::{ParamSpec, PortSpec, PortType, StepSignature};
//!
//! let train = StepSignature::host("slm:train", "trains a small classifier")
//!     .reads(PortSpec::many("records", PortType::Records).private().labelled())
//!     .reads(PortSpec::one("base", PortType::Encoder))
//!     .makes("model", PortType::Classifier)
//!     .with(ParamSpec::int("epochs", 1, 100).default(3));
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::together::TogetherCheck;

/// All that a workflow may use.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// Kinds of step, unique by `uses`.
    pub steps: Vec<StepSignature>,
    /// Packaged models, unique by name.
    pub plugins: Vec<PluginSignature>,
}

/// The outside of one kind of step.
#[derive(Debug, Clone)]
pub struct StepSignature {
    /// What a workflow writes to get it, such as `llm:augment` or `guest:dp-generator`.
    pub uses: String,
    /// Native code, or a sandboxed guest behind the gate.
    pub placement: Placement,
    /// Input ports.
    pub reads: Vec<PortSpec>,
    /// Output ports.
    pub makes: Vec<OutputSpec>,
    /// Parameters.
    pub with: Vec<ParamSpec>,
    /// What the parameters must be beside each other and beside the inputs, if anything.
    pub together: Option<TogetherCheck>,
    /// What it takes to run.
    pub weight: Weight,
    /// One line for people.
    pub help: String,
    /// The file that says all this, if it is a plugin's.
    pub manifest: Option<String>,
}

/// Where a step's code runs, and so how labels pass through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// Trusted native code: its outputs are as private as its inputs.
    Host,
    /// WebAssembly behind the gate: its outputs are released, and charged for.
    Guest,
}

/// An input port.
#[derive(Debug, Clone, PartialEq)]
pub struct PortSpec {
    /// Unique among the step's inputs.
    pub name: String,
    /// Any one of these fits.
    pub accepts: Vec<PortType>,
    /// How many artifacts it takes.
    pub arity: Arity,
    /// On a host step: may read what is private to the step's own site. On a guest step: the
    /// private side, cut into units and charged for; all other ports of a guest are its public side.
    pub accepts_private: bool,
    /// A data set read here must declare its labels.
    pub labelled: bool,
    /// One line for people.
    pub help: String,
}

/// How many artifacts a port takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arity {
    /// Exactly one.
    One,
    /// One or none.
    Optional,
    /// One or more.
    Many,
}

/// An output port.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputSpec {
    /// Unique among the step's outputs.
    pub name: String,
    /// What is made.
    pub makes: PortType,
}

/// What an artifact is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortType {
    /// Texts, mostly with labels.
    Records,
    /// A generative model folder.
    LanguageModel,
    /// A generative model behind an address; see [`PluginSignature::sends_to`].
    ServedModel,
    /// A text encoder folder without a task.
    Encoder,
    /// A trained classifier folder.
    Classifier,
    /// One vector per record.
    Embeddings,
    /// Records in groups.
    Clusters,
    /// One direction per label in an encoder's space.
    Centroids,
    /// Figures and tables for people.
    Report,
}

impl fmt::Display for PortType {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Records => "records",
            Self::LanguageModel => "language-model",
            Self::ServedModel => "served-model",
            Self::Encoder => "encoder",
            Self::Classifier => "classifier",
            Self::Embeddings => "embeddings",
            Self::Clusters => "clusters",
            Self::Centroids => "centroids",
            Self::Report => "report",
        })
    }
}

/// A parameter of a step.
#[derive(Debug, Clone)]
pub struct ParamSpec {
    /// Unique among the step's parameters.
    pub name: String,
    /// Type and range.
    pub kind: ParamKind,
    /// `None`: must be given. `Some(Value::Null)`: may be left out, and is then null in the plan.
    pub default: Option<Value>,
    /// What else a text must be; see [`ParamSpec::checked`].
    pub check: Option<TextCheck>,
    /// One line for people.
    pub help: String,
}

/// Whether a text can be used, and if not, what is wrong and what would be right.
pub type TextCheck = fn(&str) -> Result<(), String>;

/// Type and range of a parameter. Bounds are inclusive.
#[derive(Debug, Clone, PartialEq)]
pub enum ParamKind {
    /// A whole number.
    Int {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// A finite number; whole numbers are taken too.
    Float {
        /// Smallest value.
        min: f64,
        /// Largest value.
        max: f64,
    },
    /// `true` or `false`.
    Bool,
    /// Any text.
    Text,
    /// One of these texts.
    Choice(Vec<String>),
}

/// A packaged model.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginSignature {
    /// A workflow writes `plugin:NAME`.
    pub name: String,
    /// What it can be read as.
    pub holds: PortType,
    /// Where a step that reads it sends what else it reads, each as `scheme://host:port`, proxies
    /// too; empty if nothing leaves the machine. Its site must allow every one.
    pub sends_to: Vec<String>,
    /// One line for people.
    pub help: String,
}

/// What a step takes to run, so that heavy steps do not run on top of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weight {
    /// Processor cores.
    pub cores: Cores,
    /// Memory at its peak, in bytes.
    pub memory_bytes: u64,
}

/// How many cores a step keeps busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cores {
    /// One.
    One,
    /// Every core the engine may use.
    All,
}

impl Default for Weight {
    fn default() -> Self {
        Self {
            cores: Cores::One,
            memory_bytes: 256 << 20,
        }
    }
}
