//! Texts through a model's head, with progress: what `slm:evaluate`, `slm:agree` and
//! `slm:pseudo-label` have in common.

use std::path::Path;

use noisegate_engine::{StepContext, StepFailure};
use noisegate_slm::model::heads;
use noisegate_slm::{
    Classifier, Device, Head, Model, Prediction, Runtime, ServeOptions, Task, runtime,
};

use super::{bad_input, failure, tenths, unconnected};
use crate::samples::{self, Sample};
use crate::with::With;

/// The head of that name and its place; of an empty name the only one.
pub(super) fn find(model: &Model, name: &str) -> Result<(usize, Head), StepFailure> {
    let name = (!name.is_empty()).then_some(name);
    let place = heads::find(&model.heads, name).map_err(failure)?;
    Ok((place, model.heads[place].clone()))
}

/// ONNX Runtime and the device that the step asks for.
pub(super) fn open_runtime(
    onnxruntime: &Path,
    with: &With<'_>,
) -> Result<(Runtime, Device), StepFailure> {
    let runtime = runtime::load(onnxruntime).map_err(failure)?;
    let device: Device = with.text("device")?.parse().map_err(failure)?;
    runtime.expect_device(device).map_err(failure)?;
    Ok((runtime, device))
}

/// One pass over the texts for each model.
pub(super) struct Scoring<'a> {
    pub runtime: &'a Runtime,
    pub texts: &'a [&'a str],
    pub context: &'a StepContext<'a>,
    pub device: Device,
    /// Passes in all, for the progress.
    pub models: usize,
}

impl Scoring<'_> {
    /// What the head at `place` says about every text; `pass` counts from 0.
    pub(super) fn predict(
        &self,
        model: &Model,
        place: usize,
        int8: bool,
        pass: usize,
    ) -> Result<Vec<Prediction>, StepFailure> {
        let batch = With(&self.context.step.with).count("batch")?;
        let options = ServeOptions {
            threads: self.context.cores,
            batch,
            int8,
            device: self.device,
        };
        let mut classifier = Classifier::new(self.runtime, model, &options).map_err(failure)?;
        let count = self.texts.len();
        let mut predictions = Vec::with_capacity(count);
        let say = |before: usize, done: usize, total: usize| {
            for tenth in tenths(before, done, total) {
                self.context.progress(tenth, 100, "scoring, percent");
            }
        };
        if count == 0 {
            say(pass, pass + 1, self.models);
        }
        for chunk in self.texts.chunks(batch.max(1) * 8) {
            if self.context.cancelled() {
                return Err(StepFailure::Cancelled);
            }
            let before = pass * count + predictions.len();
            let told = classifier.predict_all(chunk).map_err(failure)?;
            predictions.extend(told.into_iter().map(|mut heads| heads.swap_remove(place)));
            let done = pass * count + predictions.len();
            say(before, done, self.models * count);
        }
        Ok(predictions)
    }
}

/// The samples of a step and what a head of its model says of each.
pub(super) struct Judged {
    pub head: Head,
    pub samples: Vec<Sample>,
    pub told: Vec<Prediction>,
}

/// Reads model and samples, and has the head judge them; `check` looks at both first.
pub(super) fn judged(
    context: &StepContext<'_>,
    onnxruntime: &Path,
    check: impl FnOnce(&[Sample], &Head) -> Result<(), StepFailure>,
) -> Result<Judged, StepFailure> {
    let with = With(&context.step.with);
    let model = context.inputs.one("model").ok_or_else(unconnected)?;
    let model = Model::read_classifier(model.path()).map_err(failure)?;
    let (place, head) = find(&model, with.text("head")?)?;
    let mut samples = Vec::new();
    for input in context.inputs.all("samples") {
        samples.extend(samples::read(input)?);
    }
    check(&samples, &head)?;
    let (runtime, device) = open_runtime(onnxruntime, &with)?;
    let texts: Vec<&str> = samples.iter().map(|sample| sample.text.as_str()).collect();
    let scoring = Scoring {
        runtime: &runtime,
        texts: &texts,
        context,
        device,
        models: 1,
    };
    let told = scoring.predict(&model, place, with.flag("int8")?, 0)?;
    Ok(Judged {
        head,
        samples,
        told,
    })
}

/// Refuses a head that does not choose one label.
pub(super) fn single_label(head: &Head) -> Result<(), StepFailure> {
    if head.task == Task::SingleLabel {
        return Ok(());
    }
    Err(bad_input(format!(
        "head `{}` is a {} one, and samples are judged by heads of one label; name such a head, or \
         train one with `task = \"single-label\"`",
        head.name,
        head.task.name()
    )))
}
