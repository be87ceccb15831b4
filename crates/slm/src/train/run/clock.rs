//! How fast a run is, to be told.

use std::time::Instant;

use super::Rate;
use crate::train::checkpoint::Place;
use crate::train::{Progress, TrainOptions, Validation};

/// How fast a run is, since it started or went on.
pub(super) struct Clock {
    stage: (usize, usize),
    started: Instant,
    first_step: usize,
    pub rows: usize,
}

impl Clock {
    pub(super) fn new(first_step: usize, stage: (usize, usize)) -> Self {
        Self {
            stage,
            started: Instant::now(),
            first_step,
            rows: 0,
        }
    }

    pub(super) fn progress(
        &self,
        at: Place,
        epoch: usize,
        steps: usize,
        rate: Rate,
        options: &TrainOptions,
        validation: Option<Validation>,
    ) -> Progress {
        let seconds = self.started.elapsed().as_secs_f64();
        let made = (at.step - self.first_step) as f64;
        Progress {
            stage: self.stage,
            epoch,
            epochs: options.epochs,
            step: at.step,
            steps,
            loss: at.loss.unwrap_or(f32::NAN),
            learning_rate: rate.learning_rate,
            rows_per_second: self.rows as f64 / seconds,
            seconds_left: seconds / made * (steps - at.step) as f64,
            validation,
        }
    }
}
