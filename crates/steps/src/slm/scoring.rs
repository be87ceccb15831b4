//! Texts through a model's head, with progress: what `slm:evaluate` and `slm:agree` have in common.

use noisegate_engine::{StepContext, StepFailure};
use noisegate_slm::model::heads;
use noisegate_slm::{Classifier, Device, Head, Model, Prediction, Runtime, ServeOptions};

use super::{failure, tenths};
use crate::with::With;

/// The head of that name and its place; of an empty name the only one.
pub(super) fn find(model: &Model, name: &str) -> Result<(usize, Head), StepFailure> {
    let name = (!name.is_empty()).then_some(name);
    let place = heads::find(&model.heads, name).map_err(failure)?;
    Ok((place, model.heads[place].clone()))
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
