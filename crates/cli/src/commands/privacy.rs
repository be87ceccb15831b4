//! `privacy epsilon|calibrate`: the accountant, without a workflow.

use noisegate_privacy::{Delta, Epsilon, Event, SamplingRate, accountant, calibrate};
use serde_json::json;

use crate::args::{Calibrate, EpsilonOf, PrivacyCommand};
use crate::exit::Exit;
use crate::show;

/// Privacy arithmetic.
pub fn privacy(what: &PrivacyCommand) -> Result<(), Exit> {
    match what {
        PrivacyCommand::Epsilon(of) => epsilon(of),
        PrivacyCommand::Calibrate(target) => noise_multiplier(target),
    }
}

fn epsilon(of: &EpsilonOf) -> Result<(), Exit> {
    let events: Vec<Event> = serde_json::from_str(&of.events)
        .map_err(|error| Exit::Wrong(format!("`--events` is not a list of events: {error}")))?;
    let delta = Delta::new(of.delta).map_err(Exit::wrong)?;
    let bound = accountant::epsilon(&events, delta).map_err(Exit::wrong)?;
    if of.json {
        return show::json_line(&bound);
    }
    println!(
        "epsilon {:.6} at delta {:e}, by {:?}",
        bound.epsilon, of.delta, bound.accountant
    );
    Ok(())
}

fn noise_multiplier(target: &Calibrate) -> Result<(), Exit> {
    let epsilon = Epsilon::new(target.epsilon).map_err(Exit::wrong)?;
    let delta = Delta::new(target.delta).map_err(Exit::wrong)?;
    let rate = SamplingRate::new(target.sampling_rate).map_err(Exit::wrong)?;
    let goal = calibrate::Target {
        epsilon,
        delta,
        sampling_rate: rate,
    };
    let found = calibrate::noise_multiplier(&goal, target.steps, &[]).map_err(Exit::wrong)?;
    if target.json {
        return show::json_line(&json!({ "noise_multiplier": found.get() }));
    }
    println!("noise multiplier {:.6}", found.get());
    Ok(())
}
