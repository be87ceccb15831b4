//! Turning data into what a person, or with `--json` a machine, reads.

use std::ops::Range;

use miette::{
    GraphicalReportHandler, LabeledSpan, MietteDiagnostic, NamedSource, Report, Severity,
};
use noisegate_workflow::{self as workflow, Diagnostic, Diagnostics};
use serde::Serialize;
use serde_json::json;

use crate::exit::Exit;

/// Bytes of a line that an excerpt may hold: longer ones help nobody, and padding to a place far
/// out in them has an end.
const LINE_MAX: usize = 2000;

/// `text` with its control characters written out, so that nobody else's text steers a terminal;
/// lines and tabs stay.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\t' => plain.push(letter),
            control if steers(control) => plain.extend(control.escape_default()),
            _ => plain.push(letter),
        }
    }
    plain
}

/// As [`plain`], in one line.
pub fn plain_line(text: &str) -> String {
    plain(text).replace('\n', "\\n")
}

/// Control characters, and those that turn the direction of writing.
fn steers(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// As [`plain`], but every byte stays where it is, for spans into the text.
fn plain_in_place(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.replace("\r\n", " \n").chars() {
        match letter {
            '\n' | '\t' => plain.push(letter),
            control if steers(control) => plain.push_str(&"?".repeat(control.len_utf8())),
            _ => plain.push(letter),
        }
    }
    plain
}

/// The lines of a span, and one before and after: what an excerpt shows of it.
fn around<'t>(text: &'t str, span: &Range<usize>) -> &'t str {
    let (before, after) = (&text[..span.start], &text[span.end..]);
    let start = before.rmatch_indices('\n').nth(1);
    let end = after.match_indices('\n').nth(1);
    &text[start.map_or(0, |(at, _)| at + 1)..end.map_or(text.len(), |(at, _)| span.end + at)]
}

/// Prints every diagnostic: JSON on standard output, or a marked-up excerpt on standard error.
pub fn diagnostics(diagnostics: &Diagnostics, as_json: bool) {
    if as_json {
        let list: Vec<_> = diagnostics.list.iter().map(as_value).collect();
        println!("{}", json!({ "diagnostics": list }));
        return;
    }
    for one in &diagnostics.list {
        eprintln!("{}", marked_up(diagnostics, one));
    }
}

/// An excerpt with its places marked, or the places in words where a line of it is too long.
fn marked_up(diagnostics: &Diagnostics, one: &Diagnostic) -> String {
    let source = &diagnostics.sources[one.place.source];
    let mut shown = std::iter::once(&one.place).chain(places_beside(one).map(|it| &it.place));
    let fits = shown.all(|place| {
        let mut lines = around(&source.text, &place.span).lines();
        lines.all(|line| line.len() <= LINE_MAX)
    });
    let named = NamedSource::new(plain(&source.file), plain_in_place(&source.text));
    let report = report(one).with_source_code(named);
    let mut text = String::new();
    let handler = GraphicalReportHandler::new();
    if fits && handler.render_report(&mut text, report.as_ref()).is_ok() {
        return text;
    }
    let alone = Diagnostics {
        sources: diagnostics.sources.clone(),
        list: vec![one.clone()],
    };
    plain(&alone.render())
}

/// The other places of a problem that lie in the same text.
fn places_beside(one: &Diagnostic) -> impl Iterator<Item = &workflow::Related> {
    let source = one.place.source;
    let related = one.related.iter();
    related.filter(move |related| related.place.source == source)
}

fn report(one: &Diagnostic) -> Report {
    let mut labels = vec![LabeledSpan::underline(one.place.span.clone())];
    labels.extend(
        places_beside(one)
            .map(|related| LabeledSpan::at(related.place.span.clone(), plain(&related.message))),
    );
    let severity = match one.severity {
        workflow::Severity::Error => Severity::Error,
        workflow::Severity::Warning => Severity::Warning,
    };
    let diagnostic = MietteDiagnostic::new(plain(&one.message()))
        .with_code(one.code())
        .with_help(plain(&one.remedy()))
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
    let plain_row = |row: &Vec<String>| row.iter().map(|cell| plain_line(cell)).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(plain_row).collect();
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
    for row in &rows {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use noisegate_workflow::{Catalog, Source, load};

    fn shown(text: &str) -> String {
        let refused = load(Source::new("w.toml", text), &[], &Catalog::default()).unwrap_err();
        let list = refused.list.iter();
        list.map(|one| marked_up(&refused, one)).collect()
    }

    #[test]
    fn a_very_long_line_is_told_by_its_place_and_remedy() {
        let text = shown(&format!("a = 1\nb = [{}[\n", "1,".repeat(60_000)));
        assert!(
            text.contains("w.toml:2:") && text.contains("remedy: "),
            "{text}"
        );
        assert!(text.len() < 4000, "{}", text.len());
        // Elsewhere in the file it is in nobody's way.
        let text = shown(&format!("# {}\n\n\n\na = [[\n", "1,".repeat(60_000)));
        assert!(text.contains("a = [[") && text.len() < 4000, "{text}");
    }

    #[test]
    fn no_text_steers_the_terminal() {
        assert_eq!(
            plain("a\u{1b}[2J\u{9b}1m\r\n\tb\u{7}\u{202e}c"),
            "a\\u{1b}[2J\\u{9b}1m\\r\n\tb\\u{7}\\u{202e}c"
        );
        assert_eq!(
            table(&[vec!["a\nnoisegate: all fine".to_owned()]])
                .lines()
                .count(),
            1
        );
        let text = shown("a = \"\u{1b}]0;title\u{7}\"\r\nb = \"\u{9b}2J\"\r\n");
        assert!(
            !text.contains("\u{1b}]") && !text.contains(['\u{7}', '\u{9b}']),
            "{text:?}"
        );
        assert!(text.contains("?]0;title?"), "{text}");
    }
}
