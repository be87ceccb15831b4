//! Awaits what [`state`](crate::state) decides: starts steps on blocking threads,
//! passes their endings back as messages, stores what they made.
//!
//! Steps share nothing with the driver but the cancel flag and the event log.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use noisegate_workflow::{ArtifactId, Cores, Label, Plan, PlannedStep, StepName};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::error::EngineError;
use crate::events::{Event, EventLog, Observer, Told};
use crate::folder::RunFolder;
use crate::interrupt::stop_signal;
use crate::state::{Action, Ending, Message, Need, Node, RunState, StepState};
use crate::step::{Input, Inputs, Registry, StepContext, StepFailure};
use crate::store::{Artifact, Store};

pub use crate::state::Limits;

/// Where a plan runs and with what.
pub struct Environment<'a> {
    /// The step kinds.
    pub registry: &'a Registry,
    /// Where artifacts are kept.
    pub store: &'a Store,
    /// This run's folder.
    pub folder: &'a RunFolder,
    /// What the data sets and plugins of the plan are on this machine.
    pub resolved: &'a BTreeMap<ArtifactId, Input>,
    /// What all running steps together may take.
    pub limits: Limits,
    /// Watches the events.
    pub observer: &'a dyn Observer,
    /// Set by whoever wants the run to stop.
    pub cancel: &'a AtomicBool,
}

/// How a run ended, and all it made.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Done, failed or interrupted.
    pub ending: Ending,
    /// Where each step stood at the end.
    pub steps: BTreeMap<String, StepState>,
    /// Wall-clock seconds of each step that ended well; whole ones, rounded up, if it read private
    /// records.
    pub seconds: BTreeMap<String, f64>,
    /// What was made, by `step.port`.
    pub artifacts: BTreeMap<String, Artifact>,
    /// The first failure, if there was one.
    #[serde(skip)]
    pub failure: Option<(String, StepFailure)>,
    /// Why `result.json` could not be written; how the steps ended is known all the same.
    #[serde(skip)]
    pub unrecorded: Option<EngineError>,
}

/// Runs `plan` to its end.
///
/// # Errors
/// [`EngineError`] if the engine itself could not work; a failed step is an
/// [`Outcome`], not an error.
pub fn drive(plan: &Plan, environment: &Environment<'_>) -> Result<Outcome, EngineError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(EngineError::Runtime)?;
    let log = EventLog::open(&environment.folder.events(), environment.observer)?;
    let (to_driver, from_steps) = mpsc::unbounded_channel();
    let mut outcome = std::thread::scope(|scope| {
        let driver = Driver {
            plan,
            environment,
            log: &log,
            to_driver,
        };
        runtime.block_on(driver.run(scope, from_steps))
    })?;
    let recorded = environment.folder.write_json("result.json", &outcome);
    outcome.unrecorded = recorded.err();
    Ok(outcome)
}

/// What a step's thread sends back when it ends.
struct Ended {
    step: usize,
    result: Result<Vec<Artifact>, StepFailure>,
    seconds: f64,
}

struct Driver<'a> {
    plan: &'a Plan,
    environment: &'a Environment<'a>,
    log: &'a EventLog<'a>,
    to_driver: mpsc::UnboundedSender<Ended>,
}

impl<'a> Driver<'a> {
    async fn run<'scope>(
        self,
        scope: &'scope std::thread::Scope<'scope, 'a>,
        mut from_steps: mpsc::UnboundedReceiver<Ended>,
    ) -> Result<Outcome, EngineError>
    where
        'a: 'scope,
    {
        let steps = &self.plan.steps;
        self.log.record(&Event::RunStarted {
            workflow: self.plan.workflow.to_string(),
            steps: steps.iter().map(|step| step.name.to_string()).collect(),
        });
        let mut state = RunState::new(nodes(self.plan), self.environment.limits);
        let mut made: BTreeMap<String, Artifact> = BTreeMap::new();
        let mut seconds = BTreeMap::new();
        let mut failure = None;

        let mut actions = state.next_actions();
        let mut interrupt = tokio::time::interval(Duration::from_millis(100));
        let mut interrupted = false;
        let mut asked_to_stop = false;
        // Made once: a signal between two rounds of the loop must not be lost.
        let stop = stop_signal();
        tokio::pin!(stop);
        loop {
            for action in std::mem::take(&mut actions) {
                match action {
                    Action::Start(step) => self.start(scope, step, &made),
                    Action::StopRunning => self.environment.cancel.store(true, Ordering::Relaxed),
                    Action::End(ending) => {
                        return Ok(self.end(ending, state.states(), seconds, made, failure));
                    }
                }
            }
            tokio::select! {
                Some(ended) = from_steps.recv() => {
                    let name = steps[ended.step].name.to_string();
                    let message = match ended.result {
                        Ok(artifacts) => {
                            made.extend(artifacts.iter().map(|one| (one.name.clone(), one.clone())));
                            seconds.insert(name.clone(), ended.seconds);
                            let artifacts = artifacts.iter().map(Told::from).collect();
                            self.log.record(&Event::StepFinished { step: name, seconds: ended.seconds, artifacts });
                            Message::Finished(ended.step)
                        }
                        Err(problem) => {
                            self.log.record(&Event::StepFailed { step: name.clone(), problem: problem.to_string() });
                            let cancelled = matches!(problem, StepFailure::Cancelled);
                            if failure.is_none() && !cancelled {
                                failure = Some((name, problem));
                            }
                            // A step may see the flag before this loop does: the run was
                            // interrupted, it did not fail.
                            if cancelled && failure.is_none() && !interrupted {
                                interrupted = true;
                                state.take(Message::Interrupt);
                            }
                            Message::Failed(ended.step)
                        }
                    };
                    actions = state.take(message);
                }
                () = &mut stop => {
                    stop.set(stop_signal());
                    if asked_to_stop {
                        self.environment.observer.asked_again_to_stop();
                    }
                    asked_to_stop = true;
                    self.environment.cancel.store(true, Ordering::Relaxed);
                }
                _ = interrupt.tick(), if !interrupted => {
                    if self.environment.cancel.load(Ordering::Relaxed) && failure.is_none() {
                        interrupted = true;
                        actions = state.take(Message::Interrupt);
                    }
                }
            }
        }
    }

    fn start<'scope>(
        &self,
        scope: &'scope std::thread::Scope<'scope, 'a>,
        index: usize,
        made: &BTreeMap<String, Artifact>,
    ) where
        'a: 'scope,
    {
        let (plan, environment, log) = (self.plan, self.environment, self.log);
        let step = &plan.steps[index];
        log.record(&Event::StepStarted {
            step: step.name.to_string(),
        });
        let inputs = gather(step, environment, made);
        let to_driver = self.to_driver.clone();
        let private = inputs
            .as_ref()
            .is_ok_and(|inputs| inputs.0.values().flatten().any(Input::is_private));
        scope.spawn(move || {
            let began = Instant::now();
            let work =
                std::panic::AssertUnwindSafe(|| run_step(plan, step, inputs, environment, log));
            // A panic in a step is a defect of the step; it must not take the run down.
            // Its text may hold private values, so it is not passed on.
            let result = std::panic::catch_unwind(work).unwrap_or_else(|_| {
                Err(StepFailure::Failed(format!(
                    "step `{}` panicked; this is a defect of `{}`, please report it",
                    step.name, step.uses
                )))
            });
            let _ = to_driver.send(Ended {
                step: index,
                result,
                seconds: told(began.elapsed(), private),
            });
        });
    }

    fn end(
        &self,
        ending: Ending,
        states: &[StepState],
        seconds: BTreeMap<String, f64>,
        artifacts: BTreeMap<String, Artifact>,
        failure: Option<(String, StepFailure)>,
    ) -> Outcome {
        let name = match ending {
            Ending::Done => "done",
            Ending::Failed => "failed",
            Ending::Interrupted => "interrupted",
        };
        self.log.record(&Event::RunFinished {
            seconds: self.log.seconds().into(),
            outcome: name.to_owned(),
        });
        let names = self.plan.steps.iter().map(|step| step.name.to_string());
        let steps = names.zip(states.iter().copied()).collect();
        Outcome {
            ending,
            steps,
            seconds,
            artifacts,
            failure,
            unrecorded: None,
        }
    }
}

/// A duration in seconds as it is told; in whole ones, rounded up, of a step that reads private
/// records: how long it looked at one may depend on what it says.
fn told(duration: Duration, private: bool) -> f64 {
    let seconds = duration.as_secs_f64();
    if private { seconds.ceil() } else { seconds }
}

fn nodes(plan: &Plan) -> Vec<Node> {
    let place = |name: &StepName| plan.steps.iter().position(|step| step.name == *name);
    plan.steps
        .iter()
        .map(|step| Node {
            after: step.after.iter().filter_map(place).collect(),
            need: Need {
                cores: match step.weight.cores {
                    Cores::One => 1,
                    Cores::All => usize::MAX,
                },
                memory_bytes: step.weight.memory_bytes,
            },
        })
        .collect()
}

/// The step's inputs as paths, each opened by the store in the name of the step's site.
fn gather(
    step: &PlannedStep,
    environment: &Environment<'_>,
    made: &BTreeMap<String, Artifact>,
) -> Result<Inputs, EngineError> {
    let mut inputs = Inputs::default();
    for input in &step.inputs {
        let mut found = Vec::new();
        for id in &input.artifacts {
            let name = id.to_string();
            let one = match (made.get(&name), environment.resolved.get(id)) {
                (Some(artifact), _) => Input::Path {
                    path: environment.store.open(artifact, step.site.as_str())?,
                    name,
                    pinned: Vec::new(),
                    private: !artifact.label.is_public(),
                },
                (None, Some(resolved)) => resolved.clone(),
                (None, None) => {
                    return Err(EngineError::io("find", PathBuf::from(name))(
                        std::io::ErrorKind::NotFound.into(),
                    ));
                }
            };
            found.push(one);
        }
        inputs.0.insert(input.port.to_string(), found);
    }
    Ok(inputs)
}

fn run_step(
    plan: &Plan,
    step: &PlannedStep,
    inputs: Result<Inputs, EngineError>,
    environment: &Environment<'_>,
    log: &EventLog<'_>,
) -> Result<Vec<Artifact>, StepFailure> {
    let engine = |error: EngineError| StepFailure::Failed(error.to_string());
    let inputs = inputs.map_err(engine)?;
    let runner = environment.registry.get(&step.uses).ok_or_else(|| {
        engine(EngineError::NoSuchStep {
            step: step.name.to_string(),
            uses: step.uses.clone(),
        })
    })?;
    let work = environment
        .folder
        .work_folder(step.name.as_str())
        .map_err(engine)?;
    let context = StepContext {
        step,
        plan: Some(plan),
        inputs,
        work: &work,
        cores: match step.weight.cores {
            Cores::One => 1,
            Cores::All => environment.limits.cores,
        },
        run: &environment.folder.name,
        record: &|event| log.record(&event),
        cancel: environment.cancel,
    };
    let stored = runner
        .run(&context)
        .and_then(|made| store_all(plan, step, &made, environment.store).map_err(engine));
    let _ = std::fs::remove_dir_all(&work);
    stored
}

/// Stores every promised output under the label that the plan proved for it.
fn store_all(
    plan: &Plan,
    step: &PlannedStep,
    made: &[crate::step::Made],
    store: &Store,
) -> Result<Vec<Artifact>, EngineError> {
    let path_of = |port: &str| -> Option<&Path> {
        made.iter()
            .find(|one| one.port == port)
            .map(|one| one.path.as_path())
    };
    step.outputs
        .iter()
        .map(|id| {
            let ArtifactId::Output { port, .. } = id else {
                unreachable!("an output is made by a step")
            };
            let path = path_of(port.as_str()).ok_or_else(|| EngineError::Unmade {
                step: step.name.to_string(),
                port: port.to_string(),
                uses: step.uses.clone(),
            })?;
            let label = plan.artifact(id).map_or_else(
                || Label::PrivateTo([step.site.clone()].into()),
                |planned| planned.label.clone(),
            );
            store.put(&id.to_string(), &label, path)
        })
        .collect()
}
