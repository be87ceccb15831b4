//! Scores as plain text tables: pure functions from values to a `String`.
//!
//! Deliberately absent: colours, terminal widths, printing. The command line decides on those.

use crate::metrics::{
    Difference, Evaluation, EvaluationReport, Interval, ManyLabelsEvaluation, NumbersEvaluation,
};

/// Rows of cells under headings; the first column is flush left, the others flush right.
///
/// Widths count characters. A row shorter than the headings is filled with empty cells, a longer
/// one is cut.
pub fn render(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = headings.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let headings: Vec<String> = headings.iter().map(|&h| h.to_owned()).collect();
    let rule: Vec<String> = widths
        .iter()
        .map(|&width| "\u{2500}".repeat(width))
        .collect();
    let mut out = line(&headings, &widths);
    out += &line(&rule, &widths);
    for row in rows {
        out += &line(row, &widths);
    }
    out
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let mut out = String::new();
    for (column, &width) in widths.iter().enumerate() {
        let cell = cells.get(column).map_or("", String::as_str);
        out += &match column {
            0 => format!("{cell:<width$}"),
            _ => format!("  {cell:>width$}"),
        };
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// Per-class precision, recall, F1 and support, then the totals.
pub fn render_evaluation(evaluation: &Evaluation) -> String {
    let mut rows: Vec<Vec<String>> = evaluation
        .classes
        .iter()
        .map(|class| {
            vec![
                class.label.clone(),
                score(class.precision),
                score(class.recall),
                score(class.f1),
                class.support.to_string(),
            ]
        })
        .collect();
    let total = |name: &str, value: f64| {
        let rows = evaluation.rows.to_string();
        vec![
            name.to_owned(),
            String::new(),
            String::new(),
            score(value),
            rows,
        ]
    };
    rows.push(total("macro-F1", evaluation.macro_f1));
    rows.push(total("accuracy", evaluation.accuracy));
    if let Some(error) = evaluation.calibration_error {
        rows.push(total("calibration error", error));
    }
    render(&["label", "precision", "recall", "F1", "rows"], &rows)
}

/// The confusion matrix, truth down, prediction across; columns are numbered to stay narrow.
pub fn render_confusion(evaluation: &Evaluation) -> String {
    let numbers: Vec<String> = (1..=evaluation.classes.len())
        .map(|n| n.to_string())
        .collect();
    let mut headings = vec!["truth \\ predicted"];
    headings.extend(numbers.iter().map(String::as_str));
    let rows: Vec<Vec<String>> = evaluation
        .classes
        .iter()
        .zip(&evaluation.confusion)
        .enumerate()
        .map(|(index, (class, counts))| {
            let mut row = vec![format!("{} {}", index + 1, class.label)];
            row.extend(counts.iter().map(|&count| match count {
                0 => "\u{b7}".to_owned(),
                count => count.to_string(),
            }));
            row
        })
        .collect();
    render(&headings, &rows)
}

/// The table of [`render_evaluation`] with intervals, subgroups and the comparison below it.
pub fn render_report(report: &EvaluationReport) -> String {
    let mut out = render_evaluation(&report.evaluation);
    let rows = [
        ("accuracy", &report.accuracy_interval),
        ("macro-F1", &report.macro_f1_interval),
    ]
    .map(|(name, interval)| vec![name.to_owned(), score(interval.score), between(interval)]);
    out += &format!("\n{}", render(&["", "score", "95 % interval"], &rows));
    if let Some(by) = &report.subgroups {
        let rows: Vec<Vec<String>> = by
            .groups
            .iter()
            .map(|group| {
                vec![
                    group.shown(),
                    group.rows.to_string(),
                    score(group.accuracy.score),
                    between(&group.accuracy),
                    score(group.macro_f1),
                ]
            })
            .collect();
        let headings = [&by.column, "rows", "accuracy", "95 % interval", "macro-F1"];
        out += &format!("\n{}", render(&headings, &rows));
    }
    if let Some(with) = &report.comparison {
        let row = |name: &str, baseline: f64, difference: &Difference| {
            let Interval {
                score: gain,
                low,
                high,
            } = difference.gain;
            vec![
                name.to_owned(),
                score(baseline),
                format!("{gain:+.3}"),
                format!("{low:+.3} \u{2013} {high:+.3}"),
                format!("{:.4}", difference.p_value),
            ]
        };
        let rows = [
            row("accuracy", with.baseline_accuracy, &with.accuracy),
            row("macro-F1", with.baseline_macro_f1, &with.macro_f1),
        ];
        let first = format!("against {}", with.baseline);
        let headings = [&first, "baseline", "gain", "95 % interval", "p, one-sided"];
        out += &format!("\n{}", render(&headings, &rows));
    }
    out
}

/// Per-label precision, recall, F1 and support of a multi-label head, then the totals.
pub fn render_many(evaluation: &ManyLabelsEvaluation) -> String {
    let class = |class: &crate::metrics::ClassScore| {
        vec![
            class.label.clone(),
            score(class.precision),
            score(class.recall),
            score(class.f1),
            class.support.to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = evaluation.classes.iter().map(class).collect();
    let totals = [
        vec![
            "micro-F1".to_owned(),
            score(evaluation.micro_f1.score),
            between(&evaluation.micro_f1),
        ],
        vec!["macro-F1".to_owned(), score(evaluation.macro_f1)],
        vec!["all labels right".to_owned(), score(evaluation.exact_match)],
        vec!["answers right".to_owned(), score(evaluation.accuracy)],
    ];
    let classes = render(&["label", "precision", "recall", "F1", "rows"], &rows);
    format!(
        "{classes}\n{}",
        render(&["", "score", "95 % interval"], &totals)
    )
}

/// How close predicted numbers are.
pub fn render_numbers(evaluation: &NumbersEvaluation) -> String {
    let absolute = &evaluation.mean_absolute_error;
    let explained = evaluation.r_squared.map_or("-".to_owned(), score);
    let rows = [
        vec![
            "mean absolute error".to_owned(),
            score(absolute.score),
            between(absolute),
        ],
        vec![
            "root mean square error".to_owned(),
            score(evaluation.root_mean_square_error),
        ],
        vec!["R squared".to_owned(), explained],
    ];
    render(&["", "score", "95 % interval"], &rows)
}

fn between(interval: &Interval) -> String {
    format!("{:.3} \u{2013} {:.3}", interval.low, interval.high)
}

fn score(value: f64) -> String {
    format!("{value:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LabelSet;
    use crate::metrics::{Prediction, evaluate};

    fn example() -> Evaluation {
        let rows: Vec<Prediction> = [(0, 0), (0, 0), (0, 1), (1, 1)]
            .map(|(truth, predicted)| Prediction {
                truth,
                predicted,
                confidence: None,
            })
            .to_vec();
        evaluate(&LabelSet::new(["billing", "d\u{e9}lai"]).unwrap(), &rows).unwrap()
    }

    #[test]
    fn an_evaluation_reads_as_a_table() {
        let expected = "\
label     precision  recall     F1  rows
────────  ─────────  ──────  ─────  ────
billing       1.000   0.667  0.800     3
délai         0.500   1.000  0.667     1
macro-F1                     0.733     4
accuracy                     0.750     4
";
        assert_eq!(render_evaluation(&example()), expected);
    }

    #[test]
    fn a_confusion_matrix_has_truth_down_and_prediction_across() {
        let expected = "\
truth \\ predicted  1  2
─────────────────  ─  ─
1 billing          2  1
2 délai            ·  1
";
        assert_eq!(render_confusion(&example()), expected);
    }

    #[test]
    fn short_rows_are_filled_and_long_ones_cut() {
        let rows = [
            vec!["x".to_owned()],
            vec!["y".to_owned(), "1".to_owned(), "2".to_owned()],
        ];
        assert_eq!(render(&["a", "b"], &rows), "a  b\n─  ─\nx\ny  1\n");
    }
}
