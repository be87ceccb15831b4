//! `llm:judge`: keeps the eligible samples of each cluster.

use std::collections::BTreeMap;

use noisegate_engine::{Made, Step, StepContext, StepFailure};
use noisegate_llm::judge::{CrossFitOptions, DropReason, LikelihoodOptions, PromptOptions};
use noisegate_llm::{AdaptOptions, JudgeMode, JudgeOptions, Judged, QualityOptions, judge};

use crate::llm::served::{Model, Serving};
use crate::llm::{failure, input, labels, plain, report};
use crate::samples::{self, Sample};
use crate::with::With;

/// `llm:judge`
pub struct Judge {
    /// How served models are reached.
    pub serving: Serving,
}

impl Step for Judge {
    fn run(&self, context: &StepContext<'_>) -> Result<Vec<Made>, StepFailure> {
        let samples = samples::read(input(context, "clusters")?)?;
        let model = self.serving.model(context)?;
        let labels = labels(&samples);
        let judged = judge(
            model.writer(),
            &plain(&samples),
            &clusters(&samples),
            &labels,
            &options(context, &model)?,
            &mut report(context),
            context.cancel,
        )
        .map_err(failure)?;
        model.say_usage(context);
        let kept = kept(context, &samples, &labels, &judged);
        context.note(format!(
            "kept {} of {} samples; dropped {:?}",
            kept.len(),
            samples.len(),
            judged.reasons()
        ));
        for (count, what) in [
            (
                judged.unparsable,
                "questions whose answer could not be read",
            ),
            (judged.too_long, "samples too long to be shown to the model"),
        ] {
            if count > 0 {
                context.note(format!("kept without a judgement: {count} {what}"));
            }
        }
        let path = context.work.join("samples.jsonl");
        samples::write(&path, &kept)?;
        Ok(vec![Made {
            port: "samples".to_owned(),
            path,
        }])
    }
}

fn options(context: &StepContext<'_>, model: &Model) -> Result<JudgeOptions, StepFailure> {
    let with = With(&context.step.with);
    let usual = if model.is_instructed() {
        "prompt"
    } else {
        "cross-fit"
    };
    let mode = match with.text_or("mode", usual)? {
        "prompt" => JudgeMode::Prompt(PromptOptions::default()),
        "off" => JudgeMode::Off,
        "cross-fit" => JudgeMode::CrossFit(CrossFitOptions {
            adapt: AdaptOptions {
                seed: with.count("seed")? as u64,
                ..CrossFitOptions::default().adapt
            },
            rivals_max: with.count("rivals")?,
            margin: with.float("margin")?,
        }),
        _ => JudgeMode::Likelihood(LikelihoodOptions {
            shots: with.count("shots")?,
            rivals_max: with.count("rivals")?,
            margin: with.float("margin")?,
        }),
    };
    Ok(JudgeOptions {
        mode,
        quality: QualityOptions {
            words_min: with.count("words_min")?,
            ..QualityOptions::default()
        },
        duplicate_similarity: with.float("duplicate_similarity")?,
        seed: with.count("seed")? as u64,
    })
}

/// Indices by cluster; samples that were not clustered are in none.
fn clusters(samples: &[Sample]) -> Vec<Vec<usize>> {
    let mut by_number: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, sample) in samples.iter().enumerate() {
        by_number
            .entry(sample.cluster.unwrap_or(0))
            .or_default()
            .push(index);
    }
    by_number.into_values().collect()
}

/// The kept samples. A label that the judge would leave without any keeps those
/// that were dropped for their content alone: a label must not vanish.
fn kept(
    context: &StepContext<'_>,
    samples: &[Sample],
    labels: &[String],
    judged: &Judged,
) -> Vec<Sample> {
    let mut indices = judged.kept.clone();
    for label in labels {
        if indices.iter().any(|&index| samples[index].label == *label) {
            continue;
        }
        let by_content =
            |reason: &DropReason| matches!(reason, DropReason::OffLabel | DropReason::Rejected);
        let restored = judged
            .dropped
            .iter()
            .filter(|(index, reason)| samples[*index].label == *label && by_content(reason))
            .map(|(index, _)| *index);
        let before = indices.len();
        indices.extend(restored);
        context.note(format!(
            "the judge left label `{label}` without a sample; {} were kept all the same",
            indices.len() - before
        ));
    }
    indices.sort_unstable();
    indices
        .into_iter()
        .map(|index| Sample {
            cluster: None,
            ..samples[index].clone()
        })
        .collect()
}
