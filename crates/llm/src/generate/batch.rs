//! The running sequences: one slot each, a step for all of them at once.

use candle_core::Tensor;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::{Finish, Generation, Request};
use crate::error::Result;
use crate::model::LanguageModel;
use crate::network::{Cache, Past};

/// A sequence in a slot; slot i is `running[i]`.
struct Running {
    request: usize,
    position: usize,
    last: u32,
    made: Vec<u32>,
    rng: ChaCha8Rng,
}

/// The sequences being computed.
pub(super) struct Batch<'a> {
    model: &'a LanguageModel,
    requests: &'a [Request],
    prompts: &'a [Vec<u32>],
    cache: Cache,
    running: Vec<Running>,
    /// The last prompt computed: requests that differ in their seed only share it.
    prefill: Option<(usize, Past, Vec<f32>)>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(
        model: &'a LanguageModel,
        requests: &'a [Request],
        prompts: &'a [Vec<u32>],
        cache: Cache,
    ) -> Self {
        Self {
            model,
            requests,
            prompts,
            cache,
            running: Vec::new(),
            prefill: None,
        }
    }

    /// Sequences in slots.
    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    /// Computes a prompt and draws its first token; returns the text if that ends it.
    pub(super) fn start(&mut self, index: usize) -> Result<Option<Generation>> {
        let request = &self.requests[index];
        let prompt = &self.prompts[index];
        if request.max_new_tokens == 0 {
            let text = String::new();
            return Ok(Some(Generation {
                text,
                tokens: 0,
                finish: Finish::Length,
            }));
        }
        if !matches!(&self.prefill, Some((other, _, _)) if self.prompts[*other] == *prompt) {
            let (hidden, past) = self.model.network.whole(prompt, 1, None)?;
            let last = hidden.narrow(0, prompt.len() - 1, 1)?;
            let logits = self.model.network.logits(&last)?.flatten_all()?.to_vec1()?;
            self.prefill = Some((index, past, logits));
        }
        let Some((_, past, logits)) = &self.prefill else {
            return Ok(None);
        };
        let mut sequence = Running {
            request: index,
            position: prompt.len(),
            last: 0,
            made: Vec::new(),
            rng: ChaCha8Rng::seed_from_u64(request.seed),
        };
        if let Some(text) = advance(self.model, request, &mut sequence, logits)? {
            return Ok(Some(text));
        }
        self.cache.fill(self.running.len(), past)?;
        self.running.push(sequence);
        Ok(None)
    }

    /// One token for every running sequence; returns those that ended.
    pub(super) fn step(&mut self) -> Result<Vec<(usize, Generation)>> {
        if self.running.is_empty() {
            return Ok(Vec::new());
        }
        let tokens: Vec<u32> = self.running.iter().map(|r| r.last).collect();
        let positions: Vec<usize> = self.running.iter().map(|r| r.position).collect();
        let hidden: Tensor = self.model.network.step(&tokens, &positions, &self.cache)?;
        let logits = self.model.network.logits(&hidden)?.to_vec2::<f32>()?;
        let mut ended = Vec::new();
        for (slot, row) in logits.iter().enumerate().rev() {
            let sequence = &mut self.running[slot];
            sequence.position += 1;
            let request = &self.requests[sequence.request];
            if let Some(text) = advance(self.model, request, sequence, row)? {
                ended.push((sequence.request, text));
                let last = self.running.len() - 1;
                if slot != last {
                    self.cache.copy_slot(last, slot)?;
                }
                self.running.swap_remove(slot);
            }
        }
        Ok(ended)
    }
}

/// Draws a sequence's next token; returns the text if it has ended.
fn advance(
    model: &LanguageModel,
    request: &Request,
    sequence: &mut Running,
    logits: &[f32],
) -> Result<Option<Generation>> {
    let ends = model.end_tokens();
    let pad = model
        .config()
        .pad_token_id
        .filter(|pad| !ends.contains(pad));
    let token = request
        .sampling
        .draw(logits, pad.as_slice(), &mut sequence.rng);
    sequence.last = token;
    let tokens = sequence.made.len() + 1;
    if ends.contains(&token) {
        let text = model.tokenizer.decode(&sequence.made)?;
        return Ok(Some(Generation {
            text,
            tokens,
            finish: Finish::EndOfText,
        }));
    }
    sequence.made.push(token);
    if !request.stop.is_empty() {
        let text = model.tokenizer.decode(&sequence.made)?;
        let first = request
            .stop
            .iter()
            .filter_map(|stop| text.find(stop.as_str()))
            .min();
        if let Some(at) = first {
            let text = text[..at].to_owned();
            return Ok(Some(Generation {
                text,
                tokens,
                finish: Finish::StopString,
            }));
        }
    }
    let finish = if sequence.made.len() >= request.max_new_tokens {
        Finish::Length
    } else if sequence.position >= model.context() {
        Finish::ContextFull
    } else {
        return Ok(None);
    };
    let text = model.tokenizer.decode(&sequence.made)?;
    Ok(Some(Generation {
        text,
        tokens,
        finish,
    }))
}
