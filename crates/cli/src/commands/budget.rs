//! What a plan's charges would mean for the caps of their data sets, as the ledgers stand.

use noisegate_ledger::{Cap, DataSet, Error, Standing, Verified, begun};
use noisegate_steps::ledger::{LEDGER_FILE, name_of};
use noisegate_steps::schedule::Schedule;
use noisegate_workflow::{Budget, PlannedData, PlannedStep, Unit};
use serde::Serialize;

use crate::args::Place;
use crate::commands::ledger;
use crate::exit::Exit;
use crate::project::{self, Project};

/// One step's charge to one data set.
#[derive(Debug, Serialize)]
pub struct Outlook {
    step: String,
    data_set: String,
    site: String,
    /// Epsilon that the step asks for, at `delta`.
    asks: f64,
    delta: f64,
    cap: f64,
    cap_delta: f64,
    /// Epsilon that counts against the cap now, at the cap's delta.
    spent: f64,
    charges: usize,
    /// Why a run would be refused, whatever it asks for.
    refused: Option<String>,
    /// With this charge on top; a request that was answered before costs nothing.
    #[serde(flatten)]
    standing: Option<Standing>,
}

/// Every charge of a plan; each as if it were the next one.
///
/// # Errors
/// If a ledger is there but is not whole, or a charge has no price.
pub fn outlook(place: &Place, project: &Project) -> Result<Vec<Outlook>, Exit> {
    let steps = &project.checked.plan.steps;
    let of_steps: Result<Vec<_>, Exit> = steps
        .iter()
        .map(|step| of_step(place, project, step))
        .collect();
    Ok(of_steps?.into_iter().flatten().collect())
}

fn of_step(place: &Place, project: &Project, step: &PlannedStep) -> Result<Vec<Outlook>, Exit> {
    let Some(charge) = &step.charge else {
        return Ok(Vec::new());
    };
    let verified = read(place, step.site.as_str())?;
    let mut outlooks = Vec::new();
    for name in &charge.data {
        let plan = &project.checked.plan;
        let Some((data, budget)) = plan.data(name).and_then(|data| Some((data, data.budget?)))
        else {
            continue;
        };
        let registered = name_of(&data.path.resolve(&project.folder));
        let account = verified.as_ref().and_then(|whole| {
            Some((
                whole,
                whole.data_sets.iter().find(|set| set.name == registered)?,
            ))
        });
        let spent = account.and_then(|(_, account)| account.spent);
        let standing = match (account, Schedule::of(step).map_err(Exit::wrong)?) {
            (Some((whole, _)), Some(schedule)) => whole.standing(&registered, &schedule.events()),
            _ => None,
        };
        let cap = account.map_or((budget.epsilon, budget.delta), |(_, account)| {
            (account.cap.epsilon, account.cap.delta)
        });
        let refused = account.and_then(|(_, account)| refusal(account, data, budget));
        outlooks.push(Outlook {
            refused,
            step: step.name.to_string(),
            data_set: name.to_string(),
            site: step.site.to_string(),
            asks: charge.epsilon.get(),
            delta: charge.delta.get(),
            cap: cap.0.get(),
            cap_delta: cap.1.get(),
            spent: spent.map_or(0.0, |spent| spent.epsilon),
            charges: spent.map_or(0, |spent| spent.charges),
            standing,
        });
    }
    Ok(outlooks)
}

/// What the ledger says of a data set that the workflow says otherwise.
fn refusal(account: &DataSet, data: &PlannedData, budget: Budget) -> Option<String> {
    let cap = Cap {
        epsilon: budget.epsilon,
        delta: budget.delta,
    };
    let data_set = account.name.clone();
    let unit = data.unit.as_ref().map_or("", Unit::name);
    let error = match &account.unit {
        _ if !account.cap.same_as(cap) => Error::OtherCap {
            data_set,
            registered: account.cap,
            asked: cap,
        },
        Some(registered) if registered != unit => Error::OtherUnit {
            data_set,
            registered: registered.clone(),
            asked: unit.to_owned(),
        },
        _ => return None,
    };
    Some(error.to_string())
}

/// The ledger of a site, if one was begun; one that is gone is an error.
fn read(place: &Place, site: &str) -> Result<Option<Verified>, Exit> {
    let folder = project::site_folder(&place.home, site);
    let there = begun(&folder.join(LEDGER_FILE)).map_err(ledger::refused)?;
    there.then(|| ledger::read(&folder)).transpose()
}

/// One line for people.
pub fn line(outlook: &Outlook) -> String {
    if let Some(refused) = &outlook.refused {
        return format!(
            "step `{}` would be REFUSED by the ledger: {refused}\n",
            outlook.step
        );
    }
    let mut text = format!(
        "step `{}` asks for epsilon {} at delta {:e} of data set `{}`: ",
        outlook.step, outlook.asks, outlook.delta, outlook.data_set
    );
    let Some(standing) = &outlook.standing else {
        text.push_str(&format!(
            "nothing of its cap of {} (delta {:e}) is spent yet\n",
            outlook.cap, outlook.cap_delta
        ));
        return text;
    };
    text.push_str(&format!(
        "{:.4} of its cap of {} (delta {:e}) is spent in {} charge{}",
        outlook.spent,
        outlook.cap,
        outlook.cap_delta,
        outlook.charges,
        if outlook.charges == 1 { "" } else { "s" },
    ));
    match standing.together {
        Some(together) => text.push_str(&format!("; this one would make {together:.4}")),
        None => text.push_str("; with this one there is no finite price"),
    }
    text.push_str(match standing.fits {
        true => ", which fits",
        false => ", which does NOT fit (a request that was answered before costs nothing)",
    });
    match standing.largest {
        Some(largest) => text.push_str(&format!(
            "; the largest of its kind that fits has epsilon {:.4}\n",
            (largest * 1e4).floor() / 1e4
        )),
        None => text.push_str("; none of its kind fits any more, whatever its noise\n"),
    }
    text
}
