//! Whole runs with small steps made for the purpose.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use noisegate_engine::driver::Environment;
use noisegate_engine::events::Told;
use noisegate_engine::folder::begun;
use noisegate_engine::state::{Ending, StepState};
use noisegate_engine::{
    Artifact, Event, Input, Limits, Made, Observer, Outcome, Registry, RunFolder, Step,
    StepContext, StepFailure, Store, drive,
};
use noisegate_workflow::{
    ArtifactId, Catalog, Cores, Label, Plan, PortSpec, PortType, Source, StepSignature, Weight,
};

type Action = dyn Fn(&StepContext<'_>) -> Result<Vec<Made>, StepFailure> + Send + Sync;
struct Fake(Box<Action>);

impl Step for Fake {
    fn run(&self, context: &StepContext<'_>) -> Result<Vec<Made>, StepFailure> {
        (self.0)(context)
    }
}

/// Counts how often the run was asked to stop once more.
struct Quiet(Arc<AtomicUsize>);
impl Observer for Quiet {
    fn saw(&self, _: &Event) {}

    fn asked_again_to_stop(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn catalog(cores: Cores) -> Catalog {
    let step = |uses: &str| {
        StepSignature::host(uses, "a step for tests")
            .reads(PortSpec::many("from", PortType::Records).private())
            .makes("out", PortType::Records)
            .weight(Weight {
                cores,
                memory_bytes: 1,
            })
    };
    Catalog {
        steps: ["test:copy", "test:break", "test:wait", "test:panic"]
            .map(step)
            .to_vec(),
        plugins: Vec::new(),
    }
}

fn plan(steps: &str, cores: Cores) -> Plan {
    let text = format!(
        "[workflow]\nname = \"story\"\n[sites.clinic]\n[data.notes]\nsite = \"clinic\"\npath = \"notes.jsonl\"\nprivate = true\n{steps}"
    );
    let loaded = noisegate_workflow::load(Source::new("story.toml", text), &[], &catalog(cores));
    loaded
        .unwrap_or_else(|errors| panic!("{}", errors.render()))
        .plan
}

fn step(name: &str, uses: &str, from: &str) -> String {
    format!(
        "[steps.{name}]\nuses = \"{uses}\"\nsite = \"clinic\"\nreads = {{ from = \"{from}\" }}\n"
    )
}

/// Writes the concatenation of its inputs and its own name.
fn copy(context: &StepContext<'_>) -> Result<Vec<Made>, StepFailure> {
    let mut text = String::new();
    for input in context.inputs.all("from") {
        text += &std::fs::read_to_string(input.path())
            .map_err(|error| StepFailure::Failed(error.to_string()))?;
    }
    text += context.step.name.as_str();
    let path = context.work.join("out.jsonl");
    std::fs::write(&path, text).map_err(|error| StepFailure::Failed(error.to_string()))?;
    Ok(vec![Made {
        port: "out".to_owned(),
        path,
    }])
}

struct Stage {
    home: tempfile::TempDir,
    registry: Registry,
    cancel: AtomicBool,
    asked_again: Arc<AtomicUsize>,
}

impl Stage {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("notes.jsonl"), "notes>").unwrap();
        let mut registry = Registry::new();
        registry.insert("test:copy".to_owned(), Box::new(Fake(Box::new(copy))));
        Self {
            home,
            registry,
            cancel: AtomicBool::new(false),
            asked_again: Arc::default(),
        }
    }

    fn step(
        &mut self,
        uses: &str,
        action: impl Fn(&StepContext<'_>) -> Result<Vec<Made>, StepFailure> + Send + Sync + 'static,
    ) {
        self.registry
            .insert(uses.to_owned(), Box::new(Fake(Box::new(action))));
    }

    fn store(&self) -> Store {
        Store::new(self.home.path().join("store"))
    }

    fn run(&self, plan: &Plan) -> Outcome {
        let data = &plan.data[0];
        let resolved: BTreeMap<ArtifactId, Input> = [(
            ArtifactId::Data(data.name.clone()),
            Input::Data {
                data: Box::new(data.clone()),
                path: self.home.path().join("notes.jsonl"),
                file: None,
                labels: Vec::new(),
            },
        )]
        .into();
        let folder = RunFolder::create(self.home.path(), "20260102-101500", plan).unwrap();
        let environment = Environment {
            registry: &self.registry,
            store: &self.store(),
            folder: &folder,
            resolved: &resolved,
            limits: Limits {
                cores: 2,
                memory_bytes: 1 << 30,
            },
            observer: &Quiet(self.asked_again.clone()),
            cancel: &self.cancel,
        };
        drive(plan, &environment).unwrap()
    }

    fn files(&self, below: &str) -> Vec<PathBuf> {
        fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, found)
                } else {
                    found.push(path)
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.home.path().join(below), &mut found);
        found
    }
}

#[test]
fn steps_pass_artifacts_on_and_scratch_folders_go_away() {
    let stage = Stage::new();
    let plan = plan(
        &(step("one", "test:copy", "data.notes") + &step("two", "test:copy", "one.out")),
        Cores::One,
    );
    let outcome = stage.run(&plan);
    assert_eq!(outcome.ending, Ending::Done);
    let artifact = &outcome.artifacts["two.out"];
    let path = stage.store().open(artifact, "clinic").unwrap();
    assert_eq!(std::fs::read_to_string(path).unwrap(), "notes>onetwo");
    assert!(matches!(artifact.label, Label::PrivateTo(_)));
    let run = format!("runs/{}", "20260102-101500-story");
    assert!(stage.files(&format!("{run}/work")).is_empty());
    assert_eq!(stage.files(&run).len(), 4, "plan, events, result and lock");
    let log = stage.home.path().join(&run).join("events.jsonl");
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("two.out"), "{log}");
    for artifact in outcome.artifacts.values() {
        assert!(
            !log.contains(&artifact.digest),
            "a private digest is in {log}"
        );
    }
    let released = Artifact {
        label: Label::Public,
        ..artifact.clone()
    };
    assert_eq!(Told::from(&released).digest, Some(released.digest));
}

#[test]
fn the_store_opens_a_private_artifact_at_its_own_site_only() {
    let stage = Stage::new();
    let outcome = stage.run(&plan(&step("one", "test:copy", "data.notes"), Cores::One));
    let refused = stage
        .store()
        .open(&outcome.artifacts["one.out"], "server")
        .unwrap_err()
        .to_string();
    assert_eq!(
        refused,
        "artifact `one.out` is private to clinic and may not be opened at site `server`; put a sandbox step between them"
    );
}

#[test]
fn a_changed_artifact_is_noticed_when_it_is_opened() {
    let stage = Stage::new();
    let outcome = stage.run(&plan(&step("one", "test:copy", "data.notes"), Cores::One));
    let path = stage
        .store()
        .open(&outcome.artifacts["one.out"], "clinic")
        .unwrap();
    std::fs::write(path, "something else").unwrap();
    let error = stage
        .store()
        .open(&outcome.artifacts["one.out"], "clinic")
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("does not have the content it was stored with")
    );
}

#[test]
fn a_failed_step_stores_nothing_and_skips_what_needs_it() {
    let mut stage = Stage::new();
    stage.step("test:break", |context| {
        std::fs::write(context.work.join("out.jsonl"), "half").unwrap();
        Err(StepFailure::BadInput("row 3 is bad".to_owned()))
    });
    let plan = plan(
        &(step("one", "test:break", "data.notes") + &step("two", "test:copy", "one.out")),
        Cores::One,
    );
    let outcome = stage.run(&plan);
    assert_eq!(outcome.ending, Ending::Failed);
    assert_eq!(outcome.steps["two"], StepState::Skipped);
    assert!(matches!(&outcome.failure, Some((step, StepFailure::BadInput(_))) if step == "one"));
    assert!(stage.files("store").is_empty());
}

#[test]
fn runs_of_one_second_are_listed_in_the_order_in_which_they_began() {
    let stage = Stage::new();
    let mut plan = plan(&step("one", "test:copy", "data.notes"), Cores::One);
    let mut begin = |stamp: &str, workflow: &str| {
        plan.workflow = workflow.parse().unwrap();
        let folder = RunFolder::create(stage.home.path(), stamp, &plan);
        folder.unwrap().name
    };
    let mut names: Vec<String> = (0..12).map(|_| begin("20260102-101500", "w")).collect();
    assert_eq!(names[11], "20260102-101500-w-12");
    names.push(begin("20260102-101500", "exp-2"));
    names.push(begin("20260102-101500", "a"));
    names.push(begin("20260102-101501", "a"));
    let runs = stage.home.path().join("runs");
    std::fs::create_dir(runs.join("zzz-never-begun")).unwrap();
    std::fs::write(runs.join("zzz.txt"), "stray").unwrap();
    assert_eq!(begun(stage.home.path()).unwrap(), names);
}

#[test]
fn a_failure_is_told_even_if_it_cannot_be_written_down() {
    let mut stage = Stage::new();
    stage.step("test:break", |context| {
        // What `result.json` is gathered in cannot be made.
        let run = context.work.ancestors().nth(2).unwrap();
        std::fs::create_dir(run.join("result.json.half")).unwrap();
        Err(StepFailure::Refused("the budget is spent".to_owned()))
    });
    let outcome = stage.run(&plan(&step("one", "test:break", "data.notes"), Cores::One));
    assert!(matches!(
        outcome.failure,
        Some((_, StepFailure::Refused(_)))
    ));
    let unrecorded = outcome.unrecorded.unwrap().to_string();
    assert!(unrecorded.contains("result.json"), "{unrecorded}");
}

#[test]
fn a_panic_fails_the_step_without_telling_its_text() {
    let mut stage = Stage::new();
    stage.step("test:panic", |_| panic!("a private value"));
    let outcome = stage.run(&plan(&step("one", "test:panic", "data.notes"), Cores::One));
    let (_, failure) = outcome.failure.unwrap();
    assert!(!failure.to_string().contains("private value"));
    let log = std::fs::read_to_string(
        stage
            .home
            .path()
            .join("runs/20260102-101500-story/events.jsonl"),
    )
    .unwrap();
    assert!(log.contains("step-failed") && !log.contains("private value"));
}

#[test]
fn a_run_that_is_asked_to_stop_ends_as_interrupted() {
    let mut stage = Stage::new();
    stage.step("test:wait", |context| {
        context.cancel.store(true, Ordering::Relaxed); // somebody pressed Ctrl-C
        while !context.cancelled() {
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(StepFailure::Cancelled)
    });
    let plan = plan(
        &(step("one", "test:wait", "data.notes") + &step("two", "test:copy", "one.out")),
        Cores::One,
    );
    let outcome = stage.run(&plan);
    assert_ne!(outcome.ending, Ending::Done);
    assert_eq!(outcome.steps["two"], StepState::Skipped);
    assert!(outcome.failure.is_none());
}

#[cfg(unix)]
#[test]
fn whoever_is_asked_twice_is_told() {
    let mut stage = Stage::new();
    let heard = stage.asked_again.clone();
    stage.step("test:wait", move |context| {
        while heard.load(Ordering::Relaxed) == 0 {
            std::thread::sleep(Duration::from_millis(50));
            let mut kill = std::process::Command::new("kill");
            let asked = kill.args(["-TERM", &std::process::id().to_string()]);
            assert!(asked.status().unwrap().success());
        }
        assert!(context.cancelled());
        Err(StepFailure::Cancelled)
    });
    let outcome = stage.run(&plan(&step("one", "test:wait", "data.notes"), Cores::One));
    assert_eq!(outcome.ending, Ending::Interrupted);
}

#[test]
fn steps_that_take_all_cores_never_overlap_and_light_ones_do() {
    for (cores, most) in [(Cores::All, 1), (Cores::One, 2)] {
        let mut stage = Stage::new();
        let running = Arc::new(AtomicUsize::new(0));
        let peak = Arc::new(Mutex::new(0));
        let both = Arc::new(std::sync::Barrier::new(most));
        let (now, seen) = (running.clone(), peak.clone());
        stage.step("test:wait", move |context| {
            let count = now.fetch_add(1, Ordering::SeqCst) + 1;
            let mut peak = seen.lock().unwrap();
            *peak = count.max(*peak);
            drop(peak);
            both.wait();
            now.fetch_sub(1, Ordering::SeqCst);
            copy(context)
        });
        let steps: String = ["one", "two"]
            .map(|name| step(name, "test:wait", "data.notes"))
            .concat();
        assert_eq!(stage.run(&plan(&steps, cores)).ending, Ending::Done);
        assert_eq!(*peak.lock().unwrap(), most);
    }
}
