//! Scores as one HTML page with its drawings inside: nothing is fetched, no script runs.
//!
//! ```text
//! EvaluationReport ──page──> heading, totals, confusion (SVG), F1 by label (SVG),
//!                            reliability (SVG), subgroups, comparison
//! ```
//!
//! Deliberately absent: rows. The page shows counts and scores, which are as private as the rows.

use std::fmt::Write as _;

use crate::metrics::{EvaluationReport, Interval};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;\
padding:0 1rem;color:#1b1f24;background:#fff}h1{font-size:1.4rem}h2{font-size:1.1rem;\
margin-top:2rem}table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:right;\
border-bottom:1px solid #d8dee4}td:first-child,th:first-child{text-align:left}\
svg text{font:11px system-ui,sans-serif;fill:#1b1f24}.note{color:#57606a}";

/// With more labels than this, the confusion is a list: drawn, it grows with their square.
const DRAWN_LABELS_MAX: usize = 100;
/// Pairs of such a list.
const PAIRS_MAX: usize = 50;

/// The page of one evaluation; `title` and `note` are for people.
pub fn page(title: &str, note: &str, report: &EvaluationReport) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <title>{title}</title><style>{STYLE}</style></head>\n<body>\n\
         <h1>{title}</h1>\n<p class=\"note\">{note}</p>\n",
        title = escape(title),
        note = escape(note),
    );
    totals(&mut out, report);
    section(&mut out, "F1 by label", &bars(report));
    match report.evaluation.classes.len() <= DRAWN_LABELS_MAX {
        true => section(
            &mut out,
            "Confusion: truth down, prediction across",
            &confusion(report),
        ),
        false => section(&mut out, "Most often confused", &confused_pairs(report)),
    }
    if !report.reliability.is_empty() {
        section(
            &mut out,
            "Reliability: confidence across, share right up",
            &reliability(report),
        );
    }
    subgroups(&mut out, report);
    comparison(&mut out, report);
    out.push_str("</body></html>\n");
    out
}

/// A page with a table of plain text, for scores that have no drawings.
pub fn plain(title: &str, note: &str, table: &str) -> String {
    let (title, note, table) = (escape(title), escape(note), escape(table));
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <title>{title}</title><style>{STYLE}</style></head>\n<body>\n\
         <h1>{title}</h1>\n<p class=\"note\">{note}</p>\n<pre>{table}</pre></body></html>\n"
    )
}

fn section(out: &mut String, title: &str, body: &str) {
    let _ = write!(out, "<h2>{title}</h2>\n{body}\n");
}

fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut out = String::from("<table><tr>");
    for heading in headings {
        let _ = write!(out, "<th>{}</th>", escape(heading));
    }
    out.push_str("</tr>\n");
    for row in rows {
        out.push_str("<tr>");
        for cell in row {
            let _ = write!(out, "<td>{}</td>", escape(cell));
        }
        out.push_str("</tr>\n");
    }
    out + "</table>"
}

fn between(interval: &Interval) -> String {
    format!("{:.3} \u{2013} {:.3}", interval.low, interval.high)
}

fn totals(out: &mut String, report: &EvaluationReport) {
    let scores = &report.evaluation;
    let mut rows = vec![
        row(
            "accuracy",
            scores.accuracy,
            &between(&report.accuracy_interval),
        ),
        row(
            "macro-F1",
            scores.macro_f1,
            &between(&report.macro_f1_interval),
        ),
        row("micro-F1", scores.micro_f1, ""),
    ];
    if let Some(error) = scores.calibration_error {
        rows.push(row("expected calibration error", error, ""));
    }
    let _ = writeln!(out, "<p>{} rows</p>", scores.rows);
    out.push_str(&table(&["", "score", "95 % interval"], &rows));
}

fn row(name: &str, score: f64, interval: &str) -> Vec<String> {
    vec![name.to_owned(), format!("{score:.3}"), interval.to_owned()]
}

/// Room for the names of labels, in pixels.
const NAMES: usize = 180;

fn bars(report: &EvaluationReport) -> String {
    let classes = &report.evaluation.classes;
    let mut out = svg(NAMES + 360, 20 * classes.len() + 4);
    for (index, class) in classes.iter().enumerate() {
        let y = 20 * index;
        let _ = write!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{NAMES}\" y=\"{}\" width=\"{:.1}\" height=\"14\" fill=\"#0969da\">\
             <title>{}: precision {:.3}, recall {:.3}, {} rows</title></rect>\
             <text x=\"{:.1}\" y=\"{}\">{:.3}</text>",
            NAMES - 8,
            y + 14,
            escape(&shortened(&class.label)),
            y + 3,
            300.0 * class.f1,
            escape(&class.label),
            class.precision,
            class.recall,
            class.support,
            NAMES as f64 + 300.0 * class.f1 + 6.0,
            y + 14,
            class.f1,
        );
    }
    out + "</svg>"
}

fn confusion(report: &EvaluationReport) -> String {
    let evaluation = &report.evaluation;
    let count = evaluation.classes.len();
    let side = (640 / count.max(1)).clamp(12, 44);
    let mut out = svg(NAMES + side * count + 4, side * count + 24);
    for (truth, (class, counts)) in evaluation
        .classes
        .iter()
        .zip(&evaluation.confusion)
        .enumerate()
    {
        let y = side * truth + 20;
        let _ = write!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{} {}</text>\
             <text x=\"{}\" y=\"14\" text-anchor=\"middle\">{}</text>",
            NAMES - 8,
            y + side / 2 + 4,
            truth + 1,
            escape(&shortened(&class.label)),
            NAMES + side * truth + side / 2,
            truth + 1,
        );
        for (predicted, &rows) in counts.iter().enumerate() {
            let share = rows as f64 / class.support.max(1) as f64;
            let (x, centre) = (NAMES + side * predicted, y + side / 2 + 4);
            let hue = if truth == predicted {
                "9,105,218"
            } else {
                "207,34,46"
            };
            let _ = write!(
                out,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{side}\" height=\"{side}\" \
                 fill=\"rgba({hue},{share:.3})\" stroke=\"#d8dee4\"><title>{} said {}: {rows}</title></rect>",
                escape(&class.label),
                escape(&evaluation.classes[predicted].label),
            );
            if rows > 0 && side >= 20 {
                let ink = if share > 0.5 { "#fff" } else { "#1b1f24" };
                let _ = write!(
                    out,
                    "<text x=\"{}\" y=\"{centre}\" text-anchor=\"middle\" style=\"fill:{ink}\">{rows}</text>",
                    x + side / 2,
                );
            }
        }
    }
    out + "</svg>"
}

/// The pairs of labels that stand for each other most often.
fn confused_pairs(report: &EvaluationReport) -> String {
    let evaluation = &report.evaluation;
    let mut pairs: Vec<(u64, usize, usize)> = Vec::new();
    for (truth, counts) in evaluation.confusion.iter().enumerate() {
        let wrong = counts
            .iter()
            .enumerate()
            .filter(|(predicted, _)| *predicted != truth);
        pairs.extend(wrong.map(|(predicted, rows)| (*rows, truth, predicted)));
    }
    pairs.retain(|(rows, ..)| *rows > 0);
    pairs.sort_by_key(|(rows, truth, predicted)| (std::cmp::Reverse(*rows), *truth, *predicted));
    pairs.truncate(PAIRS_MAX);
    let mut out = "<table><tr><th>truth</th><th>prediction</th><th>rows</th></tr>".to_owned();
    for (rows, truth, predicted) in pairs {
        let label = |label: usize| escape(&evaluation.classes[label].label);
        let (truth, predicted) = (label(truth), label(predicted));
        let _ = write!(
            out,
            "<tr><td>{truth}</td><td>{predicted}</td><td>{rows}</td></tr>"
        );
    }
    out + "</table>"
}

fn reliability(report: &EvaluationReport) -> String {
    const SIDE: f64 = 260.0;
    const EDGE: f64 = 40.0;
    let at = |share: f64| EDGE + SIDE * share;
    let up = |share: f64| 10.0 + SIDE * (1.0 - share);
    let mut out = svg(320, 310);
    let _ = write!(
        out,
        "<rect x=\"{EDGE}\" y=\"10\" width=\"{SIDE}\" height=\"{SIDE}\" fill=\"none\" stroke=\"#d8dee4\"/>\
         <line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" stroke=\"#57606a\" stroke-dasharray=\"4\"/>",
        at(0.0),
        up(0.0),
        at(1.0),
        up(1.0),
    );
    for tick in [0.0, 0.5, 1.0] {
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{tick}</text>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>",
            at(tick),
            up(0.0) + 16.0,
            EDGE - 6.0,
            up(tick) + 4.0,
        );
    }
    let most = report
        .reliability
        .iter()
        .map(|bin| bin.rows)
        .max()
        .unwrap_or(1);
    for bin in &report.reliability {
        // The area of a dot is its share of the rows.
        let radius = 2.5 + 9.0 * (bin.rows as f64 / most as f64).sqrt();
        let _ = write!(
            out,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius:.1}\" fill=\"rgba(9,105,218,.7)\">\
             <title>{} rows: confidence {:.3}, right {:.3}</title></circle>",
            at(bin.confidence),
            up(bin.accuracy),
            bin.rows,
            bin.confidence,
            bin.accuracy,
        );
    }
    out + "</svg>"
}

fn subgroups(out: &mut String, report: &EvaluationReport) {
    let Some(by) = &report.subgroups else { return };
    let rows: Vec<Vec<String>> = by
        .groups
        .iter()
        .map(|group| {
            vec![
                group.shown(),
                group.rows.to_string(),
                format!("{:.3}", group.accuracy.score),
                between(&group.accuracy),
                format!("{:.3}", group.macro_f1),
            ]
        })
        .collect();
    let headings = [
        by.column.as_str(),
        "rows",
        "accuracy",
        "95 % interval",
        "macro-F1",
    ];
    section(out, "Subgroups", &table(&headings, &rows));
}

fn comparison(out: &mut String, report: &EvaluationReport) {
    let Some(with) = &report.comparison else {
        return;
    };
    let row = |name: &str, baseline: f64, gain: &crate::metrics::Difference| {
        vec![
            name.to_owned(),
            format!("{baseline:.3}"),
            format!("{:+.3}", gain.gain.score),
            format!("{:+.3} \u{2013} {:+.3}", gain.gain.low, gain.gain.high),
            format!("{:.4}", gain.p_value),
        ]
    };
    let rows = [
        row("accuracy", with.baseline_accuracy, &with.accuracy),
        row("macro-F1", with.baseline_macro_f1, &with.macro_f1),
    ];
    let baseline = format!("`{}`", with.baseline);
    let headings = [
        "",
        baseline.as_str(),
        "gain",
        "95 % interval",
        "p, one-sided",
    ];
    section(
        out,
        "Gain over another model, paired bootstrap",
        &table(&headings, &rows),
    );
}

fn svg(width: usize, height: usize) -> String {
    format!(
        "<svg width=\"{width}\" height=\"{height}\" role=\"img\" xmlns=\"http://www.w3.org/2000/svg\">"
    )
}

/// At most what the room for names takes.
fn shortened(name: &str) -> String {
    const CHARACTERS: usize = 24;
    match name.char_indices().nth(CHARACTERS) {
        Some((end, _)) => format!("{}\u{2026}", &name[..end]),
        None => name.to_owned(),
    }
}

/// Labels are whatever the data's owner wrote; none of it may become markup.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LabelSet;
    use crate::metrics::{Beyond, Prediction, report};

    #[test]
    fn a_page_stands_alone_and_takes_no_markup_from_labels() {
        let labels = LabelSet::new(["<script>alert(1)</script>", "b & c"]).unwrap();
        let rows: Vec<Prediction> = [(0, 0, 0.9), (0, 1, 0.6), (1, 1, 0.8)]
            .map(|(truth, predicted, confidence)| Prediction {
                truth,
                predicted,
                confidence: Some(confidence),
            })
            .to_vec();
        let groups = ["x".to_owned(), "y".to_owned(), "x".to_owned()];
        let beyond = Beyond {
            groups: Some(("ward", &groups)),
            baseline: Some(("old", &rows)),
            seed: 0,
        };
        let report = report(&labels, &rows, beyond).unwrap();
        let page = page("Scores", "private to clinic", &report);
        assert!(!page.contains("<script"), "{page}");
        assert!(
            !page.contains("src=") && !page.contains("@import"),
            "{page}"
        );
        assert!(page.contains("b &amp; c") && page.contains("ward") && page.contains("`old`"));
        assert_eq!(page.matches("<svg").count(), 3);
        assert_eq!(page.matches("</svg>").count(), 3);
    }

    #[test]
    fn the_page_of_many_labels_lists_the_pairs_that_are_confused() {
        let labels = LabelSet::new((0..300).map(|label| format!("label {label}"))).unwrap();
        let row = |truth, predicted| Prediction {
            truth,
            predicted,
            confidence: None,
        };
        let mut rows: Vec<Prediction> = (0..300).map(|label| row(label, label)).collect();
        rows.extend([row(7, 9), row(7, 9), row(250, 3)]);
        let page = page(
            "Scores",
            "",
            &report(&labels, &rows, Beyond::default()).unwrap(),
        );
        assert!(page.len() < 200_000, "{}", page.len());
        let pair = "<td>label 7</td><td>label 9</td><td>2</td>";
        let rarer = "<td>label 250</td><td>label 3</td><td>1</td>";
        assert!(page.find(pair).unwrap() < page.find(rarer).unwrap());
        assert!(!page.contains("<td>label 5</td><td>label 5</td>"));
    }
}
