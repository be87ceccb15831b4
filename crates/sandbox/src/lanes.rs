//! One query's units, spread over threads.
//!
//! ```text
//! chosen units ──next index──> lane: fresh instance ─> contribution ─> partial integer sum ─┐
//!                              lane: …                                                      ├─merge─> sum
//! ```
//! Which lane runs a unit depends on timing; the merged integer sum does not.
//!
//! Not here: which units are chosen and what becomes of the sum ([`crate::gate`]).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use noisegate_privacy::{GaussianSum, GaussianSumSpec};

use crate::Unit;
use crate::component::Guest;
use crate::engine::THREAD_STACK_BYTES;
use crate::error::SandboxError;
use crate::gate::mechanism;
use crate::private_side::{PrivateSide, QueryContext, within_bounds};
use crate::watch::Watch;

/// The work of one query; shared by its lanes.
pub(crate) struct Work<'a> {
    guest: &'a Guest,
    query: &'a QueryContext,
    spec: GaussianSumSpec,
    units: &'a [&'a Unit],
    next: AtomicUsize,
    stop: AtomicBool,
    watch: &'a Watch<'a>,
}

/// A lane's partial sum, and its buffer for the next query.
type LaneEnd = Result<(GaussianSum, Vec<f32>), SandboxError>;

impl<'a> Work<'a> {
    /// - `units`: those chosen for this query.
    pub(crate) fn new(
        guest: &'a Guest,
        query: &'a QueryContext,
        spec: GaussianSumSpec,
        units: &'a [&'a Unit],
        watch: &'a Watch<'a>,
    ) -> Self {
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        Work {
            guest,
            query,
            spec,
            units,
            next,
            stop,
            watch,
        }
    }

    /// Runs every unit and sums the clipped contributions.
    ///
    /// - `buffers`: kept between queries; one for each lane afterwards.
    ///
    /// # Errors
    /// [`SandboxError::Cancelled`], or an error of the machine.
    pub(crate) fn sum(&self, buffers: &mut Vec<Vec<f32>>) -> Result<GaussianSum, SandboxError> {
        buffers.resize_with(self.guest.limits().lanes(), Vec::new);
        let ends: Vec<LaneEnd> = thread::scope(|scope| {
            let started: Vec<_> = buffers
                .drain(..)
                .map(|buffer| {
                    thread::Builder::new()
                        .stack_size(THREAD_STACK_BYTES)
                        .spawn_scoped(scope, || self.run_lane(buffer))
                })
                .collect();
            started.into_iter().map(join).collect()
        });
        let mut merged: Option<GaussianSum> = None;
        for end in first_cause(ends)? {
            let (sum, buffer) = end;
            buffers.push(buffer);
            match &mut merged {
                Some(merged) => merged.merge(sum).map_err(mechanism)?,
                None => merged = Some(sum),
            }
        }
        Ok(merged.expect("there is at least one lane"))
    }

    fn run_lane(&self, buffer: Vec<f32>) -> LaneEnd {
        let end = self.sum_units(buffer);
        if end.is_err() {
            self.stop.store(true, Ordering::Relaxed);
        }
        end
    }

    fn sum_units(&self, buffer: Vec<f32>) -> LaneEnd {
        let limits = self.guest.limits();
        let mut sum = GaussianSum::new(&self.spec).map_err(mechanism)?;
        let mut side = PrivateSide::new(self.guest, self.query, buffer);
        while let Some(unit) = self.units.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            if self.watch.ends() || self.stop.load(Ordering::Relaxed) {
                return Err(SandboxError::Cancelled);
            }
            let unit = within_bounds(unit, limits.text_bytes_max, limits.unit_records_max);
            sum.add(side.contribute(&unit)?);
        }
        Ok((sum, side.into_buffer()))
    }
}

fn join(lane: std::io::Result<thread::ScopedJoinHandle<'_, LaneEnd>>) -> LaneEnd {
    let lane = lane.map_err(|error| SandboxError::Engine {
        problem: error.to_string(),
    })?;
    lane.join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// All lanes' ends, or the error that made the others stop.
fn first_cause(ends: Vec<LaneEnd>) -> Result<Vec<(GaussianSum, Vec<f32>)>, SandboxError> {
    let (mut good, mut cause) = (Vec::new(), None);
    for end in ends {
        match (end, &cause) {
            (Ok(end), _) => good.push(end),
            (Err(error), None | Some(SandboxError::Cancelled)) => cause = Some(error),
            (Err(_), Some(_)) => {}
        }
    }
    match cause {
        Some(cause) => Err(cause),
        None => Ok(good),
    }
}
