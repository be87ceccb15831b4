//! `runs` and `show`: what past runs did, read from their folders.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use noisegate_engine::state::StepState;
use noisegate_engine::{Artifact, Event, Store, folder};
use noisegate_workflow::Plan;
use serde::{Deserialize, Serialize};

use crate::args::{Place, Shown};
use crate::exit::Exit;
use crate::show as out;

/// A run in short.
#[derive(Debug, Serialize)]
pub struct Summary {
    run: String,
    workflow: String,
    outcome: String,
    steps: Vec<Timed>,
    problems: Vec<Problem>,
    charges: Vec<Charge>,
    /// By step, the ledger entry whose output it was served again.
    served_again: BTreeMap<String, u64>,
    scores: Vec<Scored>,
    artifacts: Vec<Made>,
}

#[derive(Debug, Serialize)]
struct Timed {
    step: String,
    state: StepState,
    seconds: Option<f64>,
}

/// Why a step failed.
#[derive(Debug, Serialize)]
struct Problem {
    step: String,
    problem: String,
}

#[derive(Debug, Serialize)]
struct Scored {
    step: String,
    #[serde(flatten)]
    score: Score,
}

#[derive(Debug, Serialize)]
struct Charge {
    step: String,
    data_set: String,
    epsilon: f64,
    delta: f64,
    spent_epsilon: f64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Score {
    /// None of a head that gives numbers.
    accuracy: Option<f64>,
    macro_f1: Option<f64>,
    /// Of a head that gives numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mean_absolute_error: Option<Interval>,
    rows: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Interval {
    score: f64,
    low: f64,
    high: f64,
}

#[derive(Debug, Serialize)]
struct Made {
    name: String,
    label: String,
    path: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
struct Ended {
    ending: String,
    steps: BTreeMap<String, StepState>,
    seconds: BTreeMap<String, f64>,
    artifacts: BTreeMap<String, Artifact>,
}

/// Lists all runs, oldest first.
pub fn list(place: &Place, as_json: bool) -> Result<(), Exit> {
    let names = folder::begun(&place.home).map_err(Exit::failed)?;
    if as_json {
        return out::json_line(&names);
    }
    names.iter().for_each(|name| println!("{name}"));
    Ok(())
}

/// Shows one run.
pub fn show(place: &Place, shown: &Shown) -> Result<(), Exit> {
    let summary = summary(&find(place, &shown.run)?)?;
    if shown.json {
        return out::json_line(&summary);
    }
    print!("{}", text(&summary));
    Ok(())
}

/// Runs that a message lists at most.
const CANDIDATES: usize = 8;

/// The folder of the run of that name, or of the only one whose name starts so; of the newest for
/// `last`.
///
/// # Errors
/// If there is none, or more than one.
pub fn find(place: &Place, run: &str) -> Result<PathBuf, Exit> {
    let names = folder::begun(&place.home).map_err(Exit::failed)?;
    let name = one_of(&names, run).map_err(|problem| {
        Exit::Wrong(format!(
            "{problem} below `{}`; give one name of those that `noisegate runs` lists",
            place.home.display()
        ))
    })?;
    Ok(place.home.join("runs").join(name))
}

fn one_of<'n>(names: &'n [String], run: &str) -> Result<&'n String, String> {
    let none = || format!("there is no run `{run}`");
    if run == "last" {
        return names.last().ok_or_else(none);
    }
    if run.is_empty() {
        return Err("an empty name could be any run".to_owned());
    }
    if let Some(name) = names.iter().find(|name| *name == run) {
        return Ok(name);
    }
    let starting: Vec<&String> = names.iter().filter(|name| name.starts_with(run)).collect();
    match starting[..] {
        [] => Err(none()),
        [name] => Ok(name),
        _ => {
            let newest = starting.iter().rev().take(CANDIDATES);
            let newest: Vec<String> = newest.map(|name| format!("`{name}`")).collect();
            let more = if starting.len() > CANDIDATES {
                ", …"
            } else {
                ""
            };
            Err(format!(
                "`{run}` begins the names of {} runs ({}{more})",
                starting.len(),
                newest.join(", ")
            ))
        }
    }
}

/// Reads a run's folder.
///
/// # Errors
/// If a file of it is missing or does not parse.
pub fn summary(folder: &Path) -> Result<Summary, Exit> {
    let plan: Plan = read_json(&folder.join("plan.json"))?;
    let ended = folder.join("result.json");
    let result = match ended.is_file() {
        true => read_json(&ended)?,
        // Killed, or still at work.
        false => Ended {
            ending: "unfinished".to_owned(),
            ..Ended::default()
        },
    };
    let events = events_of(folder)?;
    let told = told_of(&events);
    let home = folder.ancestors().nth(2).unwrap_or(Path::new("."));
    let store = Store::new(home.join("store"));
    let mut made = Vec::new();
    for (name, artifact) in &result.artifacts {
        made.push(Made {
            name: name.clone(),
            label: artifact.label.to_string(),
            path: store.path_of(artifact),
        });
    }
    let evaluations = plan.steps.iter().filter(|step| step.uses == "slm:evaluate");
    let mut scores = Vec::new();
    for step in evaluations {
        if let Some(report) = result.artifacts.get(&format!("{}.report", step.name)) {
            scores.push(Scored {
                step: step.name.to_string(),
                score: read_json(&store.path_of(report))?,
            });
        }
    }
    let timed = plan
        .steps
        .iter()
        .map(|step| step.name.to_string())
        .map(|step| Timed {
            state: result
                .steps
                .get(&step)
                .or(told.get(&step).map(|(state, _)| state))
                .copied()
                .unwrap_or(StepState::Skipped),
            seconds: (result.seconds.get(&step).copied())
                .or_else(|| told.get(&step).and_then(|(_, seconds)| *seconds)),
            step,
        });
    Ok(Summary {
        run: folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        workflow: plan.workflow.to_string(),
        outcome: result.ending,
        steps: timed.collect(),
        problems: problems(&events),
        charges: charges(events),
        served_again: served(folder)?,
        scores,
        artifacts: made,
    })
}

/// By step, the ledger entry whose output it was served again; none in a run that did not get
/// as far as to log events.
///
/// # Errors
/// If the run's events cannot be read.
pub fn served(folder: &Path) -> Result<BTreeMap<String, u64>, Exit> {
    Ok(events_of(folder)?
        .into_iter()
        .filter_map(|event| match event {
            Event::ServedAgain { step, entry } => Some((step, entry)),
            _ => None,
        })
        .collect())
}

fn charges(events: Vec<Event>) -> Vec<Charge> {
    let charge = |event| match event {
        Event::Charged {
            step,
            data_set,
            epsilon,
            delta,
            spent_epsilon,
        } => Some(Charge {
            step,
            data_set,
            epsilon,
            delta,
            spent_epsilon,
        }),
        _ => None,
    };
    events.into_iter().filter_map(charge).collect()
}

/// How far each step had come by what the run told, for one that has no result.
fn told_of(events: &[Event]) -> BTreeMap<String, (StepState, Option<f64>)> {
    let mut told = BTreeMap::new();
    for event in events {
        let (step, so_far) = match event {
            Event::StepStarted { step } => (step, (StepState::Running, None)),
            Event::StepFinished { step, seconds, .. } => (step, (StepState::Done, Some(*seconds))),
            Event::StepFailed { step, .. } => (step, (StepState::Failed, None)),
            _ => continue,
        };
        told.insert(step.clone(), so_far);
    }
    told
}

fn problems(events: &[Event]) -> Vec<Problem> {
    let problem = |event: &Event| match event {
        Event::StepFailed { step, problem } => Some(Problem {
            step: step.clone(),
            problem: problem.clone(),
        }),
        _ => None,
    };
    events.iter().filter_map(problem).collect()
}

/// What a run has told; nothing if it did not get as far as that.
fn events_of(folder: &Path) -> Result<Vec<Event>, Exit> {
    let path = folder.join("events.jsonl");
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Exit::Failed(format!("could not read `{}`: {error}", path.display())))?;
    let parsed = |line: &str| serde_json::from_str(line).ok();
    Ok(text.lines().filter_map(parsed).collect())
}

/// Reads a file of a run's folder.
///
/// # Errors
/// If it is missing or does not parse.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Exit> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Exit::Failed(format!(
            "could not read `{}`: {error}; the run did not get that far",
            path.display()
        ))
    })?;
    serde_json::from_str(&text)
        .map_err(|error| Exit::Failed(format!("`{}` is damaged: {error}", path.display())))
}

/// The run as a person reads it: scores, cost, seconds.
pub fn text(summary: &Summary) -> String {
    let mut text = format!(
        "run {} ({}): {}\n",
        summary.run, summary.workflow, summary.outcome
    );
    for Problem { step, problem } in &summary.problems {
        text.push_str(&format!(
            "\nstep `{step}` failed: {}\n",
            out::plain(problem)
        ));
    }
    if !summary.scores.is_empty() {
        let mut rows = vec![
            ["evaluation", "accuracy", "macro-F1"]
                .map(str::to_owned)
                .to_vec(),
        ];
        rows.extend(summary.scores.iter().map(|Scored { step, score }| {
            if let Some(error) = &score.mean_absolute_error {
                return vec![step.clone(), format!("mean error {:.4}", error.score)];
            }
            let shown = |score: Option<f64>| score.map_or("-".to_owned(), |s| format!("{s:.4}"));
            vec![step.clone(), shown(score.accuracy), shown(score.macro_f1)]
        }));
        text.push_str(&format!("\n{}", out::table(&rows)));
    }
    if !summary.charges.is_empty() {
        let heading = ["privacy", "data set", "epsilon", "delta", "spent in all"];
        let mut rows = vec![heading.map(str::to_owned).to_vec()];
        rows.extend(summary.charges.iter().map(|charge| {
            vec![
                charge.step.clone(),
                charge.data_set.clone(),
                format!("{:.4}", charge.epsilon),
                format!("{:e}", charge.delta),
                format!("{:.4}", charge.spent_epsilon),
            ]
        }));
        text.push_str(&format!("\n{}", out::table(&rows)));
    }
    for (step, entry) in &summary.served_again {
        text.push_str(&format!(
            "\nstep `{step}` was served what the ledger's entry {entry} released before, at no charge\n"
        ));
    }
    let mut rows = vec![["step", "seconds"].map(str::to_owned).to_vec()];
    rows.extend(summary.steps.iter().map(|timed| {
        let seconds = timed
            .seconds
            .map_or("-".to_owned(), |seconds| format!("{seconds:.1}"));
        vec![timed.step.clone(), seconds]
    }));
    text.push_str(&format!("\n{}", out::table(&rows)));
    let mut rows = vec![["artifact", "label", "path"].map(str::to_owned).to_vec()];
    rows.extend(summary.artifacts.iter().map(|made| {
        vec![
            made.name.clone(),
            made.label.clone(),
            made.path.display().to_string(),
        ]
    }));
    text.push_str(&format!("\n{}", out::table(&rows)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_of_a_name_means_one_run_or_is_refused() {
        let names = ["1-w", "1-w-2", "1-w-10", "2-v"].map(str::to_owned);
        assert_eq!(one_of(&names, "last").unwrap(), "2-v");
        assert_eq!(one_of(&names, "2").unwrap(), "2-v");
        assert_eq!(one_of(&names, "1-w").unwrap(), "1-w");
        assert_eq!(one_of(&names, "1-w-1").unwrap(), "1-w-10");
        let several = one_of(&names, "1-").unwrap_err();
        assert!(several.contains("`1-w-10`, `1-w-2`, `1-w`"), "{several}");
        one_of(&names, "").unwrap_err();
        one_of(&names, "3").unwrap_err();
        one_of(&[], "last").unwrap_err();
    }
}
