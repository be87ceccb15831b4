//! A step's context made up, and the step run in it.

use std::collections::BTreeMap;
use std::path::Path;

use noisegate_engine::{Input, Inputs, Made, Step, StepContext, StepFailure};
use noisegate_workflow::{Placement, PlannedStep, StepSignature};

use super::{Bench, io};
use crate::slm::{bad_input, heads};

/// Runs a step in a folder of its own in `place`, and hands what it made to `take`. Nobody else may
/// look into the folder or guess its name, and it is removed whatever happens: a report of private
/// records may stand there.
pub(super) fn run<T>(
    step: &dyn Step,
    signature: StepSignature,
    inputs: BTreeMap<String, Vec<Input>>,
    place: &Path,
    bench: &Bench<'_>,
    take: impl FnOnce(&[Made]) -> Result<T, StepFailure>,
) -> Result<T, StepFailure> {
    let kind = signature.uses.replace("slm:", "");
    let planned = PlannedStep {
        name: kind.parse().map_err(bad_input)?,
        uses: signature.uses,
        placement: Placement::Host,
        site: "here".parse().map_err(bad_input)?,
        inputs: planned_inputs(&inputs),
        outputs: Vec::new(),
        with: bench.with.clone(),
        charge: None,
        sends_to: Vec::new(),
        weight: signature.weight,
        after: Vec::new(),
    };
    let folder = own_folder(&format!(".noisegate-{kind}-"), place)
        .map_err(|error| io("make a folder in", place, &error))?;
    let context = StepContext {
        step: &planned,
        plan: None,
        inputs: Inputs(inputs),
        work: folder.path(),
        cores: bench.cores,
        run: "none",
        record: bench.record,
        cancel: bench.cancel,
    };
    step.run(&context).and_then(|made| take(&made))
}

/// A new folder that is open to this user alone; it goes with what is returned.
fn own_folder(prefix: &str, place: &Path) -> std::io::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        builder.permissions(std::fs::Permissions::from_mode(0o700));
    }
    builder.tempdir_in(place)
}

/// The inputs by name, for the model card.
fn planned_inputs(inputs: &BTreeMap<String, Vec<Input>>) -> Vec<noisegate_workflow::Input> {
    let all = inputs.iter().filter_map(|(port, inputs)| {
        let names = inputs.iter().map(heads::name);
        Some(noisegate_workflow::Input {
            port: port.parse().ok()?,
            artifacts: names.filter_map(|name| name.parse().ok()).collect(),
        })
    });
    all.collect()
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;

    use serde_json::Map;

    use super::*;

    /// Writes something private, and fails.
    struct Fails(Mutex<Vec<PathBuf>>);

    impl Step for Fails {
        fn run(&self, context: &StepContext<'_>) -> Result<Vec<Made>, StepFailure> {
            let mode = context.work.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
            std::fs::write(context.work.join("report.json"), "{}").unwrap();
            self.0.lock().unwrap().push(context.work.to_owned());
            Err(StepFailure::Cancelled)
        }
    }

    #[test]
    fn a_steps_folder_is_its_own_and_is_removed_when_it_fails() {
        let place = tempfile::tempdir().unwrap();
        let step = Fails(Mutex::default());
        let bench = Bench {
            onnxruntime: PathBuf::new(),
            with: Map::new(),
            cores: 1,
            record: &|_| {},
            cancel: &AtomicBool::new(false),
        };
        for _ in 0..2 {
            let signature = crate::slm::evaluate_signature();
            let inputs = BTreeMap::new();
            run(&step, signature, inputs, place.path(), &bench, |_| Ok(())).unwrap_err();
        }
        let folders = step.0.into_inner().unwrap();
        assert_ne!(folders[0], folders[1]);
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    }
}
