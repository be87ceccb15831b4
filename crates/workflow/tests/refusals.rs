//! Every refusal, as its user sees it: `tests/refusals/NAME.toml` and the text it must give.
//!
//! A comment line `# --set key=value` in the workflow stands for that argument. To write the `.err`
//! files anew after a message was changed, run this test with `UPDATE_REFUSALS=1` and read the
//! difference.

mod fixture;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use noisegate_workflow::{Diagnostics, Override, Severity, Source, load};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/refusals")
}

fn workflows() -> Vec<PathBuf> {
    let entries = fs::read_dir(folder()).expect("the folder of refusals is part of the repository");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a readable folder entry").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .collect();
    files.sort();
    files
}

/// The errors, or the warnings of a workflow that may run.
fn diagnostics(file: &Path) -> Diagnostics {
    let text = fs::read_to_string(file).expect("a readable workflow");
    let set = text
        .lines()
        .filter_map(|line| line.strip_prefix("# --set "));
    let set: Vec<Override> = set.map(|set| set.parse().expect("key=value")).collect();
    let name = file
        .file_name()
        .expect("it has an ending")
        .to_string_lossy();
    match load(Source::new(name, text), &set, &fixture::catalog()) {
        Ok(checked) => checked.warnings,
        Err(errors) => {
            let refused = errors
                .list
                .iter()
                .any(|one| one.severity == Severity::Error);
            assert!(refused, "{} is refused without an error", file.display());
            errors
        }
    }
}

#[test]
fn each_refusal_reads_as_written_down() {
    let update = std::env::var_os("UPDATE_REFUSALS").is_some();
    let mut wrong = Vec::new();
    for file in workflows() {
        let found = diagnostics(&file).render();
        let expected_file = file.with_extension("err");
        if update {
            fs::write(&expected_file, &found).expect("a writable folder");
        }
        let expected = fs::read_to_string(&expected_file).unwrap_or_default();
        if found.is_empty() || found != expected {
            wrong.push(format!(
                "== {}\n-- expected\n{expected}-- found\n{found}",
                file.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_refusal_is_first_of_all_what_its_file_is_called() {
    for file in workflows() {
        let name = file
            .file_stem()
            .expect("it has a name")
            .to_string_lossy()
            .into_owned();
        // `cycle-of-three.toml` shows the code `cycle`; `several-*` shows many.
        let codes: Vec<&str> = diagnostics(&file)
            .list
            .iter()
            .map(|one| one.code())
            .collect();
        let shown = codes
            .iter()
            .any(|code| name == *code || name.starts_with(&format!("{code}-")));
        assert!(
            shown || name.starts_with("several"),
            "{name} shows {codes:?}"
        );
        let alone = codes.iter().collect::<BTreeSet<_>>().len() == 1;
        assert!(
            alone || name.starts_with("several"),
            "{name} shows more than one thing: {codes:?}"
        );
    }
}

#[test]
fn every_kind_of_problem_has_a_refusal() {
    let shown: BTreeSet<&str> = workflows()
        .iter()
        .flat_map(|file| {
            diagnostics(file)
                .list
                .iter()
                .map(|one| one.code())
                .collect::<Vec<_>>()
        })
        .collect();
    let remedies = include_str!("../src/remedy.rs");
    let codes = remedies
        .split("pub fn is_policy")
        .next()
        .expect("split gives at least one piece");
    let known = codes
        .split("=> \"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next());
    // A catalog that cannot be used is no fault of a workflow; `check::signatures` shows it.
    let known = known.filter(|code| *code != "bad-signature");
    let missing: Vec<&str> = known.filter(|code| !shown.contains(code)).collect();
    assert!(missing.is_empty(), "no refusal shows {missing:?}");
}

#[test]
fn every_place_lies_in_its_source() {
    for file in workflows() {
        let diagnostics = diagnostics(&file);
        let places = diagnostics.list.iter().flat_map(|one| {
            std::iter::once(&one.place).chain(one.related.iter().map(|related| &related.place))
        });
        for place in places {
            let text = &diagnostics.sources[place.source].text;
            assert!(
                text.get(place.span.clone()).is_some(),
                "{}: {place:?}",
                file.display()
            );
        }
    }
}
