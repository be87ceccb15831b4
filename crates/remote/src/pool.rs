//! Many questions at once, each until it is answered or hopeless.
//!
//! ```text
//! workers: take the next question ─ ask ─ wait and ask again ─ send the outcome
//! caller:  journal and count what arrives; look at the cancel flag ten times a second
//! ```
//! Workers share a counter and a stop flag, nothing else. A worker in the midst of a request
//! cannot be interrupted; after a cancellation it is left to run out on its own, and its answer
//! goes nowhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::backoff;
use crate::client::{Client, Outcome};
use crate::endpoint::Endpoint;
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::secret::Secret;
use crate::wire::{Answer, Question};

const LOOK: Duration = Duration::from_millis(100);
/// After a failure, how long answers that are under way are still taken in.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// How questions are put.
pub struct Call<'a> {
    /// To whom.
    pub endpoint: &'a Endpoint,
    /// With which key.
    pub key: Option<&'a Secret>,
    /// Where answers are kept.
    pub journal: &'a mut Journal,
    /// What it takes is added to this, also if it fails.
    pub usage: &'a mut Usage,
    /// Told after each answer: how many there are, of how many.
    pub progress: &'a mut dyn FnMut(usize, usize),
    /// Raised to stop.
    pub cancel: &'a AtomicBool,
}

/// What was asked of the server, and what it counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Usage {
    /// Questions that the server answered now.
    pub answered: usize,
    /// Questions whose answer was in the journal.
    pub remembered: usize,
    /// Attempts that failed for a passing reason before an answer came.
    pub retries: usize,
    /// Tokens of all prompts, whenever they were answered.
    pub prompt_tokens: u64,
    /// Tokens of all answers, whenever they were given.
    pub answer_tokens: u64,
    /// Tokens of the prompts answered now.
    pub prompt_tokens_now: u64,
    /// Tokens of the answers given now.
    pub answer_tokens_now: u64,
}

impl Usage {
    fn remember(&mut self, answer: &Answer) {
        self.remembered += 1;
        add(&mut self.prompt_tokens, answer.prompt_tokens);
        add(&mut self.answer_tokens, answer.answer_tokens);
    }

    fn receive(&mut self, answer: &Answer, retries: usize) {
        self.answered += 1;
        self.retries += retries;
        add(&mut self.prompt_tokens, answer.prompt_tokens);
        add(&mut self.answer_tokens, answer.answer_tokens);
        add(&mut self.prompt_tokens_now, answer.prompt_tokens);
        add(&mut self.answer_tokens_now, answer.answer_tokens);
    }
}

/// A server's count may be anything.
fn add(sum: &mut u64, count: u64) {
    *sum = sum.saturating_add(count);
}

/// Puts every question that the journal cannot answer to the server; one answer per question, in
/// order.
///
/// # Errors
/// The first [`Error`] that asking again would not cure. Answers that had arrived by then are in
/// the journal.
pub fn ask(questions: &[Question], call: Call<'_>) -> Result<Vec<Answer>> {
    let client = Client::new(call.endpoint, call.key)?;
    let digests: Vec<String> = questions
        .iter()
        .map(|question| question.digest(call.endpoint))
        .collect();
    // What an earlier version kept may be longer than it would be now.
    let mut answers: Vec<Option<Answer>> = std::iter::zip(questions, &digests)
        .map(|(question, digest)| Some(call.journal.find(digest)?.clone().fit(question, call.key)))
        .collect();
    let waiting: Vec<(usize, Question)> = (0..questions.len())
        .filter(|index| answers[*index].is_none())
        .map(|index| (index, questions[index].clone()))
        .collect();
    let mut done = questions.len() - waiting.len();
    for answer in answers.iter().flatten() {
        call.usage.remember(answer);
    }
    (call.progress)(done, questions.len());

    let shared = Arc::new(Shared {
        client,
        waiting,
        next: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
    });
    let _stop = StopOnDrop(Arc::clone(&shared));
    let (sender, arrivals) = mpsc::channel();
    for _ in 0..call.endpoint.concurrency.min(shared.waiting.len()) {
        let (shared, sender) = (Arc::clone(&shared), sender.clone());
        std::thread::spawn(move || work(&shared, &sender));
    }
    drop(sender);

    let mut failure: Option<(Error, Instant)> = None;
    loop {
        match arrivals.recv_timeout(LOOK) {
            Ok(Arrival {
                index,
                retries,
                result: Ok(answer),
            }) => {
                call.usage.receive(&answer, retries);
                call.journal.add(digests[index].clone(), answer.clone())?;
                answers[index] = Some(answer);
                done += 1;
                (call.progress)(done, questions.len());
            }
            Ok(Arrival {
                result: Err(error), ..
            }) => {
                shared.stop.store(true, Ordering::Relaxed);
                failure.get_or_insert((error, Instant::now()));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if call.cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        if failure
            .as_ref()
            .is_some_and(|(_, since)| since.elapsed() > LAST_ANSWERS)
        {
            break;
        }
    }
    if let Some((error, _)) = failure {
        return Err(error);
    }
    let answers: Vec<Answer> = answers.into_iter().flatten().collect();
    assert_eq!(
        answers.len(),
        questions.len(),
        "a worker ends without a word only when stopped"
    );
    Ok(answers)
}

struct Shared {
    client: Client,
    waiting: Vec<(usize, Question)>,
    next: AtomicUsize,
    stop: AtomicBool,
}

/// However the caller leaves, workers take no further question.
struct StopOnDrop(Arc<Shared>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

struct Arrival {
    index: usize,
    retries: usize,
    result: Result<Answer>,
}

fn work(shared: &Shared, sender: &Sender<Arrival>) {
    while !shared.stop.load(Ordering::Relaxed) {
        let turn = shared.next.fetch_add(1, Ordering::Relaxed);
        let Some((index, question)) = shared.waiting.get(turn) else {
            return;
        };
        let Some((result, retries)) = insist(shared, question) else {
            return;
        };
        let arrival = Arrival {
            index: *index,
            retries,
            result,
        };
        if sender.send(arrival).is_err() {
            return;
        }
    }
}

/// Asks until there is an answer or no hope; `None` if it was stopped while waiting.
fn insist(shared: &Shared, question: &Question) -> Option<(Result<Answer>, usize)> {
    let endpoint = &shared.client.endpoint;
    let attempts = endpoint.retries_max.saturating_add(1);
    for attempt in 1..=attempts {
        let retries = attempt as usize - 1;
        let (trouble, asked) = match shared.client.ask(question) {
            Outcome::Answered(answer) => return Some((Ok(answer), retries)),
            Outcome::Never(error) => return Some((Err(error), retries)),
            Outcome::Again { trouble, wait } => (trouble, wait),
        };
        if attempt == attempts {
            let address = endpoint.address(question.call());
            let error = Error::Exhausted {
                address,
                attempts,
                trouble,
            };
            return Some((Err(error), retries));
        }
        let until = Instant::now() + backoff::wait(attempt, asked, spread(question, attempt));
        while Instant::now() < until {
            if shared.stop.load(Ordering::Relaxed) {
                return None;
            }
            std::thread::sleep(LOOK.min(until.saturating_duration_since(Instant::now())));
        }
    }
    None
}

/// A number that differs between questions and attempts: enough to keep workers apart.
fn spread(question: &Question, attempt: u32) -> u64 {
    let mut hash = Sha256::new();
    hash.update(question.prompt.as_bytes());
    hash.update(question.seed.to_le_bytes());
    hash.update(attempt.to_le_bytes());
    let digest = hash.finalize();
    u64::from_le_bytes(*digest.first_chunk().expect("a SHA-256 digest has 32 bytes"))
}
