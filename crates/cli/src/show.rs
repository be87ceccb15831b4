//! Turning data into what a person, or with `--json` a machine, reads.

use miette::{
    GraphicalReportHandler, LabeledSpan, MietteDiagnostic, NamedSource, Report, Severity,
};
use noisegate_workflow::{self as workflow, Diagnostic, Diagnostics};
use serde::Serialize;
use serde_json::json;

use crate::exit::Exit;

/// Prints every diagnostic: JSON on standard output, or a marked-up excerpt on standard error.
pub fn diagnostics(diagnostics: &Diagnostics, as_json: bool) {
    if as_json {
        let list: Vec<_> = diagnostics.list.iter().map(as_value).collect();
        println!("{}", json!({ "diagnostics": list }));
        return;
    }
    for one in &diagnostics.list {
        let mut text = String::new();
        let source = &diagnostics.sources[one.place.source];
        let report =
            report(one).with_source_code(NamedSource::new(&source.file, source.text.clone()));
        match GraphicalReportHandler::new().render_report(&mut text, report.as_ref()) {
            Ok(()) => eprintln!("{text}"),
            Err(_) => eprintln!("{}", diagnostics.render()),
        }
    }
}

fn report(one: &Diagnostic) -> Report {
    let mut labels = vec![LabeledSpan::underline(one.place.span.clone())];
    let related = one
        .related
        .iter()
        .filter(|related| related.place.source == one.place.source);
    labels.extend(
        related.map(|related| LabeledSpan::at(related.place.span.clone(), &related.message)),
    );
    let severity = match one.severity {
        workflow::Severity::Error => Severity::Error,
        workflow::Severity::Warning => Severity::Warning,
    };
    let diagnostic = MietteDiagnostic::new(one.message())
        .with_code(one.code())
        .with_help(one.remedy())
        .with_severity(severity)
        .with_labels(labels);
    Report::new(diagnostic)
}

fn as_value(one: &Diagnostic) -> serde_json::Value {
    json!({
        "severity": match one.severity {
            workflow::Severity::Error => "error",
            workflow::Severity::Warning => "warning",
        },
        "code": one.code(),
        "message": one.message(),
        "remedy": one.remedy(),
        "file": one.place.file,
        "line": one.place.line,
        "column": one.place.column,
    })
}

/// Prints `value` as JSON on standard output.
///
/// # Errors
/// If it cannot be written as JSON.
pub fn json_line(value: &impl Serialize) -> Result<(), Exit> {
    println!("{}", serde_json::to_string(value).map_err(Exit::failed)?);
    Ok(())
}

/// An aligned table; the first row is the heading.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}
