//! `slm:train`: private and released records in, a model folder out.

use std::collections::HashMap;

use noisegate_engine::{Input, Made, Step, StepContext, StepFailure};
use noisegate_slm::{
    Base, CheckpointOptions, ClassWeights, Example, Freeze, Head, Hooks, Lora, Precision, Progress,
    Schedule, ScratchConfig, SlmError, Task, TrainOptions, TrainingData, Vocabulary, runtime,
    train,
};
use noisegate_workflow::Unit;

use super::card::card;
use super::telling::{Told, note, say_tenths, tell};
use super::{Train, bad_input, failure, heads, reads_private, rows, weigh};
use crate::llm::pinned_folder;
use crate::with::With;

impl Step for Train {
    fn run(&self, context: &StepContext<'_>) -> Result<Vec<Made>, StepFailure> {
        let mut options = self.options(context)?;
        // Of labels that only what the samples were made from declares, noise may leave any out.
        let records = context.inputs.all("records");
        options.allow_empty_labels |= records.iter().all(|it| matches!(it, Input::Path { .. }));
        options.check().map_err(failure)?;
        let base = base(context)?;
        let runtime = runtime::load(&self.onnxruntime).map_err(failure)?;
        let (heads, examples) = gather(context)?;
        let data = TrainingData {
            heads: &heads,
            examples: &examples,
            validation: &[],
        };
        let private = reads_private(context);
        let mut told = Told::default();
        let mut progress = |progress: &Progress| {
            if private {
                let new = told.next(progress);
                say_tenths(context, told.stage, new);
            } else {
                tell(context, progress);
            }
        };
        let hooks = Hooks {
            progress: &mut progress,
            cancel: context.cancel,
        };
        let (model, summary) = train::train(&runtime, &base, &data, &options, hooks)
            .map_err(|error| training_failure(error, private, records))?;
        if private {
            say_tenths(context, told.stage, told.rest());
        } else {
            note(
                context,
                &summary,
                (options.length_max, model.config.length_max()),
            );
        }
        let path = context.work.join("model");
        model
            .save(&path, &card(context, &heads, &summary))
            .map_err(failure)?;
        Ok(vec![Made {
            port: "model".to_owned(),
            path,
        }])
    }
}

/// As [`failure`]; of private records it says no number and no label.
fn training_failure(error: SlmError, private: bool, records: &[Input]) -> StepFailure {
    let told = match &error {
        SlmError::NoWords => {
            let files = records.iter().map(|it| it.path().display().to_string());
            let files: Vec<String> = files.collect();
            return bad_input(format!("`{}`: {error}", files.join("`, `")));
        }
        SlmError::NoExamples
        | SlmError::Heads { .. }
        | SlmError::Labels { .. }
        | SlmError::NoExamplesOfHead { .. }
        | SlmError::OneClass { .. }
        | SlmError::UnknownLabel { .. }
        | SlmError::WrongTarget { .. }
        | SlmError::Weight { .. } => {
            "the private records cannot be trained on: with the declared labels they are empty or \
             all of one class; look at `labels`, `label_column` and the file"
        }
        SlmError::EmptyLabels { .. } => {
            "the private records cannot be trained on: a declared label has no record; take it off \
             `labels`, or set `empty_labels = \"keep\"`"
        }
        SlmError::UnknownTexts { .. } => {
            "the private records cannot be trained on: too many hold no token the model knows; \
             look at `text_column`, or take a base whose tokenizer knows their script"
        }
        SlmError::Diverged { .. } => {
            "the loss is no number any more; lower `learning_rate` or `clip_norm`, or lengthen \
             `warm_up`"
        }
        _ => return failure(error),
    };
    if private {
        bad_input(told)
    } else {
        failure(error)
    }
}

impl Train {
    fn options(&self, context: &StepContext<'_>) -> Result<TrainOptions, StepFailure> {
        let with = With(&context.step.with);
        let from_scratch = context.inputs.one("base").is_none();
        let rank = with.count("lora_rank")?;
        let usual = match (from_scratch, rank) {
            (true, _) => 1e-3,
            (false, 0) => 3e-4,
            (false, _) => 2e-3,
        };
        let some = |count: usize| (count > 0).then_some(count);
        Ok(TrainOptions {
            epochs: with.count("epochs")?,
            steps_max: None,
            batch: with.count("batch")?,
            micro_batch: some(with.count("rows_at_once")?),
            length_max: with.count("tokens_max")?,
            learning_rate: with.float_or("learning_rate", usual)? as f32,
            weight_decay: with.float("weight_decay")? as f32,
            warmup_share: with.float("warm_up")? as f32,
            schedule: match with.text("schedule")? {
                "constant" => Schedule::Constant,
                "cosine" => Schedule::Cosine,
                _ => Schedule::Linear,
            },
            clip_norm: with.float("clip_norm")? as f32,
            dropout: with.float("dropout")? as f32,
            label_smoothing: with.float("label_smoothing")? as f32,
            class_weights: class_weights(with.text("class_weights")?)
                .map_err(|why| bad_input(format!("`class_weights`: {why}")))?,
            allow_empty_labels: with.text("empty_labels")? == "keep",
            released_first: some(with.count("released_first")?),
            freeze: match (
                with.flag("freeze_embeddings")?,
                with.count("freeze_layers")?,
            ) {
                (false, 0) => Freeze::Nothing,
                (true, 0) => Freeze::Embeddings,
                (_, layers) => Freeze::Layers(layers),
            },
            lora: some(rank).map(|rank| Lora {
                rank,
                ..Lora::default()
            }),
            validation_share: with.float("validation_share")? as f32,
            patience: some(with.count("patience")?),
            seed: with.count("seed")? as u64,
            threads: context.cores,
            device: with.text("device")?.parse().map_err(failure)?,
            precision: match with.text("precision")? {
                "bf16" => Precision::Bf16,
                _ => Precision::F32,
            },
            checkpoint: self.checkpoint.as_ref().map(|path| CheckpointOptions {
                path: path.clone(),
                every_steps: CHECKPOINT_STEPS,
            }),
        })
    }
}

/// Optimiser steps between two checkpoints: seconds apart on a small model, a minute on a large one.
const CHECKPOINT_STEPS: usize = 50;

/// Whether `class_weights` is in form; whether the labels are there, training sees.
pub(super) fn check_class_weights(text: &str) -> Result<(), String> {
    class_weights(text).map(drop)
}

/// `equal`, `balanced`, or `LABEL=FACTOR` with commas between.
pub(super) fn class_weights(text: &str) -> Result<ClassWeights, String> {
    match text {
        "equal" => return Ok(ClassWeights::Equal),
        "balanced" => return Ok(ClassWeights::Balanced),
        _ => {}
    }
    // A comma may stand in a label: it divides only behind a factor.
    let mut parts: Vec<String> = Vec::new();
    for part in text.split(',') {
        match parts.last_mut() {
            Some(label) if !label.contains('=') => *label += &format!(",{part}"),
            _ => parts.push(part.to_owned()),
        }
    }
    let pair = |part: String| {
        let (label, factor) = part.rsplit_once('=')?;
        Some((label.trim().to_owned(), factor.trim().parse().ok()?))
    };
    let given: Option<Vec<(String, f32)>> = parts.into_iter().map(pair).collect();
    let given = given.ok_or_else(|| {
        format!(
            "it is `equal`, `balanced`, or factors such as `billing=2, delay=0.5`, not `{text}`"
        )
    })?;
    for (index, (label, factor)) in given.iter().enumerate() {
        if given[..index].iter().any(|(other, _)| other == label) {
            return Err(format!("`{label}` has two factors; give it one"));
        }
        if !(factor.is_finite() && *factor > 0.0) {
            return Err(format!(
                "the factor of `{label}` is {factor}; it must be above 0"
            ));
        }
    }
    Ok(ClassWeights::Given(given))
}

fn base(context: &StepContext<'_>) -> Result<Base, StepFailure> {
    if let Some(input) = context.inputs.one("base") {
        return Ok(Base::Folder(pinned_folder(input)?.to_owned()));
    }
    let with = With(&context.step.with);
    Ok(Base::Scratch(ScratchConfig {
        layers: with.count("layers")?,
        hidden: with.count("hidden")?,
        heads: with.count("heads")?,
        intermediate: with.count("intermediate")?,
        length_max: with.count("tokens_max")?,
        vocabulary: Vocabulary::Train {
            size: with.count("vocabulary")?,
        },
    }))
}

/// The heads and all examples.
fn gather(context: &StepContext<'_>) -> Result<(Vec<Head>, Vec<Example>), StepFailure> {
    let with = With(&context.step.with);
    let task = Task::of_name(with.text("task")?).unwrap_or(Task::SingleLabel);
    let inputs = context.inputs.all("records");
    let (assigned, rows) = heads::assign(inputs, task, with.text("tasks")?, context.plan)?;
    let released_weight = with.float("released_weight")? as f32;
    let mut examples = Vec::new();
    let mut units = UnitNumbers::default();
    let sources = inputs.iter().zip(helpers(inputs, &assigned.of_input));
    for (((input, synthetic), head), rows) in sources.zip(&assigned.of_input).zip(rows) {
        let declared = matches!(input, Input::Data { .. }) || input.is_private();
        for row in rows {
            let unit = row.unit.as_deref().map(|unit| units.of(input, unit));
            let Some(target) = rows::target(&row, &assigned.heads[*head], declared)? else {
                continue;
            };
            examples.push(Example {
                text: row.text,
                target,
                head: *head,
                unit,
                weight: if synthetic { released_weight } else { 1.0 },
                synthetic,
            });
        }
    }
    if with.text("released_labels")? == "as-private" {
        weigh::as_private(&mut examples, &assigned.heads);
    }
    Ok((assigned.heads, examples))
}

/// A number for each privacy unit. Data sets that name units in a column of the same name speak of
/// the same units, such as one patient's answers to two questions.
#[derive(Default)]
struct UnitNumbers(HashMap<(String, String), usize>);

impl UnitNumbers {
    fn of(&mut self, input: &Input, unit: &str) -> usize {
        let column = match input {
            Input::Data { data, .. } => data.unit.as_ref().map_or("", Unit::name),
            Input::Path { .. } => "",
        };
        let next = self.0.len();
        let key = (column.to_owned(), unit.to_owned());
        *self.0.entry(key).or_insert(next)
    }
}

/// For each source of records whether it only helps others: what steps released, and a public
/// data set beside a private one of the same head, such as samples that came from elsewhere as a
/// file.
fn helpers(inputs: &[Input], head_of: &[usize]) -> Vec<bool> {
    let private = |input: &Input| matches!(input, Input::Data { data, .. } if data.private);
    let beside_private = |head: usize| {
        let mut others = inputs.iter().zip(head_of);
        others.any(|(input, of)| *of == head && private(input))
    };
    let helps = |(input, head): (&Input, &usize)| match input {
        Input::Path { .. } => true,
        Input::Data { .. } => beside_private(*head) && !private(input),
    };
    inputs.iter().zip(head_of).map(helps).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_weights_have_a_form() {
        let given = vec![("billing".to_owned(), 2.0), ("delay".to_owned(), 0.5)];
        assert_eq!(
            class_weights("billing=2, delay=0.5"),
            Ok(ClassWeights::Given(given))
        );
        let given = vec![("pain, chest".to_owned(), 2.0), ("delay".to_owned(), 0.5)];
        assert_eq!(
            class_weights("pain, chest=2,delay=0.5"),
            Ok(ClassWeights::Given(given))
        );
        assert!(check_class_weights("billing=2, delay").is_err());
        assert_eq!(class_weights("balanced"), Ok(ClassWeights::Balanced));
        assert!(
            check_class_weights("billing")
                .unwrap_err()
                .contains("not `billing`")
        );
        assert!(check_class_weights("billing=two").is_err());
        for (wrong, why) in [
            ("billing=2, delay=1, billing=3", "`billing` has two factors"),
            ("billing=0", "must be above 0"),
            ("billing=nan", "must be above 0"),
        ] {
            let told = check_class_weights(wrong).unwrap_err();
            assert!(told.contains(why), "{told}");
        }
    }
}
