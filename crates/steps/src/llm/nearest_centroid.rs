//! `llm:nearest-centroid`: holds samples against the released class centroids.

use std::cmp::Ordering;
use std::path::PathBuf;

use noisegate_engine::{Made, Step, StepContext, StepFailure};
use noisegate_llm::{Centroids, Nearest};
use serde::Serialize;

use crate::llm::embed::embed;
use crate::llm::{failure, input, write_json};
use crate::samples::{self, Sample};
use crate::with::With;

/// `llm:nearest-centroid`
pub struct NearestCentroid {
    /// The ONNX Runtime library, for the embedder.
    pub onnxruntime: PathBuf,
}

/// What became of one label's samples.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
struct Count {
    label: String,
    /// Samples that came with this label.
    given: usize,
    /// Of those, how many lie nearest to its centroid.
    agreed: usize,
    /// Samples that leave with this label.
    kept: usize,
}

impl Step for NearestCentroid {
    fn run(&self, context: &StepContext<'_>) -> Result<Vec<Made>, StepFailure> {
        let samples = samples::read(input(context, "samples")?)?;
        let centroids = Centroids::read(input(context, "centroids")?.path()).map_err(failure)?;
        let embeddings = embed(context, &self.onnxruntime, &samples)?;
        if let Some(embedding) = embeddings.first()
            && embedding.len() != centroids.dim()
        {
            return Err(StepFailure::BadInput(format!(
                "the embedder makes {} numbers a text, the centroids have {}; give this step the encoder that the centroids were made with",
                embedding.len(),
                centroids.dim()
            )));
        }
        let with = With(&context.step.with);
        let rule = Rule {
            relabel: with.text("disagreement")? == "relabel",
            margin: with.float("margin")? as f32,
            keep_per_label: with.count("keep_per_label")?,
        };
        let nearest: Vec<Nearest> = embeddings.iter().map(|it| centroids.nearest(it)).collect();
        let (kept, counts) = rule.apply(&samples, &nearest, centroids.labels());
        context.note(format!(
            "{} of {} samples lie nearest to their label; {} are kept",
            counts.iter().map(|count| count.agreed).sum::<usize>(),
            samples.len(),
            kept.len()
        ));
        let path = context.work.join("samples.jsonl");
        samples::write(&path, &kept)?;
        let report = context.work.join("report.json");
        write_json(&report, &serde_json::json!({ "labels": counts }))?;
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

/// Which samples are kept, and under which label.
struct Rule {
    relabel: bool,
    margin: f32,
    keep_per_label: usize,
}

impl Rule {
    /// The kept samples in their old order, and what became of each label.
    fn apply(
        &self,
        samples: &[Sample],
        nearest: &[Nearest],
        labels: &[String],
    ) -> (Vec<Sample>, Vec<Count>) {
        let mut counts: Vec<Count> = labels
            .iter()
            .map(|label| Count {
                label: label.clone(),
                ..Count::default()
            })
            .collect();
        let given: Vec<Option<usize>> = samples
            .iter()
            .map(|sample| labels.iter().position(|label| *label == sample.label))
            .collect();
        let mut assigned: Vec<Option<usize>> = Vec::with_capacity(samples.len());
        for (given, nearest) in given.iter().zip(nearest) {
            let agrees = *given == Some(nearest.label);
            if let Some(own) = given {
                counts[*own].given += 1;
                counts[*own].agreed += usize::from(agrees);
            }
            let kept = nearest.margin >= self.margin && (agrees || self.relabel);
            assigned.push(kept.then_some(nearest.label));
        }
        restore(&given, &mut assigned, labels.len());
        let mut chosen: Vec<Vec<usize>> = vec![Vec::new(); labels.len()];
        for (index, label) in assigned.iter().enumerate() {
            if let Some(label) = label {
                chosen[*label].push(index);
            }
        }
        let mut kept: Vec<(usize, usize)> = Vec::new();
        for (label, indices) in chosen.iter_mut().enumerate() {
            if self.keep_per_label > 0 {
                let clearest_first = |a: &usize, b: &usize| -> Ordering {
                    nearest[*b].margin.total_cmp(&nearest[*a].margin)
                };
                indices.sort_by(clearest_first);
                indices.truncate(self.keep_per_label);
            }
            counts[label].kept = indices.len();
            kept.extend(indices.iter().map(|&index| (index, label)));
        }
        kept.sort_unstable();
        let kept = kept.into_iter().map(|(index, label)| Sample {
            label: labels[label].clone(),
            ..samples[index].clone()
        });
        (kept.collect(), counts)
    }
}

/// A label must not vanish: one that would be left without samples keeps those it came with.
///
/// Each label is restored at most once, and only by its own samples, so that this ends.
fn restore(given: &[Option<usize>], assigned: &mut [Option<usize>], labels: usize) {
    let mut restored = vec![false; labels];
    loop {
        let vanished =
            (0..labels).find(|label| !restored[*label] && !assigned.contains(&Some(*label)));
        let Some(label) = vanished else { return };
        restored[label] = true;
        for (given, assigned) in given.iter().zip(assigned.iter_mut()) {
            if *given == Some(label) {
                *assigned = Some(label);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP_ALL: Rule = Rule {
        relabel: false,
        margin: 0.0,
        keep_per_label: 0,
    };

    /// Labels of the kept samples by their texts, with three samples of `a` and one of `b`.
    fn kept(rule: &Rule) -> (Vec<(String, String)>, Vec<Count>) {
        let sample = |text: &str, label: &str| Sample {
            text: text.to_owned(),
            label: label.to_owned(),
            cluster: None,
        };
        let samples = [
            sample("clear a", "a"),
            sample("rather b", "a"),
            sample("faint a", "a"),
            sample("clear b", "b"),
        ];
        let nearest = [(0, 0.5), (1, 0.2), (0, 0.01), (1, 0.4)]
            .map(|(label, margin)| Nearest { label, margin });
        let labels = ["a".to_owned(), "b".to_owned()];
        let (kept, counts) = rule.apply(&samples, &nearest, &labels);
        (
            kept.into_iter().map(|it| (it.text, it.label)).collect(),
            counts,
        )
    }

    fn texts(kept: &[(String, String)]) -> Vec<&str> {
        kept.iter().map(|it| it.0.as_str()).collect()
    }

    #[test]
    fn samples_of_another_label_are_dropped_or_relabelled() {
        let (dropped, counts) = kept(&KEEP_ALL);
        assert_eq!(texts(&dropped), ["clear a", "faint a", "clear b"]);
        assert_eq!(
            counts[0],
            Count {
                label: "a".to_owned(),
                given: 3,
                agreed: 2,
                kept: 2
            }
        );
        let (relabelled, counts) = kept(&Rule {
            relabel: true,
            ..KEEP_ALL
        });
        assert_eq!(relabelled[1], ("rather b".to_owned(), "b".to_owned()));
        assert_eq!(
            (counts[1].given, counts[1].agreed, counts[1].kept),
            (1, 1, 2)
        );
    }

    #[test]
    fn a_label_without_nearest_samples_keeps_its_own() {
        let given = [Some(0), Some(1), Some(2), Some(2), None];
        // All lie nearest to label 0 or are dropped.
        let mut assigned = [Some(0), Some(0), Some(0), None, Some(0)];
        restore(&given, &mut assigned, 4);
        assert_eq!(assigned, [Some(0), Some(1), Some(2), Some(2), Some(0)]);
        // What a restored label takes back may empty another, which is restored in turn.
        let mut assigned = [Some(1), Some(0), Some(1)];
        restore(&[Some(0), Some(1), Some(2)], &mut assigned, 3);
        assert_eq!(assigned, [Some(1), Some(0), Some(2)]);
        let mut assigned = [Some(1), Some(1), Some(1)];
        restore(&[Some(0), Some(0), Some(0)], &mut assigned, 2);
        assert_eq!(assigned, [Some(0), Some(0), Some(0)]);
    }

    #[test]
    fn faint_samples_go_first() {
        let by_margin = Rule {
            margin: 0.1,
            ..KEEP_ALL
        };
        assert_eq!(texts(&kept(&by_margin).0), ["clear a", "clear b"]);
        let by_rank = Rule {
            relabel: true,
            keep_per_label: 1,
            ..KEEP_ALL
        };
        assert_eq!(texts(&kept(&by_rank).0), ["clear a", "clear b"]);
    }
}
