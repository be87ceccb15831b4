//! What the numbers behind the encoder mean: one head a task, all heads in one matrix.
//!
//! ```text
//! classifier.weight [outputs, hidden]   rows 0..3  head `topic`     one of three labels
//!                                       rows 3..8  head `symptoms`  any of five labels
//!                                       row  8     head `severity`  a number
//! ```
//!
//! Several heads share the encoder; an example trains the rows of its own head only.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::error::SlmError;

/// What a head says about a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Task {
    /// Exactly one of the labels.
    SingleLabel,
    /// Any of the labels, each on its own; also none.
    MultiLabel,
    /// A number for each name.
    Number,
}

impl Task {
    /// The word for it in files and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SingleLabel => "single-label",
            Self::MultiLabel => "multi-label",
            Self::Number => "number",
        }
    }

    /// The task with this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let all = [Self::SingleLabel, Self::MultiLabel, Self::Number];
        all.into_iter().find(|task| task.name() == name)
    }

    /// Hugging Face's word for it.
    fn problem_type(self) -> &'static str {
        match self {
            Self::SingleLabel => "single_label_classification",
            Self::MultiLabel => "multi_label_classification",
            Self::Number => "regression",
        }
    }
}

/// One task of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Tells it from the model's other heads.
    pub name: String,
    /// What it says.
    pub task: Task,
    /// The labels, in order; of a number head, what each number measures.
    pub labels: Vec<String>,
}

/// The name of the only head, where nobody has named it.
pub const ONLY_HEAD: &str = "label";

impl Head {
    /// The only head of an ordinary classifier.
    #[must_use]
    pub fn single(labels: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::only(Task::SingleLabel, labels)
    }

    /// The only head of a model, for any task.
    #[must_use]
    pub fn only(task: Task, labels: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            name: ONLY_HEAD.to_owned(),
            task,
            labels: labels.into_iter().map(Into::into).collect(),
        }
    }

    /// Probabilities of the labels; none of a number head.
    #[must_use]
    pub fn probabilities(&self, logits: &[f32]) -> Vec<f32> {
        match self.task {
            Task::Number => Vec::new(),
            Task::MultiLabel => logits.iter().map(|z| 1.0 / (1.0 + (-z).exp())).collect(),
            Task::SingleLabel => {
                let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let powers: Vec<f32> = logits.iter().map(|z| (z - largest).exp()).collect();
                let total: f32 = powers.iter().sum();
                powers.into_iter().map(|power| power / total).collect()
            }
        }
    }
}

/// Refuses heads that nothing can be learned for.
///
/// # Errors
/// [`SlmError::Heads`]: none, or two of one name; [`SlmError::Labels`]: too few, or one twice.
pub fn check(heads: &[Head]) -> Result<(), SlmError> {
    let refuse = |problem: String| Err(SlmError::Labels { problem });
    if heads.is_empty() {
        return Err(SlmError::Heads {
            problem: "there is no head".to_owned(),
        });
    }
    for (index, head) in heads.iter().enumerate() {
        if heads[..index].iter().any(|other| other.name == head.name) {
            return Err(SlmError::Heads {
                problem: format!("there are two heads named `{}`", head.name),
            });
        }
        let least = if head.task == Task::SingleLabel { 2 } else { 1 };
        if head.labels.len() < least {
            return refuse(format!("has {} entries", head.labels.len()));
        }
        for (at, label) in head.labels.iter().enumerate() {
            if head.labels[..at].contains(label) {
                return refuse(format!("has `{label}` twice"));
            }
        }
    }
    Ok(())
}

/// How many outputs all heads have together.
#[must_use]
pub fn outputs(heads: &[Head]) -> usize {
    heads.iter().map(|head| head.labels.len()).sum()
}

/// The outputs of each head.
#[must_use]
pub fn ranges(heads: &[Head]) -> Vec<Range<usize>> {
    let mut start = 0;
    let range = |head: &Head| {
        let range = start..start + head.labels.len();
        start = range.end;
        range
    };
    heads.iter().map(range).collect()
}

/// A name for every output: the label, with its head's name before it if there are several heads.
#[must_use]
pub fn names(heads: &[Head]) -> Vec<String> {
    let name = |head: &Head, label: &String| match heads.len() {
        1 => label.clone(),
        _ => format!("{}/{label}", head.name),
    };
    let all = heads.iter();
    all.flat_map(|head| head.labels.iter().map(|label| name(head, label)))
        .collect()
}

/// The names of the heads, for messages.
pub(crate) fn list(heads: &[Head]) -> String {
    let names: Vec<&str> = heads.iter().map(|head| head.name.as_str()).collect();
    format!("`{}`", names.join("`, `"))
}

/// The place of the head named `name`; without a name, of the only head.
///
/// # Errors
/// [`SlmError::UnknownHead`] with the heads there are.
pub fn find(heads: &[Head], name: Option<&str>) -> Result<usize, SlmError> {
    let unknown = |name: &str| SlmError::UnknownHead {
        name: name.to_owned(),
        known: list(heads),
    };
    match (name, heads) {
        (None, [_]) => Ok(0),
        (None, _) => Err(unknown("without a name, as there are several")),
        (Some(name), _) => {
            let place = heads.iter().position(|head| head.name == name);
            place.ok_or_else(|| unknown(&format!("`{name}`")))
        }
    }
}

/// Adds what Hugging Face's library reads, and this crate's own section `heads`.
pub(super) fn write(heads: &[Head], config: &mut Map<String, Value>, own: &mut Map<String, Value>) {
    if heads.is_empty() {
        return;
    }
    let names = names(heads);
    let by_id = names.iter().enumerate();
    let by_id = by_id.map(|(id, label)| (id.to_string(), json!(label)));
    config.insert("id2label".to_owned(), Value::Object(by_id.collect()));
    let by_label = names.iter().enumerate();
    let by_label = by_label.map(|(id, label)| (label.clone(), json!(id)));
    config.insert("label2id".to_owned(), Value::Object(by_label.collect()));
    if let [head] = heads {
        config.insert("problem_type".to_owned(), json!(head.task.problem_type()));
    }
    let head =
        |head: &Head| json!({ "name": head.name, "task": head.task.name(), "labels": head.labels });
    own.insert("heads".to_owned(), heads.iter().map(head).collect());
}

/// The heads of a folder with mean pooling, which this crate marks; none otherwise.
///
/// # Errors
/// [`SlmError::Config`] with what is wrong.
pub(super) fn read(config: &Map<String, Value>, path: &Path) -> Result<Vec<Head>, SlmError> {
    let wrong = |problem: String| SlmError::Config {
        path: path.to_owned(),
        problem,
    };
    let own = |key: &str| config.get("noisegate").and_then(|own| own.get(key));
    let Some(Value::String(pooling)) = own("pooling") else {
        return Ok(Vec::new());
    };
    if pooling != "mean" {
        let problem = format!("`noisegate.pooling` is `{pooling}`; only `mean` is known");
        return Err(wrong(problem));
    }
    let heads = match (own("heads"), config.get("id2label")) {
        (Some(Value::Array(heads)), _) => heads
            .iter()
            .map(|head| parse(head).ok_or_else(|| wrong(HEADS_REMEDY.to_owned())))
            .collect::<Result<_, _>>()?,
        (Some(_), _) => return Err(wrong(HEADS_REMEDY.to_owned())),
        (None, Some(Value::Object(names))) => vec![Head::single(by_id(names, &wrong)?)],
        (None, _) => return Ok(Vec::new()),
    };
    check(&heads).map_err(|error| wrong(error.to_string()))?;
    Ok(heads)
}

const HEADS_REMEDY: &str =
    "`noisegate.heads` is no list of `name`, `task` and `labels`; copy the file again";

fn parse(head: &Value) -> Option<Head> {
    let labels = head.get("labels")?.as_array()?;
    Some(Head {
        name: head.get("name")?.as_str()?.to_owned(),
        task: Task::of_name(head.get("task")?.as_str()?)?,
        labels: labels
            .iter()
            .map(|label| label.as_str().map(str::to_owned))
            .collect::<Option<_>>()?,
    })
}

/// The labels of `id2label`, by id.
fn by_id(
    names: &Map<String, Value>,
    wrong: &impl Fn(String) -> SlmError,
) -> Result<Vec<String>, SlmError> {
    let mut by_id = BTreeMap::new();
    for (id, name) in names {
        match (id.parse::<usize>(), name.as_str()) {
            (Ok(id), Some(name)) => by_id.insert(id, name.to_owned()),
            _ => {
                let problem = format!("`id2label` has the entry `{id}`; ids are numbers");
                return Err(wrong(problem));
            }
        };
    }
    if by_id.keys().enumerate().any(|(i, id)| i != *id) {
        let problem = "`id2label` skips an id; it counts from 0 without gaps".to_owned();
        return Err(wrong(problem));
    }
    Ok(by_id.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads() -> Vec<Head> {
        let head = |name: &str, task, labels: &[&str]| Head {
            name: name.to_owned(),
            task,
            labels: labels.iter().map(|l| (*l).to_owned()).collect(),
        };
        vec![
            head("topic", Task::SingleLabel, &["bill", "visit"]),
            head("symptoms", Task::MultiLabel, &["cough", "fever", "pain"]),
            head("severity", Task::Number, &["severity"]),
        ]
    }

    #[test]
    fn what_is_written_is_read_back() {
        let (mut config, mut own) = (Map::new(), Map::new());
        own.insert("pooling".to_owned(), json!("mean"));
        write(&heads(), &mut config, &mut own);
        config.insert("noisegate".to_owned(), Value::Object(own));
        assert_eq!(read(&config, Path::new("config.json")).unwrap(), heads());
        assert_eq!(config["id2label"]["3"], "symptoms/fever");
    }

    #[test]
    fn every_output_belongs_to_one_head() {
        assert_eq!(ranges(&heads()), [0..2, 2..5, 5..6]);
        assert_eq!(outputs(&heads()), 6);
    }

    #[test]
    fn heads_that_cannot_be_learned_are_refused() {
        let message = |heads: &[Head]| check(heads).unwrap_err().to_string();
        assert!(message(&[Head::single(["a"])]).contains("has 1 entries"));
        assert!(message(&[Head::single(["a", "b", "a"])]).contains("`a` twice"));
        assert!(
            message(&[heads().remove(0), heads().remove(0)])
                .contains("two heads named `topic`; give")
        );
        check(&heads()).unwrap();
    }

    #[test]
    fn one_label_shares_and_many_do_not() {
        let [single, many, number] = <[Head; 3]>::try_from(heads()).unwrap();
        let shares = single.probabilities(&[1.0, 1.0]);
        assert!((shares[0] - 0.5).abs() < 1e-6 && (shares[1] - 0.5).abs() < 1e-6);
        let each = many.probabilities(&[0.0, 100.0, -100.0]);
        assert!((each[0] - 0.5).abs() < 1e-6 && each[1] > 0.999 && each[2] < 1e-3);
        assert!(number.probabilities(&[7.0]).is_empty());
    }
}
