//! `slm:pseudo-label`: a site labels samples by a classifier of its own.
//!
//! ```text
//! private rows ──slm:train──> teacher ─┬─> the samples with the teacher's labels ──slm:train──> student
//! released samples ────────────────────┘   (private to the site, as the teacher is)
//! ```
//! A generator under noise often writes a text of another label than it was asked for; a site's
//! own classifier says which one it is, and how sure it is. A large teacher, such as a fine-tuned
//! encoder, hands what it learnt on to a student of any size.
//!
//! The labels tell something of the private rows, and no noise was added. So the result is as
//! private as the teacher, by the label flow, and no count is logged.
//!
//! # Source
//! Lee, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural
//! Networks", 2013; soft labels: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural
//! Network", 2015, section 2, at temperature 1.

use std::collections::BTreeMap;

use noisegate_engine::{Made, Step, StepContext, StepFailure};
use noisegate_slm::{Head, Prediction};
use serde::Serialize;

use super::PseudoLabel;
use super::rows::Labelled;
use super::scoring::{Judged, judged};
use crate::llm::write_json;
use crate::samples::{self, Sample};
use crate::with::With;

impl Step for PseudoLabel {
    fn run(&self, context: &StepContext<'_>) -> Result<Vec<Made>, StepFailure> {
        let with = With(&context.step.with);
        let confidence = with.float("confidence")? as f32;
        let soft = with.text("labels")? == "soft";
        let Judged {
            head,
            samples,
            told,
        } = judged(context, &self.onnxruntime, |_, _| Ok(()))?;
        let mut report = Report::new(&head, samples.len());
        let mut labelled = Vec::new();
        for (sample, told) in std::iter::zip(samples, &told) {
            let Some(label) = sure(told, confidence) else {
                continue;
            };
            let label = &head.labels[label];
            report.count(label, &sample);
            labelled.push(Labelled {
                sample: Sample {
                    label: label.clone(),
                    ..sample
                },
                probabilities: soft.then(|| shares(&head, told)),
            });
        }
        let report_path = context.work.join("report.json");
        write_json(&report_path, &report)?;
        let path = context.work.join("samples.jsonl");
        samples::write(&path, &labelled)?;
        let made = |port: &str, path| Made {
            port: port.to_owned(),
            path,
        };
        Ok(vec![made("samples", path), made("report", report_path)])
    }
}

/// The most probable label, if it is probable enough and the text holds a token that the model
/// knows.
fn sure(told: &Prediction, confidence: f32) -> Option<usize> {
    // A probability that is no number is not enough.
    let enough = told.probabilities[told.label] >= confidence;
    (enough && !told.only_unknown).then_some(told.label)
}

fn shares(head: &Head, told: &Prediction) -> BTreeMap<String, f32> {
    let labels = head.labels.iter().cloned();
    labels.zip(told.probabilities.iter().copied()).collect()
}

/// What `report.json` holds.
#[derive(Debug, Serialize)]
struct Report<'a> {
    head: &'a str,
    samples: usize,
    kept: usize,
    by_label: BTreeMap<&'a str, Count>,
}

/// The samples that one label was given to.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Count {
    samples: usize,
    /// They had it before.
    had_it: usize,
}

impl<'a> Report<'a> {
    fn new(head: &'a Head, samples: usize) -> Self {
        let none = |label: &'a String| (label.as_str(), Count::default());
        Self {
            head: &head.name,
            samples,
            kept: 0,
            by_label: head.labels.iter().map(none).collect(),
        }
    }

    fn count(&mut self, label: &'a str, sample: &Sample) {
        let count = self.by_label.entry(label).or_default();
        count.samples += 1;
        count.had_it += usize::from(sample.label == label);
        self.kept += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(probabilities: [f32; 2]) -> Prediction {
        Prediction {
            label: usize::from(probabilities[1] > probabilities[0]),
            probabilities: probabilities.to_vec(),
            numbers: Vec::new(),
            cut: false,
            only_unknown: false,
        }
    }

    #[test]
    fn a_label_is_given_if_it_is_probable_enough() {
        assert_eq!(sure(&told([0.3, 0.7]), 0.0), Some(1));
        assert_eq!(sure(&told([0.3, 0.7]), 0.7), Some(1));
        assert_eq!(sure(&told([0.3, 0.7]), 0.8), None);
        assert_eq!(sure(&told([f32::NAN, f32::NAN]), 0.0), None);
        let unknown = Prediction {
            only_unknown: true,
            ..told([0.9, 0.1])
        };
        assert_eq!(sure(&unknown, 0.0), None);
    }

    #[test]
    fn the_report_says_how_many_were_given_each_label_and_had_it() {
        let head = Head::single(["billing", "delay"]);
        let mut report = Report::new(&head, 3);
        let sample = |label: &str| Sample {
            text: String::new(),
            label: label.to_owned(),
            cluster: None,
        };
        report.count("delay", &sample("billing"));
        report.count("delay", &sample("delay"));
        assert_eq!((report.samples, report.kept), (3, 2));
        let (samples, had_it) = (2, 1);
        assert_eq!(report.by_label["delay"], Count { samples, had_it });
        assert_eq!(report.by_label["billing"], Count::default());
    }
}
