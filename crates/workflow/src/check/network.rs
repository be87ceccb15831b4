//! A step that reads a served model sends what else it reads to that model's address.
//!
//! Two things must hold: the step's site allows the address, in the workflow file where whoever
//! reads it can see; and nothing that the step reads is private, not even to its own site.

use crate::artifact::ArtifactId;
use crate::catalog::Catalog;
use crate::diagnostics::Report;
use crate::error::Problem;

use super::labels::Labels;
use super::scope::Scope;
use super::wiring::{Wired, WiredSource};

pub(super) fn check(scope: Scope<'_>, steps: &[Wired<'_>], labels: &Labels, report: &mut Report) {
    for step in steps {
        for (_, model) in step.sources() {
            let addresses = addresses_of(scope.catalog, model);
            for address in addresses {
                allowed(scope, step, model, address, report);
            }
            if let Some(address) = addresses.first() {
                nothing_private(step, labels, address, report);
            }
        }
    }
}

/// Every address to which the step sends, for the plan.
pub(super) fn addresses(catalog: &Catalog, step: &Wired<'_>) -> Vec<String> {
    let sources = step.sources();
    let mut all: Vec<String> = sources
        .flat_map(|(_, source)| addresses_of(catalog, source))
        .cloned()
        .collect();
    all.sort();
    all.dedup();
    all
}

fn addresses_of<'a>(catalog: &'a Catalog, source: &WiredSource<'_>) -> &'a [String] {
    let ArtifactId::Plugin(name) = source.id else {
        return &[];
    };
    let mut plugins = catalog.plugins.iter();
    let plugin = plugins.find(|plugin| plugin.name == name.as_str());
    plugin.map_or(&[], |plugin| &plugin.sends_to)
}

fn allowed(
    scope: Scope<'_>,
    step: &Wired<'_>,
    model: &WiredSource<'_>,
    address: &str,
    report: &mut Report,
) {
    // An unknown site is already reported.
    let sites = &scope.workflow.sites;
    let Some(site) = sites.iter().find(|one| Some(&one.name.value) == step.site) else {
        return;
    };
    let allowed = site.sends_to.value();
    if allowed.is_some_and(|allowed| allowed.iter().any(|one| one == address)) {
        return;
    }
    let problem = Problem::AddressNotAllowed {
        step: step.step.name.value.clone(),
        site: site.name.value.clone(),
        address: address.to_owned(),
    };
    let see = format!("`{}` is declared here", site.name.value);
    report.error_with(model.place, problem, vec![(see, site.name.place)]);
}

fn nothing_private(step: &Wired<'_>, labels: &Labels, address: &str, report: &mut Report) {
    for (port, source) in step.sources() {
        let owners = labels.of(source.id).owners();
        // Ports that take nothing private were reported with the labels.
        if owners.is_empty() || !port.accepts_private {
            continue;
        }
        let problem = Problem::PrivateDataSent {
            step: step.step.name.value.clone(),
            artifact: source.id.clone(),
            owners,
            address: address.to_owned(),
        };
        report.error_with(source.place, problem, labels.origin(source.id));
    }
}
