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
    /// Whether its centroid stands out of the noise. Samples of one that does not keep it.
    stands_out: bool,
    /// Whether public samples took the place of its own, which then are not counted here.
    stand_ins: bool,
}

impl Step for NearestCentroid {
    fn run(&self, context: &StepContext<'_>) -> Result<Vec<Made>, StepFailure> {
        let mut samples = samples::read(input(context, "samples")?)?;
        let centroids = Centroids::read(input(context, "centroids")?.path()).map_err(failure)?;
        let stand_out: Vec<bool> = (0..centroids.labels().len())
            .map(|label| centroids.stands_out(label))
            .collect();
        let mut told_by_name = Vec::new();
        if let Some(public) = context.inputs.one("stand_ins") {
            let public = samples::read(public)?;
            (samples, told_by_name) = stand_in(samples, public, centroids.labels(), &stand_out)?;
        }
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
        let nearest: Vec<_> = embeddings.iter().map(|it| centroids.nearest(it)).collect();
        let (kept, mut counts) = rule.apply(&samples, &nearest, centroids.labels(), &stand_out);
        context.note(format!(
            "{} of {} samples lie nearest to their label; {} are kept",
            counts.iter().map(|count| count.agreed).sum::<usize>(),
            samples.len(),
            kept.len()
        ));
        let told = stand_out.iter().filter(|it| **it).count();
        if told < stand_out.len() {
            context.note(format!(
                "the centroids of {} of {} labels are lost in the noise; {}; \
                 more epsilon for the centroids, or more records of these labels, would tell",
                stand_out.len() - told,
                stand_out.len(),
                match told_by_name.len() {
                    0 => "samples of these keep their label".to_owned(),
                    some => format!("stand-ins took the place of the samples of {some}"),
                }
            ));
        }
        for label in told_by_name {
            counts[label].stand_ins = true;
        }
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

/// The samples with public ones in the place of those whose label's centroid is lost in the noise,
/// and the labels for which that was done.
///
/// A label that has no public samples keeps its own.
fn stand_in(
    mut samples: Vec<Sample>,
    public: Vec<Sample>,
    labels: &[String],
    stand_out: &[bool],
) -> Result<(Vec<Sample>, Vec<usize>), StepFailure> {
    let mut places = Vec::with_capacity(public.len());
    for (number, sample) in public.iter().enumerate() {
        let place = labels.iter().position(|label| *label == sample.label);
        places.push(place.ok_or_else(|| {
            StepFailure::BadInput(format!(
                "sample {} of `stand_ins` has the label `{}`, of which there is no centroid; mend the label, or take the sample out",
                number + 1,
                sample.label
            ))
        })?);
    }
    let replaced: Vec<usize> = (0..labels.len())
        .filter(|label| !stand_out[*label] && places.contains(label))
        .collect();
    samples.retain(|sample| !replaced.iter().any(|label| labels[*label] == sample.label));
    let chosen = public
        .into_iter()
        .zip(places)
        .filter(|(_, place)| replaced.contains(place));
    samples.extend(chosen.map(|(sample, _)| sample));
    Ok((samples, replaced))
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
        nearest: &[Option<Nearest>],
        labels: &[String],
        stand_out: &[bool],
    ) -> (Vec<Sample>, Vec<Count>) {
        let mut counts: Vec<Count> = labels
            .iter()
            .zip(stand_out)
            .map(|(label, &stands_out)| Count {
                label: label.clone(),
                stands_out,
                ..Count::default()
            })
            .collect();
        let given: Vec<Option<usize>> = samples
            .iter()
            .map(|sample| labels.iter().position(|label| *label == sample.label))
            .collect();
        let mut assigned: Vec<Option<usize>> = Vec::with_capacity(samples.len());
        for (given, nearest) in given.iter().zip(nearest) {
            let agrees = given.is_some() && *given == nearest.map(|it| it.label);
            if let Some(own) = given {
                counts[*own].given += 1;
                counts[*own].agreed += usize::from(agrees);
            }
            assigned.push(match (given, nearest) {
                (Some(own), _) if !stand_out[*own] => Some(*own),
                (_, Some(it)) if it.margin >= self.margin && (agrees || self.relabel) => {
                    Some(it.label)
                }
                _ => None,
            });
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
                // One that keeps its label though it lies nearer to another is the less clear for it.
                let margin = |at: usize| match nearest[at] {
                    _ if !stand_out[label] => 0.0,
                    Some(it) if it.label == label => it.margin,
                    Some(it) => -it.margin,
                    None => 0.0,
                };
                let clearest_first =
                    |a: &usize, b: &usize| -> Ordering { margin(*b).total_cmp(&margin(*a)) };
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
        kept_if(rule, [true, true])
    }

    fn kept_if(rule: &Rule, stand_out: [bool; 2]) -> (Vec<(String, String)>, Vec<Count>) {
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
            .map(|(label, margin)| Some(Nearest { label, margin }));
        let labels = ["a".to_owned(), "b".to_owned()];
        let (kept, counts) = rule.apply(&samples, &nearest, &labels, &stand_out);
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
                kept: 2,
                stands_out: true,
                stand_ins: false,
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
    fn samples_of_a_label_lost_in_noise_keep_it() {
        let rule = Rule {
            relabel: true,
            margin: 0.3,
            ..KEEP_ALL
        };
        let (told, _) = kept(&rule);
        assert_eq!(texts(&told), ["clear a", "clear b"]);
        let (untold, counts) = kept_if(&rule, [false, true]);
        assert_eq!(
            texts(&untold),
            ["clear a", "rather b", "faint a", "clear b"]
        );
        assert_eq!(untold[1].1, "a");
        assert!(!counts[0].stands_out && counts[1].stands_out);
    }

    #[test]
    fn of_a_label_lost_in_noise_the_first_are_kept_not_those_clearest_for_another() {
        let rule = Rule {
            relabel: true,
            keep_per_label: 2,
            ..KEEP_ALL
        };
        let (kept, _) = kept_if(&rule, [false, true]);
        assert_eq!(texts(&kept), ["clear a", "rather b", "clear b"]);
        let (kept, _) = kept_if(
            &Rule {
                keep_per_label: 1,
                ..rule
            },
            [false, true],
        );
        assert_eq!(texts(&kept), ["clear a", "clear b"]);
    }

    #[test]
    fn public_samples_stand_in_for_a_label_lost_in_noise() {
        let sample = |text: &str, label: &str| Sample {
            text: text.to_owned(),
            label: label.to_owned(),
            cluster: None,
        };
        let labels = ["a", "b", "c"].map(str::to_owned);
        let released = || {
            vec![
                sample("1", "a"),
                sample("2", "b"),
                sample("3", "c"),
                sample("4", "b"),
            ]
        };
        let public = vec![
            sample("about a", "a"),
            sample("about b", "b"),
            sample("of b", "b"),
        ];
        let (with, replaced) =
            stand_in(released(), public.clone(), &labels, &[true, false, false]).unwrap();
        let texts: Vec<&str> = with.iter().map(|it| it.text.as_str()).collect();
        // `a` stands out, `c` has no public samples.
        assert_eq!(texts, ["1", "3", "about b", "of b"]);
        assert_eq!(replaced, [1]);
        let (without, replaced) = stand_in(released(), public, &labels, &[true; 3]).unwrap();
        assert_eq!((without, replaced), (released(), vec![]));
        let unknown = vec![sample("about a", "a"), sample("about d", "d")];
        let refused = stand_in(released(), unknown, &labels, &[true; 3]).unwrap_err();
        assert!(refused.to_string().contains("sample 2"), "{refused}");
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
