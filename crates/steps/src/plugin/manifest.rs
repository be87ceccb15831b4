//! What a `plugin.toml` may say: its tables, with their defaults.

use std::collections::BTreeMap;

use noisegate_remote::Endpoint;
use noisegate_workflow::PortType;
use serde::Deserialize;

/// `plugin.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// What it is.
    pub plugin: About,
    /// A guest's code.
    pub component: Option<Component>,
    /// A model's files.
    pub model: Option<Model>,
    /// Where a served model is.
    pub endpoint: Option<Endpoint>,
    /// What a served model costs.
    pub price: Option<Price>,
    /// What a guest asks of the gate.
    pub mechanism: Option<Mechanism>,
    /// Public inputs of a guest.
    #[serde(default)]
    pub reads: Vec<Reads>,
    /// Outputs of a guest.
    #[serde(default)]
    pub outputs: Vec<Output>,
    /// Parameters of a guest.
    #[serde(default)]
    pub with: Vec<Parameter>,
}

/// `[plugin]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// The name in `uses = "guest:NAME"` and `plugin:NAME`.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
    /// Its own version.
    pub version: String,
    /// An SPDX expression.
    pub licence: String,
    /// The component's world.
    #[serde(default)]
    pub world: Option<String>,
    /// One sentence.
    pub help: String,
}

/// What a plugin holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Code for the sandbox.
    Guest,
    /// A decoder for candle.
    LanguageModel,
    /// An encoder for ONNX Runtime.
    Encoder,
    /// A language model behind an OpenAI-compatible address.
    ServedModel,
}

/// `[component]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// The component's file.
    pub file: String,
    /// Its SHA-256.
    pub sha256: String,
    /// How to make the same bytes again.
    pub builder: String,
    /// Fuel of one `contribute` call.
    pub fuel_per_unit: u64,
    /// Memory of one instance.
    pub memory_bytes_max: u64,
    /// `frozen`, for a guest whose language needs WASI: it gets constants.
    #[serde(default)]
    pub wasi: Option<FrozenWasi>,
}

/// All that a 32-bit guest can address.
const MEMORY_BYTES_MAX: u64 = 1 << 32;

impl Component {
    /// What is wrong with it, and what to write instead.
    pub(super) fn problem(&self) -> Option<String> {
        (self.memory_bytes_max > MEMORY_BYTES_MAX).then(|| {
            format!(
                "`memory_bytes_max` is {}; a guest can address {MEMORY_BYTES_MAX} bytes at most",
                self.memory_bytes_max
            )
        })
    }
}

/// What a manifest may say of WASI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FrozenWasi {
    /// Nothing is granted; clocks stand still, output is discarded.
    Frozen,
}

/// `[model]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Where its files lie, relative to the manifest.
    #[serde(default = "this_folder")]
    pub folder: String,
    /// How to get them if they are not there.
    #[serde(default)]
    pub remedy: Option<String>,
    /// SHA-256 by file name.
    pub sha256: BTreeMap<String, String>,
}

/// `[price]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Price of a million tokens of prompts.
    pub prompt_per_million: f64,
    /// Price of a million tokens of answers.
    pub answer_per_million: f64,
    /// Its currency, such as `EUR`.
    pub currency: String,
}

impl Price {
    /// What is wrong with it, and what to write instead.
    pub(super) fn problem(&self) -> Option<String> {
        [
            ("prompt_per_million", self.prompt_per_million),
            ("answer_per_million", self.answer_per_million),
        ]
        .into_iter()
        .find(|(_, price)| !(0.0..=1e9).contains(price))
        .map(|(key, price)| {
            format!("`{key}` of `[price]` is {price}; write a number from 0 to 1000000000")
        })
    }
}

/// `[mechanism]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mechanism {
    /// What the gate does with contributions.
    pub kind: MechanismKind,
    /// Default of the step's `sampling_rate`.
    #[serde(default = "a_tenth")]
    pub sampling_rate: f64,
    /// Default of the step's `steps`.
    #[serde(default = "fifty")]
    pub steps: u32,
    /// Default of the step's `clip`, under `gaussian-sum`.
    #[serde(default = "one")]
    pub clip: f64,
    /// Default of the step's `votes_per_unit`, under `votes`.
    #[serde(default = "one_vote")]
    pub votes_per_unit: u32,
}

/// A mechanism of the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MechanismKind {
    /// A clipped, Poisson-sampled Gaussian sum for each query.
    GaussianSum,
    /// A noised histogram for each query, to which a unit gives a few whole votes.
    Votes,
}

/// `[[reads]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reads {
    /// The port.
    pub port: String,
    /// What may be connected.
    #[serde(rename = "type")]
    pub holds: PortType,
    /// What else may be connected.
    #[serde(default)]
    pub or: Option<PortType>,
}

/// `[[outputs]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The port.
    pub port: String,
    /// What it makes.
    #[serde(rename = "type")]
    pub holds: PortType,
    /// The guest's name for it.
    pub file: String,
}

/// `[[with]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// The key in a step's `with`.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: ParameterKind,
    /// Its default; without one it must be given.
    pub default: Option<toml::Value>,
    /// The least value.
    pub min: Option<f64>,
    /// The greatest value.
    pub max: Option<f64>,
    /// For a string: what it may be.
    pub choices: Option<Vec<String>>,
    /// One sentence.
    pub help: String,
}

/// The type of a guest's parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ParameterKind {
    /// A whole number.
    Int,
    /// A number.
    Float,
    /// True or false.
    Bool,
    /// Text.
    String,
}

fn a_tenth() -> f64 {
    0.1
}

fn fifty() -> u32 {
    50
}

fn one() -> f64 {
    1.0
}

fn one_vote() -> u32 {
    1
}

fn this_folder() -> String {
    ".".to_owned()
}
