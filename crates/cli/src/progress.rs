//! Progress bars for a run: one line for each running step.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use noisegate_engine::{Event, Observer};

use crate::exit::Exit;
use crate::show::{plain, plain_line};

/// Draws bars on a terminal; elsewhere prints a line when a step starts and ends.
pub struct Bars {
    all: MultiProgress,
    by_step: Mutex<BTreeMap<String, ProgressBar>>,
    on_terminal: bool,
    quiet: bool,
}

impl Bars {
    /// Bars on standard error; none if `quiet`.
    pub fn new(quiet: bool) -> Self {
        Self {
            all: MultiProgress::new(),
            by_step: Mutex::default(),
            on_terminal: std::io::stderr().is_terminal(),
            quiet,
        }
    }

    fn say(&self, line: &str) {
        let line = &plain_line(line);
        if self.quiet {
        } else if self.on_terminal {
            let _ = self.all.println(line);
        } else {
            // A reader who has closed the pipe must not end a run that is charged.
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }

    fn open(&self, step: &str) {
        if self.quiet || !self.on_terminal {
            self.say(&format!("  {step}: started"));
            return;
        }
        let bar = self.all.add(ProgressBar::new_spinner());
        bar.set_prefix(step.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        bar.set_style(style("  {spinner} {prefix:<14} {elapsed:>4}  {msg}"));
        if let Ok(mut bars) = self.by_step.lock() {
            bars.insert(step.to_owned(), bar);
        }
    }

    fn advance(&self, step: &str, done: u64, total: u64, what: &str) {
        let Ok(bars) = self.by_step.lock() else {
            return;
        };
        let Some(bar) = bars.get(step) else { return };
        if bar.length() != Some(total) {
            bar.set_length(total);
            bar.set_style(style(
                "  {spinner} {prefix:<14} {elapsed:>4} [{bar:30}] {pos}/{len} eta {eta}  {msg}",
            ));
        }
        bar.set_position(done);
        bar.set_message(plain_line(what));
    }

    /// The last line of a text, where a bar can hold it; all of it is in the log.
    fn show(&self, step: &str, text: &str) {
        let Ok(bars) = self.by_step.lock() else {
            return;
        };
        let line = text.trim_end().lines().last().unwrap_or_default();
        if let Some(bar) = bars.get(step) {
            let skipped = line.chars().count().saturating_sub(60);
            bar.set_message(plain(&line.chars().skip(skipped).collect::<String>()));
        }
    }

    fn close(&self, step: &str) {
        let Ok(mut bars) = self.by_step.lock() else {
            return;
        };
        if let Some(bar) = bars.remove(step) {
            bar.finish_and_clear();
        }
    }
}

impl Observer for Bars {
    fn asked_again_to_stop(&self) {
        let text =
            "stopped at once, without waiting for the step; what had been charged stays charged";
        let exit = Exit::Interrupted(text.to_owned());
        std::process::exit(exit.report_code().into());
    }

    fn saw(&self, event: &Event) {
        match event {
            Event::RunStarted { workflow, steps } => {
                self.say(&format!("{workflow}: {} steps", steps.len()));
            }
            Event::StepStarted { step } => self.open(step),
            Event::StepProgress { step, done, total, what } => self.advance(step, *done, *total, what),
            Event::Charged { step, data_set, epsilon, delta, spent_epsilon } => self.say(&format!(
                "  {step}: charged epsilon {epsilon:.3} at delta {delta:e} to `{data_set}`; spent so far {spent_epsilon:.3}"
            )),
            Event::StepText { step, text } => self.show(step, text),
            Event::StepNote { step, note } => self.say(&format!("  {step}: {note}")),
            Event::StepFinished { step, seconds, .. } => {
                self.close(step);
                self.say(&format!("  {step}: done in {seconds:.1} s"));
            }
            Event::StepFailed { step, .. } => {
                self.close(step);
                self.say(&format!("  {step}: failed"));
            }
            // Said by the step's note.
            Event::ServedAgain { .. } | Event::RunFinished { .. } => {}
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates above are valid")
}
