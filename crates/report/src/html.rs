//! The report as one HTML file: no script, no outside reference.
//!
//! What stands where; the markup is made in [`crate::page`] and [`crate::plot`].

use noisegate_audit::{Method, Verdict};

use crate::facts::{Charged, Gate, Report};
use crate::page::{Page, number, or_dash, rounded_down, row, scientific};
use crate::plot::plot;
use crate::words;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}h1,h2,h3{line-height:1.2}h2{border-bottom:1px solid #ccc;margin-top:2.2rem}table{border-collapse:collapse;margin:.6rem 0;width:100%}th,td{border:1px solid #ccc;padding:.25rem .5rem;text-align:left;vertical-align:top;overflow-wrap:anywhere}th{background:#f3f3f3}.bad{color:#a00000;font-weight:600}svg{max-width:100%;height:auto}@media print{body{margin:0}}";

/// Renders a report.
#[must_use]
pub fn html(report: &Report) -> String {
    let mut page = Page(String::new());
    let title = format!("Privacy report of run {}", report.run);
    page.raw("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>");
    page.text(&title);
    page.raw("</title><style>");
    page.raw(STYLE);
    page.raw("</style></head><body><h1>");
    page.text(&title);
    page.raw("</h1>");
    page.pairs(&[
        ("Workflow", report.workflow.clone()),
        ("What for", report.help.clone()),
        ("Outcome", report.outcome.clone()),
        ("Accountant", report.accountant.clone()),
    ]);
    page.paragraph("In the order of NIST SP 800-226, \"Guidelines for Evaluating Differential Privacy Guarantees\" (2025).");
    parameters(&mut page, report);
    unit(&mut page, report);
    mechanism(&mut page, report);
    utility(&mut page, report);
    accounting(&mut page, report);
    trust(&mut page, report);
    exposure(&mut page);
    audits(&mut page, report);
    page.heading("Not covered");
    page.list(&words::NOT_COVERED);
    page.raw("</body></html>\n");
    page.0
}

fn parameters(page: &mut Page, report: &Report) {
    page.heading("Privacy parameters");
    if report.gates.is_empty() {
        page.paragraph(
            "No step of this run read private data through the gate; nothing was charged.",
        );
    }
    for gate in &report.gates {
        page.subheading(&format!("Step {}", gate.step));
        page.pairs(&[
            ("Epsilon asked for", number(gate.epsilon)),
            ("Delta", scientific(gate.delta)),
            (
                "Charge",
                match &gate.charge {
                    Some(charge) => format!(
                        "entry {} of the ledger of {}{}: {}",
                        charge.entry,
                        gate.site,
                        if charge.of_this_run {
                            ""
                        } else {
                            ", made by an earlier run of the step, whose output was served again"
                        },
                        events(charge)
                    ),
                    None => "none: this run neither charged for the step nor was served an earlier output".to_owned(),
                },
            ),
        ]);
        if !gate.curve.is_empty() {
            page.raw(&plot(&gate.curve, gate.delta));
            let mut rows = vec![vec!["delta".to_owned(), "epsilon".to_owned()]];
            rows.extend(
                gate.curve
                    .iter()
                    .map(|point| vec![scientific(point.delta), number(point.epsilon)]),
            );
            page.table(&rows);
        }
    }
}

fn unit(page: &mut Page, report: &Report) {
    page.heading("Unit of privacy");
    page.paragraph(words::ADJACENCY);
    let mut rows = vec![row(&["step", "data set", "unit", "public number of units"])];
    rows.extend(report.gates.iter().map(|gate| {
        vec![
            gate.step.clone(),
            gate.data_set.clone(),
            gate.unit.clone(),
            or_dash(gate.units_public),
        ]
    }));
    page.table(&rows);
}

fn mechanism(page: &mut Page, report: &Report) {
    page.heading("Mechanism and its implementation");
    page.paragraph(words::MECHANISM);
    let mut rows = vec![row(&[
        "step",
        "mechanism",
        "bound of one unit (L2)",
        "sampling rate",
        "queries",
        "noise multiplier",
    ])];
    rows.extend(report.gates.iter().map(|gate| {
        vec![
            gate.step.clone(),
            match gate.votes_per_unit {
                Some(most) => format!("votes: more than {most} marks of a unit count as none"),
                None => "Gaussian sum: clipped in L2 norm".to_owned(),
            },
            or_dash(gate.clip),
            or_dash(gate.sampling_rate),
            or_dash(gate.steps),
            or_dash(multiplier(gate)),
        ]
    }));
    page.table(&rows);
    page.subheading("Side channels");
    page.paragraph(words::SIDE_CHANNELS);
    let mut rows = vec![row(&["guest", "SHA-256", "imports", "the sandbox"])];
    for guest in &report.guests {
        let imports = guest.imports.iter().map(|import| match import.allowed {
            true => import.name.clone(),
            false => format!("{} (refused)", import.name),
        });
        rows.push(vec![
            guest.uses.clone(),
            guest.sha256.clone(),
            imports.collect::<Vec<_>>().join(", "),
            if guest.loadable {
                "loads it"
            } else {
                "refuses it"
            }
            .to_owned(),
        ]);
    }
    page.table(&rows);
}

fn utility(page: &mut Page, report: &Report) {
    page.heading("Utility and bias");
    page.paragraph(words::UTILITY);
    let mut rows = vec![row(&[
        "step",
        "noise of each released number (standard deviation)",
        "the most that one unit adds (L2)",
    ])];
    rows.extend(report.gates.iter().map(|gate| {
        let share = one_unit(gate);
        let noise = share.and_then(|share| Some(share * multiplier(gate)?));
        let text = |value: Option<f64>| or_dash(value.map(|value| format!("{value:.3e}")));
        vec![gate.step.clone(), text(noise), text(share)]
    }));
    page.table(&rows);
    page.paragraph(words::BIAS);
}

fn accounting(page: &mut Page, report: &Report) {
    page.heading("Composition and budget");
    page.paragraph(words::CHARGED_FIRST);
    for ledger in &report.ledgers {
        page.subheading(&format!("Ledger of {}", ledger.site));
        page.pairs(&[
            ("Signed by (ed25519)", ledger.public_key.clone()),
            (
                "Head",
                format!("{} after {} entries", ledger.head, ledger.entries),
            ),
            ("Signature of the head", ledger.head_signature.clone()),
            (
                "Verified",
                "every hash, link and signature, and every charge against the caps in force when it was made, for this report".to_owned(),
            ),
        ]);
        let mut rows = vec![row(&[
            "data set",
            "charges",
            "spent epsilon",
            "cap",
            "delta",
        ])];
        rows.extend(ledger.accounts.iter().map(|account| {
            vec![
                account.data_set.clone(),
                or_dash(account.charges),
                account.spent.map_or("not priced".to_owned(), number),
                number(account.cap),
                scientific(account.delta),
            ]
        }));
        page.table(&rows);
        let mut rows = vec![row(&[
            "entry",
            "state",
            "for",
            "of this run",
            "data set",
            "events",
            "guest SHA-256",
        ])];
        rows.extend(ledger.charges.iter().map(|charge| {
            vec![
                charge.entry.to_string(),
                format!("{:?}", charge.state).to_lowercase(),
                charge.note.clone(),
                if charge.of_this_run { "yes" } else { "no" }.to_owned(),
                charge.data_set.clone(),
                events(charge),
                charge.guest.clone(),
            ]
        }));
        page.table(&rows);
    }
}

fn trust(page: &mut Page, report: &Report) {
    page.heading("Trust model, security and access control");
    page.paragraph(words::TRUST);
    page.paragraph(words::ACCESS);
    let mut rows = vec![row(&[
        "artifact",
        "label",
        "made on",
        "read by",
        "exported as",
        "SHA-256 (public only)",
    ])];
    rows.extend(report.artifacts.iter().map(|flow| {
        vec![
            flow.name.clone(),
            flow.label.clone(),
            flow.site.clone().unwrap_or_else(|| "every site".to_owned()),
            flow.read_by.join(", "),
            flow.exported_to.join(", "),
            flow.digest.clone().unwrap_or_default(),
        ]
    }));
    page.table(&rows);
}

fn exposure(page: &mut Page) {
    page.heading("Data collection exposure");
    page.paragraph(words::COLLECTION);
}

fn audits(page: &mut Page, report: &Report) {
    page.heading("Empirical audit");
    page.paragraph(words::AUDIT_CAVEAT);
    let audited = report
        .gates
        .iter()
        .filter_map(|gate| Some((gate, gate.audit.as_ref()?)));
    let mut rows = vec![row(&[
        "step",
        "claimed epsilon",
        "method",
        "at least",
        "could have shown",
        "confidence",
        "verdict",
    ])];
    for (gate, found) in audited {
        for evidence in &found.evidence {
            rows.push(vec![
                gate.step.clone(),
                number(found.claimed_epsilon),
                match evidence.method {
                    Method::OneRun => "any mechanism (Steinke et al. 2023)",
                    Method::Gaussian => "Gaussian (Mahloujifar et al. 2024)",
                }
                .to_owned(),
                rounded_down(evidence.epsilon_at_least),
                rounded_down(evidence.epsilon_provable),
                found.confidence.to_string(),
                match found.verdict {
                    Verdict::NotRefuted => "not refuted",
                    Verdict::Doubtful => "doubtful",
                    Verdict::Refuted => "REFUTED",
                }
                .to_owned(),
            ]);
        }
    }
    match rows.len() {
        1 => page.paragraph(words::NO_AUDIT),
        _ => page.table(&rows),
    }
    let of_votes = |gate: &Gate| gate.audit.is_some() && gate.votes_per_unit.is_some();
    if report.gates.iter().any(of_votes) {
        page.paragraph(words::AUDIT_OF_VOTES);
    }
}

/// What one unit at the clip bound adds to a release: the clip bound over the expected batch.
fn one_unit(gate: &Gate) -> Option<f64> {
    Some(gate.clip? / (gate.sampling_rate? * gate.units_public? as f64))
}

/// The noise multiplier that was charged.
fn multiplier(gate: &Gate) -> Option<f64> {
    let events = &gate.charge.as_ref()?.events;
    events.iter().find_map(|event| match event {
        noisegate_privacy::Event::SampledGaussian { sigma, .. } => Some(*sigma),
        _ => None,
    })
}

fn events(charge: &Charged) -> String {
    let events = charge.events.iter().map(|event| format!("{event:?}"));
    events.collect::<Vec<_>>().join(", ")
}
