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

/// Reads models and samples, and has the models' heads judge them together: of several models the
/// mean of the probabilities counts. `check` looks at head and samples first.
///
/// # Source
/// Lakshminarayanan, Pritzel and Blundell, "Simple and Scalable Predictive Uncertainty Estimation
/// using Deep Ensembles", 2017, section 2.4.
pub(super) fn judged(
    context: &StepContext<'_>,
    onnxruntime: &Path,
    check: impl FnOnce(&[Sample], &Head) -> Result<(), StepFailure>,
) -> Result<Judged, StepFailure> {
    let with = With(&context.step.with);
    let mut members = Vec::new();
    for input in context.inputs.all("model") {
        let model = Model::read_classifier(input.path()).map_err(failure)?;
        let (place, head) = find(&model, with.text("head")?)?;
        members.push((model, place, head));
    }
    let (_, _, head) = members.first().ok_or_else(unconnected)?;
    let head = head.clone();
    let mut orders = Vec::new();
    for (_, _, other) in &members {
        single_label(other)?;
        orders.push(order(&head, other)?);
    }
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
        models: members.len(),
    };
    let int8 = with.flag("int8")?;
    let mut told: Vec<Prediction> = Vec::new();
    for (pass, ((model, place, _), order)) in members.iter().zip(&orders).enumerate() {
        let more = scoring.predict(model, *place, int8, pass)?;
        match pass {
            0 => told = more,
            _ => told
                .iter_mut()
                .zip(&more)
                .for_each(|(sum, more)| add(sum, more, order)),
        }
    }
    if members.len() > 1 {
        told.iter_mut().for_each(|sum| divide(sum, members.len()));
    }
    Ok(Judged {
        head,
        samples,
        told,
    })
}

/// Where the labels of `head` stand in `other`.
fn order(head: &Head, other: &Head) -> Result<Vec<usize>, StepFailure> {
    let place = |label: &String| other.labels.iter().position(|it| it == label);
    let places: Option<Vec<usize>> = head.labels.iter().map(place).collect();
    places
        .filter(|places| places.len() == other.labels.len())
        .ok_or_else(|| {
            // Which labels occur may be private.
            bad_input("the models on port `model` know different labels; train them on data sets that declare the same ones".to_owned())
        })
}

fn add(sum: &mut Prediction, more: &Prediction, order: &[usize]) {
    for (sum, place) in sum.probabilities.iter_mut().zip(order) {
        *sum += more.probabilities[*place];
    }
    sum.only_unknown &= more.only_unknown;
    sum.cut |= more.cut;
}

fn divide(sum: &mut Prediction, count: usize) {
    sum.probabilities
        .iter_mut()
        .for_each(|it| *it /= count as f32);
    let mut best = 0;
    for (label, probability) in sum.probabilities.iter().enumerate() {
        if *probability > sum.probabilities[best] {
            best = label;
        }
    }
    sum.label = best;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn head(labels: &[&str]) -> Head {
        Head::single(labels.iter().copied())
    }

    fn told(probabilities: &[f32]) -> Prediction {
        Prediction {
            label: 0,
            probabilities: probabilities.to_vec(),
            numbers: Vec::new(),
            cut: false,
            only_unknown: true,
        }
    }

    #[test]
    fn of_several_models_the_mean_counts_label_by_label() {
        let order = order(&head(&["a", "b", "c"]), &head(&["c", "a", "b"])).unwrap();
        let mut sum = told(&[0.5, 0.3, 0.2]);
        let more = Prediction {
            only_unknown: false,
            ..told(&[0.1, 0.1, 0.8])
        };
        add(&mut sum, &more, &order);
        divide(&mut sum, 2);
        let expected = [0.3, 0.55, 0.15];
        let near = |(a, b): (&f32, f32)| (a - b).abs() < 1e-6;
        assert!(sum.probabilities.iter().zip(expected).all(near), "{sum:?}");
        assert_eq!((sum.label, sum.only_unknown), (1, false));
    }

    #[test]
    fn a_head_of_another_kind_is_refused() {
        let many = Head::only(Task::MultiLabel, ["a", "b"]);
        let error = single_label(&many).unwrap_err().to_string();
        assert!(error.contains("heads of one label"), "{error}");
        single_label(&head(&["a", "b"])).unwrap();
    }

    #[test]
    fn models_of_different_labels_are_refused() {
        let one = head(&["a", "b"]);
        for other in [&["a", "c"][..], &["a"], &["a", "b", "c"]] {
            let error = order(&one, &head(other)).unwrap_err().to_string();
            assert!(error.contains("know different labels"), "{error}");
            assert!(!error.contains("`c`") && !error.contains("a, b"), "{error}");
        }
    }
}
