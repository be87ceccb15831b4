//! `llm:augment`: new samples from few-shot demonstrations.

use noisegate_engine::{Made, Step, StepContext, StepFailure};
use noisegate_llm::{
    AdaptOptions, AugmentOptions, PromptStyle, QualityOptions, Sampling, adapt, augment,
};
use serde_json::json;

use crate::llm::served::{Model, Serving};
use crate::llm::{failure, input, labels, plain, report, write_json};
use crate::samples::{self, Sample};
use crate::with::With;

/// `llm:augment`
pub struct Augment {
    /// How served models are reached.
    pub serving: Serving,
}

impl Step for Augment {
    fn run(&self, context: &StepContext<'_>) -> Result<Vec<Made>, StepFailure> {
        let demonstrations = samples::read(input(context, "demonstrations")?)?;
        let labels = labels(&demonstrations);
        let plain = plain(&demonstrations);
        let model = self.serving.model(context)?;
        // Before the model reads the demonstrations, which takes longest.
        options(context, &model)?
            .check(model.writer(), &plain, &labels)
            .map_err(failure)?;
        let model = adapted(model, &plain, context)?;
        let made = augment(
            model.writer(),
            &plain,
            &labels,
            &options(context, &model)?,
            &mut report(context),
            context.cancel,
        )
        .map_err(failure)?;
        model.say_usage(context);
        for (label, missing) in &made.missing {
            context.note(format!(
                "label `{label}` got {missing} fewer new samples than wanted"
            ));
        }
        if made.without_demonstration > 0 {
            context.note(format!(
                "{} of {} answers were asked for without a demonstration of their label: it has none, or none leaves room in the model's context",
                made.without_demonstration, made.answers
            ));
        }
        context.note(format!(
            "{} new samples in {} answers; rejected {:?}",
            made.samples.len(),
            made.answers,
            made.rejected
        ));

        let path = context.work.join("report.json");
        let mut told = json!(made);
        told["served"] = model.usage();
        write_json(&path, &told)?;
        if made.samples.is_empty() {
            return Err(StepFailure::Failed(format!(
                "step `{}`: not one answer of the model could be used (rejected: {:?}); raise `retries_max` or `temperature`, set `adapt_epochs = 0`, or use a larger model",
                context.step.name, made.rejected
            )));
        }
        let mut all = if With(&context.step.with).flag("keep_demonstrations")? {
            demonstrations
        } else {
            Vec::new()
        };
        all.extend(made.samples.into_iter().map(|new| Sample {
            text: new.sample.text,
            label: new.sample.label,
            cluster: None,
        }));
        let samples = context.work.join("samples.jsonl");
        samples::write(&samples, &all)?;
        Ok(vec![
            Made {
                port: "samples".to_owned(),
                path: samples,
            },
            Made {
                port: "report".to_owned(),
                path,
            },
        ])
    }
}

/// The model after it has read the demonstrations, if it is to.
fn adapted(
    model: Model,
    demonstrations: &[noisegate_llm::Sample],
    context: &StepContext<'_>,
) -> Result<Model, StepFailure> {
    let with = With(&context.step.with);
    let usual = if model.is_instructed() { 0 } else { 2 };
    let epochs = with.count_or("adapt_epochs", usual)?;
    if epochs == 0 {
        return Ok(model);
    }
    let Model::Local(model) = model else {
        return Err(StepFailure::BadInput(format!(
            "step `{}`: a served model cannot be trained from here; set `adapt_epochs = 0`",
            context.step.name
        )));
    };
    let options = AdaptOptions {
        epochs,
        seed: with.count("seed")? as u64,
        ..AdaptOptions::default()
    };
    let mut report = report(context);
    let adapted = adapt(
        &model,
        demonstrations,
        &options,
        &mut report,
        context.cancel,
    );
    Ok(Model::Local(Box::new(adapted.map_err(failure)?)))
}

fn style(context: &StepContext<'_>, model: &Model) -> Result<PromptStyle, StepFailure> {
    let usual = if model.is_instructed() {
        "instruction"
    } else {
        "completion"
    };
    Ok(match With(&context.step.with).text_or("style", usual)? {
        "instruction" => PromptStyle::Instruction,
        _ => PromptStyle::Completion,
    })
}

/// Whether `output_regex` could be followed by some model, before any is read. An instructed
/// model's answers must keep more out; the step sees to that when it knows the model.
pub fn check_output_regex(given: &str) -> Result<(), String> {
    match without_anchors(given) {
        Some(pattern) => PromptStyle::Completion
            .check_text_pattern(&pattern)
            .map_err(|error| error.to_string()),
        None => Ok(()),
    }
}

fn output_regex(context: &StepContext<'_>) -> Result<Option<String>, StepFailure> {
    let with = With(&context.step.with);
    Ok(without_anchors(with.text("output_regex")?))
}

/// The pattern, without the anchors that many write: whole texts are meant in any case.
pub(crate) fn without_anchors(pattern: &str) -> Option<String> {
    let pattern = pattern.strip_prefix('^').unwrap_or(pattern);
    let pattern = match pattern.strip_suffix('$') {
        Some(before) if !before.ends_with('\\') => before,
        _ => pattern,
    };
    Some(pattern.to_owned()).filter(|pattern| !pattern.is_empty())
}

fn options(context: &StepContext<'_>, model: &Model) -> Result<AugmentOptions, StepFailure> {
    let with = With(&context.step.with);
    let style = style(context, model)?;
    let samples_per_answer = with.count("samples_per_answer")?;
    let samples = match style {
        PromptStyle::Completion => 1,
        PromptStyle::Instruction => samples_per_answer,
    };
    Ok(AugmentOptions {
        per_label: with.count("samples_per_label")?,
        style,
        shots: with.count("shots")?,
        contrast_shots: with.count("contrast_shots")?,
        samples_per_answer,
        max_new_tokens: with.count_or("tokens_max", 64 * samples)?,
        sampling: Sampling {
            temperature: with.float("temperature")?,
            top_p: Some(with.float("top_p")?),
            ..Sampling::greedy()
        },
        output_regex: output_regex(context)?,
        batch_max: with.count("batch")?,
        retries_max: with.count("retries_max")?,
        quality: QualityOptions::default(),
        duplicate_similarity: with.float("duplicate_similarity")?,
        rivals: with.count_or("rivals", if model.is_served() { 0 } else { 7 })?,
        tell_text: with.flag("show_text")?,
        seed: with.count("seed")? as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_looked_at_before_a_model_is_known() {
        assert_eq!(check_output_regex(""), Ok(()));
        assert_eq!(check_output_regex("^[A-Z][a-z ]{2,9}[.]$"), Ok(()));
        for anchored in [
            "^I am [a-z]{2,9}$|^I need [a-z]{2,9}$",
            "(^I need [a-z]{2,9}$)",
            r"\A[a-z]{2,9}\z",
            r"^[a-z]{2,9}\\$",
        ] {
            let why = check_output_regex(anchored).unwrap_err();
            assert!(why.contains("an anchor"), "{anchored}: {why}");
        }
        // Only an instructed model's answers are cut there.
        assert_eq!(check_output_regex("[a-z|]{2,9}"), Ok(()));
        for (pattern, part) in [
            ("[a-z", "unclosed"),
            ("[a-z]*", "empty text"),
            ("a\\n", "told apart"),
        ] {
            let why = check_output_regex(pattern).unwrap_err();
            assert!(why.contains(part), "{why}");
        }
    }
}
