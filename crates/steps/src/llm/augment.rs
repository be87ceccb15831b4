//! `llm:augment`: new samples from few-shot demonstrations.

use noisegate_engine::{Made, Step, StepContext, StepFailure};
use noisegate_llm::{
    AdaptOptions, AugmentOptions, PromptStyle, QualityOptions, Sampling, adapt, augment,
};
use serde_json::json;

use crate::llm::{failure, input, labels, model, plain, report, write_json};
use crate::samples::{self, Sample};
use crate::with::With;

/// `llm:augment`
pub struct Augment;

impl Step for Augment {
    fn run(&self, context: &StepContext<'_>) -> Result<Vec<Made>, StepFailure> {
        let with = With(&context.step.with);
        let demonstrations = samples::read(input(context, "demonstrations")?)?;
        let labels = labels(&demonstrations);
        let plain = plain(&demonstrations);
        let seed = with.count("seed")? as u64;
        let mut model = model(context)?;
        let epochs = with.count("adapt_epochs")?;
        if epochs > 0 {
            let options = AdaptOptions {
                epochs,
                seed,
                ..AdaptOptions::default()
            };
            model = adapt(
                &model,
                &plain,
                &options,
                &mut report(context),
                context.cancel,
            )
            .map_err(failure)?;
        }
        let options = AugmentOptions {
            per_label: with.count("samples_per_label")?,
            style: match with.text("style")? {
                "instruction" => PromptStyle::Instruction,
                _ => PromptStyle::Completion,
            },
            shots: with.count("shots")?,
            contrast_shots: with.count("contrast_shots")?,
            max_new_tokens: with.count("tokens_max")?,
            sampling: Sampling {
                temperature: with.float("temperature")?,
                top_k: None,
                top_p: Some(with.float("top_p")?),
            },
            batch_max: with.count("batch")?,
            retries_max: with.count("retries_max")?,
            quality: QualityOptions::default(),
            duplicate_similarity: with.float("duplicate_similarity")?,
            rivals: with.count("rivals")?,
            seed,
            ..AugmentOptions::default()
        };
        let made = augment(
            &model,
            &plain,
            &labels,
            &options,
            &mut report(context),
            context.cancel,
        )
        .map_err(failure)?;
        for (label, missing) in &made.missing {
            context.note(format!(
                "label `{label}` got {missing} fewer new samples than wanted"
            ));
        }
        context.note(format!(
            "{} new samples in {} answers; rejected {:?}",
            made.samples.len(),
            made.answers,
            made.rejected
        ));

        let path = context.work.join("report.json");
        write_json(&path, &json!(made))?;
        let mut all = if with.flag("keep_demonstrations")? {
            demonstrations
        } else {
            Vec::new()
        };
        all.extend(made.samples.into_iter().map(|new| Sample {
            text: new.sample.text,
            label: new.sample.label,
            cluster: None,
        }));
        if all.is_empty() {
            return Err(StepFailure::Failed(format!(
                "step `{}`: not one answer of the model could be used; raise `retries_max` or `temperature`, or use a larger model",
                context.step.name
            )));
        }
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
