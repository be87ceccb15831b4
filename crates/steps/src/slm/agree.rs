//! `slm:agree`: a site keeps the samples that a classifier of its own agrees with.
//!
//! ```text
//! private rows ──slm:train──> classifier ─┬─> the samples that it agrees with
//! released samples ───────────────────────┘   (private to the site, as the classifier is)
//! ```
//! Which samples are kept tells something of the private rows, and no noise was added. So what is
//! kept is as private as the classifier, by the label flow, and no count is logged.

use std::collections::BTreeMap;

use noisegate_engine::{Made, Step, StepContext, StepFailure};
use noisegate_slm::{Head, Prediction};
use serde::Serialize;

use super::scoring::{Judged, judged};
use super::{Agree, bad_input};
use crate::llm::write_json;
use crate::samples::{self, Sample};
use crate::with::With;

impl Step for Agree {
    fn run(&self, context: &StepContext<'_>) -> Result<Vec<Made>, StepFailure> {
        let with = With(&context.step.with);
        let confidence = with.float("confidence")? as f32;
        let Judged {
            head,
            samples,
            told,
        } = judged(context, &self.onnxruntime, check)?;
        let verdicts: Vec<Verdict> = std::iter::zip(&samples, &told)
            .map(|(sample, told)| Verdict::of(sample, told, &head, confidence))
            .collect();

        let report = context.work.join("report.json");
        write_json(&report, &tally(&head, &samples, &verdicts))?;
        let path = context.work.join("samples.jsonl");
        let kept: Vec<Sample> = std::iter::zip(samples, verdicts)
            .filter(|(_, verdict)| *verdict == Verdict::Kept)
            .map(|(sample, _)| sample)
            .collect();
        samples::write(&path, &kept)?;
        Ok(vec![
            Made {
                port: "samples".to_owned(),
                path,
            },
            Made {
                port: "report".to_owned(),
                path: report,
            },
        ])
    }
}

/// Refuses what the head cannot judge.
fn check(samples: &[Sample], head: &Head) -> Result<(), StepFailure> {
    let known = |sample: &Sample| head.labels.contains(&sample.label);
    if samples.iter().all(known) {
        return Ok(());
    }
    Err(bad_input(format!(
        "a sample has a label that head `{}` lacks; train the model on data that declare the labels \
         of all samples",
        head.name
    )))
}

/// What becomes of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Kept,
    /// Its own label is the most probable one, though not probable enough.
    Unsure,
    /// Another label, by its place in the head, is more probable.
    Otherwise(usize),
    /// It holds no token that the model knows.
    Unreadable,
}

impl Verdict {
    /// - `confidence`: the least probability of a label that is kept, 0 to 1.
    fn of(sample: &Sample, told: &Prediction, head: &Head, confidence: f32) -> Self {
        if told.only_unknown {
            return Self::Unreadable;
        }
        if head.labels[told.label] != sample.label {
            return Self::Otherwise(told.label);
        }
        // Written so that a probability that is no number is not enough.
        match told.probabilities[told.label] >= confidence {
            true => Self::Kept,
            false => Self::Unsure,
        }
    }
}

/// What `report.json` holds.
#[derive(Debug, Serialize)]
struct Report<'a> {
    head: &'a str,
    samples: usize,
    kept: usize,
    by_label: BTreeMap<&'a str, Count<'a>>,
}

/// What became of one label's samples.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Count<'a> {
    samples: usize,
    kept: usize,
    dropped: usize,
    /// Of the dropped: the label was right and its probability below `confidence`.
    unsure: usize,
    /// Of the dropped: no token that the model knows.
    unreadable: usize,
    /// Of the dropped: what they were taken for.
    taken_for: BTreeMap<&'a str, usize>,
}

fn tally<'a>(head: &'a Head, samples: &[Sample], verdicts: &[Verdict]) -> Report<'a> {
    let mut by_label: BTreeMap<&str, Count<'_>> = BTreeMap::new();
    for label in &head.labels {
        let count = by_label.entry(label).or_default();
        let mine = std::iter::zip(samples, verdicts).filter(|(sample, _)| sample.label == *label);
        for (_, verdict) in mine {
            count.samples += 1;
            match *verdict {
                Verdict::Kept => count.kept += 1,
                Verdict::Unsure => count.unsure += 1,
                Verdict::Unreadable => count.unreadable += 1,
                Verdict::Otherwise(place) => {
                    *count.taken_for.entry(&head.labels[place]).or_default() += 1;
                }
            }
        }
        count.dropped = count.samples - count.kept;
    }
    Report {
        head: &head.name,
        samples: samples.len(),
        kept: by_label.values().map(|count| count.kept).sum(),
        by_label,
    }
}

#[cfg(test)]
mod tests {
    use noisegate_slm::Task;

    use super::*;

    fn head(task: Task) -> Head {
        Head {
            name: "topic".to_owned(),
            task,
            labels: vec!["billing".to_owned(), "delay".to_owned()],
        }
    }

    fn sample(label: &str) -> Sample {
        Sample {
            text: "a text".to_owned(),
            label: label.to_owned(),
            cluster: None,
        }
    }

    fn told(label: usize, probability: f32) -> Prediction {
        let mut probabilities = vec![1.0 - probability; 2];
        probabilities[label] = probability;
        Prediction {
            label,
            probabilities,
            numbers: Vec::new(),
            cut: false,
            only_unknown: false,
        }
    }

    #[test]
    fn a_sample_is_kept_if_its_label_is_the_most_probable_and_probable_enough() {
        let head = head(Task::SingleLabel);
        let of = |label, told, confidence| Verdict::of(&sample(label), &told, &head, confidence);
        assert_eq!(of("billing", told(0, 0.6), 0.0), Verdict::Kept);
        assert_eq!(of("billing", told(0, 0.6), 0.6), Verdict::Kept);
        assert_eq!(of("billing", told(0, 0.6), 0.7), Verdict::Unsure);
        assert_eq!(of("delay", told(0, 0.6), 0.0), Verdict::Otherwise(0));
        assert_eq!(of("billing", told(0, f32::NAN), 0.0), Verdict::Unsure);
        let unknown = Prediction {
            only_unknown: true,
            ..told(0, 0.9)
        };
        assert_eq!(of("billing", unknown, 0.0), Verdict::Unreadable);
    }

    #[test]
    fn the_report_says_by_label_what_was_kept_and_what_the_others_were_taken_for() {
        let head = head(Task::SingleLabel);
        let samples = ["billing", "billing", "billing", "delay"].map(sample);
        let verdicts = [
            Verdict::Kept,
            Verdict::Otherwise(1),
            Verdict::Unsure,
            Verdict::Unreadable,
        ];
        let report = tally(&head, &samples, &verdicts);
        assert_eq!((report.samples, report.kept), (4, 1));
        assert_eq!(
            report.by_label["billing"],
            Count {
                samples: 3,
                kept: 1,
                dropped: 2,
                unsure: 1,
                unreadable: 0,
                taken_for: BTreeMap::from([("delay", 1)]),
            }
        );
        let delay = &report.by_label["delay"];
        assert_eq!((delay.kept, delay.dropped, delay.unreadable), (0, 1, 1));
    }

    #[test]
    fn a_label_that_the_head_lacks_is_refused() {
        let samples = [sample("billing"), sample("praise")];
        let text = check(&samples, &head(Task::SingleLabel))
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("head `topic` lacks") && !text.contains("praise"),
            "{text}"
        );
        assert!(check(&[sample("delay")], &head(Task::SingleLabel)).is_ok());
    }
}
