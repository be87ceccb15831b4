//! The step's configuration: JSON in, checked values out.
//!
//! Every parameter has its default in `plugin.toml`, which the host fills in before
//! the guest sees the JSON; here they are read, and refused where they cannot work.

use serde::Deserialize;

/// What `start` is given.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// The step's own parameters.
    pub with: With,
    /// The public labels, in their fixed order.
    pub labels: Vec<String>,
    /// What the gate will do.
    pub mechanism: Mechanism,
    /// Seed of the public randomness.
    pub seed: u64,
}

/// The gate's public facts.
#[derive(Debug, Clone, Deserialize)]
pub struct Mechanism {
    /// Standard deviation of the noise over `clip`.
    pub noise_multiplier: f64,
    /// Largest L2 norm of a contribution.
    pub clip: f64,
    /// Number of queries.
    pub steps: u32,
    /// Public expected number of units in a batch.
    pub expected_batch: f64,
}

/// Which weights move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Train {
    /// Low-rank additions to every projection.
    Lora,
    /// The last `layers` layers and the final norm.
    LastLayers,
    /// Everything.
    Full,
}

/// How released gradients move the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Adam on the released gradients.
    Adam,
    /// Adam with the known noise variance taken off the second moment.
    AdamBc,
    /// Gradient descent with momentum.
    Sgd,
}

/// The step's parameters; `plugin.toml` documents each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct With {
    pub train: Train,
    pub rank: usize,
    pub layers: usize,
    pub label_vectors: bool,
    pub label_bias: bool,
    pub lora_scale: f32,
    pub vector_scale: f32,
    pub bias_scale: f32,
    pub optimiser: Rule,
    pub learning_rate: f32,
    pub warm_up: u32,
    pub final_rate: f32,
    pub average: f32,
    pub template: String,
    pub max_tokens: usize,
    pub samples_per_label: usize,
    pub temperature: f32,
    pub top_p: f32,
    pub top_k: usize,
    pub min_words: usize,
    pub batch: usize,
}

impl Config {
    /// Reads and checks the configuration.
    ///
    /// # Errors
    /// A sentence naming the parameter, what is wrong and what would do.
    pub fn parse(json: &str) -> Result<Self, String> {
        let config: Config = serde_json::from_str(json)
            .map_err(|error| format!("the step's parameters do not read: {error}"))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        let with = &self.with;
        let refuse = |problem: &str| Err(problem.to_string());
        if self.labels.is_empty() {
            return refuse("`labels` is empty; declare the data set's labels in the workflow");
        }
        let pieces: Vec<&str> = with.template.split("{text}").collect();
        if pieces.len() != 2 || !pieces[1].is_empty() {
            return refuse(
                "`template` must end with `{text}` and contain it once, as in `{label}: {text}`",
            );
        }
        if with.max_tokens < 8 {
            return refuse("`max_tokens` is below 8, which leaves no room for text");
        }
        if with.batch == 0 || with.samples_per_label == 0 {
            return refuse("`batch` and `samples_per_label` must be at least 1");
        }
        if !(with.learning_rate > 0.0 && with.temperature > 0.0 && with.top_p > 0.0) {
            return refuse("`learning_rate`, `temperature` and `top_p` must be above 0");
        }
        if !(0.0..1.0).contains(&with.average) {
            return refuse("`average` must lie in [0, 1)");
        }
        if with.train == Train::Lora && with.rank == 0 && !with.label_vectors && !with.label_bias {
            return refuse(
                "`rank = 0` without `label_vectors` and `label_bias` trains nothing; raise `rank`",
            );
        }
        Ok(())
    }

    /// The words before the text for each label, e.g. `late payment: `.
    pub fn prefixes(&self) -> impl Iterator<Item = String> {
        let front = self
            .with
            .template
            .split("{text}")
            .next()
            .unwrap_or_default();
        self.labels
            .iter()
            .map(move |label| front.replace("{label}", &label.replace(['_', '-'], " ")))
    }
}
