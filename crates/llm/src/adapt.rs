//! Lets a small model read the demonstrations before it imitates them.
//!
//! A model of a few million parameters learns little from a prompt; a few passes of training on
//! the same demonstrations, written exactly as the prompts will write them, teach it domain,
//! labels and form. The demonstrations are released data, so this is post-processing and costs no
//! privacy budget. A large model needs none of it.
//!
//! The original is left as it is; the copy has its own digest.

use std::sync::atomic::AtomicBool;

use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::model::{LanguageModel, weights_digest};
use crate::pretrain::{Optimizer, OptimizerOptions, Schedule, Stepper, shuffle};
use crate::progress::{Progress, stop_if_cancelled};
use crate::prompts::PromptStyle;
use crate::sample::{Sample, derived_seed};

/// Tokens of a stretch of text: about a group of demonstrations. A longer one would make a step
/// dearer without teaching more.
pub const WINDOW: usize = 128;

/// Options of an adaptation.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdaptOptions {
    /// Passes over the demonstrations.
    pub epochs: usize,
    /// Demonstrations of one label written one after another, as a prompt with one fewer shots
    /// and its answer would be.
    pub group: usize,
    /// Stretches of text in one training step, of [`WINDOW`] tokens or the model's context.
    pub batch_windows: usize,
    /// Fewest training steps, for which few demonstrations are read more than `epochs` times.
    pub steps_min: usize,
    /// Most passes for the sake of `steps_min`: after many, the model knows the texts by heart.
    pub epochs_max: usize,
    /// Learning rates and clipping.
    pub optimizer: OptimizerOptions,
    /// Decides the order of the demonstrations.
    pub seed: u64,
}

impl Default for AdaptOptions {
    fn default() -> Self {
        Self {
            epochs: 2,
            group: 3,
            batch_windows: 4,
            steps_min: 40,
            epochs_max: 8,
            optimizer: OptimizerOptions {
                muon: false,
                matrix_rate: 2e-3,
                adam_rate: 4e-3,
                ..OptimizerOptions::default()
            },
            seed: 0,
        }
    }
}

/// A copy of the model that has read the demonstrations.
///
/// # Errors
/// [`Error::Empty`] without demonstrations, [`Error::Option`], [`Error::Diverged`],
/// [`Error::Cancelled`].
pub fn adapt(
    model: &LanguageModel,
    demonstrations: &[Sample],
    options: &AdaptOptions,
    progress: &mut dyn FnMut(Progress),
    cancel: &AtomicBool,
) -> Result<LanguageModel> {
    if demonstrations.is_empty() {
        return Err(Error::Empty {
            what: "adapt",
            of: "demonstration",
        });
    }
    for (option, value) in [
        ("epochs", options.epochs),
        ("group", options.group),
        ("batch_windows", options.batch_windows),
    ] {
        if value == 0 {
            let remedy = "it must be at least 1";
            return Err(Error::Option {
                option,
                value: "0".to_owned(),
                remedy,
            });
        }
    }
    let window = model.context().min(WINDOW);
    let batch = window * options.batch_windows;
    let tokens = training_tokens(model, demonstrations, options, batch)?;
    let steps = (tokens.len() - 1) / batch;
    let schedule = Schedule {
        warmup_steps: (steps as u64 / 10).max(1),
        decay_from: 0.0,
    };
    let (config, mut weights) = model.llama()?;
    let stepper = Stepper::new(&config, window, model.device())?;
    let mut optimizer = Optimizer::new(&config, options.optimizer);
    for step in 0..steps {
        stop_if_cancelled(cancel)?;
        let here = &tokens[step * batch..=(step + 1) * batch];
        let result = stepper.run(&weights, &here[..batch], &here[1..])?;
        if !result.loss.is_finite() {
            return Err(Error::Diverged {
                step: step as u64,
                what: "loss",
            });
        }
        let rate = schedule.rate(step as u64, step as f64 / steps as f64);
        weights = optimizer.update(&weights, &result.gradients, rate)?.0;
        progress(Progress {
            stage: "adapt",
            done: step as u64 + 1,
            total: Some(steps as u64),
            note: format!("loss {:.3}", result.loss),
            text: String::new(),
        });
    }
    let digest = weights_digest(&config, &weights)?;
    // All but the numbers is the model's: how texts begin and end, and how messages are framed.
    let mut adapted = LanguageModel::of_family(
        model.architecture().clone(),
        Decoder::from_llama(&weights)?,
        model.device(),
        model.tokenizer.clone(),
        Some(config),
        digest,
    )?;
    adapted.chat = model.chat.clone();
    Ok(adapted)
}

/// The demonstrations as prompts would show them, pass after pass, in whole batches plus one.
fn training_tokens(
    model: &LanguageModel,
    demonstrations: &[Sample],
    options: &AdaptOptions,
    batch: usize,
) -> Result<Vec<u32>> {
    let end = model.end_tokens().first().copied();
    let style = PromptStyle::Completion;
    let mut order: Vec<usize> = (0..demonstrations.len()).collect();
    let mut tokens = Vec::new();
    let mut epoch = 0;
    let few = |tokens: &[u32], steps: usize| tokens.len() <= batch * steps;
    while epoch < options.epochs
        || (epoch < options.epochs_max && few(&tokens, options.steps_min))
        || few(&tokens, 1)
    {
        shuffle(
            &mut order,
            derived_seed(options.seed, "adapt", &[epoch as u64]),
        );
        // A stable sort keeps the shuffled order within each label.
        order.sort_by_key(|index| &demonstrations[*index].label);
        let mut groups: Vec<&[usize]> = order
            .chunk_by(|a, b| demonstrations[*a].label == demonstrations[*b].label)
            .flat_map(|label| label.chunks(options.group))
            .collect();
        shuffle(
            &mut groups,
            derived_seed(options.seed, "groups", &[epoch as u64]),
        );
        for group in groups {
            let mut text = String::new();
            for index in group {
                text += &style.demonstrate(&demonstrations[*index])?;
            }
            tokens.extend(model.encode_prompt(&text)?);
            if model.begin_token() != end {
                tokens.extend(end);
            }
        }
        epoch += 1;
    }
    let whole = (tokens.len() - 1) / batch * batch;
    tokens.truncate(whole + 1);
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::{ScoreRequest, score};
    use crate::testing;

    fn demonstrations() -> Vec<Sample> {
        (0..12)
            .map(|i| match i % 2 {
                0 => Sample::new(format!("where is my bank card number {i}?"), "bank"),
                _ => Sample::new(format!("the cat sat on mat number {i}"), "pets"),
            })
            .collect()
    }

    #[test]
    fn few_demonstrations_are_not_read_until_they_are_known_by_heart() {
        let model = testing::model(1);
        let (options, all) = (AdaptOptions::default(), demonstrations());
        let tokens = |epochs, steps_min| {
            let options = AdaptOptions {
                epochs,
                steps_min,
                ..options
            };
            training_tokens(&model, &all, &options, 64).unwrap().len() - 1
        };
        let once = tokens(1, 0);
        assert!(tokens(2, 10_000) <= (options.epochs_max + 1) * (once + 64));
        assert!(tokens(2, 10_000) >= (options.epochs_max - 1) * once);
        // Unless that is asked for; and one step there is always.
        assert!(tokens(20, 0) > 15 * once);
        assert_eq!(
            training_tokens(&model, &all[..1], &options, 4096)
                .unwrap()
                .len(),
            4097
        );
    }

    fn run(model: &LanguageModel) -> LanguageModel {
        let options = AdaptOptions {
            batch_windows: 1,
            ..AdaptOptions::default()
        };
        let cancel = AtomicBool::new(false);
        adapt(model, &demonstrations(), &options, &mut |_| (), &cancel).unwrap()
    }

    #[test]
    fn an_adapted_model_finds_the_demonstrations_likelier_and_the_original_is_untouched() {
        let model = testing::model(8);
        let before = model.digest().to_owned();
        let adapted = run(&model);
        let likelihood = |model: &LanguageModel| {
            let requests = demonstrations().into_iter().map(|d| ScoreRequest {
                prompt: format!("Topic: {}\nMessage:", d.label),
                continuation: format!(" {}", d.text),
            });
            let requests: Vec<_> = requests.collect();
            let scores = score(model, &requests, &mut |_| (), &AtomicBool::new(false)).unwrap();
            scores.iter().map(|s| s.mean_log_likelihood).sum::<f64>() / 12.0
        };
        assert!(likelihood(&adapted) > likelihood(&model) + 1.0);
        assert_eq!(model.digest(), before);
        assert_ne!(adapted.digest(), before);
    }

    #[test]
    fn the_same_seed_gives_the_same_model() {
        assert_eq!(
            run(&testing::model(8)).digest(),
            run(&testing::model(8)).digest()
        );
    }
}
