//! The texts that one session computes: a slot each, a step for all of them at once.
//!
//! ```text
//! prompts that fit ─┐
//! last tokens ──────┴─> one forward pass ─> draw ─> texts that end leave their slot to the next
//! ```

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::{Finish, Generation, Request, Task};
use crate::constrain::{Constraint, Place};
use crate::error::Result;
use crate::host::Segment;
use crate::model::LanguageModel;
use crate::network::Session;
use crate::sampling::Sampler;

/// Most prompt tokens in one pass, unless a single prompt is longer.
const PROMPT_TOKENS: usize = 512;
/// A shorter beginning is computed again rather than copied.
const PREFIX_MIN: usize = 8;

/// A text in a slot.
struct Running {
    request: usize,
    made: Vec<u32>,
    /// Where it stands in its pattern, if it has one.
    place: Option<Place>,
    /// What was told to a listener.
    told: usize,
    rng: ChaCha8Rng,
}

/// A slot of the session's cache.
#[derive(Default)]
struct Slot {
    running: Option<Running>,
    /// The text's tokens, also after it ended: another prompt may begin like it.
    tokens: Vec<u32>,
    /// How many of them are in the cache.
    cached: usize,
}

/// What a step tells.
pub(super) enum Told {
    /// More of a text, for requests that are listened to.
    Piece(usize, String),
    /// A text has ended.
    Ended(usize, Generation),
}

/// The texts of one session.
pub(super) struct Batch<'a> {
    model: &'a LanguageModel,
    task: &'a Task<'a>,
    session: Session<'a>,
    slots: Vec<Slot>,
    sampler: Sampler,
}

impl<'a> Batch<'a> {
    pub(super) fn new(
        model: &'a LanguageModel,
        task: &'a Task<'a>,
        slots: usize,
        session: Session<'a>,
    ) -> Self {
        Self {
            model,
            task,
            session,
            slots: (0..slots).map(|_| Slot::default()).collect(),
            sampler: Sampler::default(),
        }
    }

    /// Texts in slots.
    pub(super) fn running(&self) -> usize {
        self.slots
            .iter()
            .filter(|slot| slot.running.is_some())
            .count()
    }

    /// Fills free slots with requests from `next`.
    pub(super) fn fill(
        &mut self,
        next: &mut dyn Iterator<Item = usize>,
        waiting: &mut Option<usize>,
    ) -> Result<()> {
        let mut fresh = 0;
        let mut tokens = 0;
        while let Some(free) = self.slots.iter().position(|slot| slot.running.is_none()) {
            let Some(request) = waiting.take().or_else(|| next.next()) else {
                break;
            };
            let prompt = &self.task.prompts[request];
            let (donor, common) = self.longest_prefix(prompt, free);
            let computed = common.min(self.slots[donor].cached);
            let wait = common >= PREFIX_MIN && computed < common;
            if fresh > 0 && (wait || tokens + prompt.len() - computed > PROMPT_TOKENS) {
                // A prompt of this very pass begins alike: its keys can be copied afterwards.
                *waiting = Some(request);
                break;
            }
            let to = match self.slots[donor].running {
                Some(_) => free,
                None => donor,
            };
            // The last token is always computed, as its logits are needed.
            let mut cached = computed.min(prompt.len() - 1);
            if to != donor && cached < PREFIX_MIN {
                cached = 0;
            }
            self.session.copy_prefix(donor, to, cached)?;
            fresh += 1;
            tokens += prompt.len() - cached;
            self.slots[to] = Slot {
                running: Some(Running {
                    request,
                    made: Vec::new(),
                    place: self.task.constraints[request].as_ref().map(|it| it.start()),
                    told: 0,
                    rng: ChaCha8Rng::seed_from_u64(self.task.requests[request].seed),
                }),
                tokens: prompt.clone(),
                cached,
            };
        }
        Ok(())
    }

    /// The slot whose text begins most like `prompt`, and how many tokens they share.
    fn longest_prefix(&self, prompt: &[u32], free: usize) -> (usize, usize) {
        let mut best = (free, 0);
        for (index, slot) in self.slots.iter().enumerate() {
            let common = slot
                .tokens
                .iter()
                .zip(prompt)
                .take_while(|(a, b)| a == b)
                .count();
            if common > best.1 {
                best = (index, common);
            }
        }
        best
    }

    /// One token for every text; returns what there is to tell.
    pub(super) fn step(&mut self) -> Result<Vec<Told>> {
        let mut active = Vec::new();
        let mut segments = Vec::new();
        for (index, slot) in self.slots.iter().enumerate() {
            if slot.running.is_some() {
                active.push(index);
                segments.push(Segment {
                    slot: index,
                    position: slot.cached,
                    tokens: &slot.tokens[slot.cached..],
                    keep: 1,
                });
            }
        }
        if active.is_empty() {
            return Ok(Vec::new());
        }
        self.session.forward(&segments)?;
        let logits = self.session.logits(0, active.len())?;
        let vocab = logits.len() / active.len();
        let mut told = Vec::new();
        for (index, logits) in active.into_iter().zip(logits.chunks_exact_mut(vocab)) {
            let slot = &mut self.slots[index];
            slot.cached = slot.tokens.len();
            let Some(running) = &mut slot.running else {
                continue;
            };
            let request = &self.task.requests[running.request];
            if let Some(pad) = self.model.architecture().pad
                && !self.model.end_tokens().contains(&pad)
            {
                logits[pad as usize] = f32::NEG_INFINITY;
            }
            let constraint = self.task.constraints[running.request].as_deref();
            if let Some((constraint, place)) = constraint.zip(running.place) {
                let made = running.made.len();
                let left = request.max_new_tokens.saturating_sub(made);
                // A text ends with the token that leaves the context.
                let room = (self.model.context() + 1).saturating_sub(slot.tokens.len());
                constraint.restrict(place, logits, left.min(room), self.model.end_tokens());
            }
            let held = [&slot.tokens[..], &[]];
            let token = self
                .sampler
                .draw(&request.sampling, logits, held, &mut running.rng);
            slot.tokens.push(token);
            let ended = advance(
                self.model,
                request,
                constraint,
                running,
                token,
                slot.tokens.len(),
            )?;
            if self.task.listen {
                let piece = piece(self.model, request, running, ended.as_ref())?;
                told.extend(piece.map(|piece| Told::Piece(running.request, piece)));
            }
            if let Some(generation) = ended {
                told.push(Told::Ended(running.request, generation));
                slot.running = None;
            }
        }
        Ok(told)
    }
}

/// Takes a token in; returns the text if it ends there. `length` counts prompt and text.
fn advance(
    model: &LanguageModel,
    request: &Request,
    constraint: Option<&Constraint>,
    running: &mut Running,
    token: u32,
    length: usize,
) -> Result<Option<Generation>> {
    let tokens = running.made.len() + 1;
    let ended = |text: String, finish: Finish| {
        Ok(Some(Generation {
            text,
            tokens,
            finish,
        }))
    };
    if model.end_tokens().contains(&token) {
        return ended(model.tokenizer.decode(&running.made)?, Finish::EndOfText);
    }
    running.made.push(token);
    let constrained = constraint.zip(running.place.as_mut());
    let complete = constrained.is_some_and(|(constraint, place)| {
        *place = constraint.after(*place, token);
        constraint.is_complete(*place)
    });
    if let Some(text) = stopped(model, request, &running.made)? {
        return ended(text, Finish::StopString);
    }
    let finish = if complete {
        Finish::EndOfText
    } else if running.made.len() >= request.max_new_tokens {
        Finish::Length
    } else if length > model.context() {
        Finish::ContextFull
    } else {
        return Ok(None);
    };
    ended(model.tokenizer.decode(&running.made)?, finish)
}

/// The text before the first stop string, if one has appeared.
fn stopped(model: &LanguageModel, request: &Request, made: &[u32]) -> Result<Option<String>> {
    let Some(longest) = request.stop.iter().map(String::len).max() else {
        return Ok(None);
    };
    // A token adds a byte or more (special ones apart), so a new stop string lies in the last few.
    let tail = model
        .tokenizer
        .decode(&made[made.len().saturating_sub(longest + 4)..])?;
    if !request.stop.iter().any(|stop| tail.contains(stop.as_str())) {
        return Ok(None);
    }
    let text = model.tokenizer.decode(made)?;
    let first = request
        .stop
        .iter()
        .filter_map(|stop| text.find(stop.as_str()))
        .min();
    Ok(first.map(|at| text[..at].to_owned()))
}

/// What is new in a text and will stay as it is.
fn piece(
    model: &LanguageModel,
    request: &Request,
    running: &mut Running,
    ended: Option<&Generation>,
) -> Result<Option<String>> {
    let text = match ended {
        Some(generation) => generation.text.clone(),
        None => {
            let mut text = model.tokenizer.decode(&running.made)?;
            // Half a character decodes to replacement characters; half a stop string may be cut.
            let whole = text.trim_end_matches('\u{FFFD}').len();
            let longest = request.stop.iter().map(String::len).max().unwrap_or(1);
            let mut safe = whole.min(text.len().saturating_sub(longest - 1));
            while !text.is_char_boundary(safe) {
                safe -= 1;
            }
            text.truncate(safe);
            text
        }
    };
    let new = text
        .get(running.told..)
        .filter(|new| !new.is_empty())
        .map(str::to_owned);
    running.told = running.told.max(text.len());
    Ok(new)
}
