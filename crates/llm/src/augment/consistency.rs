//! Does a new text belong to its label? It must be likelier under it than under other labels.
//!
//! A small model drifts from its prompt; a text that drifted into another label would teach a
//! classifier the wrong thing.

use std::sync::atomic::AtomicBool;

use super::work::Candidate;
use super::{AugmentOptions, Rejection};
use crate::error::Result;
use crate::model::LanguageModel;
use crate::prompts::PromptStyle;
use crate::sample::derived_seed;
use crate::score::{ScoreRequest, score};

/// Turns candidates that fit a rival label better into [`Rejection::OffLabel`].
pub(super) fn mark(
    model: &LanguageModel,
    labels: &[String],
    options: &AugmentOptions,
    round: usize,
    candidates: &mut [Candidate],
    cancel: &AtomicBool,
) -> Result<()> {
    let rivals = options.rivals.min(labels.len() - 1);
    if rivals == 0 {
        return Ok(());
    }
    let prompts = labels
        .iter()
        .map(|label| PromptStyle::Completion.prompt("", label, 1))
        .collect::<Result<Vec<String>>>()?;
    let mut requests = Vec::new();
    let mut owners = Vec::new();
    for (index, candidate) in candidates.iter().enumerate() {
        let Ok(sample) = &candidate.sample else {
            continue;
        };
        owners.push(index);
        // A seeded rotation: with few labels all of them, with many a fair choice.
        let turn = derived_seed(options.seed, "rivals", &[round as u64, index as u64]);
        let others = labels.len() - 1;
        let offsets = (0..rivals).map(|step| 1 + (turn % others as u64) as usize + step);
        let compared = offsets.map(|offset| candidate.label + 1 + (offset - 1) % others);
        for label in std::iter::once(candidate.label).chain(compared) {
            requests.push(ScoreRequest {
                prompt: prompts[label % labels.len()].clone(),
                continuation: format!(" {}", sample.text),
            });
        }
    }
    let scores = score(model, &requests, &mut |_| (), cancel)?;
    for (index, scores) in owners.into_iter().zip(scores.chunks_exact(1 + rivals)) {
        let own = scores[0].mean_log_likelihood;
        if scores[1..]
            .iter()
            .any(|rival| rival.mean_log_likelihood > own)
        {
            candidates[index].sample = Err(Rejection::OffLabel);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;
    use crate::{AdaptOptions, adapt, testing};

    #[test]
    fn a_text_of_another_label_is_marked() {
        let text = |label: &str| match label {
            "bank" => "where is my bank card and what is the rate of the bank?",
            _ => "the cat sat on the mat and the dog sat on the log",
        };
        let demonstrations: Vec<Sample> = ["bank", "pets"]
            .map(|label| Sample::new(text(label), label))
            .to_vec();
        let cancel = AtomicBool::new(false);
        let options = AdaptOptions {
            epochs: 64,
            batch_windows: 1,
            ..AdaptOptions::default()
        };
        let model = testing::model(8);
        let model = adapt(&model, &demonstrations, &options, &mut |_| (), &cancel).unwrap();
        let labels = ["bank".to_owned(), "pets".to_owned()];
        let candidate = |label: usize, text: &str| Candidate {
            order: 0,
            label,
            sample: Ok(Sample::new(text, &labels[label])),
        };
        let mut candidates = [
            candidate(0, text("bank")),
            candidate(0, text("pets")),
            candidate(1, text("pets")),
            candidate(1, text("bank")),
        ];
        let options = AugmentOptions::default();
        mark(&model, &labels, &options, 0, &mut candidates, &cancel).unwrap();
        let fine: Vec<bool> = candidates.iter().map(|c| c.sample.is_ok()).collect();
        assert_eq!(fine, [true, false, true, false]);
    }
}
