//! What can answer prompts: a model in this process, or one that is served elsewhere.
//!
//! Whoever serves it elsewhere implements [`Writer`] outside this crate, which knows no network.

use std::sync::atomic::AtomicBool;

use crate::error::Result;
use crate::generate::{Event, GenerateOptions, Generation, Request, generate, generate_and_tell};
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
    /// Whether progress tells the text of one answer after another as it is made, where the writer
    /// can.
    pub tell_text: bool,
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
        if !how.tell_text {
            return generate(self, requests, &options, progress, cancel);
        }
        let mut follow = follow_one(progress);
        generate_and_tell(self, requests, &options, &mut follow, cancel)
    }

    fn local(&self) -> Option<&LanguageModel> {
        Some(self)
    }
}

/// Passes progress on, and the text of one answer at a time: the first one heard of after the last
/// one ended.
fn follow_one(progress: &mut dyn FnMut(Progress)) -> impl FnMut(Event) {
    let mut followed = None;
    let mut latest = Progress::default();
    move |event| match event {
        Event::Piece { request, text } if *followed.get_or_insert(request) == request => {
            progress(Progress {
                text,
                ..latest.clone()
            });
        }
        Event::Piece { .. } => {}
        Event::Ended {
            request,
            progress: made,
        } => {
            latest = made;
            let ended = followed.take_if(|followed| *followed == request).is_some();
            progress(Progress {
                text: if ended { "\n" } else { "" }.to_owned(),
                ..latest.clone()
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn one_answer_is_followed_to_its_end_before_the_next() {
        let mut heard = String::new();
        let mut progress = |made: Progress| heard.push_str(&made.text);
        let mut follow = follow_one(&mut progress);
        let piece = |request, text: &str| Event::Piece {
            request,
            text: text.to_owned(),
        };
        let ended = |request| Event::Ended {
            request,
            progress: Progress::default(),
        };
        for event in [
            piece(1, "one"),
            piece(0, "other"),
            ended(0),
            piece(1, " goes on"),
            ended(1),
            piece(2, "two"),
        ] {
            follow(event);
        }
        drop(follow);
        assert_eq!(heard, "one goes on\ntwo");
    }

    #[test]
    fn telling_the_text_changes_no_answer() {
        let model = testing::model(3);
        let request = |seed| Request {
            prompt: "the cat".to_owned(),
            max_new_tokens: 20,
            seed,
            ..Request::default()
        };
        let requests: Vec<Request> = (0..5).map(request).collect();
        let answer = |tell_text| {
            let mut heard = String::new();
            let how = Answering {
                style: PromptStyle::Completion,
                batch_max: 2,
                tell_text,
            };
            let mut progress = |made: Progress| heard.push_str(&made.text);
            let cancel = AtomicBool::new(false);
            let made = model.answer(&requests, how, &mut progress, &cancel);
            (made.unwrap(), heard)
        };
        let (silent, nothing) = answer(false);
        let (told, heard) = answer(true);
        assert_eq!(silent, told);
        assert_eq!(nothing, "");
        let first = heard.lines().next().unwrap();
        assert!(
            told.iter()
                .any(|made| !first.is_empty() && made.text.starts_with(first))
        );
    }
}
