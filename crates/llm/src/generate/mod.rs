//! Batched text generation with a key-value cache.
//!
//! ```text
//! requests ─> one session per thread, `batch_max` slots in all ─ step ─ step ─ ...
//!             a text that ends leaves its slot to the next request at once
//! ```
//! Every request has its own seed, position and stop conditions, so its text does not depend on
//! what else is in the batch: logits agree across batch sizes to f32 rounding (about 1e-5), and
//! only a draw that falls into that gap could differ. Prompts that begin alike are computed once.
//! Start reading at [`generate`]; [`generate_and_tell`] also tells every piece of text as it is
//! made.
//!
//! Deliberately absent: beam search.

mod batch;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use self::batch::{Batch, Told};
use crate::constrain::{Constraint, Constraints};
use crate::error::{Error, Result};
use crate::model::LanguageModel;
use crate::progress::{Progress, stop_if_cancelled};
pub use crate::sampling::Sampling;

/// One text to generate.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Text to go on from.
    pub prompt: String,
    /// Most tokens to add.
    pub max_new_tokens: usize,
    /// Any of these strings ends the text and is cut off.
    pub stop: Vec<String>,
    /// A regular expression that the whole text will match: only tokens that keep to it are drawn,
    /// and a text that runs out of them is completed on the shortest way.
    pub pattern: Option<String>,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Decides the draws.
    pub seed: u64,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            prompt: String::new(),
            max_new_tokens: 64,
            stop: Vec::new(),
            pattern: None,
            sampling: Sampling::default(),
            seed: 0,
        }
    }
}

/// Options of a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GenerateOptions {
    /// Most sequences computed at once; bounds the cache's memory.
    pub batch_max: usize,
    /// Whether prompts are messages to answer, framed by the model's chat template if it has one,
    /// rather than texts to go on with.
    pub chat: bool,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            batch_max: 32,
            chat: false,
        }
    }
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finish {
    /// The model ended it, or its pattern lets nothing follow.
    EndOfText,
    /// A stop string appeared.
    StopString,
    /// `max_new_tokens` were made.
    Length,
    /// The model's context is full.
    ContextFull,
}

/// A generated text, without its prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// What the model added, cut before a stop string.
    pub text: String,
    /// Tokens drawn, the ending one included.
    pub tokens: usize,
    /// Why it ended.
    pub finish: Finish,
}

/// What a running generation tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A request's text goes on with this; the pieces of a request joined are its text.
    Piece {
        /// Index of the request.
        request: usize,
        /// More of its text.
        text: String,
    },
    /// A text has ended.
    Ended {
        /// Index of the request.
        request: usize,
        /// How far all of them are.
        progress: Progress,
    },
}

/// Generates one text per request, in the order of the requests.
///
/// # Errors
/// [`Error::PromptTooLong`] naming the request, [`Error::Option`], [`Error::NotFinite`], [`Error::Cancelled`];
/// [`Error::Pattern`] for a pattern that no answer could keep to.
pub fn generate(
    model: &LanguageModel,
    requests: &[Request],
    options: &GenerateOptions,
    progress: &mut dyn FnMut(Progress),
    cancel: &AtomicBool,
) -> Result<Vec<Generation>> {
    let mut tell = |event: Event| {
        if let Event::Ended { progress: made, .. } = event {
            progress(made);
        }
    };
    run(model, requests, options, false, &mut tell, cancel)
}

/// The same, telling every piece of text as soon as it is certain.
///
/// # Errors
/// Those of [`generate`].
pub fn generate_and_tell(
    model: &LanguageModel,
    requests: &[Request],
    options: &GenerateOptions,
    tell: &mut dyn FnMut(Event),
    cancel: &AtomicBool,
) -> Result<Vec<Generation>> {
    run(model, requests, options, true, tell, cancel)
}

/// What all sessions of a generation share.
struct Task<'a> {
    requests: &'a [Request],
    prompts: Vec<Vec<u32>>,
    /// By request.
    constraints: Vec<Option<Arc<Constraint>>>,
    /// The next request that nobody has begun.
    next: AtomicUsize,
    listen: bool,
    /// Raised when a session has failed: the others need not go on.
    stop: AtomicBool,
}

fn run(
    model: &LanguageModel,
    requests: &[Request],
    options: &GenerateOptions,
    listen: bool,
    tell: &mut dyn FnMut(Event),
    cancel: &AtomicBool,
) -> Result<Vec<Generation>> {
    let prompts = check(model, requests, options)?;
    let task = Task {
        requests,
        constraints: constraints(model, requests, &prompts)?,
        prompts,
        next: AtomicUsize::new(0),
        listen,
        stop: AtomicBool::new(false),
    };
    let most = options.batch_max.min(requests.len());
    let (sessions, threads) = model.network.sessions(most);
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        for number in 0..sessions {
            let slots = most / sessions + usize::from(number < most % sessions);
            let (sender, task) = (sender.clone(), &task);
            scope.spawn(move || {
                if let Err(error) = work(model, task, slots, threads, &sender, cancel) {
                    // Nobody listens any more after a panic of the caller's.
                    let _ = sender.send(Err(error));
                }
            });
        }
        drop(sender);
        collect(&task, receiver, tell)
    })
}

/// One session: takes requests until none is left.
fn work(
    model: &LanguageModel,
    task: &Task<'_>,
    slots: usize,
    threads: usize,
    sender: &mpsc::Sender<Result<Vec<Told>>>,
    cancel: &AtomicBool,
) -> Result<()> {
    let reach = |(prompt, request): (&Vec<u32>, &Request)| prompt.len() + request.max_new_tokens;
    let longest = task.prompts.iter().zip(task.requests).map(reach).max();
    let capacity = longest.unwrap_or(0).min(model.context());
    let session = model.network.session(slots, capacity, threads)?;
    let mut batch = Batch::new(model, task, slots, session);
    let mut waiting = None;
    let mut next = std::iter::from_fn(|| {
        let index = task.next.fetch_add(1, Ordering::Relaxed);
        (index < task.requests.len()).then_some(index)
    })
    .filter(|index| task.requests[*index].max_new_tokens > 0);
    loop {
        stop_if_cancelled(cancel)?;
        stop_if_cancelled(&task.stop)?;
        batch.fill(&mut next, &mut waiting)?;
        if batch.running() == 0 {
            return Ok(());
        }
        let told = batch.step()?;
        if !told.is_empty() && sender.send(Ok(told)).is_err() {
            return Ok(());
        }
    }
}

/// Puts the texts in order as they end, and tells the caller.
fn collect(
    task: &Task<'_>,
    receiver: mpsc::Receiver<Result<Vec<Told>>>,
    tell: &mut dyn FnMut(Event),
) -> Result<Vec<Generation>> {
    let none_wanted = |request: &Request| {
        (request.max_new_tokens == 0).then(|| Generation {
            text: String::new(),
            tokens: 0,
            finish: Finish::Length,
        })
    };
    let mut finished: Vec<Option<Generation>> = task.requests.iter().map(none_wanted).collect();
    let (mut done, mut tokens, mut failed) = (finished.iter().flatten().count() as u64, 0, None);
    for message in receiver {
        let told = match message {
            Ok(told) => told,
            Err(error) => {
                task.stop.store(true, Ordering::Relaxed);
                failed.get_or_insert(error);
                continue;
            }
        };
        for told in told {
            match told {
                Told::Piece(request, text) => tell(Event::Piece { request, text }),
                Told::Ended(request, generation) => {
                    done += 1;
                    tokens += generation.tokens;
                    finished[request] = Some(generation);
                    let progress = Progress {
                        stage: "generate",
                        done,
                        total: Some(task.requests.len() as u64),
                        note: format!("{tokens} tokens"),
                        text: String::new(),
                    };
                    tell(Event::Ended { request, progress });
                }
            }
        }
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(finished.into_iter().flatten().collect()),
    }
}

/// Encodes the prompts and refuses what could not run.
fn check(
    model: &LanguageModel,
    requests: &[Request],
    options: &GenerateOptions,
) -> Result<Vec<Vec<u32>>> {
    if options.batch_max == 0 {
        return Err(Error::Option {
            option: "batch_max",
            value: "0".to_owned(),
            remedy: "it must be at least 1",
        });
    }
    let begin = model.begin_token().or(model.end_tokens().first().copied());
    let encode = |(index, request): (usize, &Request)| {
        request.sampling.validate()?;
        let mut ids = match options.chat {
            true => model.encode_message(&request.prompt)?,
            false => model.encode_prompt(&request.prompt)?,
        };
        if ids.is_empty() {
            ids.extend(begin);
        }
        if ids.is_empty() || ids.len() >= model.context() {
            return Err(Error::PromptTooLong {
                request: index,
                tokens: ids.len(),
                tokens_max: model.context() - 1,
            });
        }
        Ok(ids)
    };
    requests.iter().enumerate().map(encode).collect()
}

/// Compiles the patterns and refuses those that a request has no room for.
fn constraints(
    model: &LanguageModel,
    requests: &[Request],
    prompts: &[Vec<u32>],
) -> Result<Vec<Option<Arc<Constraint>>>> {
    let mut known = Constraints::default();
    let constraint = |(request, prompt): (&Request, &Vec<u32>)| {
        let Some(pattern) = request
            .pattern
            .as_ref()
            .filter(|_| request.max_new_tokens > 0)
        else {
            return Ok(None);
        };
        let constraint = known.of(model, pattern, &request.stop)?;
        let (needed, room) = (
            constraint.tokens_min(),
            request.max_new_tokens.min(model.context() - prompt.len()),
        );
        if needed > room {
            return Err(Error::Pattern {
                pattern: pattern.clone(),
                problem: format!(
                    "its shortest text may take up to {needed} tokens, and there is room for {room}; \
                     allow longer answers, or ask for less"
                ),
            });
        }
        Ok(Some(constraint))
    };
    requests.iter().zip(prompts).map(constraint).collect()
}

#[cfg(test)]
mod tests;
