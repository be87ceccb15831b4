//! The page of a fixed small run: what it says, word for word.

use noisegate_audit::Findings;
use noisegate_ledger::State;
use noisegate_privacy::Event;
use noisegate_report::{
    Account, Charged, Flow, Gate, GuestFacts, Import, LedgerFacts, Point, Report, html,
};

fn charged() -> Charged {
    Charged {
        entry: 2,
        data_set: "/data/<notes>.jsonl".to_owned(),
        state: State::Released,
        note: "run 20260102-101500-fdkt, step synthesise".to_owned(),
        guest: "ab".repeat(32),
        events: vec![
            Event::SampledGaussian {
                q: 0.1,
                sigma: 1.5,
                steps: 40,
            },
            Event::Noise { draws: 4000 },
        ],
        of_this_run: true,
    }
}

fn findings() -> Findings {
    let text = r#"{
        "claimed_epsilon": 2.0, "delta": 1e-5, "confidence": 0.95, "verdict": "not-refuted",
        "evidence": [{
            "method": "one-run", "attack": "control", "epsilon_at_least": 0.5, "epsilon_provable": 3.5,
            "game": { "canaries": 500, "guesses": 14, "correct": 12 }
        }]
    }"#;
    serde_json::from_str(text).unwrap()
}

fn report() -> Report {
    let charge = charged();
    Report {
        run: "20260102-101500-fdkt".to_owned(),
        workflow: "fdkt".to_owned(),
        help: "trains & <judges>".to_owned(),
        outcome: "done".to_owned(),
        accountant: "noisegate-accountant-0".to_owned(),
        gates: vec![Gate {
            step: "synthesise".to_owned(),
            uses: "guest:dp-generator".to_owned(),
            site: "clinic".to_owned(),
            data_set: "notes".to_owned(),
            unit: "one record".to_owned(),
            units_public: Some(3000),
            epsilon: 2.0,
            delta: 1e-5,
            clip: Some(1.0),
            votes_per_unit: None,
            sampling_rate: Some(0.1),
            steps: Some(40),
            curve: vec![
                Point {
                    delta: 1e-8,
                    epsilon: 2.75,
                },
                Point {
                    delta: 1e-5,
                    epsilon: 2.0,
                },
            ],
            charge: Some(charge.clone()),
            audit: Some(findings()),
        }],
        artifacts: vec![Flow {
            name: "synthesise.samples".to_owned(),
            label: "public".to_owned(),
            site: Some("clinic".to_owned()),
            read_by: vec!["augment on server".to_owned()],
            exported_to: vec!["samples".to_owned()],
            digest: Some("cd".repeat(32)),
        }],
        guests: vec![GuestFacts {
            uses: "guest:dp-generator".to_owned(),
            sha256: "ab".repeat(32),
            imports: vec![
                Import {
                    name: "noisegate:client/kernels@0.1.0".to_owned(),
                    allowed: true,
                },
                Import {
                    name: "wasi:clocks/wall-clock@0.2.0".to_owned(),
                    allowed: false,
                },
            ],
            loadable: false,
        }],
        ledgers: vec![LedgerFacts {
            site: "clinic".to_owned(),
            public_key: "01".repeat(32),
            entries: 5,
            head: "02".repeat(32),
            head_signature: "03".repeat(64),
            accounts: vec![Account {
                data_set: "/data/<notes>.jsonl".to_owned(),
                charges: Some(1),
                spent: Some(1.99),
                cap: 10.0,
                delta: 1e-5,
            }],
            charges: vec![charge],
        }],
    }
}

/// The text between tags, one element a line.
fn text(page: &str) -> String {
    let mut out = String::new();
    for piece in page.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').unwrap();
        if !text.trim().is_empty() && !tag.starts_with("style") {
            out.push_str(text.trim());
            out.push('\n');
        }
    }
    out
}

#[test]
fn the_page_of_a_fixed_run_says_what_it_said() {
    insta::assert_snapshot!(text(&html(&report())));
}

#[test]
fn a_step_of_votes_is_said_to_be_one_and_what_its_audit_left_out() {
    let mut report = report();
    let unattacked = "was not attacked";
    assert!(!html(&report).contains(unattacked));
    report.gates[0].votes_per_unit = Some(3);
    let page = html(&report);
    assert!(page.contains("votes: more than 3 marks of a unit count as none"));
    assert!(!page.contains("Gaussian sum: clipped in L2 norm"));
    assert!(page.contains(unattacked));
}

#[test]
fn every_value_is_escaped() {
    let page = html(&report());
    assert!(
        page.contains("/data/&lt;notes&gt;.jsonl") && page.contains("trains &amp; &lt;judges&gt;")
    );
    assert!(!page.contains("<notes>") && !page.contains("<judges>"));
}

#[test]
fn a_run_without_a_gate_has_a_page_too() {
    let mut report = report();
    report.gates.clear();
    report.ledgers.clear();
    let page = html(&report);
    assert!(page.contains("nothing was charged") && page.contains("No audit was made"));
}
