//! What a plan's charges would mean for the caps of their data sets: one judgement, which `check`
//! and `plan` show and `run` obeys before its first charge.
//!
//! ```text
//! plan, ledgers of all sites, policies ──> Outlook of each charge: fits, served again, or refused
//! ```
//!
//! Charges are judged in the order of the plan, each after the ones before it, by the ledger's own
//! composition. Nothing is charged or written here, and the ledger decides again when a run
//! charges: another run may have come in between.
//!
//! A step that reads what an earlier step will make cannot be told from one that was answered
//! before, unless something new is certain to come to it: such a charge is not refused here.

mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use noisegate_engine::{Inputs, StepFailure};
use noisegate_ledger::{Cap, Digest, Error, Prospect, Standing, State, Verified};
use noisegate_privacy::Event;
use noisegate_sandbox::jail;
use noisegate_workflow::{
    ArtifactId, Budget, Charge, Plan, PlannedData, PlannedStep, StepName, Unit,
};
use serde::Serialize;

use crate::guest_request::{parameters_digest, public_files};
use crate::guest_terms::component;
use crate::ledger::{charged_elsewhere, digest, key_is_fit, ledgers, name_of, names_are_fit};
use crate::plugin::{Plugin, Plugins};
use crate::policy;
use crate::resolve::{plugin_input, resolve_data};
use crate::schedule::Schedule;

/// What a plan is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The folder of its file.
    pub workflow_folder: &'a Path,
    /// The plugins that it names.
    pub plugins: &'a Plugins,
    /// One folder a site, with its ledger and its policy.
    pub sites: &'a Path,
}

/// Whether the ledger has an answer to a request already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answered {
    /// It will be charged.
    No,
    /// It is served again and charged nothing.
    Yes,
    /// It depends on what earlier steps make.
    Perhaps,
}

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
    /// Charges of this plan to the same data set that are made before it.
    before: usize,
    answered: Answered,
    /// Why a run would be refused.
    pub refused: Option<String>,
    /// With this charge and those before it on top, if it is charged; the largest at `delta`.
    #[serde(flatten)]
    standing: Option<Standing>,
}

/// A request that the plan makes.
struct Request {
    site: String,
    data_set: String,
    /// `None`: the file is not there.
    data: Option<Digest>,
    guest: Digest,
    /// `None`: they are not known before the run.
    parameters: Option<Digest>,
    unit: String,
    cap: Cap,
    events: Vec<Event>,
}

/// Every charge of a plan, in the order of its steps.
///
/// # Errors
/// [`StepFailure::Refused`] if a ledger is there but is not whole, [`StepFailure::BadInput`] if a
/// charge has no price.
pub fn outlook(ground: Ground<'_>) -> Result<Vec<Outlook>, StepFailure> {
    if ground.plan.steps.iter().all(|step| step.charge.is_none()) {
        return Ok(Vec::new());
    }
    for step in ground.plan.steps.iter().filter(|it| it.charge.is_some()) {
        key_is_fit(&ground.sites.join(step.site.as_str()))?;
    }
    let mut judge = Judge {
        ground,
        ledgers: ledgers(ground.sites, None)?,
        charged: Vec::new(),
        anew: BTreeSet::new(),
    };
    let mut outlooks = Vec::new();
    for step in &ground.plan.steps {
        outlooks.extend(judge.step(step)?);
    }
    Ok(outlooks)
}

struct Judge<'a> {
    ground: Ground<'a>,
    /// By site.
    ledgers: BTreeMap<String, Verified>,
    /// What the steps so far are charged.
    charged: Vec<Request>,
    /// Steps whose outputs hold noise that nobody drew before.
    anew: BTreeSet<&'a StepName>,
}

impl<'a> Judge<'a> {
    fn step(&mut self, step: &'a PlannedStep) -> Result<Vec<Outlook>, StepFailure> {
        let mut anew = step.after.iter().any(|before| self.anew.contains(before));
        let mut outlooks = Vec::new();
        let names = step.charge.iter().flat_map(|charge| &charge.data);
        for name in names {
            let data = self.ground.plan.data(name);
            let Some((data, budget)) = data.and_then(|data| Some((data, data.budget?))) else {
                continue;
            };
            let Some(request) = self.request(step, data, budget)? else {
                continue;
            };
            let answered = self.answered(&request, anew);
            outlooks.push(self.outlook(step, data, &request, answered));
            if answered == Answered::No {
                anew = true;
                self.charged.push(request);
            }
        }
        if anew {
            self.anew.insert(&step.name);
        }
        Ok(outlooks)
    }

    /// As [`crate::guest`] will make it.
    fn request(
        &self,
        step: &PlannedStep,
        data: &PlannedData,
        budget: Budget,
    ) -> Result<Option<Request>, StepFailure> {
        let plugin = step.uses.strip_prefix("guest:");
        let plugin = plugin.and_then(|name| self.ground.plugins.get(name));
        let (Some(plugin), Some(schedule)) = (plugin, Schedule::of(step)?) else {
            return Ok(None);
        };
        let component = component(plugin)?;
        let bad = |error| StepFailure::BadInput(format!("plugin `{}`: {error}", plugin.name()));
        let folder = self.ground.workflow_folder;
        let resolved = resolve_data(data, folder).ok();
        let there = resolved.filter(|_| data.path.resolve(folder).exists());
        let parameters = || {
            let inputs = self.inputs(step)?;
            let public = public_files(&inputs).ok()?;
            Some(parameters_digest(step, &inputs, component, &public))
        };
        let data_set = name_of(&data.path.resolve(folder));
        let unit = data.unit.as_ref().map_or("", Unit::name).to_owned();
        names_are_fit(&data_set, &unit)?;
        Ok(Some(Request {
            site: step.site.to_string(),
            data_set,
            // One that is there and cannot be read would stop its step, after others were charged.
            data: there.map(|input| digest(&input)).transpose()?,
            guest: component.sha256.parse().map_err(bad)?,
            parameters: parameters(),
            unit,
            cap: Cap {
                epsilon: budget.epsilon,
                delta: budget.delta,
            },
            events: schedule.events(),
        }))
    }

    /// What a step reads, if nothing of it is still to be made or missing.
    fn inputs(&self, step: &PlannedStep) -> Option<Inputs> {
        let Ground {
            plan,
            workflow_folder,
            plugins,
            ..
        } = self.ground;
        let mut inputs = Inputs::default();
        for port in &step.inputs {
            let found: Option<Vec<_>> = port
                .artifacts
                .iter()
                .map(|id| match id {
                    ArtifactId::Data(name) => resolve_data(plan.data(name)?, workflow_folder).ok(),
                    ArtifactId::Plugin(name) => Some(plugin_input(id, plugins.get(name.as_str())?)),
                    ArtifactId::Output { .. } => None,
                })
                .collect();
            inputs.0.insert(port.port.to_string(), found?);
        }
        Some(inputs)
    }

    /// - `anew`: something that the step reads was never there before.
    fn answered(&self, request: &Request, anew: bool) -> Answered {
        let ledger = self.ledgers.get(&request.site);
        let before = ledger.iter().flat_map(|ledger| &ledger.charges);
        let answers = before.filter(|charge| {
            charge.data_set == request.data_set
                && request.data == Some(charge.data)
                && charge.guest == request.guest
                && matches!(charge.state, State::Sealed | State::Released)
        });
        let answers = answers.map(|charge| Some(charge.parameters));
        let planned = self.charged.iter().filter(|one| {
            one.site == request.site
                && one.data_set == request.data_set
                && one.guest == request.guest
        });
        let mut known = answers.chain(planned.map(|one| one.parameters)).peekable();
        match request.parameters {
            _ if anew || known.peek().is_none() => Answered::No,
            None => Answered::Perhaps,
            parameters if known.any(|known| known == parameters) => Answered::Yes,
            Some(_) => Answered::No,
        }
    }

    fn outlook(
        &self,
        step: &PlannedStep,
        data: &PlannedData,
        request: &Request,
        answered: Answered,
    ) -> Outlook {
        let ledger = self.ledgers.get(&request.site);
        let same = |one: &&Request| one.site == request.site && one.data_set == request.data_set;
        let planned: Vec<&Request> = self.charged.iter().filter(same).collect();
        let account = ledger.and_then(|whole| {
            let mut sets = whole.data_sets.iter();
            sets.find(|set| set.name == request.data_set)
        });
        let spent = account.and_then(|account| account.spent);
        // The first charge registers cap and unit, if nothing did before.
        let charged = spent.is_some_and(|spent| spent.charges > 0);
        let first = planned.first();
        let cap = account.map(|account| account.cap);
        let cap = cap.or(first.map(|one| one.cap)).unwrap_or(request.cap);
        let unit = match account.and_then(|account| account.unit.clone()) {
            None if !charged => first.map(|one| one.unit.clone()),
            known => known,
        };
        let events: Vec<Vec<Event>> = planned.iter().map(|one| one.events.clone()).collect();
        let in_force = account.map_or_else(|| vec![cap], |account| account.in_force.clone());
        let prospect = Prospect {
            data_set: &request.data_set,
            in_force: &in_force,
            charges: ledger.map_or(&[], |ledger| &ledger.charges),
            planned: &events,
        };
        let charge = step.charge.as_ref();
        let delta = charge.map_or(cap.delta, |charge| charge.delta);
        let mut outlook = Outlook {
            step: step.name.to_string(),
            data_set: data.name.to_string(),
            site: request.site.clone(),
            asks: charge.map_or(0.0, |Charge { epsilon, .. }| epsilon.get()),
            delta: delta.get(),
            cap: cap.epsilon.get(),
            cap_delta: cap.delta.get(),
            spent: spent.map_or(0.0, |spent| spent.epsilon),
            charges: spent.map_or(0, |spent| spent.charges),
            before: planned.len(),
            answered,
            refused: None,
            standing: prospect.standing(&request.events, delta),
        };
        let guest = step.uses.strip_prefix("guest:");
        let guest = guest.and_then(|name| self.ground.plugins.get(name));
        outlook.refused = guest
            .and_then(|guest| self.policy(&request.site, guest))
            .or_else(|| self.terms(request, cap, unit))
            .or_else(|| match answered {
                Answered::No => self.second_name(request).or_else(|| outlook.over_cap()),
                Answered::Yes | Answered::Perhaps => None,
            });
        outlook
    }

    /// Why the site's operator would not let the guest see its data here.
    fn policy(&self, site: &str, guest: &Plugin) -> Option<String> {
        let folder = self.ground.sites.join(site);
        let required = match policy::read(&folder).and_then(|policy| {
            policy.accept(guest, &folder)?;
            Ok(policy.isolation.required)
        }) {
            Ok(required) => required,
            Err(problem) => return Some(problem),
        };
        // A machine that cannot say is found out by the run, before its charge.
        let missing = required.without(jail::probe().ok()?);
        (!missing.is_empty()).then(|| {
            let missing = missing.to_string();
            noisegate_sandbox::SandboxError::Jail { missing }.to_string()
        })
    }

    /// Why the ledgers would not take a request, whatever it costs.
    fn terms(&self, request: &Request, cap: Cap, unit: Option<String>) -> Option<String> {
        let Request {
            site,
            data_set,
            data,
            ..
        } = request;
        let elsewhere = self.ledgers.iter().filter(|(other, _)| *other != site);
        let planned = self.charged.iter().find(|one| {
            one.site != *site && (one.data_set == *data_set || data.is_some() && one.data == *data)
        });
        let owner = elsewhere
            .filter(|(_, ledger)| charged_elsewhere(ledger, data_set, *data))
            .map(|(other, _)| other)
            .chain(planned.map(|one| &one.site))
            .next();
        if let Some(owner) = owner {
            return Some(crate::ledger::second_site(data_set, owner));
        }
        let error = match unit {
            _ if !cap.same_as(request.cap) => Error::OtherCap {
                data_set: data_set.clone(),
                registered: cap,
                asked: request.cap,
            },
            Some(registered) if registered != request.unit => Error::OtherUnit {
                data_set: data_set.clone(),
                registered,
                asked: request.unit.clone(),
            },
            _ => return None,
        };
        Some(error.to_string())
    }

    /// The same data under another name, charged before.
    fn second_name(&self, request: &Request) -> Option<String> {
        let data = request.data?;
        let ledger = self.ledgers.get(&request.site);
        let before = ledger.iter().flat_map(|ledger| &ledger.charges);
        let before = before.filter(|charge| charge.data == data);
        let planned = self.charged.iter().filter(|one| one.data == Some(data));
        let first = before
            .map(|charge| &charge.data_set)
            .chain(planned.map(|one| &one.data_set))
            .next()?;
        (*first != request.data_set).then(|| {
            let (known, asked) = (first.clone(), request.data_set.clone());
            Error::SecondName { data, known, asked }.to_string()
        })
    }
}

#[cfg(test)]
mod tests;
