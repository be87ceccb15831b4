//! Models that a step reads as `plugin:NAME`, whether they lie in a folder or are served elsewhere.
//!
//! ```text
//! plugin.toml ─ [endpoint] ─> Served ─ noisegate-remote ─> HTTPS
//!             └ [model] ────> LanguageModel on candle
//! ```
//! `check` has proven that a step with a served model reads nothing private and that its site
//! allows the address. The key is looked up by the name that the plugin gives, when it is needed,
//! and goes nowhere but into the request.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use noisegate_engine::{Input, StepContext, StepFailure};
use noisegate_llm::{
    Answering, Error, Finish, Generation, LanguageModel, Progress, PromptStyle, Request, Writer,
};
use noisegate_remote::{self as remote, Call, Endpoint, Journal, Question, Secret, Usage};
use noisegate_workflow::{ArtifactId, Plan};
use serde_json::{Value, json};

use crate::llm::input;
use crate::plugin::{Plugins, Price};

/// Looks up an environment variable.
pub type Environment = fn(&str) -> Option<String>;

/// Set aside for what a chat template adds to a message.
const TEMPLATE_TOKENS: usize = 64;

/// How models are reached.
#[derive(Debug, Clone)]
pub struct Serving {
    /// The plugins.
    pub plugins: Plugins,
    /// Where answers are kept.
    pub cache: PathBuf,
    /// Where keys are looked up.
    pub environment: Environment,
}

/// A model that a step can put prompts to.
pub enum Model {
    /// In this process.
    Local(Box<LanguageModel>),
    /// Behind an address.
    Served(Box<Served>),
}

/// A served model.
pub struct Served {
    endpoint: Endpoint,
    price: Option<Price>,
    key: Option<Secret>,
    state: Mutex<State>,
}

struct State {
    journal: Journal,
    usage: Usage,
    /// What the server calls the model that answered.
    model: Option<String>,
}

impl Serving {
    /// The model on the step's port `model`.
    ///
    /// # Errors
    /// [`StepFailure::BadInput`] for a folder that is no model, or a key that is not set.
    pub fn model(&self, context: &StepContext<'_>) -> Result<Model, StepFailure> {
        let source = input(context, "model")?;
        let plugin = match source {
            Input::Path { name, .. } => name.strip_prefix("plugin:"),
            Input::Data { .. } => None,
        };
        let manifest = plugin
            .and_then(|name| self.plugins.get(name))
            .map(|plugin| &plugin.manifest);
        let Some((manifest, endpoint)) = manifest.and_then(|m| Some((m, m.endpoint.as_ref()?)))
        else {
            return Ok(Model::Local(Box::new(super::load(context, source)?)));
        };
        let key = key(endpoint, self.environment).map_err(StepFailure::BadInput)?;
        let who = noisegate_sandbox::Digest::of(identity(endpoint).as_bytes());
        let path = self.cache.join("served").join(format!("{who}.jsonl"));
        let journal =
            Journal::open(&path).map_err(|error| StepFailure::Failed(error.to_string()))?;
        Ok(Model::Served(Box::new(Served {
            endpoint: endpoint.clone(),
            price: manifest.price.clone(),
            key,
            state: Mutex::new(State {
                journal,
                usage: Usage::default(),
                model: None,
            }),
        })))
    }
}

/// What the plan's served models lack on this machine: keys that are not set.
pub fn lacks(plan: &Plan, plugins: &Plugins, environment: Environment) -> Vec<String> {
    let served = plan.artifacts.iter().filter_map(|artifact| {
        let ArtifactId::Plugin(name) = &artifact.id else {
            return None;
        };
        let endpoint = plugins.get(name.as_str())?.manifest.endpoint.as_ref()?;
        let lack = key(endpoint, environment).err()?;
        Some(format!("plugin `{name}`: {lack}"))
    });
    served.collect()
}

fn key(endpoint: &Endpoint, environment: Environment) -> Result<Option<Secret>, String> {
    let Some(name) = &endpoint.key_env else {
        return Ok(None);
    };
    let Some(value) = environment(name) else {
        return Err(format!(
            "the key for `{}` is looked for in the environment variable `{name}`, which is not set; \
             set it, or remove `key_env` if the server wants no key",
            endpoint.url
        ));
    };
    let secret = Secret::new(value).map_err(|error| format!("`{name}`: {error}"))?;
    Ok(Some(secret))
}

fn identity(endpoint: &Endpoint) -> String {
    format!("{} at {}", endpoint.model, endpoint.url)
}

impl Model {
    /// As the crate that writes prompts sees it.
    pub fn writer(&self) -> &dyn Writer {
        match self {
            Self::Local(model) => model.as_ref(),
            Self::Served(served) => served.as_ref(),
        }
    }

    /// Whether it is behind an address.
    pub fn is_served(&self) -> bool {
        matches!(self, Self::Served(_))
    }

    /// Whether it answers messages: a served model, or one with a chat template.
    pub fn is_instructed(&self) -> bool {
        match self {
            Self::Local(model) => model.chat.is_some(),
            Self::Served(_) => true,
        }
    }

    /// What was asked of a served model and what it cost; null for one in this process.
    pub fn usage(&self) -> Value {
        let Self::Served(served) = self else {
            return Value::Null;
        };
        let state = served.state();
        let mut usage = json!(state.usage);
        usage["url"] = json!(served.endpoint.url);
        usage["model"] = json!(state.model);
        if let Some(price) = &served.price {
            let (cost, now) = costs(price, &state.usage);
            usage["cost"] = json!(cost);
            usage["cost_now"] = json!(now);
            usage["currency"] = json!(price.currency);
        }
        usage
    }

    /// Notes in the run's log what was asked of a served model.
    pub fn say_usage(&self, context: &StepContext<'_>) {
        let Self::Served(served) = self else { return };
        let told = served.told(&served.state().usage);
        context.note(format!("{}: {told}", identity(&served.endpoint)));
    }
}

impl Served {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic while it was held is a defect, and leaves counts and a journal that are whole.
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// What was asked and what it cost, for a person.
    fn told(&self, usage: &Usage) -> String {
        let cost = self.price.as_ref().map_or(String::new(), |price| {
            let (cost, now) = costs(price, usage);
            format!("; {cost:.4} {} ({now:.4} now)", price.currency)
        });
        format!(
            "{} answers, {} more kept from before, {} retries; \
             {} tokens of prompts ({} now), {} of answers ({} now){cost}",
            usage.answered,
            usage.remembered,
            usage.retries,
            usage.prompt_tokens,
            usage.prompt_tokens_now,
            usage.answer_tokens,
            usage.answer_tokens_now
        )
    }
}

/// The cost of all answers, and of those that were asked for now.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of tokens, below 2^53 unless the server is wrong"
)]
fn costs(price: &Price, usage: &Usage) -> (f64, f64) {
    let cost = |prompt: u64, answer: u64| {
        (prompt as f64 * price.prompt_per_million + answer as f64 * price.answer_per_million) / 1e6
    };
    (
        cost(usage.prompt_tokens, usage.answer_tokens),
        cost(usage.prompt_tokens_now, usage.answer_tokens_now),
    )
}

impl Writer for Served {
    fn identity(&self) -> String {
        identity(&self.endpoint)
    }

    fn context(&self) -> usize {
        self.endpoint.context.saturating_sub(TEMPLATE_TOKENS)
    }

    /// The server's tokenizer is not here; one that falls back to bytes, as those in use do, makes
    /// no more tokens than there are bytes, and one to begin with.
    fn prompt_tokens(&self, prompt: &str) -> Result<usize, Error> {
        Ok(prompt.len() + 1)
    }

    fn answer(
        &self,
        requests: &[Request],
        how: Answering,
        progress: &mut dyn FnMut(Progress),
        cancel: &AtomicBool,
    ) -> Result<Vec<Generation>, Error> {
        let question = |request: &Request| Question {
            prompt: request.prompt.clone(),
            chat: how.style == PromptStyle::Instruction,
            tokens_max: request.max_new_tokens,
            temperature: request.sampling.temperature,
            top_p: request.sampling.top_p,
            stop: request.stop.clone(),
            seed: request.seed,
        };
        let questions: Vec<Question> = requests.iter().map(question).collect();
        let state = &mut *self.state();
        let call = Call {
            endpoint: &self.endpoint,
            key: self.key.as_ref(),
            journal: &mut state.journal,
            usage: &mut state.usage,
            progress: &mut |done, total| {
                progress(Progress {
                    stage: "ask",
                    done: done as u64,
                    total: Some(total as u64),
                    note: format!("{done} answers"),
                    text: String::new(),
                });
            },
            cancel,
        };
        let answers = remote::ask(&questions, call).map_err(|error| match error {
            remote::Error::Cancelled => Error::Cancelled,
            other if state.usage == Usage::default() => Error::Served(Box::new(other)),
            other => {
                let told = self.told(&state.usage);
                Error::Served(format!("{other}; so far: {told}").into())
            }
        })?;
        if let Some(answer) = answers.last() {
            state.model = Some(answer.model.clone());
        }
        Ok(answers.into_iter().map(generation).collect())
    }

    fn local(&self) -> Option<&LanguageModel> {
        None
    }
}

fn generation(answer: remote::Answer) -> Generation {
    Generation {
        text: answer.text,
        tokens: usize::try_from(answer.answer_tokens).unwrap_or(usize::MAX),
        finish: match answer.finish {
            remote::Finish::Stop => Finish::EndOfText,
            remote::Finish::Length | remote::Finish::Other => Finish::Length,
        },
    }
}
