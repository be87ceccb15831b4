//! Keeps the samples worth showing to the augmenting model: readable, on topic, not repeated.
//!
//! ```text
//! samples ─ quality ─ near-duplicates ─┬─ prompt mode: one question per cluster ─────┬─> kept
//!                                      └─ likelihood and cross-fit: own label against rivals ─┘
//! ```
//! Start reading at [`judge`]. Prompt mode is for instructed models; likelihood mode needs no
//! instruction following and serves small base models.

mod cross_fit;
mod likelihood;
mod prompt;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicBool;

pub use cross_fit::CrossFitOptions;
pub use likelihood::LikelihoodOptions;
pub use prompt::PromptOptions;

use crate::error::{Error, Result};
use crate::model::LanguageModel;
use crate::near_duplicates::NearDuplicates;
use crate::progress::Progress;
use crate::quality::{Defect, QualityOptions};
use crate::sample::Sample;
use crate::writer::Writer;

/// How the model is consulted.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JudgeMode {
    /// One call per cluster, listing its samples and asking which to keep.
    Prompt(PromptOptions),
    /// Compares how likely each text is under its own label and under others.
    Likelihood(LikelihoodOptions),
    /// The same, by copies of the model that have each read one half of the samples.
    CrossFit(CrossFitOptions),
    /// Not at all: quality and near-duplicates only.
    Off,
}

impl Default for JudgeMode {
    fn default() -> Self {
        Self::Likelihood(LikelihoodOptions::default())
    }
}

/// Options of the filter.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JudgeOptions {
    /// How the model is consulted.
    pub mode: JudgeMode,
    /// What every text must satisfy first.
    pub quality: QualityOptions,
    /// Jaccard similarity of word pairs at which a text repeats an earlier one.
    pub duplicate_similarity: f64,
    /// Decides which samples become few-shot context.
    pub seed: u64,
}

impl Default for JudgeOptions {
    fn default() -> Self {
        Self {
            mode: JudgeMode::default(),
            quality: QualityOptions::default(),
            duplicate_similarity: 0.7,
            seed: 0,
        }
    }
}

/// Why a sample was dropped.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum DropReason {
    /// Fewer words than asked for.
    TooShort,
    /// It repeats itself.
    Repetitive,
    /// Mostly not letters.
    NotText,
    /// It repeats an earlier sample.
    NearDuplicate,
    /// Its text fits another label better.
    OffLabel,
    /// The model did not choose it.
    Rejected,
}

impl From<Defect> for DropReason {
    fn from(defect: Defect) -> Self {
        match defect {
            Defect::TooShort => Self::TooShort,
            Defect::Repetitive => Self::Repetitive,
            Defect::NotText => Self::NotText,
        }
    }
}

/// What the filter decided.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Judged {
    /// Indices of the samples kept, ascending.
    pub kept: Vec<usize>,
    /// Indices of the others, ascending, and why.
    pub dropped: Vec<(usize, DropReason)>,
    /// Calls to the model.
    pub calls: usize,
    /// Calls whose answer could not be read; their samples were all kept.
    pub unparsable: usize,
    /// Samples too long to be shown to the model; kept.
    pub too_long: usize,
}

impl Judged {
    /// How many samples were dropped for each reason.
    pub fn reasons(&self) -> BTreeMap<DropReason, usize> {
        let mut counts = BTreeMap::new();
        self.dropped
            .iter()
            .for_each(|(_, reason)| *counts.entry(*reason).or_default() += 1);
        counts
    }
}

/// Decides which samples to keep.
///
/// - `clusters`: indices into `samples`, as [`crate::cluster::cluster`] makes them; an index in
///   no cluster is judged by quality and near-duplicates alone.
/// - `labels`: the declared label set.
///
/// # Errors
/// [`Error::UnknownLabel`] if a sample's label is not declared, [`Error::Option`],
/// [`Error::NotFinite`], [`Error::Cancelled`]. An answer that cannot be read is counted, not an error.
pub fn judge(
    writer: &dyn Writer,
    samples: &[Sample],
    clusters: &[Vec<usize>],
    labels: &[String],
    options: &JudgeOptions,
    progress: &mut dyn FnMut(Progress),
    cancel: &AtomicBool,
) -> Result<Judged> {
    if let Some(sample) = samples.iter().position(|s| !labels.contains(&s.label)) {
        return Err(Error::UnknownLabel {
            sample,
            label: samples[sample].label.clone(),
        });
    }
    if !(options.duplicate_similarity > 0.0 && options.duplicate_similarity <= 1.0) {
        return Err(Error::Option {
            option: "duplicate_similarity",
            value: options.duplicate_similarity.to_string(),
            remedy: "it must be above 0 and at most 1",
        });
    }
    let mut verdict: Vec<Option<DropReason>> = vec![None; samples.len()];
    let mut seen: HashMap<&str, NearDuplicates> = HashMap::new();
    for (sample, verdict) in samples.iter().zip(&mut verdict) {
        // Of a text under two labels a model that is asked is to see both. One that is trained on
        // half of the samples must not see a text that it is to judge.
        let asked = matches!(options.mode, JudgeMode::Prompt(_));
        let seen = seen
            .entry(if asked { &sample.label } else { "" })
            .or_insert_with(|| NearDuplicates::new(options.duplicate_similarity));
        *verdict = match options.quality.defect(&sample.text) {
            Some(defect) => Some(defect.into()),
            None => seen
                .find_or_add(&sample.text)
                .map(|_| DropReason::NearDuplicate),
        };
    }
    let alive = |index: &usize| verdict.get(*index).is_some_and(Option::is_none);
    let clusters: Vec<Vec<usize>> = clusters
        .iter()
        .map(|c| c.iter().copied().filter(alive).collect())
        .collect();
    let mut judged = Judged::default();
    let call = Call {
        writer,
        samples,
        clusters: &clusters,
        labels,
        seed: options.seed,
    };
    let rejected = match &options.mode {
        JudgeMode::Prompt(options) => {
            prompt::reject(&call, options, &mut judged, progress, cancel)?
        }
        JudgeMode::Likelihood(options) => {
            likelihood::reject(&call, options, &mut judged, progress, cancel)?
        }
        JudgeMode::CrossFit(options) => {
            cross_fit::reject(&call, options, &mut judged, progress, cancel)?
        }
        JudgeMode::Off => Vec::new(),
    };
    for (index, reason) in rejected {
        verdict[index] = Some(reason);
    }
    let mut seen = NearDuplicates::new(options.duplicate_similarity);
    for (sample, verdict) in samples.iter().zip(&mut verdict) {
        if verdict.is_none() && seen.find_or_add(&sample.text).is_some() {
            *verdict = Some(DropReason::NearDuplicate);
        }
    }
    for (index, verdict) in verdict.into_iter().enumerate() {
        match verdict {
            None => judged.kept.push(index),
            Some(reason) => judged.dropped.push((index, reason)),
        }
    }
    Ok(judged)
}

/// What both modes work on; clusters hold only samples that passed so far.
struct Call<'a> {
    writer: &'a dyn Writer,
    samples: &'a [Sample],
    clusters: &'a [Vec<usize>],
    labels: &'a [String],
    seed: u64,
}

impl<'a> Call<'a> {
    /// The model itself, for a mode that compares likelihoods.
    fn local(&self) -> Result<&'a LanguageModel> {
        self.writer.local().ok_or(Error::NotLocal {
            what: "this mode of the judge",
            remedy: "use the mode `prompt`, or a model in this process",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::generate::{Finish, Generation, Request};
    use crate::testing;
    use crate::writer::Answering;

    fn samples() -> Vec<Sample> {
        [
            ("where is my bank card?", "bank"),
            ("card", "bank"),
            ("the cat sat on the mat", "pets"),
            ("The cat sat on the mat!", "pets"),
            ("the dog the dog the dog the dog", "pets"),
            ("what is the rate of the bank?", "bank"),
        ]
        .map(|(text, label)| Sample::new(text, label))
        .to_vec()
    }

    fn asked(
        writer: &dyn Writer,
        samples: &[Sample],
        clusters: &[Vec<usize>],
        labels: &[String],
        options: &JudgeOptions,
    ) -> Result<Judged> {
        let cancel = AtomicBool::new(false);
        judge(
            writer,
            samples,
            clusters,
            labels,
            options,
            &mut |_| (),
            &cancel,
        )
    }

    fn run(mode: JudgeMode) -> Judged {
        let labels = ["bank".to_owned(), "pets".to_owned()];
        let options = JudgeOptions {
            mode,
            ..JudgeOptions::default()
        };
        let clusters = [vec![0, 1, 5], vec![2, 3, 4]];
        let model = testing::model_of_context(2, 1024);
        asked(&model, &samples(), &clusters, &labels, &options).unwrap()
    }

    #[test]
    fn without_a_model_defects_and_duplicates_are_dropped() {
        let judged = run(JudgeMode::Off);
        assert_eq!(judged.kept, [0, 2, 5]);
        assert_eq!(
            judged.dropped,
            [
                (1, DropReason::TooShort),
                (3, DropReason::NearDuplicate),
                (4, DropReason::Repetitive)
            ]
        );
    }

    #[test]
    fn every_mode_accounts_for_every_sample_and_repeats_itself() {
        for mode in [
            JudgeMode::default(),
            JudgeMode::Prompt(PromptOptions::default()),
        ] {
            let judged = run(mode);
            let mut all = judged.kept.clone();
            all.extend(judged.dropped.iter().map(|(index, _)| index));
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2, 3, 4, 5]);
            assert!(judged.calls > 0);
            assert_eq!(judged, run(mode));
        }
    }

    #[test]
    fn clusters_too_long_for_the_model_are_asked_in_parts_or_kept() {
        let samples = samples();
        let clusters = [vec![0, 2, 5]];
        let labels = ["bank".to_owned(), "pets".to_owned()];
        let mode = JudgeMode::Prompt(PromptOptions::default());
        let options = JudgeOptions {
            mode,
            ..JudgeOptions::default()
        };
        let run = |context| {
            let model = testing::model_of_context(2, context);
            asked(&model, &samples, &clusters, &labels, &options).unwrap()
        };
        assert_eq!(run(64).too_long, 3);
        let calls: Vec<usize> = (10..40).map(|tens| run(tens * 10).calls).collect();
        assert!(
            calls.contains(&1) && calls.iter().any(|calls| *calls > 1),
            "{calls:?}"
        );
    }

    /// Answers every question alike, and remembers how many samples each one showed.
    struct Scripted {
        text: &'static str,
        finish: Finish,
        shown: Mutex<Vec<usize>>,
    }

    impl Writer for Scripted {
        fn identity(&self) -> String {
            "scripted".to_owned()
        }

        fn context(&self) -> usize {
            100_000
        }

        fn prompt_tokens(&self, prompt: &str) -> Result<usize> {
            Ok(prompt.len())
        }

        fn answer(
            &self,
            requests: &[Request],
            _: Answering,
            _: &mut dyn FnMut(Progress),
            _: &AtomicBool,
        ) -> Result<Vec<Generation>> {
            let shown = |request: &Request| request.prompt.matches("subject number").count();
            *self.shown.lock().unwrap() = requests.iter().map(shown).collect();
            let answer = Generation {
                text: self.text.to_owned(),
                tokens: 1,
                finish: self.finish,
            };
            Ok(vec![answer; requests.len()])
        }

        fn local(&self) -> Option<&LanguageModel> {
            None
        }
    }

    #[test]
    fn a_question_shows_few_samples_and_an_answer_that_was_cut_off_settles_nothing() {
        let words = ["alpha", "beta", "gamma", "delta", "omega", "sigma", "kappa"];
        let text = |n: usize| format!("subject number {} {} {n}", words[n % 7], words[n / 7]);
        let samples: Vec<Sample> = (0..40).map(|n| Sample::new(text(n), "bank")).collect();
        let judged = |finish| {
            let writer = Scripted {
                text: "1, 3",
                finish,
                shown: Mutex::default(),
            };
            let options = JudgeOptions {
                mode: JudgeMode::Prompt(PromptOptions::default()),
                duplicate_similarity: 1.0,
                ..JudgeOptions::default()
            };
            let (labels, clusters) = (["bank".to_owned()], [(0..40).collect()]);
            let judged = asked(&writer, &samples, &clusters, &labels, &options);
            (judged.unwrap(), writer.shown.into_inner().unwrap())
        };
        let (whole, shown) = judged(Finish::StopString);
        assert_eq!(shown, [10; 4]);
        assert_eq!(whole.kept, [0, 2, 10, 12, 20, 22, 30, 32]);
        assert_eq!(whole.unparsable, 0);
        for finish in [Finish::Length, Finish::ContextFull] {
            let (cut, _) = judged(finish);
            assert_eq!((cut.kept.len(), cut.unparsable), (40, 4), "{finish:?}");
        }
    }

    #[test]
    fn of_a_text_under_two_labels_the_judge_sees_both() {
        let text = "where is my bank card?";
        let samples = [Sample::new(text, "pets"), Sample::new(text, "bank")];
        let labels = ["bank".to_owned(), "pets".to_owned()];
        let judged = |answer| {
            let writer = Scripted {
                text: answer,
                finish: Finish::StopString,
                shown: Mutex::default(),
            };
            let options = JudgeOptions {
                mode: JudgeMode::Prompt(PromptOptions::default()),
                ..JudgeOptions::default()
            };
            let clusters = [vec![0, 1]];
            asked(&writer, &samples, &clusters, &labels, &options).unwrap()
        };
        assert_eq!(judged("2").kept, [1]);
        let both = judged("1, 2");
        assert_eq!(both.kept, [0]);
        assert_eq!(both.dropped, [(1, DropReason::NearDuplicate)]);
    }

    #[test]
    fn a_sample_with_an_undeclared_label_is_refused() {
        let labels = ["bank".to_owned()];
        let options = JudgeOptions::default();
        let model = testing::model(2);
        let error = asked(&model, &samples(), &[], &labels, &options);
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("sample 2 has the label `pets`")
        );
    }
}
