//! Chooses the next token from logits, from a seeded stream.
//!
//! In this order: repetition penalty, temperature, top-k, top-p, min-p. Nothing is sorted: a cut
//! is found by halving the candidates, and the draw goes through the vocabulary in its own order,
//! so that a rounding error in a logit moves no more than the border it touches.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use super::Sampling;
use crate::host::kernels;

/// Draws tokens; keeps its buffers.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    /// `exp((logit - top) / temperature)` of every token, 0 where it may not be drawn.
    weights: Vec<f32>,
    candidates: Vec<(f32, u32)>,
    seen: Vec<u32>,
}

/// Weights are summed in blocks of this size, so that a draw need not walk the whole vocabulary.
const BLOCK: usize = 64;

impl Sampler {
    /// Draws one token; a logit of minus infinity is never drawn.
    ///
    /// - `held`: the tokens of the text so far, prompt included.
    ///
    /// Exactly one number is taken from `rng`, whatever the options, so that a sequence's stream
    /// depends on its length alone.
    pub(crate) fn draw(
        &mut self,
        sampling: &Sampling,
        logits: &mut [f32],
        held: [&[u32]; 2],
        rng: &mut ChaCha8Rng,
    ) -> u32 {
        let uniform = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        if let Some(penalty) = sampling.repetition_penalty.filter(|p| *p != 1.0) {
            self.penalise(logits, held, penalty as f32);
        }
        let sharpness = (1.0 / sampling.temperature) as f32;
        // A temperature too small to divide by is as good as 0.
        if !sharpness.is_finite() {
            return most_likely(logits);
        }
        kernels::weights(logits, sharpness, &mut self.weights);
        if let Some(cut) = self.cut(sampling) {
            let kept = |(id, weight): (usize, &f32)| at_least((*weight, id as u32), cut);
            for (id, weight) in self.weights.iter_mut().enumerate() {
                if !kept((id, weight)) {
                    *weight = 0.0;
                }
            }
        }
        pick(&self.weights, uniform)
    }

    fn penalise(&mut self, logits: &mut [f32], held: [&[u32]; 2], penalty: f32) {
        self.seen.clear();
        self.seen.extend(held.into_iter().flatten());
        self.seen.sort_unstable();
        self.seen.dedup();
        for id in &self.seen {
            let logit = &mut logits[*id as usize];
            *logit = if *logit > 0.0 {
                *logit / penalty
            } else {
                *logit * penalty
            };
        }
    }

    /// The least likely token that may be drawn, with its weight; `None` allows all.
    fn cut(&mut self, sampling: &Sampling) -> Option<(f32, u32)> {
        if sampling.top_k.is_none() && sampling.top_p.is_none() && sampling.min_p.is_none() {
            return None;
        }
        // All tokens lighter than this weigh less together than top-p leaves out, and none of
        // them passes min-p. The most likely token weighs 1. After top-k, top-p counts from the
        // sum of what that kept, so nothing may be left out before.
        let total: f64 = blocks(&self.weights).sum();
        let tail = sampling.top_p.map_or(0.0, |p| (1.0 - p) * total);
        let tail = tail / self.weights.len() as f64;
        let floor = match sampling.top_k {
            Some(_) => 0.0,
            None => tail.max(sampling.min_p.unwrap_or(0.0)) as f32 * 0.999,
        };
        let weights = self.weights.iter().enumerate();
        self.candidates.clear();
        self.candidates.extend(
            weights
                .filter(|(_, weight)| **weight > 0.0 && **weight >= floor)
                .map(|(id, weight)| (*weight, id as u32)),
        );
        let mut rest = &mut self.candidates[..];
        let mut kept = total;
        if let Some(k) = sampling.top_k
            && k < rest.len()
        {
            rest.select_nth_unstable_by(k - 1, likelier);
            rest = &mut rest[..k];
        }
        if sampling.top_k.is_some() {
            kept = rest.iter().map(|(weight, _)| f64::from(*weight)).sum();
        }
        if let Some(top_p) = sampling.top_p {
            let count = nucleus(rest, top_p * kept);
            rest = &mut rest[..count];
        }
        let least = rest.iter().copied().max_by(likelier)?;
        let lightest = sampling.min_p.unwrap_or(0.0) as f32;
        // A weight below min-p cannot be the most likely one, which weighs 1.
        Some(if least.0 < lightest {
            (lightest, u32::MAX)
        } else {
            least
        })
    }
}

/// Order by falling weight, then by rising id.
fn likelier(a: &(f32, u32), b: &(f32, u32)) -> std::cmp::Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

fn at_least(token: (f32, u32), cut: (f32, u32)) -> bool {
    token.0 > cut.0 || (token.0 == cut.0 && token.1 <= cut.1)
}

fn most_likely(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    best as u32
}

/// Moves the fewest likeliest candidates that together reach `enough` to the front and counts
/// them; at least one.
fn nucleus(candidates: &mut [(f32, u32)], enough: f64) -> usize {
    let (mut low, mut high, mut sum) = (0, candidates.len(), 0.0);
    while high - low > 16 {
        let half = (high - low) / 2;
        candidates[low..high].select_nth_unstable_by(half, likelier);
        let likely = candidates[low..low + half].iter();
        let part: f64 = likely.map(|(weight, _)| f64::from(*weight)).sum();
        if sum + part >= enough {
            high = low + half;
        } else {
            sum += part;
            low += half;
        }
    }
    candidates[low..high].sort_unstable_by(likelier);
    while low < high {
        sum += f64::from(candidates[low].0);
        low += 1;
        if sum >= enough {
            break;
        }
    }
    low.max(1).min(candidates.len())
}

fn blocks(weights: &[f32]) -> impl Iterator<Item = f64> + '_ {
    weights
        .chunks(BLOCK)
        .map(|block| f64::from(kernels::total(block)))
}

/// The token whose interval of the running sum holds `uniform` times the whole sum.
fn pick(weights: &[f32], uniform: f64) -> u32 {
    let mut left = uniform * blocks(weights).sum::<f64>();
    let mut last = 0;
    for (number, (block, sum)) in weights.chunks(BLOCK).zip(blocks(weights)).enumerate() {
        if sum == 0.0 {
            continue;
        }
        let inside = left < sum;
        for (index, weight) in block.iter().enumerate().filter(|(_, w)| **w > 0.0) {
            last = (number * BLOCK + index) as u32;
            if inside {
                left -= f64::from(*weight);
                if left < 0.0 {
                    return last;
                }
            }
        }
        if !inside {
            left -= sum;
        }
    }
    // Rounding can leave a crumb behind the last token.
    last
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    fn draw(sampling: Sampling, logits: &[f32], rng: &mut ChaCha8Rng) -> u32 {
        Sampler::default().draw(&sampling, &mut logits.to_vec(), [&[], &[]], rng)
    }

    #[test]
    fn a_temperature_too_small_to_divide_by_is_greedy() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for temperature in [0.0, 1e-300, 1e-40, 1e-30, 1e-6] {
            let sampling = Sampling {
                temperature,
                top_p: Some(0.95),
                ..Sampling::greedy()
            };
            let token = draw(sampling, &[0.5, 3.0, 2.9, -1.0], &mut rng);
            assert_eq!(token, 1, "{temperature}");
        }
    }

    fn share(sampling: Sampling, logits: &[f32], token: u32) -> f64 {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let hits = (0..20_000)
            .filter(|_| draw(sampling, logits, &mut rng) == token)
            .count();
        hits as f64 / 20_000.0
    }

    #[test]
    fn tokens_are_drawn_with_their_softmax_probability() {
        let logits = [1.0f32.ln(), 2.0f32.ln(), 5.0f32.ln()];
        let plain = Sampling {
            temperature: 1.0,
            ..Sampling::greedy()
        };
        // Four standard deviations of 20,000 draws.
        for (token, probability) in [(0, 0.125), (1, 0.25), (2, 0.625)] {
            assert!((share(plain, &logits, token) - probability).abs() < 0.014);
        }
        let cold = Sampling {
            temperature: 0.5,
            ..plain
        };
        assert!((share(cold, &logits, 2) - 25.0 / 30.0).abs() < 0.014);
    }

    #[test]
    fn top_k_and_top_p_cut_the_tail() {
        let logits = [1.0f32.ln(), 2.0f32.ln(), 5.0f32.ln()];
        let two = Sampling {
            temperature: 1.0,
            top_k: Some(2),
            ..Sampling::greedy()
        };
        assert_eq!(share(two, &logits, 0), 0.0);
        assert!((share(two, &logits, 1) - 2.0 / 7.0).abs() < 0.014);
        let most = Sampling {
            temperature: 1.0,
            top_p: Some(0.6),
            ..Sampling::greedy()
        };
        assert_eq!(share(most, &logits, 2), 1.0);
        let near = Sampling {
            temperature: 1.0,
            min_p: Some(0.3),
            ..Sampling::greedy()
        };
        assert_eq!(share(near, &logits, 0), 0.0);
        assert!((share(near, &logits, 1) - 2.0 / 7.0).abs() < 0.014);
    }

    #[test]
    fn a_repeated_token_is_penalised_once_whatever_its_sign() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let sampling = Sampling {
            repetition_penalty: Some(2.0),
            ..Sampling::greedy()
        };
        let mut logits = [3.0, 2.0, -1.0];
        let token = Sampler::default().draw(&sampling, &mut logits, [&[0, 0], &[2]], &mut rng);
        assert_eq!((token, logits), (1, [1.5, 2.0, -2.0]));
    }

    proptest! {
        /// The definition: sort, add up, cut.
        #[test]
        fn cuts_are_those_of_a_sorted_list(
            logits in prop::collection::vec(-6.0f32..6.0, 1..300),
            top_k in prop::option::of(1usize..200),
            top_p in prop::option::of(0.05f64..1.0),
            min_p in prop::option::of(0.0f64..0.5),
        ) {
            let sampling = Sampling { temperature: 1.0, top_k, top_p, min_p, repetition_penalty: None };
            let mut sampler = Sampler::default();
            kernels::weights(&logits, 1.0, &mut sampler.weights);
            let weights = sampler.weights.clone();
            let mut sorted: Vec<(f32, u32)> =
                weights.iter().enumerate().map(|(id, weight)| (*weight, id as u32)).collect();
            sorted.sort_by(likelier);
            sorted.truncate(top_k.unwrap_or(usize::MAX));
            if let Some(top_p) = top_p {
                let enough = top_p * sorted.iter().map(|(w, _)| f64::from(*w)).sum::<f64>();
                let mut sum = 0.0;
                let reached = sorted.iter().position(|(w, _)| { sum += f64::from(*w); sum >= enough });
                // A sum that differs in its last bits may end one token earlier or later.
                prop_assume!((sum - enough).abs() > 1e-6 || reached.is_none());
                sorted.truncate(reached.map_or(sorted.len(), |i| i + 1));
            }
            if let Some(min_p) = min_p {
                sorted.retain(|(weight, _)| *weight >= min_p as f32);
            }
            let cut = sampler.cut(&sampling);
            let kept = |id: u32| cut.is_none_or(|cut| at_least((weights[id as usize], id), cut));
            let mut expected: Vec<u32> = sorted.into_iter().map(|(_, id)| id).collect();
            expected.sort_unstable();
            let found: Vec<u32> = (0..logits.len() as u32).filter(|id| kept(*id)).collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn greedy_takes_the_first_of_equals_and_passes_over_the_forbidden() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let never = f32::NEG_INFINITY;
        assert_eq!(draw(Sampling::greedy(), &[0.0, 3.0, 3.0], &mut rng), 1);
        assert_eq!(draw(Sampling::greedy(), &[0.0, never, 3.0], &mut rng), 2);
        let hot = Sampling {
            temperature: 5.0,
            ..Sampling::greedy()
        };
        for _ in 0..200 {
            assert_eq!(draw(hot, &[never, 0.0, never], &mut rng), 1);
        }
    }
}
