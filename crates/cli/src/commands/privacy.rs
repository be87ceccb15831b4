//! `privacy epsilon|calibrate`: the accountant, without a workflow.

use noisegate_privacy::{
    Delta, Epsilon, Event, NoiseMultiplier, SamplingRate, accountant, calibrate,
};
use serde_json::json;

use crate::args::{Calibrate, EpsilonOf, PrivacyCommand};
use crate::exit::Exit;
use crate::show;

/// Privacy arithmetic.
pub fn privacy(what: &PrivacyCommand) -> Result<(), Exit> {
    match what {
        PrivacyCommand::Epsilon(of) => epsilon(of),
        PrivacyCommand::Calibrate(target) => calibrate(target),
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

fn calibrate(target: &Calibrate) -> Result<(), Exit> {
    let goal = calibrate::Target {
        epsilon: Epsilon::new(target.epsilon).map_err(Exit::wrong)?,
        delta: Delta::new(target.delta).map_err(Exit::wrong)?,
        sampling_rate: SamplingRate::new(target.sampling_rate).map_err(Exit::wrong)?,
    };
    match (target.noise_multiplier, target.steps) {
        (Some(multiplier), _) => most_steps(target, &goal, multiplier),
        (None, steps) => least_noise(target, &goal, steps.unwrap_or_default()),
    }
}

fn least_noise(target: &Calibrate, goal: &calibrate::Target, steps: u64) -> Result<(), Exit> {
    if steps == 0 {
        return Err(Exit::Wrong(
            "`--steps` is 0, which needs no noise; give at least 1".to_owned(),
        ));
    }
    let found = calibrate::noise_multiplier(goal, steps, &[]).map_err(Exit::wrong)?;
    if target.json {
        return show::json_line(&json!({ "noise_multiplier": found.get() }));
    }
    // Upwards: less noise than that would miss the target.
    println!("noise multiplier {:.6}", (found.get() * 1e6).ceil() / 1e6);
    Ok(())
}

fn most_steps(target: &Calibrate, goal: &calibrate::Target, multiplier: f64) -> Result<(), Exit> {
    let multiplier = NoiseMultiplier::new(multiplier).map_err(Exit::wrong)?;
    let found = calibrate::steps(goal, multiplier, &[]).map_err(Exit::wrong)?;
    // The search ends there, not the budget.
    let more = found == calibrate::STEPS_MAX;
    if target.json {
        return show::json_line(&json!({ "steps": found, "or_more": more }));
    }
    let at_least = if more { "at least " } else { "" };
    println!("{at_least}{found} steps");
    Ok(())
}
