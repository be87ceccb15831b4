//! The public side: asks for gradients, moves weights, then draws the samples.
//!
//! ```text
//!   Training ── steps queries ──> Sampling ── a few tokens a turn ──> Finished
//! ```

use noisegate_guest_sdk::safetensors::Weights;
use noisegate_guest_sdk::tokenizer::{Table, Vocabulary};
use noisegate_guest_sdk::{File, Query, Setup, Tensor, Turn};

use crate::choose::Choice;
use crate::config::Config;
use crate::context::{self, Recipe};
use crate::decode::Conditioning;
use crate::model::Model;
use crate::optimise::Optimiser;
use crate::plan::Plan;
use crate::sample::{Order, Sampler};
use crate::shape::Shape;
use crate::weights::{self, Frozen};

/// Decoding steps between two signs of life.
const STEPS_PER_TURN: usize = 16;

/// The public side's state.
pub struct Generator {
    config: Config,
    shape: Shape,
    plan: Plan,
    recipe: Recipe,
    vocabulary: Vocabulary,
    frozen: Frozen,
    optimiser: Optimiser,
    asked: u32,
    phase: Phase,
}

enum Phase {
    Training,
    Sampling(Box<Sampling>),
    Finished(Vec<File>),
}

/// The sampler and what it draws from.
struct Sampling {
    weights: Loaded,
    conditioning: Conditioning,
    sampler: Sampler,
}

/// Weights at their last values, on the host's side of the wall.
struct Loaded {
    base: Tensor,
    lora_inputs: Tensor,
    moved: Tensor,
    labels: Tensor,
}

impl Loaded {
    fn model<'a>(&'a self, shape: &'a Shape, plan: &'a Plan) -> Model<'a> {
        let Loaded {
            base,
            lora_inputs,
            moved,
            labels,
        } = self;
        Model {
            shape,
            plan,
            base,
            lora_inputs,
            moved,
            labels,
        }
    }
}

impl Generator {
    /// Reads configuration and base model.
    ///
    /// # Errors
    /// A sentence: what does not fit, and what would.
    pub fn start(config: &str, inputs: Vec<File>) -> Result<(Self, Setup), String> {
        let config = Config::parse(config)?;
        let input = |name: &str| {
            let found = inputs
                .iter()
                .find(|file| file.name == format!("base/{name}"));
            found.map(|file| file.data.as_slice()).ok_or_else(|| {
                format!(
                    "port `base` has no file `{name}`; give a Llama folder in Hugging Face layout"
                )
            })
        };
        let shape = Shape::parse(input("config.json")?)?;
        let vocabulary = Vocabulary::parse(input("tokenizer.json")?)?;
        if vocabulary.len() > shape.vocab {
            return Err(format!(
                "`tokenizer.json` has {} tokens, the model only {}; they belong to different models",
                vocabulary.len(),
                shape.vocab
            ));
        }
        let base = shape.load(&Weights::open(input("model.safetensors")?)?)?;
        let plan = Plan::new(&shape, &config)?;
        let recipe = recipe(&config, &shape, &vocabulary)?;
        let frozen = Frozen::new(&shape, &plan, base, config.seed);
        let setup = Setup {
            dim: u32::try_from(plan.dim(&shape))
                .map_err(|_| "the trained set is too large; lower `rank`")?,
            queries: config.mechanism.steps,
            tensors: vec![frozen.base.clone(), frozen.lora_inputs.clone()],
            context: context::write(&shape, &plan, &recipe, &vocabulary.table()),
        };
        let optimiser = Optimiser::new(&config, weights::start(&shape, &plan, &frozen));
        let generator = Generator {
            config,
            shape,
            plan,
            recipe,
            vocabulary,
            frozen,
            optimiser,
            asked: 0,
            phase: Phase::Training,
        };
        Ok((generator, setup))
    }

    /// Decides what happens next.
    pub fn turn(&mut self) -> Turn {
        match &mut self.phase {
            Phase::Training if self.asked < self.config.mechanism.steps => {
                self.asked += 1;
                let (moved, labels) = weights::effective(
                    &self.shape,
                    &self.plan,
                    &self.frozen,
                    &self.optimiser.values,
                );
                Turn::Ask(Query {
                    tensors: vec![moved, labels],
                    context: Vec::new(),
                })
            }
            Phase::Training => {
                let sampling = self.begin_sampling();
                let (done, total) = sampling.sampler.progress();
                self.phase = Phase::Sampling(Box::new(sampling));
                Turn::Working(done as u32, total as u32)
            }
            Phase::Sampling(_) => self.sample(),
            Phase::Finished(_) => Turn::Done,
        }
    }

    /// Moves the weights along a released gradient.
    pub fn absorb(&mut self, released: &[f32]) {
        self.optimiser.absorb(released);
    }

    /// The samples, once they are drawn.
    ///
    /// # Errors
    /// A sentence, if `next` has not said that it is done.
    pub fn outputs(&mut self) -> Result<Vec<File>, String> {
        match &mut self.phase {
            Phase::Finished(files) => Ok(std::mem::take(files)),
            _ => Err("the samples are not drawn yet; call `next` until it is done".into()),
        }
    }

    fn begin_sampling(&mut self) -> Sampling {
        let with = &self.config.with;
        let (moved, labels) = weights::effective(
            &self.shape,
            &self.plan,
            &self.frozen,
            self.optimiser.result(),
        );
        let order = Order {
            per_label: with.samples_per_label,
            batch: with.batch,
            choice: Choice {
                temperature: with.temperature,
                top_p: with.top_p,
                top_k: with.top_k,
            },
            min_words: with.min_words,
            seed: self.config.seed,
        };
        let frozen = std::mem::take(&mut self.frozen);
        let weights = Loaded {
            base: Tensor::new(&frozen.base),
            lora_inputs: Tensor::new(&[]),
            moved: Tensor::new(&moved),
            labels: Tensor::new(&labels),
        };
        let model = weights.model(&self.shape, &self.plan);
        let conditioning = Conditioning::new(model);
        let sampler = Sampler::new(model, &self.recipe, order);
        Sampling {
            weights,
            conditioning,
            sampler,
        }
    }

    /// A few tokens for every slot.
    fn sample(&mut self) -> Turn {
        let Phase::Sampling(mut sampling) = std::mem::replace(&mut self.phase, Phase::Training)
        else {
            return Turn::Done;
        };
        for _ in 0..STEPS_PER_TURN {
            let Sampling {
                weights,
                conditioning,
                sampler,
            } = &mut *sampling;
            let model = weights.model(&self.shape, &self.plan);
            if !sampler.advance(model, conditioning, &self.recipe, &self.vocabulary) {
                self.phase = Phase::Finished(vec![self.samples(sampler)]);
                return Turn::Done;
            }
        }
        let (done, total) = sampling.sampler.progress();
        self.phase = Phase::Sampling(sampling);
        Turn::Working(done as u32, total as u32)
    }

    fn samples(&self, sampler: &Sampler) -> File {
        let mut data = Vec::new();
        for (label, text) in sampler.texts() {
            let line = serde_json::json!({ "text": text, "label": self.config.labels[label] });
            data.extend_from_slice(line.to_string().as_bytes());
            data.push(b'\n');
        }
        File {
            name: "samples.jsonl".into(),
            data,
        }
    }
}

/// How records become tokens under this configuration.
fn recipe(config: &Config, shape: &Shape, vocabulary: &Vocabulary) -> Result<Recipe, String> {
    let end = ["<|endoftext|>", "</s>"]
        .iter()
        .find_map(|name| vocabulary.special(name));
    let end = end
        .ok_or("`tokenizer.json` has neither `<|endoftext|>` nor `</s>` among its added tokens")?;
    let max_tokens = config.with.max_tokens.min(shape.positions);
    let compiled = vocabulary.table();
    let table = Table::new(&compiled);
    let mut spaced = false;
    let mut labels = Vec::new();
    for (name, words) in config.labels.iter().zip(config.prefixes()) {
        spaced = words.ends_with(' ');
        let mut prefix = vec![end];
        prefix.extend(table.encode(words.strip_suffix(' ').unwrap_or(&words)));
        if prefix.len() + 4 > max_tokens {
            return Err(format!(
                "label `{name}` takes {} of {max_tokens} tokens; raise `max_tokens` or shorten `template`",
                prefix.len()
            ));
        }
        labels.push((name.clone(), prefix));
    }
    Ok(Recipe {
        max_tokens,
        end,
        spaced,
        labels,
    })
}
