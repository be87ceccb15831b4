//! What a guest step will ask its gate for, and so what it will charge: from its plan alone.
//!
//! Nothing is loaded or read for this, so a plan can be priced before it runs.

use noisegate_engine::StepFailure;
use noisegate_privacy::{Delta, Epsilon, Event, NoiseMultiplier, SamplingRate, calibrate};
use noisegate_sandbox::Limits;
use noisegate_workflow::PlannedStep;

use crate::with::With;

/// The queries of a step.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// Chance of a unit to be in a query.
    pub sampling_rate: SamplingRate,
    /// Calibrated for the step's target.
    pub noise_multiplier: NoiseMultiplier,
    /// Queries.
    pub steps: u32,
}

impl Schedule {
    /// The schedule of a step that charges; `None` for one that charges nothing.
    ///
    /// # Errors
    /// [`StepFailure::BadInput`] if no noise meets its target.
    pub fn of(step: &PlannedStep) -> Result<Option<Self>, StepFailure> {
        let Some(charge) = &step.charge else {
            return Ok(None);
        };
        Self::calibrated(&With(&step.with), charge.epsilon, charge.delta).map(Some)
    }

    /// The schedule of a step with these parameters and this target.
    ///
    /// # Errors
    /// [`StepFailure::BadInput`] if no noise meets it.
    pub fn calibrated(
        with: &With<'_>,
        epsilon: Epsilon,
        delta: Delta,
    ) -> Result<Self, StepFailure> {
        let sampling_rate = SamplingRate::new(with.float("sampling_rate")?).map_err(bad_input)?;
        let steps = u32::try_from(with.count("steps")?).map_err(bad_input)?;
        let target = calibrate::Target {
            epsilon,
            delta,
            sampling_rate,
        };
        let noise_multiplier =
            calibrate::noise_multiplier(&target, u64::from(steps), &[noise(steps)])
                .map_err(bad_input)?;
        Ok(Self {
            sampling_rate,
            noise_multiplier,
            steps,
        })
    }

    /// What the step charges, at most.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        vec![
            Event::SampledGaussian {
                q: self.sampling_rate.get(),
                sigma: self.noise_multiplier.get(),
                steps: u64::from(self.steps),
            },
            noise(self.steps),
        ]
    }
}

/// The noise sampler's own error. The guest has not said its dimension yet, so it is set aside for
/// the largest there may be.
fn noise(steps: u32) -> Event {
    Event::Noise {
        draws: u64::from(steps) * u64::from(Limits::default().dim_max),
    }
}

fn bad_input(error: impl std::fmt::Display) -> StepFailure {
    StepFailure::BadInput(error.to_string())
}
