//! What every release costs, and whether the data set's owner allows it.
//!
//! Sums are simple addition of epsilons and of deltas (basic composition), which never
//! understates. The ledger composes what really ran over all runs, usually to less and now and
//! then to a little more (docs/budget.md), and has the last word; a workflow refused here would
//! need the owner's consent in any case.

use std::collections::BTreeSet;

use crate::artifact::ArtifactId;
use crate::catalog::Placement;
use crate::diagnostics::Report;
use crate::error::{Problem, Setting, Spent};
use crate::name::{DataName, StepName};
use crate::plan::{Budget, Charge, Spending};
use crate::section::Field;
use crate::source::{Located, Place};
use crate::workflow::{DataSet, PrivacyPair, Workflow};

use super::labels::Labels;
use super::scope::data_set;
use super::wiring::Wired;

/// Sums of decimal fractions may miss by a rounding error; nobody's privacy hangs on that.
const ROUNDING: f64 = 1.0 + 1e-12;

/// What the steps of a workflow spend.
#[derive(Default)]
pub(super) struct Charges {
    pub steps: Vec<Charged>,
    pub data: Vec<Spending>,
}

/// What one step spends.
pub(super) struct Charged {
    pub step: StepName,
    pub place: Place,
    pub charge: Charge,
}

pub(super) fn check(
    workflow: &Workflow,
    steps: &[Wired<'_>],
    labels: &Labels,
    report: &mut Report,
) -> Charges {
    let mut charges = Charges::default();
    let mut described = BTreeSet::new();
    for step in steps {
        let Some(signature) = step.signature else {
            continue;
        };
        let private = match signature.placement {
            Placement::Guest => private_data(workflow, step),
            Placement::Host => Vec::new(),
        };
        for (data, place) in &private {
            if described.insert(&data.name.value) {
                settings(&step.step.name.value, data, *place, report);
            }
        }
        charges
            .steps
            .extend(charged(workflow, step, &private, labels, report));
    }
    let data = workflow.data.iter();
    charges.data = data
        .filter_map(|data| together(data, &charges.steps, report))
        .collect();
    charges
}

/// What a step spends, if it states it where it must and only there.
fn charged(
    workflow: &Workflow,
    step: &Wired<'_>,
    private: &[(&DataSet, Place)],
    labels: &Labels,
    report: &mut Report,
) -> Option<Charged> {
    let name = || step.step.name.value.clone();
    let guest = step
        .signature
        .is_some_and(|it| it.placement == Placement::Guest);
    match (private.first(), &step.step.privacy) {
        (None, _) if guest && is_sure(workflow, step) && !reads_derived(step, labels) => {
            let place = step.step.name.place;
            report.error(place, Problem::NothingPrivate { step: name() });
            None
        }
        (None, Field::Given(privacy)) if is_sure(workflow, step) => {
            report.error(privacy.place, Problem::UselessPrivacy { step: name() });
            None
        }
        (Some((data, place)), Field::Absent) => {
            let data = data.name.value.clone();
            let see = vec![(format!("`data.{data}` is read here"), *place)];
            let problem = Problem::MissingPrivacy { step: name(), data };
            report.error_with(step.step.name.place, problem, see);
            None
        }
        (Some(_), Field::Given(privacy)) => {
            for (data, _) in private {
                fits(&step.step.name.value, data, privacy, report);
            }
            Some(Charged {
                step: name(),
                place: privacy.place,
                charge: charge(private, &privacy.value),
            })
        }
        _ => None,
    }
}

/// Whether it is known of everything a step reads if it is private.
fn is_sure(workflow: &Workflow, step: &Wired<'_>) -> bool {
    let unsure = |id: &ArtifactId| match id {
        ArtifactId::Data(name) => {
            data_set(workflow, name).is_none_or(|data| data.private.given().is_none())
        }
        _ => false,
    };
    !step.incomplete && !step.sources().any(|(_, source)| unsure(source.id))
}

/// Whether it reads what was computed from private rows, which the labels have reported.
fn reads_derived(step: &Wired<'_>, labels: &Labels) -> bool {
    let mut sources = step.sources();
    sources.any(|(_, source)| !labels.of(source.id).owners().is_empty())
}

/// The private data sets on the private side of a guest, each once.
fn private_data<'a>(workflow: &'a Workflow, step: &Wired<'_>) -> Vec<(&'a DataSet, Place)> {
    let mut found: Vec<(&DataSet, Place)> = Vec::new();
    for (port, source) in step.sources() {
        let ArtifactId::Data(name) = source.id else {
            continue;
        };
        let data = data_set(workflow, name).filter(|data| data.private.value() == Some(&true));
        let Some(data) = data.filter(|_| port.accepts_private) else {
            continue;
        };
        if found.iter().all(|(other, _)| other.name.value != *name) {
            found.push((data, source.place));
        }
    }
    found
}

/// What must be known about a data set before a gate can stand in front of it.
fn settings(step: &StepName, data: &DataSet, read_at: Place, report: &mut Report) {
    let name = &data.name.value;
    let missing = [
        (Setting::Unit, data.unit.is_absent()),
        (Setting::UnitsPublic, data.units_public.is_absent()),
        (Setting::Budget, data.budget.is_absent()),
    ];
    for (setting, _) in missing.into_iter().filter(|(_, missing)| *missing) {
        let problem = Problem::MissingSetting {
            step: step.clone(),
            data: name.clone(),
            setting,
        };
        let see = format!("guest step `{step}` reads it here");
        report.error_with(data.name.place, problem, vec![(see, read_at)]);
    }
    if let Some(budget) = data.budget.value() {
        small_delta(budget, &format!("data.{name}.budget.delta"), data, report);
    }
}

/// At delta = 1 / units, "publish one unit whole, chosen at random" would be allowed.
#[expect(
    clippy::cast_precision_loss,
    reason = "a count of units beyond 2^53 is none"
)]
fn small_delta(pair: &PrivacyPair, path: &str, data: &DataSet, report: &mut Report) {
    let Some(Located {
        value: units,
        place,
    }) = data.units_public.given().copied()
    else {
        return;
    };
    let delta = pair.delta.value.get();
    if delta * units as f64 >= 1.0 {
        let path = path.to_owned();
        let see = format!("`data.{}` declares its number of units", data.name.value);
        let problem = Problem::DeltaTooLarge { path, delta, units };
        report.error_with(pair.delta.place, problem, vec![(see, place)]);
    }
}

fn fits(step: &StepName, data: &DataSet, privacy: &Located<PrivacyPair>, report: &mut Report) {
    let path = format!("steps.{step}.privacy.delta");
    small_delta(&privacy.value, &path, data, report);
    let Some(cap) = data.budget.given() else {
        return;
    };
    let (spent, budget) = (spent(&privacy.value), spent(&cap.value));
    if exceeds(spent, budget) {
        let place = if spent.epsilon > budget.epsilon {
            privacy.value.epsilon.place
        } else {
            privacy.value.delta.place
        };
        let (step, name) = (step.clone(), data.name.value.clone());
        let see = (format!("the budget of `data.{name}`"), cap.place);
        let problem = Problem::BudgetExceeded {
            step,
            data: name,
            spent,
            budget,
        };
        report.error_with(place, problem, vec![see]);
    }
}

/// The sum over all steps; reported only where each step alone would fit.
fn together(data: &DataSet, steps: &[Charged], report: &mut Report) -> Option<Spending> {
    let name: &DataName = &data.name.value;
    let reads_it = |step: &&Charged| step.charge.data.contains(name);
    let charged: Vec<&Charged> = steps.iter().filter(reads_it).collect();
    let cap = data.budget.given()?;
    if charged.is_empty() {
        return None;
    }
    let each = || charged.iter().map(|one| spent_by(one));
    let sum = Spent {
        epsilon: each().map(|one| one.epsilon).sum(),
        delta: each().map(|one| one.delta).sum(),
    };
    let budget = spent(&cap.value);
    if exceeds(sum, budget) && each().all(|one| !exceeds(one, budget)) {
        let see = |one: &&Charged| {
            (
                format!("`{}` spends {}", one.step, spent_by(one)),
                one.place,
            )
        };
        let problem = Problem::BudgetExceededTogether {
            steps: charged.iter().map(|one| one.step.clone()).collect(),
            data: name.clone(),
            spent: sum,
            budget,
        };
        report.error_with(cap.place, problem, charged.iter().map(see).collect());
    }
    Some(Spending {
        data: name.clone(),
        epsilon: sum.epsilon,
        delta: sum.delta,
        budget: Budget {
            epsilon: cap.value.epsilon.value,
            delta: cap.value.delta.value,
        },
    })
}

fn spent_by(one: &Charged) -> Spent {
    Spent::of(one.charge.epsilon, one.charge.delta)
}

fn charge(private: &[(&DataSet, Place)], privacy: &PrivacyPair) -> Charge {
    Charge {
        epsilon: privacy.epsilon.value,
        delta: privacy.delta.value,
        data: private
            .iter()
            .map(|(data, _)| data.name.value.clone())
            .collect(),
    }
}

fn spent(pair: &PrivacyPair) -> Spent {
    Spent::of(pair.epsilon.value, pair.delta.value)
}

fn exceeds(spent: Spent, budget: Spent) -> bool {
    spent.epsilon > budget.epsilon * ROUNDING || spent.delta > budget.delta * ROUNDING
}
