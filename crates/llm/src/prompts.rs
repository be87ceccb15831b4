//! Few-shot prompts: demonstrations up to a number of tokens, never half of one.

use crate::constrain::{check_parts, escaped};
use crate::error::Result;
use crate::generate::Request;
use crate::sample::{Sample, one_line};
use crate::template::{
    COMPLETION_DEMONSTRATION, COMPLETION_PROMPT, INSTRUCTION_DEMONSTRATION, INSTRUCTION_PROMPT,
    Template,
};
use crate::writer::Writer;

/// How a model is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PromptStyle {
    /// The prompt is a text to go on with: for base models. One answer, one sample.
    Completion,
    /// The prompt says what to do: for instructed models. One answer, several samples.
    Instruction,
}

impl PromptStyle {
    fn demonstration(self) -> Template {
        match self {
            Self::Completion => COMPLETION_DEMONSTRATION,
            Self::Instruction => INSTRUCTION_DEMONSTRATION,
        }
    }

    /// Strings that end an answer.
    pub(crate) fn stop(self) -> Vec<String> {
        match self {
            Self::Completion => vec!["\n".to_owned()],
            Self::Instruction => vec!["\n\n".to_owned()],
        }
    }

    /// A pattern for answers that [`parse_answer`] takes apart without a loss: each text matches
    /// `text`, which has passed [`PromptStyle::check_text_pattern`].
    pub(crate) fn pattern(self, text: &str, label: &str, count: usize) -> String {
        match self {
            Self::Completion => format!(" ?(?:{text})"),
            Self::Instruction => {
                let line = format!("{} \\|\\|\\| (?:{text})", escaped(label));
                format!("{line}(?:\\n{line}){{0,{}}}", count.saturating_sub(1))
            }
        }
    }

    /// Refuses a pattern for texts that could not be told apart in an answer.
    ///
    /// # Errors
    /// [`Error::Pattern`](crate::Error::Pattern) for what is no pattern, or matches what it must not.
    pub fn check_text_pattern(self, text: &str) -> Result<()> {
        match self {
            // A text with one of `MARKS` is in form, and rejected all the same.
            Self::Completion => check_parts(text, &["\n"]),
            Self::Instruction => check_parts(text, &["\n", "|||"]),
        }
    }

    /// One demonstration as text.
    pub(crate) fn demonstrate(self, sample: &Sample) -> Result<String> {
        let values = [
            ("label", sample.label.as_str()),
            ("text", &one_line(&sample.text)),
        ];
        let mut shown = self.demonstration().render(&values)?;
        if !shown.ends_with('\n') {
            shown.push('\n');
        }
        Ok(shown)
    }

    /// The whole prompt; `count` is how many samples an instructed model is asked for.
    pub(crate) fn prompt(self, demonstrations: &str, label: &str, count: usize) -> Result<String> {
        match self {
            Self::Completion => {
                COMPLETION_PROMPT.render(&[("demonstrations", demonstrations), ("label", label)])
            }
            Self::Instruction => INSTRUCTION_PROMPT.render(&[
                ("demonstrations", demonstrations),
                ("label", label),
                ("count", &count.to_string()),
            ]),
        }
    }
}

/// What the completion templates put before a label and a text.
const MARKS: [&str; 2] = ["Topic:", "Message:"];

/// A prompt and the demonstrations that found room in it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FewShot {
    pub(crate) prompt: String,
    /// Indices of the demonstrations shown, in their order in the prompt.
    pub(crate) shown: Vec<usize>,
}

/// Builds a prompt from demonstrations in order of importance.
///
/// The most important one stands last, nearest to the answer. A demonstration that does not fit
/// into `tokens_max` is left out whole, and less important ones may still fit.
pub(crate) fn few_shot(
    writer: &dyn Writer,
    style: PromptStyle,
    samples: &[Sample],
    by_importance: &[usize],
    label: &str,
    count: usize,
    tokens_max: usize,
) -> Result<FewShot> {
    let bare = style.prompt("", label, count)?;
    let mut tokens = writer.prompt_tokens(&bare)?;
    let mut shown = Vec::new();
    let mut parts = Vec::new();
    for index in by_importance {
        let part = style.demonstrate(&samples[*index])?;
        // Parts end in a line break, at which the tokenizers in use cut, so lengths add up; one
        // token each is kept in reserve for those that do not.
        let length = writer.prompt_tokens(&part)? + 1;
        if tokens + length <= tokens_max {
            tokens += length;
            shown.push(*index);
            parts.push(part);
        }
    }
    shown.reverse();
    parts.reverse();
    Ok(FewShot {
        prompt: style.prompt(&parts.concat(), label, count)?,
        shown,
    })
}

/// The texts in an answer, with the label each claims; `None` where a line is not as asked for.
///
/// - `label`: what was asked for; a completion has the label of its prompt.
/// - `whole`: false if the answer was cut off, and so the last of several lines with it.
pub(crate) fn parse_answer(
    style: PromptStyle,
    label: &str,
    answer: &str,
    whole: bool,
) -> Vec<Option<Sample>> {
    match style {
        PromptStyle::Completion => {
            let text = one_line(answer);
            // A model that begins the next demonstration has lost the thread.
            let usable = !text.is_empty() && !MARKS.iter().any(|mark| text.contains(mark));
            vec![usable.then(|| Sample::new(text, label))]
        }
        PromptStyle::Instruction => {
            let lines = answer.lines().filter(|line| !line.trim().is_empty());
            let mut lines: Vec<&str> = lines.collect();
            if !whole && lines.len() > 1 {
                lines.pop();
            }
            if lines.is_empty() {
                return vec![None];
            }
            lines
                .into_iter()
                .map(|line| {
                    let (claimed, text) = line.split_once("|||")?;
                    let text = one_line(text);
                    (!text.is_empty() && !text.contains("|||"))
                        .then(|| Sample::new(text, claimed.trim()))
                })
                .collect()
        }
    }
}

/// A request for one prompt.
pub(crate) fn request(style: PromptStyle, prompt: String, base: &Request, seed: u64) -> Request {
    Request {
        prompt,
        stop: style.stop(),
        seed,
        ..base.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn samples() -> Vec<Sample> {
        [
            "the cat sat",
            "where is my bank card?",
            "the dog",
            "what is the rate of the bank?",
        ]
        .iter()
        .enumerate()
        .map(|(i, text)| Sample::new(*text, ["pets", "bank"][i % 2]))
        .collect()
    }

    #[test]
    fn demonstrations_are_whole_or_absent_whatever_the_room() {
        let model = testing::model(1);
        let samples = samples();
        for style in [PromptStyle::Completion, PromptStyle::Instruction] {
            for tokens_max in 0..400 {
                let few = few_shot(
                    &model,
                    style,
                    &samples,
                    &[1, 3, 0, 2],
                    "bank",
                    2,
                    tokens_max,
                )
                .unwrap();
                let whole: Vec<String> = few
                    .shown
                    .iter()
                    .map(|i| style.demonstrate(&samples[*i]).unwrap())
                    .collect();
                let expected = style.prompt(&whole.concat(), "bank", 2).unwrap();
                assert_eq!(few.prompt, expected);
                let tokens = model.encode_prompt(&few.prompt).unwrap().len();
                assert!(
                    few.shown.is_empty() || tokens <= tokens_max,
                    "{tokens} > {tokens_max}"
                );
            }
        }
    }

    #[test]
    fn the_most_important_demonstration_stands_last() {
        let model = testing::model(1);
        let few = few_shot(
            &model,
            PromptStyle::Completion,
            &samples(),
            &[1, 0],
            "bank",
            1,
            900,
        )
        .unwrap();
        assert_eq!(few.shown, [0, 1]);
        assert_eq!(
            few.prompt,
            "Topic: pets\nMessage: the cat sat\nTopic: bank\nMessage: where is my bank card?\n\
             Topic: bank\nMessage:"
        );
    }

    #[test]
    fn answers_are_parsed_strictly() {
        let parse = |answer| parse_answer(PromptStyle::Instruction, "bank", answer, true);
        assert_eq!(
            parse("bank ||| a  new text\n\nno bars"),
            [Some(Sample::new("a new text", "bank")), None]
        );
        assert_eq!(parse("bank ||| "), [None]);
        assert_eq!(parse("a ||| b ||| c"), [None]);
        let complete = |answer| parse_answer(PromptStyle::Completion, "bank", answer, true);
        assert_eq!(complete(" a text "), [Some(Sample::new("a text", "bank"))]);
        assert_eq!(complete("  "), [None]);
        assert_eq!(complete("a text Topic: pets"), [None]);
    }

    #[test]
    fn an_answer_of_the_pattern_is_taken_apart_without_a_loss() {
        let pattern = PromptStyle::Instruction.pattern("[a-z ]+", "bank", 3);
        assert_eq!(
            pattern,
            r"\x{62}\x{61}\x{6e}\x{6b} \|\|\| (?:[a-z ]+)(?:\n\x{62}\x{61}\x{6e}\x{6b} \|\|\| (?:[a-z ]+)){0,2}"
        );
        let answer = "bank ||| one text\nbank ||| another";
        let parsed = parse_answer(PromptStyle::Instruction, "bank", answer, true);
        assert!(
            parsed.len() == 2 && parsed.iter().all(Option::is_some),
            "{parsed:?}"
        );
        for style in [PromptStyle::Completion, PromptStyle::Instruction] {
            assert!(style.check_text_pattern("[a-z ]+").is_ok());
            assert!(style.check_text_pattern("[a-z\n]+").is_err());
        }
        assert!(PromptStyle::Completion.check_text_pattern(".+").is_ok());
        assert!(PromptStyle::Instruction.check_text_pattern(".+").is_err());
    }

    #[test]
    fn a_line_that_was_cut_off_is_dropped() {
        let cut = |answer| parse_answer(PromptStyle::Instruction, "bank", answer, false);
        assert_eq!(
            cut("bank ||| a whole text\nbank ||| half a te"),
            [Some(Sample::new("a whole text", "bank"))]
        );
        assert_eq!(cut("bank ||| all there is").len(), 1);
    }

    #[test]
    fn the_marks_are_those_of_the_templates() {
        for mark in MARKS {
            assert!(COMPLETION_DEMONSTRATION.text.contains(mark), "{mark}");
            assert!(COMPLETION_PROMPT.text.contains(mark), "{mark}");
        }
    }
}
