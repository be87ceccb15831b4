//! The curve of epsilon over delta as inline SVG. Numbers only, so there is nothing to escape.

use std::fmt::Write as _;

use crate::curve::Point;
use crate::page::number;

/// Epsilon over delta: a polyline on a logarithmic axis, and a mark at the delta asked for.
pub(crate) fn plot(points: &[Point], delta: f64) -> String {
    const SIZE: (f64, f64) = (640.0, 260.0);
    const EDGE: f64 = 48.0;
    let most = points
        .iter()
        .map(|point| point.epsilon)
        .fold(f64::MIN_POSITIVE, f64::max);
    let x = |delta: f64| EDGE + (delta.log10() + 10.0) / 8.0 * (SIZE.0 - 2.0 * EDGE);
    let y = |epsilon: f64| SIZE.1 - EDGE - epsilon / most * (SIZE.1 - 2.0 * EDGE);
    let (left, right, bottom, top) = (x(1e-10), x(1e-2), y(0.0), y(most));
    let line: Vec<String> = points
        .iter()
        .map(|point| format!("{:.1},{:.1}", x(point.delta), y(point.epsilon)))
        .collect();
    let mut svg = format!(
        "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"epsilon over delta\"><path d=\"M{left:.1} {top:.1}V{bottom:.1}H{right:.1}\" fill=\"none\" stroke=\"#666\"/><polyline points=\"{}\" fill=\"none\" stroke=\"#0b5cad\" stroke-width=\"2\"/>",
        SIZE.0,
        SIZE.1,
        line.join(" ")
    );
    let mut label = |x: f64, y: f64, anchor: &str, text: &str| {
        let _ = write!(
            svg,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"12\" text-anchor=\"{anchor}\">{text}</text>"
        );
    };
    for exponent in [-10, -8, -6, -4, -2] {
        label(
            x(10f64.powi(exponent)),
            bottom + 16.0,
            "middle",
            &format!("1e{exponent}"),
        );
    }
    label(left - 6.0, bottom, "end", "0");
    label(left - 6.0, top + 4.0, "end", &number(most));
    label(right, bottom + 34.0, "end", "delta");
    label(left, top - 10.0, "middle", "epsilon");
    if (1e-10..=1e-2).contains(&delta) {
        let at = x(delta);
        let _ = write!(
            svg,
            "<path d=\"M{at:.1} {top:.1}V{bottom:.1}\" stroke=\"#a00000\" stroke-dasharray=\"4 3\"/>"
        );
    }
    svg.push_str("</svg>");
    svg
}
