//! Scores as plain text tables: pure functions from values to a `String`.
//!
//! Deliberately absent: colours, terminal widths, printing. The command line decides on those.

use crate::metrics::Evaluation;

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
