//! What a sound workflow becomes: order, labels, charges, parameters, paths.

mod fixture;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use noisegate_workflow::{
    ArtifactId, Checked, Format, Label, Labels, Override, Plan, RelativeTo, SiteName, Source,
    StepName, Unit, check, load, parse,
};
use serde_json::json;

const FDKT: &str = include_str!("fixture/fdkt.toml");

fn checked(set: &[&str]) -> Checked {
    let set: Vec<Override> = set
        .iter()
        .map(|set| set.parse().expect("key=value"))
        .collect();
    match load(Source::new("fdkt.toml", FDKT), &set, &fixture::catalog()) {
        Ok(checked) => checked,
        Err(errors) => panic!("{errors}"),
    }
}

fn plan(set: &[&str]) -> Plan {
    checked(set).plan
}

fn step(name: &str) -> StepName {
    name.parse().expect("a literal name")
}

fn id(text: &str) -> ArtifactId {
    text.parse().expect("a literal reference")
}

fn label(plan: &Plan, artifact: &str) -> Label {
    plan.artifact(&id(artifact))
        .expect("an artifact of the plan")
        .label
        .clone()
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.steps.iter().map(|step| step.name.as_str()).collect()
}

#[test]
fn steps_come_in_an_order_in_which_they_can_run() {
    let plan = plan(&[]);
    assert_eq!(names(&plan), ["synthesise", "augment", "train", "evaluate"]);
    assert_eq!(plan.steps[2].after, [step("augment")]);
}

#[test]
fn only_what_the_gate_released_is_public() {
    let plan = plan(&[]);
    let clinic: SiteName = "clinic".parse().expect("a literal name");
    for public in ["synthesise.samples", "augment.samples", "plugin:tiny-lm"] {
        assert_eq!(label(&plan, public), Label::Public, "{public}");
    }
    for private in [
        "data.notes",
        "data.holdout",
        "train.model",
        "evaluate.report",
    ] {
        assert_eq!(
            label(&plan, private),
            Label::private_to(clinic.clone()),
            "{private}"
        );
    }
}

#[test]
fn the_charge_is_the_parameter_of_the_run() {
    let plan = plan(&["params.epsilon=3"]);
    let charge = plan.steps[0]
        .charge
        .as_ref()
        .expect("a guest that reads private data");
    assert_eq!((charge.epsilon.get(), charge.delta.get()), (3.0, 1e-6));
    assert_eq!(charge.data.len(), 1);
    assert_eq!(
        (plan.spending[0].epsilon, plan.spending[0].delta),
        (3.0, 1e-6)
    );
    assert!(plan.steps[1..].iter().all(|step| step.charge.is_none()));
    assert_eq!(plan.params["epsilon"], json!(3.0));
}

#[test]
fn every_parameter_of_a_step_has_a_value() {
    let plan = plan(&["steps.augment.with.temperature=0.7"]);
    let expected =
        json!({ "samples_per_label": 200, "sampling_rate": 0.05, "steps": 120, "clip": 1.0 });
    assert_eq!(
        serde_json::Value::Object(plan.steps[0].with.clone()),
        expected
    );
    let expected = json!({
        "temperature": 0.7, "order": "shuffled", "prompt": null, "pattern": "", "strict": true
    });
    assert_eq!(
        serde_json::Value::Object(plan.steps[1].with.clone()),
        expected
    );
}

#[test]
fn a_data_set_keeps_what_was_declared() {
    let plan = plan(&[]);
    let [notes, holdout] = plan.data.as_slice() else {
        panic!("two data sets");
    };
    assert_eq!(notes.unit, Some(Unit::Column("patient_id".to_owned())));
    assert_eq!(notes.units_public, Some(3000));
    assert_eq!((notes.format, holdout.format), (None, Some(Format::Csv)));
    assert_eq!(
        (notes.text_column.as_str(), holdout.text_column.as_str()),
        ("text", "message")
    );
    assert_eq!(
        notes.path.resolve(Path::new("here")),
        PathBuf::from("here/rows/notes.jsonl.zst")
    );
    let Some(Labels::File(file)) = &holdout.labels else {
        panic!("a labels file");
    };
    assert_eq!(file.text, "labels.txt");
}

#[test]
fn what_comes_from_outside_is_relative_to_where_the_command_runs() {
    let plan = plan(&[
        "data.notes=../banking77.jsonl",
        "data.notes.labels=a, b,c",
        "data.notes.units_public=9992",
    ]);
    let notes = &plan.data[0];
    assert_eq!(notes.path.relative_to, RelativeTo::WorkingFolder);
    assert_eq!(
        notes.path.resolve(Path::new("workflows")),
        PathBuf::from("../banking77.jsonl")
    );
    let labels = ["a", "b", "c"].map(str::to_owned).to_vec();
    assert_eq!(notes.labels, Some(Labels::List(labels)));
    assert_eq!(notes.units_public, Some(9992));
    assert_eq!(plan.data[1].path.relative_to, RelativeTo::WorkflowFile);
}

#[test]
fn a_path_starts_where_its_first_part_was_given() {
    let path = |set: &[&str]| plan(set).data[0].path.clone();
    let (inside, outside) = (path(&[]), path(&["params.folder=/data"]));
    assert_eq!(inside.relative_to, RelativeTo::WorkflowFile);
    assert_eq!(
        (outside.text.as_str(), outside.relative_to),
        ("/data/notes.jsonl.zst", RelativeTo::WorkingFolder)
    );
}

#[test]
fn any_key_of_a_section_can_be_set_from_outside() {
    let plan = plan(&[
        "steps.synthesise.privacy.epsilon=2",
        "exports.samples=here.jsonl",
        "steps.train.site=clinic",
    ]);
    let charge = plan.steps[0]
        .charge
        .as_ref()
        .expect("a guest that reads private data");
    assert_eq!(charge.epsilon.get(), 2.0);
    assert_eq!(
        plan.exports[0].path.resolve(Path::new("workflows")),
        PathBuf::from("here.jsonl")
    );
}

#[test]
fn the_same_file_under_two_names_is_recognised() {
    let path = |set: &str| plan(&[set]).data[0].path.clone();
    let one = path("data.notes=a/b.jsonl");
    assert!(one.same_file(&path("data.notes=./a/x/../b.jsonl")));
    assert!(!one.same_file(&path("data.notes=../a/b.jsonl")));
}

#[test]
fn diagnostics_can_be_read_by_a_machine() {
    let text = FDKT.replace("slm:train", "slm:trian");
    let errors =
        load(Source::new("fdkt.toml", text), &[], &fixture::catalog()).expect_err("a slip");
    let json = serde_json::to_value(&errors).expect("plain data");
    let one = &json["list"][0];
    assert_eq!(one["code"], "unknown-step-kind");
    assert_eq!(one["remedy"], "did you mean `slm:train`?");
    assert_eq!(one["place"]["file"], "fdkt.toml");
    assert_eq!(one["place"]["line"], 35);
    assert!(!errors.is_policy());
}

#[test]
fn labels_from_outside_are_a_list_or_a_file() {
    let labels = |set: &str| plan(&[set]).data[0].labels.clone();
    assert_eq!(
        labels(r#"data.notes.labels=["a"]"#),
        Some(Labels::List(vec!["a".to_owned()]))
    );
    let Some(Labels::File(file)) = labels("data.notes.labels=banking77.txt") else {
        panic!("a labels file");
    };
    assert_eq!(file.relative_to, RelativeTo::WorkingFolder);
}

#[test]
fn a_step_is_ready_when_all_it_reads_is_there() {
    let plan = plan(&[]);
    let mut done = BTreeSet::new();
    let mut seen = Vec::new();
    while let Some(next) = plan.ready_after(&done).first() {
        seen.push(next.name.to_string());
        done.insert(next.name.clone());
    }
    assert_eq!(seen, names(&plan));
    assert!(plan.ready_after(&done).is_empty());
    assert_eq!(plan.ready_after(&BTreeSet::new()).len(), 1);
}

#[test]
fn what_follows_a_step_falls_with_it() {
    let plan = plan(&[]);
    assert_eq!(
        plan.downstream_of(&step("augment")),
        [step("train"), step("evaluate")]
    );
    assert!(plan.downstream_of(&step("evaluate")).is_empty());
    assert!(plan.downstream_of(&step("nobody")).is_empty());
}

#[test]
fn what_reaches_a_step_comes_from_every_step_before_it() {
    let plan = plan(&[]);
    let before = |name| -> Vec<StepName> {
        let steps = plan.upstream_of(&step(name)).into_iter();
        steps.map(|step| step.name.clone()).collect()
    };
    assert_eq!(before("train"), [step("synthesise"), step("augment")]);
    assert!(before("synthesise").is_empty());
    assert!(before("nobody").is_empty());
}

#[test]
fn a_plan_survives_being_written_down() {
    let plan = plan(&[]);
    let text = serde_json::to_string(&plan).expect("a plan is plain data");
    let again: Plan = serde_json::from_str(&text).expect("it was just written");
    assert_eq!(again, plan);
    assert!(text.contains(r#""from":"augment.samples""#));
}

#[test]
fn reading_and_checking_apart_gives_the_same_plan() {
    let workflow = parse(Source::new("fdkt.toml", FDKT), &[]).expect("a sound text");
    let apart = check(&workflow, &fixture::catalog()).expect("a sound workflow");
    assert_eq!(apart, checked(&[]));
    assert!(apart.warnings.list.is_empty());
}

#[test]
fn a_plan_can_be_told_in_words() {
    let lines = plan(&[]).describe();
    assert_eq!(
        lines[0].spends.as_deref(),
        Some("epsilon 8, delta 1e-6 of data.notes")
    );
    assert_eq!(lines[2].reads[0], "records = data.notes, augment.samples");
    assert_eq!(lines[2].makes, ["train.model (private to clinic)"]);
    assert_eq!(lines[2].spends, None);
}

#[test]
fn a_picture_shows_private_ways_in_red() {
    let dot = plan(&[]).to_dot();
    let line = |edge: &str| {
        dot.lines()
            .find(|line| line.contains(edge))
            .expect("an edge")
            .to_owned()
    };
    assert!(line(r#""data.notes" -> "step:synthesise""#).contains("color=red"));
    assert!(!line(r#""step:synthesise" -> "step:augment""#).contains("color=red"));
    assert!(line(r#""step:train" -> "step:evaluate""#).contains("color=red"));
    assert_eq!(dot.matches('{').count(), dot.matches('}').count());
}
