//! How likely a model finds a continuation after a prompt.
//!
//! ```text
//! requests ─ by prompt ─> jobs ─ one session per thread ─ batches without padding ─> scores
//! ```
//! Requests with the same prompt share its computation: the prompt is run once, its keys and
//! values serve every continuation. Logits are computed for the continuations alone.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use crate::error::{Error, Result};
use crate::host::{Segment, kernels};
use crate::model::LanguageModel;
use crate::network::Session;
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

/// Tokens computed at once: enough to keep the matrix products busy, few enough for their
/// results to stay in the second-level cache.
const TOKENS: usize = 256;
/// Logits are computed for this many tokens at a time.
const LOGIT_ROWS: usize = 64;
/// Most rows computed at once; bounds the cache's memory.
const ROWS: usize = 32;
/// Rows of one job at most, so that the sessions end at the same time.
const ROWS_PER_JOB: usize = 64;

/// Scores every request, in order.
///
/// A prompt too long for the context loses its beginning, down to the room that the longest of
/// its continuations leaves; a continuation longer than the context is scored as far as it fits.
///
/// # Errors
/// [`Error::Tokenizer`], [`Error::NotFinite`], [`Error::Cancelled`], and [`Error::PromptTooLong`] for an empty prompt
/// to a model that has no token to begin with.
pub fn score(
    model: &LanguageModel,
    requests: &[ScoreRequest],
    progress: &mut dyn FnMut(Progress),
    cancel: &AtomicBool,
) -> Result<Vec<Score>> {
    let nothing = Score {
        mean_log_likelihood: 0.0,
        tokens: 0,
    };
    let mut scores = vec![nothing; requests.len()];
    let jobs = jobs(model, requests)?;
    let reach = |row: &Row| row.prompt.len() + row.continuation.len();
    let rows = || jobs.iter().flat_map(|job| &job.rows);
    let longest = rows().map(reach).max().unwrap_or(0);
    let most = jobs.iter().map(|job| job.rows.len()).max().unwrap_or(0);
    let empty = requests.len() - rows().count();
    let slots = ROWS.min(most) + 1;
    let (sessions, threads) = model.network.sessions(jobs.len());
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..sessions {
            let (sender, jobs, next, stop) = (sender.clone(), &jobs, &next, &stop);
            scope.spawn(move || {
                let work = || -> Result<()> {
                    let mut session = model.network.session(slots, longest, threads)?;
                    while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        score_job(&mut session, job, &|done| {
                            // Nobody listens any more after a failure elsewhere.
                            let _ = sender.send(Ok(done));
                            stop_if_cancelled(cancel)?;
                            stop_if_cancelled(stop)
                        })?;
                    }
                    Ok(())
                };
                if let Err(error) = work() {
                    let _ = sender.send(Err(error));
                }
            });
        }
        drop(sender);
        let (mut done, mut failed) = (empty as u64, None);
        for message in receiver {
            match message {
                Ok(scored) => {
                    for (request, score) in scored {
                        scores[request] = score;
                        done += 1;
                    }
                    progress(Progress {
                        stage: "score",
                        done,
                        total: Some(requests.len() as u64),
                        note: String::new(),
                        text: String::new(),
                    });
                }
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    failed.get_or_insert(error);
                }
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(scores),
        }
    })
}

/// Rows that go on from the same tokens.
struct Job {
    /// First tokens of every row's prompt, computed once.
    shared: usize,
    rows: Vec<Row>,
}

/// Cuts the requests into jobs; empty continuations need none.
fn jobs(model: &LanguageModel, requests: &[ScoreRequest]) -> Result<Vec<Job>> {
    let mut encoded = HashMap::new();
    let mut jobs = Vec::new();
    let mut alone = Vec::new();
    for (prompt, members) in by_prompt(requests) {
        let rows = encode_group(model, requests, prompt, &members, &mut encoded)?;
        match rows.len() {
            1 => alone.extend(rows),
            _ => push_jobs(&mut jobs, rows[0].prompt.len() - 1, rows),
        }
    }
    push_jobs(&mut jobs, 0, alone);
    Ok(jobs)
}

fn push_jobs(jobs: &mut Vec<Job>, shared: usize, mut rows: Vec<Row>) {
    rows.retain(|row| !row.continuation.is_empty());
    // Long rows first: the last job of all is then a short one.
    rows.sort_by_key(|row| std::cmp::Reverse(row.prompt.len() + row.continuation.len()));
    while !rows.is_empty() {
        let rest = rows.split_off(ROWS_PER_JOB.min(rows.len()));
        let rows = std::mem::replace(&mut rows, rest);
        jobs.push(Job { shared, rows });
    }
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
    encoded: &mut HashMap<String, Vec<u32>>,
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
        let text = &requests[*request].continuation;
        // A judge asks for the same text after many prompts.
        let mut continuation = match encoded.get(text) {
            Some(tokens) => tokens.clone(),
            None => {
                let tokens = model.tokenizer.encode(text)?;
                encoded.insert(text.clone(), tokens.clone());
                tokens
            }
        };
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

/// Scores a job: what its rows share is computed once, into the first slot.
fn score_job(
    session: &mut Session<'_>,
    job: &Job,
    report: &dyn Fn(Vec<(usize, Score)>) -> Result<()>,
) -> Result<()> {
    let shared = job.shared;
    if shared > 0 {
        session.forward(&[Segment {
            slot: 0,
            position: 0,
            tokens: &job.rows[0].prompt[..shared],
            keep: 0,
        }])?;
    }
    let mut filled = 0;
    let mut rest = &job.rows[..];
    while !rest.is_empty() {
        let mut tokens = 0;
        let fits = |row: &&Row| {
            tokens += row.prompt.len() - shared + row.continuation.len();
            tokens <= TOKENS
        };
        let count = rest.iter().take(ROWS).take_while(fits).count().max(1);
        let (batch, after) = rest.split_at(count);
        rest = after;
        for slot in filled..count {
            session.copy_prefix(0, slot + 1, shared)?;
        }
        filled = filled.max(count);
        report(score_batch(session, batch, shared)?)?;
    }
    Ok(())
}

fn score_batch(
    session: &mut Session<'_>,
    batch: &[Row],
    shared: usize,
) -> Result<Vec<(usize, Score)>> {
    let inputs: Vec<Vec<u32>> = batch.iter().map(|row| row.inputs(shared)).collect();
    let rows = inputs.iter().zip(batch).enumerate();
    let segments: Vec<Segment<'_>> = rows
        .map(|(index, (tokens, row))| Segment {
            slot: index + 1,
            position: shared,
            tokens,
            keep: row.continuation.len(),
        })
        .collect();
    session.forward(&segments)?;
    let targets: Vec<u32> = batch
        .iter()
        .flat_map(|row| row.continuation.clone())
        .collect();
    let mut nats = Vec::with_capacity(targets.len());
    for (chunk, targets) in targets.chunks(LOGIT_ROWS).enumerate() {
        let logits = session.logits(chunk * LOGIT_ROWS, targets.len())?;
        let vocab = logits.len() / targets.len();
        for (row, target) in logits.chunks_exact(vocab).zip(targets) {
            nats.push(kernels::log_likelihood(row, *target as usize));
        }
    }
    let mut nats = nats.into_iter();
    let score = |row: &Row| {
        let tokens = row.continuation.len();
        let sum: f64 = nats.by_ref().take(tokens).sum();
        let mean_log_likelihood = sum / tokens as f64;
        (
            row.request,
            Score {
                mean_log_likelihood,
                tokens,
            },
        )
    };
    Ok(batch.iter().map(score).collect())
}

#[cfg(test)]
mod tests;
