//! Few-shot augmentation: new samples, similar to the demonstrations, balanced over labels.
//!
//! ```text
//! round 0: per label, prompts that cycle its demonstrations ─ generate ─ parse ─ check ─> accepted
//! round 1..: the same for what is still missing, with other demonstrations and seeds
//! ```
//! Start reading at [`augment`]. The result is a function of model, demonstrations and options:
//! nothing depends on time, threads or batch size (see `generate.rs` on rounding).
//!
//! Deliberately absent: making labels up; filling a shortfall with copies.

mod consistency;
mod work;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use self::work::Work;
use crate::error::{Error, Result};
use crate::generate::{Request, Sampling};
use crate::progress::Progress;
use crate::prompts::PromptStyle;
use crate::quality::QualityOptions;
use crate::sample::Sample;
use crate::writer::{Answering, Writer};

/// Options of an augmentation.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AugmentOptions {
    /// New samples wanted for each label.
    pub per_label: usize,
    /// How the model is asked.
    pub style: PromptStyle,
    /// Demonstrations of the wanted label in a prompt.
    pub shots: usize,
    /// Demonstrations of other labels in a prompt, one per label, for contrast.
    pub contrast_shots: usize,
    /// Samples asked for in one answer; used by [`PromptStyle::Instruction`] only.
    pub samples_per_answer: usize,
    /// Most tokens of an answer.
    pub max_new_tokens: usize,
    /// A regular expression that every new text matches as a whole, before its white space is
    /// tidied. Answers are then made in a form that always parses.
    pub output_regex: Option<String>,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Most answers computed at once.
    pub batch_max: usize,
    /// Rounds after the first for what is still missing.
    pub retries_max: usize,
    /// What every new text must satisfy.
    pub quality: QualityOptions,
    /// Jaccard similarity of word pairs at which a text repeats a demonstration or another one.
    pub duplicate_similarity: f64,
    /// Other labels that each new text is compared with; it is rejected if it is likelier under
    /// one of them than under its own. 0 compares with none.
    pub rivals: usize,
    /// Whether progress tells the text of one answer after another as it is made.
    pub tell_text: bool,
    /// Decides order of demonstrations and all draws.
    pub seed: u64,
}

impl Default for AugmentOptions {
    fn default() -> Self {
        Self {
            per_label: 50,
            style: PromptStyle::Completion,
            shots: 2,
            contrast_shots: 0,
            samples_per_answer: 4,
            max_new_tokens: 64,
            output_regex: None,
            sampling: Sampling::default(),
            batch_max: 32,
            retries_max: 3,
            quality: QualityOptions::default(),
            duplicate_similarity: 0.7,
            rivals: 7,
            tell_text: false,
            seed: 0,
        }
    }
}

/// Where a new sample comes from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Provenance {
    /// SHA-256 of its prompt, in hex.
    pub prompt: String,
    /// Indices of the demonstrations in its prompt.
    pub demonstrations: Vec<usize>,
    /// Seed of its draws.
    pub seed: u64,
    /// Round in which it was made; 0 is the first.
    pub round: usize,
    /// SHA-256 of the model, in hex, or where it is served.
    pub model: String,
}

/// A new sample.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AugmentedSample {
    /// Text and label.
    #[serde(flatten)]
    pub sample: Sample,
    /// Where it comes from.
    pub provenance: Provenance,
}

/// Why an answer, or a part of one, was not accepted.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Rejection {
    /// Not in the form that was asked for.
    Unparsable,
    /// It claims a label that was not declared, or not the one asked for.
    WrongLabel,
    /// Too short, repetitive or not text.
    Defective,
    /// It repeats a demonstration or an accepted sample.
    Duplicate,
    /// The model finds it likelier under another label.
    OffLabel,
    /// Its label had all it needs.
    Surplus,
}

/// What an augmentation made.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Augmented {
    /// New samples, label by label in the declared order.
    pub samples: Vec<AugmentedSample>,
    /// Answers generated.
    pub answers: usize,
    /// Rejected answers or parts, by reason.
    pub rejected: BTreeMap<Rejection, usize>,
    /// Labels that got fewer than wanted, with the number missing.
    pub missing: BTreeMap<String, usize>,
    /// Answers whose prompt had no room for a single demonstration of its label.
    pub without_demonstration: usize,
}

/// Makes new samples for every label.
///
/// - `demonstrations`: samples to imitate; released or public text only.
/// - `labels`: the declared label set; a label without demonstrations is asked for by name.
///
/// # Errors
/// [`Error::UnknownLabel`], [`Error::Empty`] without labels, [`Error::Option`], [`Error::Pattern`],
/// [`Error::PromptTooLong`] if even a bare prompt exceeds the context, [`Error::NotFinite`],
/// [`Error::Cancelled`].
/// A label that stays short of samples is reported in [`Augmented::missing`].
pub fn augment(
    writer: &dyn Writer,
    demonstrations: &[Sample],
    labels: &[String],
    options: &AugmentOptions,
    progress: &mut dyn FnMut(Progress),
    cancel: &AtomicBool,
) -> Result<Augmented> {
    options.check(writer, demonstrations, labels)?;
    let mut work = Work::new(writer, demonstrations, labels, options);
    let wanted = (labels.len() * options.per_label) as u64;
    for round in 0..=options.retries_max {
        let orders = work.orders(round)?;
        if orders.is_empty() {
            break;
        }
        let requests: Vec<Request> = orders.iter().map(|order| order.request.clone()).collect();
        let how = Answering {
            style: options.style,
            batch_max: options.batch_max,
            tell_text: options.tell_text,
        };
        let (accepted, answers_total) = (work.accepted_count(), requests.len());
        let mut report = |inner: Progress| {
            // Answers stand for samples until they are judged at the end of the round.
            let share = (wanted - accepted) as f64 * inner.done as f64 / answers_total as f64;
            progress(Progress {
                stage: "augment",
                done: accepted + share as u64,
                total: Some(wanted),
                note: format!("round {round}, {}", inner.note),
                text: inner.text,
            });
        };
        let answers = writer.answer(&requests, how, &mut report, cancel)?;
        let mut candidates = work.parse(&orders, &answers);
        if let Some(model) = writer.local() {
            consistency::mark(model, labels, options, round, &mut candidates, cancel)?;
        }
        for candidate in candidates {
            work.take(&orders[candidate.order], round, candidate);
        }
    }
    Ok(work.finish())
}

impl AugmentOptions {
    /// Refuses what [`augment`] would, before a model is adapted for it.
    ///
    /// # Errors
    /// As [`augment`].
    pub fn check(
        &self,
        writer: &dyn Writer,
        demonstrations: &[Sample],
        labels: &[String],
    ) -> Result<()> {
        if labels.is_empty() {
            return Err(Error::Empty {
                what: "augment",
                of: "label",
            });
        }
        if let Some(sample) = demonstrations
            .iter()
            .position(|d| !labels.contains(&d.label))
        {
            return Err(Error::UnknownLabel {
                sample,
                label: demonstrations[sample].label.clone(),
            });
        }
        let refuse = |option, value: String, remedy| {
            Err(Error::Option {
                option,
                value,
                remedy,
            })
        };
        if self.max_new_tokens == 0 || self.max_new_tokens >= writer.context() {
            let value = format!(
                "{} with a context of {}",
                self.max_new_tokens,
                writer.context()
            );
            return refuse("tokens_max", value, "it must leave room for a prompt");
        }
        if self.rivals > 0 && writer.local().is_none() {
            return Err(Error::NotLocal {
                what: "`rivals` above 0",
                remedy: "set `rivals = 0`",
            });
        }
        if let Some(text) = &self.output_regex {
            if writer.local().is_none() {
                return Err(Error::NotLocal {
                    what: "`output_regex`",
                    remedy: "leave it out; answers that are not in form are dropped",
                });
            }
            self.style.check_text_pattern(text)?;
        }
        if self.style == PromptStyle::Instruction
            && let Some(label) = labels.iter().find(|label| label.contains("|||"))
        {
            return refuse(
                "style",
                format!("`instruction` with a label `{label}`"),
                "`|||` tells label and text apart in an answer; rename the label, or use `completion`",
            );
        }
        if self.samples_per_answer == 0 {
            return refuse(
                "samples_per_answer",
                "0".to_owned(),
                "it must be at least 1",
            );
        }
        if !(self.duplicate_similarity > 0.0 && self.duplicate_similarity <= 1.0) {
            let value = self.duplicate_similarity.to_string();
            return refuse(
                "duplicate_similarity",
                value,
                "it must be above 0 and at most 1",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::near_duplicates::NearDuplicates;
    use crate::testing;

    pub(super) fn labels() -> Vec<String> {
        vec!["bank".to_owned(), "pets".to_owned(), "none yet".to_owned()]
    }

    pub(super) fn demonstrations() -> Vec<Sample> {
        [
            ("where is my bank card?", "bank"),
            ("the cat sat on the mat", "pets"),
            ("what is the rate of the bank?", "bank"),
            ("the dog sat on the log", "pets"),
            ("the bank sent my card to the cat", "bank"),
        ]
        .map(|(text, label)| Sample::new(text, label))
        .to_vec()
    }

    pub(super) fn options() -> AugmentOptions {
        AugmentOptions {
            per_label: 4,
            max_new_tokens: 16,
            sampling: Sampling {
                temperature: 1.0,
                ..Sampling::greedy()
            },
            quality: QualityOptions {
                words_min: 1,
                repetition_max: 1.0,
                letters_min: 0.0,
            },
            seed: 5,
            ..AugmentOptions::default()
        }
    }

    fn run(options: &AugmentOptions) -> Augmented {
        let cancel = AtomicBool::new(false);
        let model = testing::model(4);
        augment(
            &model,
            &demonstrations(),
            &labels(),
            options,
            &mut |_| (),
            &cancel,
        )
        .unwrap()
    }

    #[test]
    fn labels_are_balanced_and_nothing_repeats() {
        let made = run(&options());
        for label in labels() {
            let count = made
                .samples
                .iter()
                .filter(|s| s.sample.label == label)
                .count();
            assert_eq!(count + made.missing.get(&label).copied().unwrap_or(0), 4);
        }
        assert!(!made.samples.is_empty());
        let mut seen = NearDuplicates::new(0.7);
        demonstrations().iter().for_each(|d| {
            seen.find_or_add(&d.text);
        });
        assert!(
            made.samples
                .iter()
                .all(|s| seen.find_or_add(&s.sample.text).is_none())
        );
    }

    #[test]
    fn the_seed_decides_everything_and_the_batch_size_nothing() {
        let made = run(&options());
        assert_eq!(
            made,
            run(&AugmentOptions {
                batch_max: 3,
                ..options()
            })
        );
        assert_ne!(
            made,
            run(&AugmentOptions {
                seed: 6,
                ..options()
            })
        );
    }

    #[test]
    fn provenance_names_demonstrations_of_the_label_and_the_model() {
        let made = run(&options());
        for new in &made.samples {
            assert_eq!(new.provenance.model, testing::model(4).digest());
            for index in &new.provenance.demonstrations {
                assert_eq!(demonstrations()[*index].label, new.sample.label);
            }
        }
        assert!(
            made.without_demonstration >= 4,
            "`none yet` has nothing to show"
        );
    }

    #[test]
    fn every_text_matches_the_pattern_and_every_answer_parses() {
        for style in [PromptStyle::Completion, PromptStyle::Instruction] {
            let options = AugmentOptions {
                style,
                output_regex: Some("[a-z]{2,6} [0-9]{3}".to_owned()),
                max_new_tokens: 120,
                rivals: 0,
                ..options()
            };
            let cancel = AtomicBool::new(false);
            let model = testing::model_of_context(4, 800);
            let demonstrations = demonstrations();
            let made = augment(
                &model,
                &demonstrations,
                &labels(),
                &options,
                &mut |_| (),
                &cancel,
            );
            let made = made.unwrap();
            assert!(
                !made.rejected.contains_key(&Rejection::Unparsable),
                "{made:?}"
            );
            assert!(
                !made.rejected.contains_key(&Rejection::WrongLabel),
                "{made:?}"
            );
            assert!(made.missing.is_empty(), "{made:?}");
            for new in &made.samples {
                let (word, number) = new.sample.text.split_once(' ').unwrap();
                assert!(
                    (2..=6).contains(&word.len()) && number.len() == 3,
                    "{new:?}"
                );
            }
        }
    }

    #[test]
    fn an_undeclared_label_and_no_labels_are_refused() {
        let cancel = AtomicBool::new(false);
        let model = testing::model(4);
        let refusal = |labels: &[String]| {
            augment(
                &model,
                &demonstrations(),
                labels,
                &options(),
                &mut |_| (),
                &cancel,
            )
            .unwrap_err()
            .to_string()
        };
        assert!(refusal(&labels()[..1]).contains("sample 1 has the label `pets`"));
        assert!(refusal(&[]).contains("at least one label"));
    }
}
