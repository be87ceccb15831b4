//! Only what is public goes out, and only to where its path may lead.

use std::path::{Component, Path};

use crate::artifact::ArtifactId;
use crate::diagnostics::Report;
use crate::error::Problem;
use crate::workflow::Export;

use super::labels::Labels;
use super::scope::Scope;

/// Endings of formats in which nothing is written.
const OTHERS: [&str; 9] = [
    "csv", "tsv", "parquet", "arrow", "xlsx", "zst", "gz", "zip", "bz2",
];

pub(super) fn check(scope: Scope<'_>, labels: &Labels, report: &mut Report) {
    let exports = &scope.workflow.exports;
    for (index, export) in exports.iter().enumerate() {
        source(scope, export, labels, report);
        let Some(path) = export.path.given() else {
            continue;
        };
        if !path.place.is_override() && leads_out(&path.value.text) {
            let (export, path_of) = (export.name.value.to_string(), path.value.text.clone());
            let problem = Problem::ExportOutside {
                export,
                path: path_of,
            };
            report.error(path.place, problem);
        }
        let ending = path.value.text.rsplit('.').next().unwrap_or_default();
        if OTHERS.contains(&ending.to_ascii_lowercase().as_str()) {
            let path_of = path.value.text.clone();
            report.error(path.place, Problem::ExportFormat { path: path_of });
        }
        let mut before = exports[..index]
            .iter()
            .filter_map(|other| other.path.given());
        if let Some(other) = before.find(|other| other.value.same_file(&path.value)) {
            let see = vec![("also written by this export".to_owned(), other.place)];
            let written = path.value.text.clone();
            report.error_with(path.place, Problem::SameExportPath { path: written }, see);
        }
    }
}

/// Whether a path that a stranger may have written leads to where things lie that somebody relies
/// on: out of the workflow file's folder, to what is hidden, or to where plugins are looked for.
fn leads_out(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    parts.any(|part| match part {
        Component::CurDir => false,
        Component::Normal(name) => {
            let name = name.to_string_lossy();
            name.starts_with('.') || name.eq_ignore_ascii_case("plugins")
        }
        _ => true,
    })
}

fn source(scope: Scope<'_>, export: &Export, labels: &Labels, report: &mut Report) {
    let Some(from) = export.from.given() else {
        return;
    };
    if !matches!(from.value, ArtifactId::Output { .. }) {
        let artifact = from.value.clone();
        report.error(from.place, Problem::ExportsNoOutput { artifact });
        return;
    }
    scope.resolve(from, report);
    let owners = labels.of(&from.value).owners();
    if !owners.is_empty() {
        let (export, artifact) = (export.name.value.to_string(), from.value.clone());
        let problem = Problem::PrivateDataExported {
            export,
            artifact,
            owners,
        };
        report.error_with(from.place, problem, labels.origin(&from.value));
    }
}
