//! What a cap admits: charges are composed under it, what is over it is refused, and only a signed
//! decision changes it.

mod common;

use common::{DATA_SET, Site, cap, charge, request, run};
use noisegate_ledger::{Action, Digest, Error};
use noisegate_privacy::Event;

#[test]
fn a_request_over_the_cap_is_refused_with_all_figures_and_charges_nothing() {
    let site = Site::new();
    let mut ledger = site.open_with_cap(3.0);
    run(&mut ledger, &request(2.0, "a"), b"x");
    let before = ledger.head().unwrap();
    let error = ledger.reserve(&request(1.5, "b")).unwrap_err();
    let Error::OverCap {
        spent,
        asked,
        together,
        fits,
        ..
    } = &error
    else {
        panic!("{error:?}");
    };
    assert!(*spent > 1.9 && *spent < 2.5, "{spent}");
    assert!(*asked > 2.5 && *asked < 3.3, "{asked}");
    assert!(*together > 3.0 && *together < spent + asked, "{together}");
    assert_eq!(ledger.head().unwrap(), before);
    let shown = error.to_string();
    assert!(shown.contains("data set `clinic.notes`"), "{shown}");
    assert!(shown.contains("would fit, or raise the cap"), "{shown}");
    // What is said to fit does: the same kind with more noise.
    let fits = fits.unwrap();
    let sigma = (1..400)
        .map(|tenth| 1.5 + f64::from(tenth) / 10.0)
        .find(|sigma| {
            let event = [Event::Gaussian {
                sigma: *sigma,
                count: 1,
            }];
            let delta = cap(3.0).delta;
            noisegate_privacy::accountant::epsilon(&event, delta)
                .unwrap()
                .epsilon
                <= fits
        })
        .unwrap();
    charge(&mut ledger, &request(sigma, "c"));
}

#[test]
fn charges_are_composed_rather_than_added_up() {
    let site = Site::new();
    let mut ledger = site.open_with_cap(6.0);
    let mut added = 0.0;
    for run_number in 0..8 {
        let request = request(4.0, &run_number.to_string());
        let delta = cap(6.0).delta;
        added += noisegate_privacy::accountant::epsilon(&request.events, delta)
            .unwrap()
            .epsilon;
        run(&mut ledger, &request, b"x");
    }
    let spent = ledger.spent(DATA_SET).unwrap().unwrap();
    assert!(added > 6.0, "added up they would be over the cap: {added}");
    assert!(
        spent.epsilon < 6.0 && spent.epsilon >= spent.epsilon_if_fixed.unwrap(),
        "{spent:?}"
    );
}

#[test]
fn the_registered_cap_counts_and_only_a_signed_decision_changes_it() {
    let site = Site::new();
    let mut ledger = site.open();
    let stating = |epsilon: f64, parameters: &str| noisegate_ledger::Request {
        cap: Some(cap(epsilon)),
        ..request(9.0, parameters)
    };
    run(&mut ledger, &stating(3.0, "a"), b"x");
    run(&mut ledger, &stating(3.0, "b"), b"x");
    let error = ledger.reserve(&stating(9.0, "c")).unwrap_err();
    assert!(matches!(error, Error::OtherCap { .. }));
    assert!(
        error.to_string().contains("noisegate ledger set-cap"),
        "{error}"
    );
    assert!(ledger.set_cap(DATA_SET, cap(9.0), " ").is_err());
    ledger
        .set_cap(
            DATA_SET,
            cap(9.0),
            "approved by the data protection officer",
        )
        .unwrap();
    run(&mut ledger, &stating(9.0, "c"), b"x");
    let seen = ledger.verify().unwrap();
    let reasons: Vec<&str> = seen
        .entries
        .iter()
        .filter_map(|(entry, _)| match &entry.action {
            Action::Cap { reason, .. } => Some(reason.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(
        reasons,
        ["first use", "approved by the data protection officer"]
    );
}

/// It would hold for ever, and refuse the run that states the right one.
#[test]
fn a_request_that_is_refused_registers_no_cap() {
    let site = Site::new();
    let mut ledger = site.open();
    let before = ledger.head().unwrap();
    let mut first = request(0.5, "a");
    first.cap = Some(cap(1.0));
    assert!(matches!(ledger.reserve(&first), Err(Error::OverCap { .. })));
    assert_eq!(ledger.head().unwrap(), before);
    assert!(ledger.verify().unwrap().data_sets.is_empty());
    first.cap = Some(cap(90.0));
    run(&mut ledger, &first, b"x");
}

#[test]
fn a_cap_is_for_the_privacy_unit_of_its_first_charge() {
    for registered_before in [false, true] {
        let site = Site::new();
        let mut ledger = site.open();
        let of = |unit: &str, parameters: &str| noisegate_ledger::Request {
            unit: unit.to_owned(),
            cap: Some(cap(9.0)),
            ..request(5.0, parameters)
        };
        if registered_before {
            ledger.set_cap(DATA_SET, cap(9.0), "approved").unwrap();
        }
        run(&mut ledger, &of("patient", "a"), b"x");
        let before = ledger.head().unwrap();
        for again in 0..2 {
            let error = ledger.reserve(&of("record", "b")).unwrap_err();
            assert!(matches!(error, Error::OtherUnit { .. }), "{error:?}");
            for part in [
                "`record`",
                "for unit `patient`",
                "state `unit = \"patient\"`",
            ] {
                assert!(error.to_string().contains(part), "{error}");
            }
            assert_eq!(ledger.head().unwrap(), before, "{again}");
            ledger = site.open();
        }
        // A new cap is for the same unit.
        ledger.set_cap(DATA_SET, cap(8.0), "be careful").unwrap();
        let mut other = of("record", "b");
        other.cap = None;
        assert!(matches!(
            ledger.reserve(&other),
            Err(Error::OtherUnit { .. })
        ));
        other.unit = "patient".to_owned();
        run(&mut ledger, &other, b"y");
        let json = ledger.verify().unwrap().to_json();
        assert_eq!(json["data_sets"][0]["unit"], "patient");
        assert_eq!(json["charges"][0]["unit"], "patient");
    }
}

#[test]
fn a_lower_cap_comes_on_top_and_a_higher_one_takes_its_place() {
    let site = Site::new();
    let mut ledger = site.open_with_cap(8.0);
    run(&mut ledger, &request(2.0, "a"), b"x");
    let in_force = |ledger: &mut noisegate_ledger::Ledger| -> Vec<f64> {
        let sets = ledger.data_sets().unwrap();
        sets[0]
            .in_force
            .iter()
            .map(|cap| cap.epsilon.get())
            .collect()
    };
    for (epsilon, expected) in [
        (5.0, &[8.0, 5.0][..]),
        (3.0, &[8.0, 5.0, 3.0]),
        (4.0, &[8.0, 5.0, 4.0]),
        (5.0, &[8.0, 5.0]),
        (9.0, &[9.0]),
    ] {
        ledger
            .set_cap(DATA_SET, cap(epsilon), "a decision")
            .unwrap();
        assert_eq!(in_force(&mut ledger), expected);
    }
    // A lower cap refuses what the higher one alone would accept.
    ledger.set_cap(DATA_SET, cap(3.0), "be careful").unwrap();
    let error = ledger.reserve(&request(1.5, "b")).unwrap_err();
    assert!(
        matches!(&error, Error::OverCap { cap, .. } if cap.epsilon.get() == 3.0),
        "{error:?}"
    );
    // And what it accepts fits under every cap in force, by the ledger's own account.
    run(&mut ledger, &request(6.0, "c"), b"y");
    ledger.verify().unwrap();
}

#[test]
fn what_is_left_is_told_for_a_charge_of_the_kind_asked_about() {
    let site = Site::new();
    let mut ledger = site.open_with_cap(4.0);
    run(&mut ledger, &request(3.0, "a"), b"x");
    let seen = ledger.verify().unwrap();
    let small = seen.standing(DATA_SET, &request(5.0, "b").events).unwrap();
    assert!(small.fits && small.together.unwrap() < 4.0, "{small:?}");
    let large = seen.standing(DATA_SET, &request(1.0, "b").events).unwrap();
    assert!(!large.fits && large.together.unwrap() > 4.0, "{large:?}");
    // The same kind of charge, so the same amount is left, whatever its own noise.
    let (one, other) = (small.largest.unwrap(), large.largest.unwrap());
    assert!(
        one > 1.0 && (one / other - 1.0).abs() < 0.02,
        "{one} {other}"
    );
    assert!(
        seen.standing("unknown", &request(1.0, "b").events)
            .is_none()
    );
}

#[test]
fn a_cap_with_many_digits_is_still_the_same_after_it_was_stored() {
    let site = Site::new();
    for (number, epsilon) in [0.1 + 0.2, 1.0 / 3.0, 2.0_f64.sqrt(), 9.869_604_401_089_358]
        .iter()
        .enumerate()
    {
        let name = format!("set {number}");
        for parameters in ["a", "b", "c"] {
            let stating = noisegate_ledger::Request {
                data_set: name.clone(),
                data: Digest::of(name.as_bytes()),
                cap: Some(cap(*epsilon)),
                ..request(100.0, parameters)
            };
            run(&mut site.open(), &stating, b"x");
        }
    }
}

#[test]
fn the_same_data_under_a_second_name_has_no_second_budget() {
    let site = Site::new();
    let mut ledger = site.open_with_cap(3.0);
    run(&mut ledger, &request(2.0, "a"), b"x");
    ledger.set_cap("clinic.copy", cap(3.0), "a test").unwrap();
    let mut renamed = request(2.0, "b");
    renamed.data_set = "clinic.copy".to_owned();
    let error = ledger.reserve(&renamed).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("as data set `clinic.notes` before"),
        "{error}"
    );
}
