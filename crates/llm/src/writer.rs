//! What can answer prompts: a model in this process, or one that is served elsewhere.
//!
//! Whoever serves it elsewhere implements [`Writer`] outside this crate, which knows no network.

use std::sync::atomic::AtomicBool;

use crate::error::Result;
use crate::generate::{GenerateOptions, Generation, Request, generate};
use crate::model::LanguageModel;
use crate::progress::Progress;
use crate::prompts::PromptStyle;

/// A model that prompts can be put to.
pub trait Writer {
    /// Who it is, for provenance: the digest of its weights, or where it is served.
    fn identity(&self) -> String;

    /// Tokens that a prompt and its answer may have together.
    fn context(&self) -> usize;

    /// Tokens of a prompt; never fewer than there are.
    ///
    /// # Errors
    /// Whatever the tokenizer says.
    fn prompt_tokens(&self, prompt: &str) -> Result<usize>;

    /// One answer per request, in order.
    ///
    /// # Errors
    /// Whatever keeps it from answering.
    fn answer(
        &self,
        requests: &[Request],
        how: Answering,
        progress: &mut dyn FnMut(Progress),
        cancel: &AtomicBool,
    ) -> Result<Vec<Generation>>;

    /// The model itself, if it is in this process: only then can likelihoods be asked for.
    fn local(&self) -> Option<&LanguageModel>;
}

/// How prompts are put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answering {
    /// A text to go on with, or a message to answer.
    pub style: PromptStyle,
    /// Most answers computed at once, where that is the caller's business.
    pub batch_max: usize,
}

impl Writer for LanguageModel {
    fn identity(&self) -> String {
        self.digest().to_owned()
    }

    /// Less what the chat template adds to a message. One that cannot be rendered adds nothing: it
    /// is refused when a message is put.
    fn context(&self) -> usize {
        let framed = self
            .chat
            .as_ref()
            .and_then(|_| self.encode_message("").ok());
        Self::context(self).saturating_sub(framed.map_or(0, |ids| ids.len()))
    }

    fn prompt_tokens(&self, prompt: &str) -> Result<usize> {
        Ok(self.encode_prompt(prompt)?.len())
    }

    fn answer(
        &self,
        requests: &[Request],
        how: Answering,
        progress: &mut dyn FnMut(Progress),
        cancel: &AtomicBool,
    ) -> Result<Vec<Generation>> {
        let options = GenerateOptions {
            batch_max: how.batch_max,
            chat: how.style == PromptStyle::Instruction,
        };
        generate(self, requests, &options, progress, cancel)
    }

    fn local(&self) -> Option<&LanguageModel> {
        Some(self)
    }
}
