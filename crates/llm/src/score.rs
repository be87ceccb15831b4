//! How likely a model finds a continuation after a prompt.
//!
//! Requests with the same prompt share its computation: the prompt is run once, its keys and
//! values serve every continuation. All other requests are batched as whole texts.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::model::LanguageModel;
use crate::network::Past;
use crate::pretrain::kernels;
use crate::progress::{Progress, stop_if_cancelled};

/// One continuation to score.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreRequest {
    /// Text before it, encoded on its own.
    pub prompt: String,
    /// The text whose likelihood is asked for, encoded on its own.
    pub continuation: String,
}

/// The likelihood of a continuation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Mean over the scored tokens, in nats; at most 0. Zero tokens give 0.
    pub mean_log_likelihood: f64,
    /// Tokens scored: those of the continuation that fit into the context.
    pub tokens: usize,
}

/// Rows computed at once.
const ROWS: usize = 16;

/// Scores every request, in order.
///
/// A prompt too long for the context loses its beginning, down to the room that the longest of
/// its continuations leaves; a continuation longer than the context is scored as far as it fits.
///
/// # Errors
/// [`Error::Tokenizer`], [`Error::Cancelled`], and [`Error::PromptTooLong`] for an empty prompt
/// to a model that has no token to begin with.
pub fn score(
    model: &LanguageModel,
    requests: &[ScoreRequest],
    progress: &mut dyn FnMut(Progress),
    cancel: &AtomicBool,
) -> Result<Vec<Score>> {
    let mut scores = vec![
        Score {
            mean_log_likelihood: 0.0,
            tokens: 0
        };
        requests.len()
    ];
    let mut done = 0;
    let mut report = |rows: usize| {
        done += rows as u64;
        progress(Progress {
            stage: "score",
            done,
            total: Some(requests.len() as u64),
            note: String::new(),
        });
    };
    let mut alone = Vec::new();
    for (prompt, members) in by_prompt(requests) {
        stop_if_cancelled(cancel)?;
        let rows = encode_group(model, requests, prompt, &members)?;
        if rows.len() == 1 {
            alone.extend(rows);
            continue;
        }
        let shared = rows[0].prompt.len() - 1;
        let past = match shared {
            0 => None,
            _ => Some(model.network.whole(&rows[0].prompt[..shared], 1, None)?.1),
        };
        score_rows(
            model,
            past.as_ref(),
            shared,
            rows,
            &mut scores,
            &mut report,
            cancel,
        )?;
    }
    score_rows(model, None, 0, alone, &mut scores, &mut report, cancel)?;
    Ok(scores)
}

/// A request as tokens.
struct Row {
    request: usize,
    prompt: Vec<u32>,
    continuation: Vec<u32>,
}

impl Row {
    /// What is fed to the network after `shared` tokens of the prompt; predicts one token each.
    fn inputs(&self, shared: usize) -> Vec<u32> {
        let fed = self.prompt.len() + self.continuation.len().saturating_sub(1);
        self.prompt
            .iter()
            .chain(&self.continuation)
            .copied()
            .take(fed)
            .skip(shared)
            .collect()
    }
}

/// Requests by prompt, in order of first appearance.
fn by_prompt(requests: &[ScoreRequest]) -> Vec<(&str, Vec<usize>)> {
    let mut groups: Vec<(&str, Vec<usize>)> = Vec::new();
    let mut places = HashMap::new();
    for (index, request) in requests.iter().enumerate() {
        let place = *places.entry(request.prompt.as_str()).or_insert_with(|| {
            groups.push((request.prompt.as_str(), Vec::new()));
            groups.len() - 1
        });
        groups[place].1.push(index);
    }
    groups
}

/// Encodes a group and cuts the prompt's beginning so that its longest continuation fits.
fn encode_group(
    model: &LanguageModel,
    requests: &[ScoreRequest],
    prompt: &str,
    members: &[usize],
) -> Result<Vec<Row>> {
    let mut prompt = model.encode_prompt(prompt)?;
    if prompt.is_empty() {
        prompt.extend(model.end_tokens().first());
    }
    if prompt.is_empty() {
        let tokens_max = model.context() - 1;
        return Err(Error::PromptTooLong {
            request: members[0],
            tokens: 0,
            tokens_max,
        });
    }
    let mut rows = Vec::with_capacity(members.len());
    let mut longest = 0;
    for request in members {
        let mut continuation = model.tokenizer.encode(&requests[*request].continuation)?;
        continuation.truncate(model.context());
        longest = longest.max(continuation.len());
        rows.push(Row {
            request: *request,
            prompt: Vec::new(),
            continuation,
        });
    }
    // The last token of a continuation is only predicted, never fed.
    let room = (model.context() + 1 - longest.max(1)).max(1);
    let cut = prompt.len().saturating_sub(room);
    for row in &mut rows {
        row.prompt = prompt[cut..].to_vec();
    }
    Ok(rows)
}

/// Scores rows that all go on from `past`, which holds the first `shared` tokens of each.
fn score_rows(
    model: &LanguageModel,
    past: Option<&Past>,
    shared: usize,
    mut rows: Vec<Row>,
    scores: &mut [Score],
    report: &mut dyn FnMut(usize),
    cancel: &AtomicBool,
) -> Result<()> {
    // Similar lengths together: less padding.
    rows.sort_by_key(|row| row.prompt.len() + row.continuation.len());
    for batch in rows.chunks(ROWS) {
        stop_if_cancelled(cancel)?;
        let fed: Vec<Vec<u32>> = batch.iter().map(|row| row.inputs(shared)).collect();
        let length = fed.iter().map(Vec::len).max().unwrap_or(0);
        let padded: Vec<u32> = fed
            .iter()
            .flat_map(|row| row.iter().copied().chain(std::iter::repeat(0)).take(length))
            .collect();
        let (hidden, _) = model.network.whole(&padded, batch.len(), past)?;
        for (index, row) in batch.iter().enumerate() {
            let first = index * length + row.prompt.len() - 1 - shared;
            let hidden = hidden.narrow(0, first, row.continuation.len())?;
            scores[row.request] = score_one(model, &hidden, &row.continuation)?;
        }
        report(batch.len());
    }
    Ok(())
}

fn score_one(model: &LanguageModel, hidden: &Tensor, targets: &[u32]) -> Result<Score> {
    if targets.is_empty() {
        return Ok(Score {
            mean_log_likelihood: 0.0,
            tokens: 0,
        });
    }
    let mut logits = model
        .network
        .logits(hidden)?
        .flatten_all()?
        .to_vec1::<f32>()?;
    let vocab = logits.len() / targets.len();
    let rows = logits.chunks_exact_mut(vocab).zip(targets);
    let nats: f64 = rows
        .map(|(row, target)| f64::from(kernels::cross_entropy(row, *target as usize, 1.0)))
        .sum();
    Ok(Score {
        mean_log_likelihood: -nats / targets.len() as f64,
        tokens: targets.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn run(requests: &[ScoreRequest]) -> Vec<Score> {
        score(
            &testing::model(3),
            requests,
            &mut |_| (),
            &AtomicBool::new(false),
        )
        .unwrap()
    }

    fn request(prompt: &str, continuation: &str) -> ScoreRequest {
        ScoreRequest {
            prompt: prompt.to_owned(),
            continuation: continuation.to_owned(),
        }
    }

    /// The definition, one token at a time.
    fn by_hand(model: &LanguageModel, prompt: &[u32], continuation: &[u32]) -> f64 {
        let mut text = prompt.to_vec();
        let mut sum = 0.0;
        for target in continuation {
            let (hidden, _) = model.network.whole(&text, 1, None).unwrap();
            let last = hidden.narrow(0, text.len() - 1, 1).unwrap();
            let logits = model.network.logits(&last).unwrap().flatten_all().unwrap();
            let logits = logits.to_vec1::<f32>().unwrap();
            let total: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum();
            sum += f64::from(logits[*target as usize]) - total.ln();
            text.push(*target);
        }
        sum / continuation.len() as f64
    }

    #[test]
    fn scores_are_those_of_the_definition_alone_or_together() {
        let model = testing::model(3);
        let requests = [
            request("the cat", " sat on the mat"),
            request("the cat", " and the dog"),
            request("where is my", " bank card?"),
            request("", "the dog"),
            request("", "the cat sat"),
        ];
        for (request, score) in requests.iter().zip(run(&requests)) {
            let mut prompt = model.encode_prompt(&request.prompt).unwrap();
            if prompt.is_empty() {
                prompt.push(model.end_tokens()[0]);
            }
            let continuation = model.tokenizer.encode(&request.continuation).unwrap();
            let expected = by_hand(&model, &prompt, &continuation);
            assert_eq!(score.tokens, continuation.len());
            assert!(
                (score.mean_log_likelihood - expected).abs() < 1e-4,
                "{score:?} {expected}"
            );
        }
    }

    #[test]
    fn long_prompts_lose_their_beginning_and_long_continuations_their_end() {
        let scores = run(&[
            request(&"the cat and the dog ".repeat(40), " sat on"),
            request("the", &" cat and the dog".repeat(60)),
            request("the", ""),
        ]);
        assert!(scores[0].tokens > 0 && scores[0].mean_log_likelihood < 0.0);
        assert_eq!(scores[1].tokens, 96);
        assert_eq!(scores[2].tokens, 0);
    }
}
