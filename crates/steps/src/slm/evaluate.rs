//! `slm:evaluate`: a model and held-out records in, a report and a page out.

use noisegate_engine::{Input, Made, Step, StepContext, StepFailure};
use noisegate_records::metrics::{self, Beyond, EvaluationReport, ManyLabels, Resampling};
use noisegate_records::{LabelSet, page};
use noisegate_slm::{Head, Model, Prediction, Target, Task};
use serde::{Deserialize, Serialize};

use super::scoring::{Scoring, find, open_runtime};
use super::{Evaluate, bad_input, failure, rows, unconnected, write};
use crate::with::With;

/// What `report.json` holds, by the task of the head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scores {
    /// One of the labels.
    SingleLabel(Box<EvaluationReport>),
    /// Any of the labels.
    MultiLabel(Beside<metrics::ManyLabelsEvaluation>),
    /// A number.
    Number(Beside<metrics::NumbersEvaluation>),
}

/// Scores, and what to hold them against.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Beside<T> {
    /// The model as it was asked for.
    #[serde(flatten)]
    pub scored: T,
    /// The same model in f32, if it was asked for with 8-bit products.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_f32: Option<T>,
}

/// A probability above this is a yes, in a head of several labels.
const YES: f32 = 0.5;

/// The baseline of a model that multiplies 8-bit integers, where no other is connected.
const IN_F32: &str = "the same model in f32";

impl Step for Evaluate {
    fn run(&self, context: &StepContext<'_>) -> Result<Vec<Made>, StepFailure> {
        let with = With(&context.step.with);
        let model_input = context.inputs.one("model").ok_or_else(unconnected)?;
        let records = context.inputs.one("records").ok_or_else(unconnected)?;
        let model = Model::read_classifier(model_input.path()).map_err(failure)?;
        let head_name = with.text("head")?;
        let (place, head) = find(&model, head_name)?;
        check_labels(records, &head)?;
        let baseline = match context.inputs.one("baseline") {
            None => None,
            Some(input) => {
                let other = Model::read_classifier(input.path()).map_err(failure)?;
                let found = find(&other, head_name)?;
                comparable(&head, &found.1)?;
                Some((super::heads::name(input), other, found))
            }
        };
        let (runtime, device) = open_runtime(&self.onnxruntime, &with)?;
        let column = with.text("group_column")?;
        let column = (!column.is_empty()).then_some(column);
        let scored = declared(records, &head);
        let rows = labelled(records, &scored, column)?;
        let int8 = with.flag("int8")?;
        let beside_f32 = int8 && baseline.is_none();
        let texts: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
        let scoring = Scoring {
            runtime: &runtime,
            texts: &texts,
            context,
            device,
            models: 1 + usize::from(baseline.is_some() || beside_f32),
        };
        let told = scoring.predict(&model, place, int8, 0)?;
        let other = match &baseline {
            Some((name, other, (place, head))) => Some((
                name.as_str(),
                head,
                scoring.predict(other, *place, int8, 1)?,
            )),
            None if beside_f32 => Some((IN_F32, &head, scoring.predict(&model, place, false, 1)?)),
            None => None,
        };
        let seed = with.count("seed")? as u64;
        let asked = Asked {
            head: &head,
            scored: &scored.labels,
            column,
            seed,
        };
        let scores = score(&asked, &rows, &told, other)?;
        let text = serde_json::to_string_pretty(&scores)
            .map_err(|error| StepFailure::Failed(error.to_string()))?;
        let report = context.work.join("report.json");
        write(&report, &text)?;
        let shown = context.work.join("report.html");
        write(&shown, &html(&scores, context))?;
        Ok(vec![
            Made {
                port: "report".to_owned(),
                path: report,
            },
            Made {
                port: "page".to_owned(),
                path: shown,
            },
        ])
    }
}

/// Refuses, by the public declarations alone, a test set with labels the head lacks.
fn check_labels(records: &Input, head: &Head) -> Result<(), StepFailure> {
    let Input::Data { data, labels, .. } = records else {
        return Ok(());
    };
    let unknown: Vec<String> = labels
        .iter()
        .filter(|label| head.task != Task::Number && !head.labels.contains(label))
        .map(|label| format!("`{label}`"))
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(StepFailure::BadInput(format!(
        "data set `{}` declares {} not seen in training: {}; train on records of every label, \
         or declare fewer labels for `{}`",
        data.name,
        if unknown.len() == 1 {
            "a label"
        } else {
            "labels"
        },
        unknown.join(", "),
        data.name
    )))
}

/// Refuses to compare models that answer different questions.
fn comparable(head: &Head, other: &Head) -> Result<(), StepFailure> {
    if head.task != Task::SingleLabel || other.task != Task::SingleLabel {
        return Err(bad_input(
            "`baseline` compares heads of one label each; leave it out, and compare the intervals \
             of the two reports",
        ));
    }
    let lacks: Vec<&String> = other
        .labels
        .iter()
        .filter(|l| !head.labels.contains(l))
        .collect();
    match lacks.first() {
        None => Ok(()),
        Some(label) => Err(bad_input(format!(
            "the baseline knows the label `{label}`, which the model does not; train both with the \
             same `labels`"
        ))),
    }
}

/// A row with its known target.
struct Known {
    text: String,
    target: Target,
    group: String,
}

/// The head with those of its labels that the data set declares, in its own order: of the others
/// nobody said whether a record has them.
fn declared(records: &Input, head: &Head) -> Head {
    let mut head = head.clone();
    if let Input::Data { labels, .. } = records
        && head.task != Task::Number
        && !labels.is_empty()
    {
        head.labels.retain(|label| labels.contains(label));
    }
    head
}

fn labelled(records: &Input, head: &Head, column: Option<&str>) -> Result<Vec<Known>, StepFailure> {
    let declared = matches!(records, Input::Data { .. });
    let mut known = Vec::new();
    let more = rows::MoreColumns {
        unit: false,
        group: column,
    };
    for mut row in rows::read(records, head.task, more)? {
        // Scores are of labels; how sure a teacher was of them is not asked.
        row.shares = None;
        if let Some(target) = rows::target(&row, head, declared)? {
            known.push(Known {
                text: row.text,
                target,
                group: row.group,
            });
        }
    }
    if known.is_empty() {
        return Err(bad_input(
            "no record has a declared label; look at `labels` and `label_column`",
        ));
    }
    Ok(known)
}

/// What is scored, and how.
struct Asked<'a> {
    head: &'a Head,
    /// Those of its labels that the records declare.
    scored: &'a [String],
    /// The column to group by.
    column: Option<&'a str>,
    seed: u64,
}

fn score(
    asked: &Asked<'_>,
    rows: &[Known],
    told: &[Prediction],
    baseline: Option<(&str, &Head, Vec<Prediction>)>,
) -> Result<Scores, StepFailure> {
    let &Asked {
        head,
        scored,
        column,
        seed,
    } = asked;
    let resampling = Resampling::new(seed);
    match head.task {
        Task::SingleLabel => {
            let labels = LabelSet::new(head.labels.clone()).map_err(bad_input)?;
            let told = single(&labels, rows, told, head);
            let other =
                baseline.map(|(name, head, told)| (name, single(&labels, rows, &told, head)));
            let groups: Vec<String> = rows.iter().map(|row| row.group.clone()).collect();
            let beyond = Beyond {
                groups: column.map(|column| (column, groups.as_slice())),
                baseline: other.as_ref().map(|(name, told)| (*name, told.as_slice())),
                seed,
            };
            let report = metrics::report(&labels, &told, beyond).map_err(bad_input)?;
            Ok(Scores::SingleLabel(Box::new(report)))
        }
        Task::MultiLabel => {
            let labels = LabelSet::new(scored.iter().cloned()).map_err(bad_input)?;
            let score = |told: &[Prediction]| {
                let rows = rows.iter().zip(told);
                let rows: Vec<ManyLabels> = rows
                    .map(|(row, told)| many(head, scored, &row.target, told))
                    .collect();
                metrics::evaluate_many(&labels, &rows, resampling)
            };
            beside(told, baseline, score).map(Scores::MultiLabel)
        }
        Task::Number => {
            let pair = |(row, told): (&Known, &Prediction)| match &row.target {
                Target::Numbers(truth) => Some((truth[0], f64::from(told.numbers[0]))),
                _ => None,
            };
            let score = |told: &[Prediction]| {
                let pairs: Vec<(f64, f64)> = rows.iter().zip(told).filter_map(pair).collect();
                metrics::evaluate_numbers(&pairs, resampling)
            };
            beside(told, baseline, score).map(Scores::Number)
        }
    }
}

/// Scores a model and, if there is one, the other beside it.
fn beside<T>(
    told: &[Prediction],
    other: Option<(&str, &Head, Vec<Prediction>)>,
    score: impl Fn(&[Prediction]) -> Result<T, noisegate_records::Error>,
) -> Result<Beside<T>, StepFailure> {
    let in_f32 = other.map(|(_, _, told)| score(&told)).transpose();
    Ok(Beside {
        scored: score(told).map_err(bad_input)?,
        in_f32: in_f32.map_err(bad_input)?,
    })
}

/// Which of the labels `scored` a row has, and which of them the head said yes to.
fn many(head: &Head, scored: &[String], target: &Target, told: &Prediction) -> ManyLabels {
    let has = |label: &String| match target {
        Target::Labels(labels) => labels.contains(label),
        _ => false,
    };
    let answers = head.labels.iter().zip(&told.probabilities);
    let answers = answers.filter(|(label, _)| scored.contains(label));
    ManyLabels {
        truth: scored.iter().map(has).collect(),
        predicted: answers.map(|(_, probability)| *probability > YES).collect(),
    }
}

/// What `head` said, in the order of `labels`, which has all labels of `head`.
fn single(
    labels: &LabelSet,
    rows: &[Known],
    told: &[Prediction],
    head: &Head,
) -> Vec<metrics::Prediction> {
    let all = rows.iter().zip(told);
    let scored = all.filter_map(|(row, told)| {
        let Target::Label(label) = &row.target else {
            return None;
        };
        Some(metrics::Prediction {
            truth: labels.position(label)?,
            predicted: labels.position(&head.labels[told.label])?,
            confidence: told.probabilities.get(told.label).copied().map(f64::from),
        })
    });
    scored.collect()
}

/// The page: drawings for one label a row, a table otherwise.
fn html(scores: &Scores, context: &StepContext<'_>) -> String {
    let title = format!("Evaluation `{}`", context.step.name);
    let note = format!(
        "Run `{}`, site `{}`. Scores of private records are private to their site.",
        context.run, context.step.site
    );
    match scores {
        Scores::SingleLabel(report) => page::page(&title, &note, report),
        other => page::plain(&title, &note, &table(other)),
    }
}

/// The scores as a table for a terminal.
pub fn table(scores: &Scores) -> String {
    use noisegate_records::table;
    match scores {
        Scores::SingleLabel(report) => {
            let confusion = match report.evaluation.classes.len() {
                2..=12 => format!("\n{}", table::render_confusion(&report.evaluation)),
                _ => String::new(),
            };
            format!("{}{confusion}", table::render_report(report))
        }
        Scores::MultiLabel(evaluation) => both(evaluation, table::render_many),
        Scores::Number(evaluation) => both(evaluation, table::render_numbers),
    }
}

fn both<T>(scores: &Beside<T>, render: impl Fn(&T) -> String) -> String {
    let scored = render(&scores.scored);
    match &scores.in_f32 {
        None => scored,
        Some(other) => format!("8-bit products:\n{scored}\n{IN_F32}:\n{}", render(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_that_the_records_do_not_declare_is_not_scored() {
        let head = Head::only(Task::MultiLabel, ["ache", "cough", "fever"]);
        let scored = ["ache", "fever"].map(str::to_owned);
        let told = Prediction {
            label: 0,
            probabilities: vec![0.1, 0.9, 0.8],
            numbers: Vec::new(),
            cut: false,
            only_unknown: false,
        };
        let target = Target::Labels(vec!["ache".to_owned()]);
        let row = many(&head, &scored, &target, &told);
        assert_eq!(row.truth, [true, false]);
        assert_eq!(row.predicted, [false, true]);
    }
}
