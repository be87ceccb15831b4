//! What `noisegate privacy` answers, and the event lists and targets that it refuses. No site and
//! no ledger takes part.

use noisegate_tests::{Story, Told};
use serde_json::Value;

use super::refused;

fn epsilon(events: &str, delta: &str) -> Told {
    Story::new().tell(&[
        "privacy", "epsilon", "--events", events, "--delta", delta, "--json",
    ])
}

#[test]
fn the_accountant_answers_as_promised() {
    for (events, delta) in [
        (r#"[["sgd",0.01,1.0,1000]]"#, "1e-5"),
        (r#"[["sgd",1e-8,0.3,1000000]]"#, "1e-12"),
        (r#"[["sgd",1e-8,1000,1000000]]"#, "1e-12"),
        (
            r#"[["sgd",0.01,1,100],["gauss",10,5],["lap",20,3],["dlap",0.1,1,4],["sglap",0.01,1,100],["zcdp",0.01]]"#,
            "1e-6",
        ),
        (r#"[["sglap",0.01,1,1000]]"#, "1e-6"),
    ] {
        let told = epsilon(events, delta);
        assert_eq!(told.code, Some(0), "{events}: {}", told.err);
        let answer: Value = serde_json::from_str(&told.out).unwrap();
        let best = answer["epsilon"].as_f64().unwrap();
        let rdp = answer["epsilon_rdp"].as_f64().unwrap();
        assert!(best.is_finite() && best >= 0.0 && best <= rdp, "{answer}");
        assert!(answer["accountant"].is_string(), "{answer}");
        assert!(
            answer["epsilon_pld"].is_number() || answer["pld_refused"].is_string(),
            "{answer}"
        );
    }
    let calibrate = |last: &[&str]| {
        let mut arguments = vec![
            "privacy",
            "calibrate",
            "--epsilon",
            "2",
            "--delta",
            "1e-5",
            "--q",
            "0.01",
            "--json",
        ];
        arguments.extend(last);
        let told = Story::new().tell(&arguments);
        assert_eq!(told.code, Some(0), "{}", told.err);
        serde_json::from_str::<Value>(&told.out).unwrap()
    };
    let sigma = calibrate(&["--steps", "1000"])["noise_multiplier"]
        .as_f64()
        .unwrap();
    assert!(sigma > 0.9 && sigma < 1.0, "{sigma}");
    let steps = calibrate(&["--noise-multiplier", &sigma.to_string()])["steps"]
        .as_u64()
        .unwrap();
    assert!((1000..1005).contains(&steps), "{steps}");
}

#[test]
fn events_and_targets_that_make_no_sense_are_refused() {
    for (events, part) in [
        ("not json", "--events"),
        (
            r#"[["sdg",0.1,1,1]]"#,
            r#"write one of ["sgd",q,sigma,steps]"#,
        ),
        (r#"[["sgd",0.1,1]]"#, "`sgd` with 2 numbers"),
        (r#"[["sgd",0.1,1,1.5]]"#, "whole number"),
        (
            r#"[["gauss",1,1],["sgd",0,1,1]]"#,
            "event 1 `sgd`: q is `0`",
        ),
        (r#"[["sgd",1.5,1,1]]"#, "q is `1.5`"),
        (r#"[["gauss",0,1]]"#, "sigma is `0`"),
        (r#"[["lap",-1,1]]"#, "scale is `-1`"),
        (r#"[["zcdp",-0.1]]"#, "rho is `-0.1`"),
        (r#"[["gauss",1e999,1]]"#, "--events"),
        (r#"[["gauss",NaN,1]]"#, "--events"),
    ] {
        refused(&epsilon(events, "1e-5"), 2, &[part]);
    }
    for delta in ["0", "-1", "nan", "inf", "1"] {
        refused(
            &epsilon("[]", delta),
            2,
            &["delta is", "above 0 and below 1"],
        );
    }
    for (option, bad, part) in [
        ("--epsilon", "0", "epsilon is `0`"),
        ("--epsilon", "nan", "epsilon is `NaN`"),
        ("--epsilon", "inf", "epsilon is `inf`"),
        ("--delta", "0", "delta is `0`"),
        ("--q", "0", "sampling rate is `0`"),
        ("--q", "1.5", "sampling rate is `1.5`"),
        ("--steps", "0", "give at least 1"),
    ] {
        let mut arguments = vec!["privacy", "calibrate"];
        for (name, good) in [
            ("--epsilon", "2"),
            ("--delta", "1e-5"),
            ("--q", "0.1"),
            ("--steps", "9"),
        ] {
            let value = if name == option { bad } else { good };
            arguments.extend([name, value]);
        }
        refused(&Story::new().tell(&arguments), 2, &[part]);
    }
    let out_of_reach = [
        "privacy",
        "calibrate",
        "--epsilon",
        "0.1",
        "--delta",
        "1e-9",
        "--q",
        "0.5",
        "--noise-multiplier",
        "0.5",
    ];
    refused(
        &Story::new().tell(&out_of_reach),
        2,
        &["raise the noise multiplier"],
    );
}

#[test]
fn calibration_asks_for_either_of_what_it_can_start_from() {
    let line = [
        "privacy",
        "calibrate",
        "--epsilon",
        "2",
        "--delta",
        "1e-5",
        "--q",
        "0.1",
    ];
    refused(
        &Story::new().tell(&line),
        2,
        &["--steps <T>", "--noise-multiplier <SIGMA>"],
    );
    let both = [&line[..], &["--steps", "9", "--noise-multiplier", "1"]].concat();
    refused(&Story::new().tell(&both), 2, &["cannot be used with"]);
}
