//! Which head each input trains: the parameter `tasks`.
//!
//! - empty: one head for all inputs;
//! - `each`: a head for every data set; released samples go to the head that has all their labels;
//! - `topic = data.a + augment.samples, pain:number = data.b`: as written, each with its task.

use std::collections::BTreeSet;

use noisegate_engine::{Input, StepFailure};
use noisegate_slm::model::heads::ONLY_HEAD;
use noisegate_slm::{Head, Task};
use noisegate_workflow::{ArtifactId, Labels, Plan};

use super::bad_input;
use super::rows::{self, MoreColumns, Row};
use crate::with::With;

/// Heads, and the place of each input's head among them.
#[derive(Debug)]
pub(super) struct Assigned {
    pub heads: Vec<Head>,
    pub of_input: Vec<usize>,
}

/// A head as asked for, before its labels are known.
#[derive(Debug)]
pub(super) struct Asked {
    pub name: String,
    pub task: Task,
    /// Places of its inputs.
    pub inputs: Vec<usize>,
}

/// Training asks whose a text is: validation is about other people.
pub(super) const UNITS: MoreColumns<'_> = MoreColumns {
    unit: true,
    group: None,
};

/// Reads every input and says which head it trains.
///
/// # Errors
/// [`StepFailure::BadInput`] for a parameter that cannot be understood, an input in no head or in
/// two, and everything [`rows::read`] says.
pub(super) fn assign(
    inputs: &[Input],
    task: Task,
    heads: &str,
    plan: Option<&Plan>,
) -> Result<(Assigned, Vec<Vec<Row>>), StepFailure> {
    let names: Vec<String> = inputs.iter().map(name).collect();
    let mut asked =
        asked(heads, &names, task).map_err(|why| bad_input(format!("`tasks`: {why}")))?;
    if heads.trim() == EACH {
        give_samples(&mut asked, inputs)?;
    }
    let mut of_input = vec![0; inputs.len()];
    for (head, asked) in asked.iter().enumerate() {
        asked
            .inputs
            .iter()
            .for_each(|&input| of_input[input] = head);
    }
    let read = inputs.iter().zip(&of_input);
    let rows: Vec<Vec<Row>> = read
        .map(|(input, &head)| rows::read(input, asked[head].task, UNITS))
        .collect::<Result<_, _>>()?;
    let heads = asked
        .iter()
        .map(|asked| {
            Ok(Head {
                labels: labels(asked, inputs, &rows, plan)?,
                name: asked.name.clone(),
                task: asked.task,
            })
        })
        .collect::<Result<_, StepFailure>>()?;
    Ok((Assigned { heads, of_input }, rows))
}

/// `data.NAME` or `STEP.PORT`, as a workflow writes it.
pub(super) fn name(input: &Input) -> String {
    match input {
        Input::Data { data, .. } => format!("data.{}", data.name),
        Input::Path { name, .. } => name.clone(),
    }
}

/// The value of `tasks` that makes a head of every data set.
const EACH: &str = "each";

/// What stands before the name of a data set.
const DATA: &str = "data.";

/// What `slm predict` says of a text beside what the heads say.
pub(super) const CUT: &str = "cut";
pub(super) const ONLY_UNKNOWN: &str = "only_unknown_tokens";

/// The heads that the parameters of a step ask for; see [`asked`].
pub(super) fn of_step(with: With<'_>, names: &[String]) -> Result<Vec<Asked>, String> {
    let text = |param| with.text(param).unwrap_or_default();
    let task = Task::of_name(text("task")).unwrap_or(Task::SingleLabel);
    asked(text("tasks"), names, task)
}

/// The heads that `tasks` asks for, of inputs with these names. With `each`, released samples are
/// in no head yet: which one has their labels, they tell themselves.
pub(super) fn asked(tasks: &str, names: &[String], task: Task) -> Result<Vec<Asked>, String> {
    let asked = match tasks.trim() {
        "" => vec![Asked {
            name: ONLY_HEAD.to_owned(),
            task,
            inputs: (0..names.len()).collect(),
        }],
        EACH => each(names, task)?,
        mapping => parse(mapping, names, task)?,
    };
    for (index, Asked { name, .. }) in asked.iter().enumerate() {
        if asked[..index].iter().any(|other| other.name == *name) {
            return Err(format!(
                "there are two heads named `{name}`; name one of them otherwise, or give one the \
                 inputs of both"
            ));
        }
        if [CUT, ONLY_UNKNOWN].contains(&name.as_str()) {
            return Err(format!(
                "no head may be named `{name}`, which `slm predict` says of a text itself; name it \
                 otherwise"
            ));
        }
    }
    Ok(asked)
}

/// One head a data set, named after it.
fn each(names: &[String], task: Task) -> Result<Vec<Asked>, String> {
    let data = names.iter().enumerate();
    let data = data.filter_map(|(place, name)| Some((place, name.strip_prefix(DATA)?)));
    let asked: Vec<Asked> = data
        .map(|(place, name)| Asked {
            name: name.to_owned(),
            task,
            inputs: vec![place],
        })
        .collect();
    match asked.is_empty() {
        true => Err(format!(
            "`{EACH}` makes a head of every data set, and the step reads none; leave it out"
        )),
        false => Ok(asked),
    }
}

/// Gives released samples to the one head whose data set declares all their labels.
fn give_samples(asked: &mut [Asked], inputs: &[Input]) -> Result<(), StepFailure> {
    let declared = |head: &Asked| match &inputs[head.inputs[0]] {
        Input::Data { labels, .. } => labels.as_slice(),
        Input::Path { .. } => &[],
    };
    let declared: Vec<&[String]> = asked.iter().map(declared).collect();
    for (index, input) in inputs.iter().enumerate() {
        if matches!(input, Input::Data { .. }) {
            continue;
        }
        let task = asked[0].task;
        let rows = rows::read(input, task, UNITS)?;
        let cells = rows.iter().flat_map(Row::labels);
        let mut found: Vec<&str> = match task {
            Task::MultiLabel => cells.flat_map(rows::split).collect(),
            _ => cells.collect(),
        };
        found.sort_unstable();
        found.dedup();
        let fits = |labels: &[String]| found.iter().all(|l| labels.iter().any(|known| known == l));
        let fitting = declared.iter().enumerate();
        let mut fitting = fitting.filter(|(_, labels)| fits(labels)).map(|it| it.0);
        match (fitting.next(), fitting.next()) {
            (Some(head), None) => asked[head].inputs.push(index),
            (first, _) => {
                let which = if first.is_none() {
                    "no"
                } else {
                    "more than one"
                };
                return Err(StepFailure::BadInput(format!(
                    "`tasks = \"{EACH}\"`: {which} data set declares all labels of `{}`; say which \
                     head it trains, such as `tasks = \"topic = data.a + {}\"`",
                    name(input),
                    name(input)
                )));
            }
        }
    }
    Ok(())
}

fn parse(mapping: &str, names: &[String], task: Task) -> Result<Vec<Asked>, String> {
    let wrong = |problem: String| {
        format!("{problem}; write it as `topic = data.a + augment.samples, pain:number = data.b`")
    };
    let mut asked: Vec<Asked> = Vec::new();
    let mut taken = vec![false; names.len()];
    for part in mapping.split(',') {
        let Some((head, members)) = part.split_once('=') else {
            return Err(wrong(format!("`{}` has no `=`", part.trim())));
        };
        let (head, task) = match head.trim().split_once(':') {
            None => (head.trim(), task),
            Some((head, word)) => match Task::of_name(word.trim()) {
                Some(task) => (head.trim(), task),
                None => {
                    return Err(wrong(format!(
                        "`{}` is no task; there are `single-label`, `multi-label` and `number`",
                        word.trim()
                    )));
                }
            },
        };
        if head.is_empty() {
            return Err(wrong("a head has no name".to_owned()));
        }
        let mut places = Vec::new();
        for member in members.split('+').map(str::trim) {
            let place = names.iter().position(|name| name == member);
            match place {
                None => return Err(wrong(format!("the step reads no `{member}`"))),
                Some(place) if taken[place] => {
                    return Err(wrong(format!("`{member}` trains two heads")));
                }
                Some(place) => {
                    taken[place] = true;
                    places.push(place);
                }
            }
        }
        asked.push(Asked {
            name: head.to_owned(),
            task,
            inputs: places,
        });
    }
    if let Some(left) = taken.iter().position(|taken| !taken) {
        return Err(wrong(format!("`{}` trains no head", names[left])));
    }
    Ok(asked)
}

/// The labels that the head's data sets declare. Of released records alone: those that are declared
/// where the workflow lists the labels of what they were made from, as noise may have left one out,
/// and those that occur.
fn labels(
    asked: &Asked,
    inputs: &[Input],
    rows: &[Vec<Row>],
    plan: Option<&Plan>,
) -> Result<Vec<String>, StepFailure> {
    let mut labels: Vec<String> = Vec::new();
    for &place in &asked.inputs {
        if let Input::Data {
            labels: declared, ..
        } = &inputs[place]
        {
            labels.extend(declared.iter().cloned());
        }
    }
    if labels.is_empty() {
        let cells = asked.inputs.iter().flat_map(|&place| &rows[place]);
        let cells = cells.flat_map(Row::labels);
        labels = match asked.task {
            Task::SingleLabel => cells.map(str::to_owned).collect(),
            Task::MultiLabel => cells.flat_map(rows::split).map(str::to_owned).collect(),
            Task::Number => vec![asked.name.clone()],
        };
        if let (Some(plan), true) = (plan, asked.task != Task::Number) {
            let mut seen = BTreeSet::new();
            for &place in &asked.inputs {
                let made = name(&inputs[place]).parse();
                made.iter()
                    .for_each(|id| inherited(plan, id, &mut seen, &mut labels));
            }
        }
    }
    labels.sort();
    labels.dedup();
    if asked.task == Task::Number && labels.len() != 1 {
        return Err(StepFailure::BadInput(one_number(&asked.name, labels.len())));
    }
    Ok(labels)
}

/// Adds the labels that the workflow lists for the data sets an artifact was made from.
fn inherited(
    plan: &Plan,
    id: &ArtifactId,
    seen: &mut BTreeSet<ArtifactId>,
    labels: &mut Vec<String>,
) {
    if !seen.insert(id.clone()) {
        return;
    }
    match id {
        ArtifactId::Data(name) => {
            let data = plan.data.iter().find(|data| data.name == *name);
            if let Some(Labels::List(declared)) = data.and_then(|data| data.labels.as_ref()) {
                labels.extend(declared.iter().cloned());
            }
        }
        ArtifactId::Output { step, .. } => {
            let maker = plan.steps.iter().find(|planned| planned.name == *step);
            let reads = maker.into_iter().flat_map(|maker| &maker.inputs);
            reads
                .flat_map(|input| &input.artifacts)
                .for_each(|id| inherited(plan, id, seen, labels));
        }
        ArtifactId::Plugin(_) => {}
    }
}

/// What is said to a head of numbers over data sets with so many labels.
pub(super) fn one_number(head: &str, labels: usize) -> String {
    format!(
        "head `{head}` gives one number, and its data sets declare {labels} labels; declare one: \
         what the number measures"
    )
}

#[cfg(test)]
mod tests {
    use noisegate_workflow::{Catalog, Source, load};

    use super::*;

    const LABELLED: &str = r#"
[workflow]
name = "w"
[sites.clinic]
[data.notes]
site = "clinic"
path = "notes.jsonl"
private = true
labels = ["billing", "care", "delay"]
[data.news]
site = "clinic"
path = "news.jsonl"
private = false
labels = ["billing", "care", "delay"]
[steps.teacher]
uses = "slm:train"
site = "clinic"
reads = { records = "data.notes" }
[steps.label]
uses = "slm:pseudo-label"
site = "clinic"
reads = { model = "teacher.model", samples = "data.news" }
[steps.student]
uses = "slm:train"
site = "clinic"
reads = { records = "label.samples" }
"#;

    /// A label that noise left out, or that no sample was given, is one that a test set may have.
    #[test]
    fn a_model_of_samples_alone_knows_the_labels_that_they_could_have_had() {
        let catalog = Catalog {
            steps: crate::catalog::host_steps(),
            plugins: Vec::new(),
        };
        let Ok(checked) = load(Source::new("w.toml", LABELLED), &[], &catalog) else {
            panic!("the workflow is sound")
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("samples.jsonl");
        std::fs::write(&path, "{\"text\":\"a bill\",\"label\":\"billing\"}\n").unwrap();
        let input = Input::Path {
            name: "label.samples".to_owned(),
            path,
            pinned: Vec::new(),
            private: true,
        };
        let labels = |plan| {
            let (assigned, _) =
                assign(std::slice::from_ref(&input), Task::SingleLabel, "", plan).unwrap();
            assigned.heads[0].labels.clone()
        };
        assert_eq!(labels(Some(&checked.plan)), ["billing", "care", "delay"]);
        // By hand, those that occur.
        assert_eq!(labels(None), ["billing"]);
    }
}
