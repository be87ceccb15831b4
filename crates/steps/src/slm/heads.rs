//! Which head each input trains: the parameter `tasks`.
//!
//! - empty: one head for all inputs;
//! - `each`: a head for every data set; released samples go to the head that has all their labels;
//! - `topic = data.a + augment.samples, pain:number = data.b`: as written, each with its task.

use noisegate_engine::{Input, StepFailure};
use noisegate_slm::model::heads::ONLY_HEAD;
use noisegate_slm::{Head, Task};

use super::rows::{self, MoreColumns, Row};

/// Heads, and the place of each input's head among them.
#[derive(Debug)]
pub(super) struct Assigned {
    pub heads: Vec<Head>,
    pub of_input: Vec<usize>,
}

/// A head as asked for, before its labels are known.
struct Asked {
    name: String,
    task: Task,
    /// Places of its inputs.
    inputs: Vec<usize>,
}

/// Training asks whose a text is: validation is about other people.
const UNITS: MoreColumns<'_> = MoreColumns {
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
) -> Result<(Assigned, Vec<Vec<Row>>), StepFailure> {
    let asked = match heads.trim() {
        "" => vec![Asked {
            name: ONLY_HEAD.to_owned(),
            task,
            inputs: (0..inputs.len()).collect(),
        }],
        "each" => each(inputs, task)?,
        mapping => parse(mapping, inputs, task)?,
    };
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
                labels: labels(asked, inputs, &rows)?,
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

/// One head a data set, named after it.
fn each(inputs: &[Input], task: Task) -> Result<Vec<Asked>, StepFailure> {
    let mut asked: Vec<(Asked, &[String])> = Vec::new();
    for (index, input) in inputs.iter().enumerate() {
        if let Input::Data { data, labels, .. } = input {
            let head = Asked {
                name: data.name.to_string(),
                task,
                inputs: vec![index],
            };
            asked.push((head, labels));
        }
    }
    for (index, input) in inputs.iter().enumerate() {
        if matches!(input, Input::Data { .. }) {
            continue;
        }
        let rows = rows::read(input, task, UNITS)?;
        let cells = rows.iter().flat_map(Row::labels);
        let mut found: Vec<&str> = match task {
            Task::MultiLabel => cells.flat_map(rows::split).collect(),
            _ => cells.collect(),
        };
        found.sort_unstable();
        found.dedup();
        let fits = |labels: &[String]| found.iter().all(|l| labels.iter().any(|known| known == l));
        let mut fitting = asked.iter_mut().filter(|(_, labels)| fits(labels));
        match (fitting.next(), fitting.next()) {
            (Some((head, _)), None) => head.inputs.push(index),
            (first, _) => {
                let which = if first.is_none() {
                    "no"
                } else {
                    "more than one"
                };
                return Err(StepFailure::BadInput(format!(
                    "`tasks = \"each\"`: {which} data set declares all labels of `{}`; say which \
                     head it trains, such as `tasks = \"topic = data.a + {}\"`",
                    name(input),
                    name(input)
                )));
            }
        }
    }
    Ok(asked.into_iter().map(|(head, _)| head).collect())
}

fn parse(mapping: &str, inputs: &[Input], task: Task) -> Result<Vec<Asked>, StepFailure> {
    let wrong = |problem: String| {
        StepFailure::BadInput(format!(
            "`tasks`: {problem}; write it as `topic = data.a + augment.samples, pain:number = data.b`"
        ))
    };
    let mut asked: Vec<Asked> = Vec::new();
    let mut taken = vec![false; inputs.len()];
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
            let place = inputs.iter().position(|input| name(input) == member);
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
        return Err(wrong(format!("`{}` trains no head", name(&inputs[left]))));
    }
    Ok(asked)
}

/// The labels that the head's data sets declare; of released records alone, those that occur.
fn labels(asked: &Asked, inputs: &[Input], rows: &[Vec<Row>]) -> Result<Vec<String>, StepFailure> {
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
    }
    labels.sort();
    labels.dedup();
    if asked.task == Task::Number && labels.len() != 1 {
        return Err(StepFailure::BadInput(format!(
            "head `{}` gives one number, and its data sets declare {} labels; declare one: what \
             the number measures",
            asked.name,
            labels.len()
        )));
    }
    Ok(labels)
}
