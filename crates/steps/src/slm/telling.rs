//! What a log hears of a training run: of private records nothing but tenths.

use noisegate_engine::StepContext;
use noisegate_slm::{Progress, Summary};

use super::tenths;

/// How far a log of private records has told of the run.
#[derive(Clone, Copy, Default)]
pub(super) struct Told {
    /// The last stage, of how many.
    pub stage: (usize, usize),
    /// Its last step.
    step: usize,
    /// Its steps.
    steps: usize,
}

impl Told {
    /// The tenths of the stage that are new with a step.
    pub(super) fn next(&mut self, progress: &Progress) -> impl Iterator<Item = u64> + use<> {
        let same = self.stage == progress.stage;
        let before = if same { self.step } else { 0 };
        *self = Self {
            stage: progress.stage,
            step: before.max(progress.step),
            steps: progress.steps,
        };
        tenths(before, self.step, self.steps)
    }

    /// Those that are left when patience ends a run: when it did is not told.
    pub(super) fn rest(self) -> impl Iterator<Item = u64> {
        let steps = Some(self.steps).filter(|steps| *steps > 0);
        steps
            .into_iter()
            .flat_map(move |steps| tenths(self.step, steps, steps))
    }
}

/// Of private records the log holds public facts: no loss, and as many lines for any number of
/// steps.
pub(super) fn say_tenths(
    context: &StepContext<'_>,
    (stage, stages): (usize, usize),
    tenths: impl Iterator<Item = u64>,
) {
    for tenth in tenths {
        context.progress(tenth, 100, &format!("training {stage}/{stages}, percent"));
    }
}

pub(super) fn tell(context: &StepContext<'_>, progress: &Progress) {
    let (stage, stages) = progress.stage;
    let mut what = format!(
        "epoch {}/{}, loss {:.3}, {:.0} rows/s, {:.0} s left",
        progress.epoch,
        progress.epochs,
        progress.loss,
        progress.rows_per_second,
        progress.seconds_left
    );
    if stages > 1 {
        what = format!("stage {stage}/{stages}, {what}");
    }
    if let Some(validation) = progress.validation {
        what += &format!(", held out: loss {:.3}", validation.loss);
        if let Some(accuracy) = validation.accuracy {
            what += &format!(", right {accuracy:.3}");
        }
    }
    context.progress(progress.step as u64, progress.steps as u64, &what);
}

/// - `tokens_max`: as it was asked for.
/// - `positions`: the tokens that the model can take.
pub(super) fn note(
    context: &StepContext<'_>,
    summary: &Summary,
    (tokens_max, positions): (usize, usize),
) {
    let say = |count: usize, what: &str| {
        if count > 0 {
            context.note(format!("{count} of the texts {what}"));
        }
    };
    say(summary.cut, &longer(tokens_max, positions));
    say(summary.only_unknown, "hold no token the model knows");
    if !summary.empty_labels.is_empty() {
        context.note(format!(
            "no examples of `{}`",
            summary.empty_labels.join("`, `")
        ));
    }
    if let Some(validation) = summary.validation {
        context.note(format!(
            "kept the weights of epoch {}, held-out loss {:.4}",
            summary.kept_epoch, validation.loss
        ));
    }
}

/// What is said of texts that were cut.
fn longer(tokens_max: usize, positions: usize) -> String {
    let than = match positions < tokens_max {
        true => format!("the {positions} tokens that the base can take, fewer than `tokens_max`"),
        false => "`tokens_max`".to_owned(),
    };
    format!("were longer than {than}; their ends were not seen")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_longer_than_the_base_can_take_are_not_blamed_on_the_parameter() {
        assert!(longer(64, 512).contains("longer than `tokens_max`"));
        assert!(longer(512, 64).contains("the 64 tokens that the base can take"));
    }

    #[test]
    fn a_run_that_stops_early_tells_as_many_tenths_as_any() {
        for stop in [1, 7, 40, 41] {
            let mut told = Told::default();
            let mut said = Vec::new();
            for step in 1..=stop {
                let progress = Progress {
                    stage: (1, 1),
                    epoch: 1,
                    epochs: 1,
                    step,
                    steps: 41,
                    loss: 0.0,
                    learning_rate: 0.0,
                    rows_per_second: 0.0,
                    seconds_left: 0.0,
                    validation: None,
                };
                said.extend(told.next(&progress));
            }
            said.extend(told.rest());
            assert_eq!(said, (1..=10).map(|it| 10 * it).collect::<Vec<_>>());
        }
        assert_eq!(Told::default().rest().count(), 0);
    }
}
