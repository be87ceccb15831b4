//! Batched text generation with a key-value cache.
//!
//! ```text
//! requests ─> slots (at most `batch_max`) ─ step ─ step ─ ... a finished slot takes the next request
//! ```
//! Every request has its own seed, position and stop conditions, so its text does not depend on
//! what else is in the batch: logits agree across batch sizes to f32 rounding (about 1e-5), and
//! only a draw that falls into that gap could differ. Start reading at [`generate`].
//!
//! Deliberately absent: beam search, chat templates, streaming.

mod batch;

use std::sync::atomic::AtomicBool;

use self::batch::Batch;
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
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self { batch_max: 32 }
    }
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finish {
    /// The model ended it.
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

/// Generates one text per request, in the order of the requests.
///
/// # Errors
/// [`Error::PromptTooLong`] naming the request, [`Error::Option`], [`Error::Cancelled`].
pub fn generate(
    model: &LanguageModel,
    requests: &[Request],
    options: &GenerateOptions,
    progress: &mut dyn FnMut(Progress),
    cancel: &AtomicBool,
) -> Result<Vec<Generation>> {
    let prompts = check(model, requests, options)?;
    let reach = |(prompt, request): (&Vec<u32>, &Request)| prompt.len() + request.max_new_tokens;
    let longest = prompts.iter().zip(requests).map(reach).max().unwrap_or(0);
    let slots = options.batch_max.min(requests.len());
    let cache = model.network.cache(slots, longest.min(model.context()))?;
    let mut batch = Batch::new(model, requests, &prompts, cache);
    let mut finished: Vec<Option<Generation>> = vec![None; requests.len()];
    let (mut next, mut done, mut tokens) = (0, 0, 0u64);
    while done < requests.len() {
        stop_if_cancelled(cancel)?;
        let before = done;
        while batch.running() < slots && next < requests.len() {
            if let Some(text) = batch.start(next)? {
                finished[next] = Some(text);
                done += 1;
            }
            next += 1;
        }
        tokens += batch.running() as u64;
        for (index, text) in batch.step()? {
            finished[index] = Some(text);
            done += 1;
        }
        if done > before {
            progress(Progress {
                stage: "generate",
                done: done as u64,
                total: Some(requests.len() as u64),
                note: format!("{tokens} tokens"),
            });
        }
    }
    Ok(finished.into_iter().flatten().collect())
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
    let begin = model
        .config()
        .bos_token_id
        .or(model.end_tokens().first().copied());
    let encode = |(index, request): (usize, &Request)| {
        request.sampling.validate()?;
        let mut ids = model.encode_prompt(&request.prompt)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn run(requests: &[Request], batch_max: usize) -> Vec<Generation> {
        let options = GenerateOptions { batch_max };
        let cancel = AtomicBool::new(false);
        generate(&testing::model(3), requests, &options, &mut |_| (), &cancel).unwrap()
    }

    fn requests() -> Vec<Request> {
        let prompts = [
            "the cat",
            "the cat",
            "where is my bank card?",
            "",
            "the dog sat on",
        ];
        let make = |(i, prompt): (usize, &&str)| Request {
            prompt: (*prompt).to_owned(),
            max_new_tokens: 5 + 7 * i,
            seed: 100 + i as u64,
            sampling: Sampling {
                temperature: 1.0,
                top_k: Some(40),
                top_p: Some(0.9),
            },
            ..Request::default()
        };
        prompts.iter().enumerate().map(make).collect()
    }

    #[test]
    fn a_text_does_not_depend_on_its_batch() {
        let requests = requests();
        let together = run(&requests, 32);
        let two = run(&requests, 2);
        let alone: Vec<_> = requests
            .iter()
            .flat_map(|r| run(std::slice::from_ref(r), 1))
            .collect();
        assert_eq!(together, two);
        assert_eq!(together, alone);
        assert!(together.iter().any(|g| !g.text.is_empty()));
    }

    #[test]
    fn seeds_decide_what_is_drawn() {
        let texts = run(&requests(), 4);
        assert_ne!(
            texts[0].text,
            texts[1].text[..texts[0].text.len().min(texts[1].text.len())]
        );
        assert_eq!(texts, run(&requests(), 4));
    }

    #[test]
    fn a_stop_string_ends_a_text_and_is_cut_off() {
        let mut request = requests().remove(4);
        let free = run(std::slice::from_ref(&request), 1).remove(0);
        let (at, _) = free
            .text
            .char_indices()
            .nth(4)
            .expect("the text is longer than that");
        let rest: String = free.text[at..].chars().take(2).collect();
        request.stop = vec!["never seen".to_owned(), rest.clone()];
        let stopped = run(&[request], 1).remove(0);
        assert_eq!(stopped.finish, Finish::StopString);
        assert_eq!(stopped.text, free.text[..free.text.find(&rest).unwrap()]);
    }

    #[test]
    fn a_text_ends_where_the_context_is_full() {
        let request = Request {
            prompt: "the cat sat on the mat".to_owned(),
            max_new_tokens: 10_000,
            sampling: Sampling {
                temperature: 3.0,
                top_k: None,
                top_p: None,
            },
            seed: 2,
            ..Request::default()
        };
        let ended = run(&[request], 1).remove(0);
        assert!(matches!(
            ended.finish,
            Finish::ContextFull | Finish::EndOfText
        ));
        assert!(ended.tokens < 96);
    }

    #[test]
    fn a_prompt_longer_than_the_context_is_refused_by_its_index() {
        let long = Request {
            prompt: "the cat ".repeat(100),
            ..Request::default()
        };
        let cancel = AtomicBool::new(false);
        let requests = [Request::default(), long];
        let options = GenerateOptions::default();
        let error = generate(
            &testing::model(3),
            &requests,
            &options,
            &mut |_| (),
            &cancel,
        )
        .unwrap_err();
        assert!(error.to_string().contains("request 1"), "{error}");
    }

    #[test]
    fn a_raised_flag_cancels() {
        let cancel = AtomicBool::new(true);
        let options = GenerateOptions::default();
        let result = generate(
            &testing::model(3),
            &requests(),
            &options,
            &mut |_| (),
            &cancel,
        );
        assert!(matches!(result, Err(Error::Cancelled)));
    }
}
