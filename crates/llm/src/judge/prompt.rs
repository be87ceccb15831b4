//! Prompt mode: shows the model a cluster and asks which samples to keep.

use std::sync::atomic::AtomicBool;

use super::{Call, DropReason, Judged};
use crate::error::Result;
use crate::generate::{Finish, Request, Sampling};
use crate::progress::Progress;
use crate::prompts::PromptStyle;
use crate::sample::one_line;
use crate::template::{JUDGE_PROMPT, JUDGE_SAMPLE};
use crate::writer::Answering;

/// Options of prompt mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PromptOptions {
    /// Most tokens of an answer; one that needs more cannot be read.
    pub max_new_tokens: usize,
    /// Most samples in a question.
    pub samples_max: usize,
    /// Most calls computed at once.
    pub batch_max: usize,
}

impl Default for PromptOptions {
    fn default() -> Self {
        Self {
            // Sixteen numbers, a token for each of their characters.
            max_new_tokens: 64,
            samples_max: 16,
            batch_max: 16,
        }
    }
}

/// Samples that the model did not choose.
pub(super) fn reject(
    call: &Call<'_>,
    options: &PromptOptions,
    judged: &mut Judged,
    progress: &mut dyn FnMut(Progress),
    cancel: &AtomicBool,
) -> Result<Vec<(usize, DropReason)>> {
    let mut questions: Vec<(Vec<usize>, String)> = Vec::new();
    for cluster in call.clusters {
        ask(call, options, cluster, &mut questions, judged)?;
    }
    let requests: Vec<Request> = questions
        .iter()
        .map(|(_, prompt)| Request {
            prompt: prompt.clone(),
            max_new_tokens: options.max_new_tokens,
            stop: vec!["\n".to_owned()],
            sampling: Sampling::greedy(),
            seed: call.seed,
            ..Request::default()
        })
        .collect();
    let how = Answering {
        style: PromptStyle::Instruction,
        batch_max: options.batch_max,
        tell_text: false,
    };
    let answers = call.writer.answer(&requests, how, progress, cancel)?;
    judged.calls = answers.len();
    let mut rejected = Vec::new();
    for ((members, _), answer) in questions.iter().zip(answers) {
        // Of an answer that was cut off, the last number may be half of one.
        let whole = !matches!(answer.finish, Finish::Length | Finish::ContextFull);
        match parse(&answer.text, members.len()).filter(|_| whole) {
            Some(chosen) => {
                let left_out = members
                    .iter()
                    .enumerate()
                    .filter(|(i, _)| !chosen.contains(i));
                rejected.extend(left_out.map(|(_, index)| (*index, DropReason::Rejected)));
            }
            None => judged.unparsable += 1,
        }
    }
    Ok(rejected)
}

/// Adds the questions about a cluster; one too long is asked in two halves.
fn ask(
    call: &Call<'_>,
    options: &PromptOptions,
    members: &[usize],
    questions: &mut Vec<(Vec<usize>, String)>,
    judged: &mut Judged,
) -> Result<()> {
    if members.is_empty() {
        return Ok(());
    }
    if members.len() > options.samples_max.max(1) {
        return halves(call, options, members, questions, judged);
    }
    let room = call.writer.context().saturating_sub(options.max_new_tokens);
    let mut shown = String::new();
    for (number, index) in members.iter().enumerate() {
        let sample = &call.samples[*index];
        shown += &JUDGE_SAMPLE.render(&[
            ("number", &(number + 1).to_string()),
            ("label", &sample.label),
            ("text", &one_line(&sample.text)),
        ])?;
    }
    let labels = call.labels.join(", ");
    let prompt = JUDGE_PROMPT.render(&[("samples", &shown), ("labels", &labels)])?;
    if call.writer.prompt_tokens(&prompt)? <= room {
        questions.push((members.to_vec(), prompt));
        return Ok(());
    }
    if members.len() == 1 {
        judged.too_long += 1;
        return Ok(());
    }
    halves(call, options, members, questions, judged)
}

fn halves(
    call: &Call<'_>,
    options: &PromptOptions,
    members: &[usize],
    questions: &mut Vec<(Vec<usize>, String)>,
    judged: &mut Judged,
) -> Result<()> {
    let (first, second) = members.split_at(members.len() / 2);
    ask(call, options, first, questions, judged)?;
    ask(call, options, second, questions, judged)
}

/// Zero-based choices in an answer such as `1, 3` or `none`; `None` if it is anything else.
fn parse(answer: &str, count: usize) -> Option<Vec<usize>> {
    let answer = answer.trim().trim_end_matches('.');
    if answer.eq_ignore_ascii_case("none") {
        return Some(Vec::new());
    }
    let numbers = answer
        .split(',')
        .map(|part| part.trim().parse::<usize>().ok());
    numbers
        .map(|n| n.filter(|n| (1..=count).contains(n)).map(|n| n - 1))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_numbers_in_range_or_unreadable() {
        assert_eq!(parse(" 1, 3.", 3), Some(vec![0, 2]));
        assert_eq!(parse("None", 3), Some(vec![]));
        for unreadable in ["", "4", "0", "1 and 2", "keep 1", "1,,2", "-1"] {
            assert_eq!(parse(unreadable, 3), None, "{unreadable}");
        }
    }
}
