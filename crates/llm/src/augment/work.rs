//! The state of an augmentation: what was asked for, accepted, and is still missing.

use super::{AugmentOptions, Augmented, AugmentedSample, Provenance, Rejection};
use crate::error::Error;
use crate::generate::{Finish, Generation, Request};
use crate::near_duplicates::NearDuplicates;
use crate::pretrain::shuffle;
use crate::prompts::{self, FewShot, PromptStyle, few_shot};
use crate::sample::{Sample, derived_seed, text_digest};
use crate::writer::Writer;

/// One answer to be generated.
pub(super) struct Order {
    label: usize,
    shown: Vec<usize>,
    pub(super) request: Request,
}

/// A sample that an answer claims to hold, or why it is none.
pub(super) struct Candidate {
    pub(super) order: usize,
    pub(super) label: usize,
    pub(super) sample: Result<Sample, Rejection>,
}

/// State of an augmentation.
pub(super) struct Work<'a> {
    writer: &'a dyn Writer,
    demonstrations: &'a [Sample],
    labels: &'a [String],
    options: &'a AugmentOptions,
    /// Indices of each label's demonstrations, in a seeded order.
    pools: Vec<Vec<usize>>,
    /// Prompts made so far for each label; turns the pools.
    turns: Vec<usize>,
    seen: NearDuplicates,
    accepted: Vec<Vec<AugmentedSample>>,
    result: Augmented,
}

impl<'a> Work<'a> {
    pub(super) fn new(
        writer: &'a dyn Writer,
        demonstrations: &'a [Sample],
        labels: &'a [String],
        options: &'a AugmentOptions,
    ) -> Self {
        let pool = |(number, label): (usize, &String)| {
            let mut pool: Vec<usize> = (0..demonstrations.len())
                .filter(|i| demonstrations[*i].label == *label)
                .collect();
            shuffle(
                &mut pool,
                derived_seed(options.seed, "demonstrations", &[number as u64]),
            );
            pool
        };
        let mut seen = NearDuplicates::new(options.duplicate_similarity);
        demonstrations.iter().for_each(|d| {
            seen.find_or_add(&d.text);
        });
        Self {
            writer,
            demonstrations,
            labels,
            options,
            pools: labels.iter().enumerate().map(pool).collect(),
            turns: vec![0; labels.len()],
            seen,
            accepted: vec![Vec::new(); labels.len()],
            result: Augmented::default(),
        }
    }

    pub(super) fn accepted_count(&self) -> u64 {
        self.accepted.iter().map(Vec::len).sum::<usize>() as u64
    }

    /// The answers to ask for in a round: as many as could fill what is missing.
    pub(super) fn orders(&mut self, round: usize) -> Result<Vec<Order>, Error> {
        let per_answer = match self.options.style {
            PromptStyle::Completion => 1,
            PromptStyle::Instruction => self.options.samples_per_answer,
        };
        let mut orders = Vec::new();
        for label in 0..self.labels.len() {
            let missing = self.options.per_label - self.accepted[label].len();
            for number in 0..missing.div_ceil(per_answer) {
                let FewShot { prompt, shown } = self.prompt(label, per_answer)?;
                let own = |i: &usize| self.demonstrations[*i].label == self.labels[label];
                if !shown.iter().any(own) {
                    self.result.without_demonstration += 1;
                }
                let place = [label as u64, round as u64, number as u64];
                let seed = derived_seed(self.options.seed, "augment", &place);
                let text = self.options.output_regex.as_deref();
                let style = self.options.style;
                let base = Request {
                    max_new_tokens: self.options.max_new_tokens,
                    pattern: text.map(|it| style.pattern(it, &self.labels[label], per_answer)),
                    sampling: self.options.sampling,
                    ..Request::default()
                };
                let request = prompts::request(self.options.style, prompt, &base, seed);
                orders.push(Order {
                    label,
                    shown,
                    request,
                });
            }
        }
        Ok(orders)
    }

    /// The next prompt for a label: its demonstrations take turns.
    fn prompt(&mut self, label: usize, count: usize) -> Result<FewShot, Error> {
        let options = self.options;
        let turn = self.turns[label];
        self.turns[label] += 1;
        let cycled = |pool: &[usize], start: usize, count: usize| -> Vec<usize> {
            let count = count.min(pool.len());
            pool.iter()
                .copied()
                .cycle()
                .skip(start % pool.len().max(1))
                .take(count)
                .collect()
        };
        let mut chosen = cycled(&self.pools[label], turn * options.shots, options.shots);
        let others = (1..self.labels.len()).map(|step| (label + turn + step) % self.labels.len());
        let others = others
            .filter(|other| *other != label)
            .take(options.contrast_shots);
        for other in others {
            chosen.extend(cycled(&self.pools[other], turn, 1));
        }
        let room = self.writer.context() - options.max_new_tokens;
        let name = &self.labels[label];
        few_shot(
            self.writer,
            options.style,
            self.demonstrations,
            &chosen,
            name,
            count,
            room,
        )
    }

    /// The samples that the answers claim to hold.
    pub(super) fn parse(&mut self, orders: &[Order], answers: &[Generation]) -> Vec<Candidate> {
        self.result.answers += answers.len();
        let style = self.options.style;
        let parts = orders
            .iter()
            .zip(answers)
            .enumerate()
            .flat_map(|(order, (asked, answer))| {
                // One that was held to a pattern is complete, however it ended.
                let whole = asked.request.pattern.is_some()
                    || !matches!(answer.finish, Finish::Length | Finish::ContextFull);
                let label = &self.labels[asked.label];
                let parts = prompts::parse_answer(style, label, &answer.text, whole);
                parts
                    .into_iter()
                    .map(move |part| (order, asked.label, part))
            });
        let candidate = |(order, label, part): (usize, usize, Option<Sample>)| {
            let sample = self.inspect(label, part);
            Candidate {
                order,
                label,
                sample,
            }
        };
        parts.map(candidate).collect()
    }

    /// What can be said of a part of an answer without a model.
    fn inspect(&self, label: usize, part: Option<Sample>) -> Result<Sample, Rejection> {
        let sample = part.ok_or(Rejection::Unparsable)?;
        if sample.label != self.labels[label] {
            return Err(Rejection::WrongLabel);
        }
        if self.options.quality.defect(&sample.text).is_some() {
            return Err(Rejection::Defective);
        }
        Ok(sample)
    }

    /// Files a candidate: accepted, or counted by the reason it was not.
    pub(super) fn take(&mut self, order: &Order, round: usize, candidate: Candidate) {
        if let Err(reason) = self.accept(order, round, candidate.sample) {
            *self.result.rejected.entry(reason).or_default() += 1;
        }
    }

    fn accept(
        &mut self,
        order: &Order,
        round: usize,
        sample: Result<Sample, Rejection>,
    ) -> Result<(), Rejection> {
        let sample = sample?;
        if self.accepted[order.label].len() >= self.options.per_label {
            return Err(Rejection::Surplus);
        }
        if self.seen.find_or_add(&sample.text).is_some() {
            return Err(Rejection::Duplicate);
        }
        self.accepted[order.label].push(AugmentedSample {
            sample,
            provenance: Provenance {
                prompt: text_digest(&order.request.prompt),
                demonstrations: order.shown.clone(),
                seed: order.request.seed,
                round,
                model: self.writer.identity(),
            },
        });
        Ok(())
    }

    pub(super) fn finish(mut self) -> Augmented {
        for (label, accepted) in self.labels.iter().zip(self.accepted) {
            let missing = self.options.per_label - accepted.len();
            if missing > 0 {
                self.result.missing.insert(label.clone(), missing);
            }
            self.result.samples.extend(accepted);
        }
        self.result
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{demonstrations, labels, options};
    use super::*;
    use crate::testing;

    #[test]
    fn demonstrations_take_turns() {
        let options = options();
        let (model, demonstrations, labels) = (testing::model(4), demonstrations(), labels());
        let mut work = Work::new(&model, &demonstrations, &labels, &options);
        let mut shown: Vec<usize> = (0..3)
            .flat_map(|_| work.prompt(0, 1).unwrap().shown)
            .collect();
        shown.sort_unstable();
        assert_eq!(shown, [0, 0, 2, 2, 4, 4]);
    }

    #[test]
    fn a_claimed_label_must_be_the_one_asked_for() {
        let options = AugmentOptions {
            style: PromptStyle::Instruction,
            ..options()
        };
        let (model, demonstrations, labels) = (testing::model(4), demonstrations(), labels());
        let mut work = Work::new(&model, &demonstrations, &labels, &options);
        let order = Order {
            label: 0,
            shown: vec![],
            request: Request::default(),
        };
        let text = "bank ||| a new card please\npets ||| a big dog\nmoon ||| a full moon\nnothing\n\
                    bank ||| this line was cut sh";
        let answer = Generation {
            text: text.to_owned(),
            tokens: 9,
            finish: Finish::Length,
        };
        let orders = [order];
        for candidate in work.parse(&orders, &[answer]) {
            work.take(&orders[0], 0, candidate);
        }
        assert_eq!(work.accepted[0].len(), 1);
        assert_eq!(work.result.rejected[&Rejection::WrongLabel], 2);
        assert_eq!(work.result.rejected[&Rejection::Unparsable], 1);
    }
}
