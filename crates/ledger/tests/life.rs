//! The life of a charge: reserved, sealed, released, served again, burned, refused.

mod common;

use common::{DATA_SET, Site, cap, charge, request, run, stored};
use noisegate_ledger::{Action, Digest, Error, Outcome, State};
use noisegate_privacy::Event;

#[test]
fn an_identical_request_is_served_the_same_bytes_without_a_charge() {
    let site = Site::new();
    let mut ledger = site.open_with_cap(5.0);
    let first = run(&mut ledger, &request(2.0, "a"), b"noisy samples");
    let spent = ledger.spent(DATA_SET).unwrap().unwrap();
    for _ in 0..3 {
        let mut again = site.open();
        let other_note = noisegate_ledger::Request {
            note: "another run".to_owned(),
            ..request(2.0, "a")
        };
        let sealed = stored(&mut again, &other_note);
        assert_eq!(again.release(&sealed).unwrap(), first);
        assert_eq!(again.spent(DATA_SET).unwrap().unwrap(), spent);
    }
    assert_eq!(spent.charges, 1);
}

#[test]
fn changed_data_guest_or_parameters_are_a_new_charge() {
    let site = Site::new();
    let mut ledger = site.open_with_cap(50.0);
    let base = request(2.0, "a");
    run(&mut ledger, &base, b"one");
    let mut others = [base.clone(), base.clone(), base.clone()];
    others[0].data = Digest::of(b"data with one row more");
    others[1].guest = Digest::of(b"guest, patched");
    others[2].parameters = Digest::of(b"b");
    for (index, other) in others.iter().enumerate() {
        run(&mut ledger, other, b"another");
        assert_eq!(ledger.spent(DATA_SET).unwrap().unwrap().charges, 2 + index);
    }
}

#[test]
fn a_charge_is_on_disk_before_reserve_returns() {
    let site = Site::new();
    let mut ledger = site.open_with_cap(5.0);
    let reservation = charge(&mut ledger, &request(2.0, "a"));
    let seen = ledger.verify().unwrap();
    let charge = seen.charges.last().unwrap();
    assert_eq!(
        (charge.reservation, charge.state),
        (reservation.number(), State::Reserved)
    );
    assert!(matches!(
        seen.entries.last().unwrap().0.action,
        Action::Reserved { .. }
    ));
}

#[test]
fn a_step_that_is_dropped_burns_its_charge_and_the_next_one_pays_again() {
    let site = Site::new();
    let mut ledger = site.open_with_cap(9.0);
    drop(charge(&mut ledger, &request(2.0, "a")));
    let second = charge(&mut ledger, &request(2.0, "a"));
    assert_eq!(ledger.spent(DATA_SET).unwrap().unwrap().charges, 2);
    let sealed = ledger.seal(&second, b"bytes").unwrap();
    assert_eq!(ledger.release(&sealed).unwrap(), b"bytes");
    let states: Vec<State> = ledger
        .verify()
        .unwrap()
        .charges
        .iter()
        .map(|c| c.state)
        .collect();
    assert_eq!(states, [State::Burned, State::Released]);
}

#[test]
fn a_ledger_that_is_dropped_leaves_its_open_charges_burned() {
    let site = Site::new();
    let mut ledger = site.open_with_cap(9.0);
    let kept = charge(&mut ledger, &request(2.0, "a"));
    drop(ledger);
    let mut ledger = site.open();
    assert_eq!(ledger.verify().unwrap().charges[0].state, State::Burned);
    let error = ledger.seal(&kept, b"too late").unwrap_err();
    assert!(
        matches!(
            error,
            Error::WrongState {
                state: "burned",
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn an_open_request_of_a_running_process_is_not_started_twice() {
    let site = Site::new();
    let mut first = site.open_with_cap(9.0);
    let mut second = site.open();
    let reservation = charge(&mut first, &request(2.0, "a"));
    let error = second.reserve(&request(2.0, "a")).unwrap_err();
    assert!(matches!(error, Error::InProgress { .. }), "{error:?}");
    let sealed = first.seal(&reservation, b"bytes").unwrap();
    // Sealed is enough: the second process releases what the first one made.
    let served = stored(&mut second, &request(2.0, "a"));
    assert_eq!(second.release(&served).unwrap(), b"bytes");
    assert_eq!(first.release(&sealed).unwrap(), b"bytes");
    let released = second
        .verify()
        .unwrap()
        .entries
        .iter()
        .filter(|(entry, _)| matches!(entry.action, Action::Released { .. }))
        .count();
    assert_eq!(released, 1);
}

#[test]
fn one_charge_gives_one_output() {
    let site = Site::new();
    let mut ledger = site.open_with_cap(9.0);
    let reservation = charge(&mut ledger, &request(2.0, "a"));
    ledger.seal(&reservation, b"first noise").unwrap();
    let error = ledger.seal(&reservation, b"second noise").unwrap_err();
    assert!(matches!(error, Error::OtherOutput { .. }), "{error:?}");
    let sealed = ledger.seal(&reservation, b"first noise").unwrap();
    assert_eq!(ledger.release(&sealed).unwrap(), b"first noise");
    assert!(ledger.burn(&reservation, "changed my mind").is_err());
}

#[test]
fn a_burned_reservation_cannot_be_sealed() {
    let site = Site::new();
    let mut ledger = site.open_with_cap(9.0);
    let reservation = charge(&mut ledger, &request(2.0, "a"));
    ledger
        .burn(&reservation, "the step ran past its wall clock")
        .unwrap();
    ledger.burn(&reservation, "again").unwrap();
    assert!(matches!(
        ledger.seal(&reservation, b"x"),
        Err(Error::WrongState { .. })
    ));
    assert_eq!(ledger.spent(DATA_SET).unwrap().unwrap().charges, 1);
}

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
fn a_request_without_a_cap_a_cost_or_a_proper_name_is_refused() {
    let site = Site::new();
    let mut ledger = site.open();
    assert!(matches!(
        ledger.reserve(&request(2.0, "a")),
        Err(Error::NoCap { .. })
    ));
    ledger.set_cap(DATA_SET, cap(3.0), "a test").unwrap();
    let mut free = request(2.0, "a");
    free.events.clear();
    assert!(matches!(
        ledger.reserve(&free),
        Err(Error::NothingCharged { .. })
    ));
    let mut bad = request(2.0, "a");
    bad.events = vec![Event::Gaussian {
        sigma: -1.0,
        count: 1,
    }];
    assert!(matches!(ledger.reserve(&bad), Err(Error::Unpriced { .. })));
    bad.events = vec![Event::Gaussian {
        sigma: f64::NAN,
        count: 1,
    }];
    assert!(matches!(ledger.reserve(&bad), Err(Error::Unpriced { .. })));
    let mut nameless = request(2.0, "a");
    nameless.data_set = "a\nb".to_owned();
    assert!(matches!(
        ledger.reserve(&nameless),
        Err(Error::BadText { .. })
    ));
    assert_eq!(ledger.spent(DATA_SET).unwrap().unwrap().charges, 0);
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

#[test]
fn a_reservation_of_another_ledger_is_refused() {
    let (one, two) = (Site::new(), Site::new());
    let mut first = one.open_with_cap(9.0);
    let mut second = two.open_with_cap(9.0);
    let reservation = charge(&mut first, &request(2.0, "a"));
    let _open = charge(&mut second, &request(2.0, "a"));
    assert!(matches!(
        second.seal(&reservation, b"x"),
        Err(Error::Rule { .. })
    ));
}

#[test]
fn handles_in_many_threads_never_overspend_together() {
    let site = Site::new();
    drop(site.open_with_cap(4.0));
    let charged: usize = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let options = &site.options;
                scope.spawn(move || {
                    let mut ledger = noisegate_ledger::Ledger::open(options).unwrap();
                    let mut charged = 0;
                    for step in 0..6 {
                        match ledger.reserve(&request(3.0, &format!("{worker} {step}"))) {
                            Ok(Outcome::Charged(reservation)) => {
                                let sealed = ledger.seal(&reservation, b"x").unwrap();
                                ledger.release(&sealed).unwrap();
                                charged += 1;
                            }
                            Err(Error::OverCap { .. }) => {}
                            other => panic!("{other:?}"),
                        }
                    }
                    charged
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .sum()
    });
    let spent = site.open().spent(DATA_SET).unwrap().unwrap();
    assert_eq!(spent.charges, charged);
    assert!(
        spent.epsilon <= 4.0 && (4..24).contains(&charged),
        "{spent:?}"
    );
}

const FOLDER: &str = "NOISEGATE_LEDGER_RACE_FOLDER";

#[test]
#[ignore = "the child of the test below, which starts several at once"]
fn a_worker_that_charges_until_the_cap_refuses() {
    let folder = std::path::PathBuf::from(std::env::var_os(FOLDER).expect("set by the parent"));
    let mut options =
        noisegate_ledger::OpenOptions::new(folder.join("ledger.db"), folder.join("site.key"));
    options.busy_timeout_ms = 60_000;
    let mut ledger = noisegate_ledger::Ledger::open(&options).unwrap();
    for step in 0..6 {
        let mut request = request(3.0, &format!("{} {step}", std::process::id()));
        request.cap = Some(cap(4.0));
        match ledger.reserve(&request) {
            Ok(Outcome::Charged(reservation)) => {
                let sealed = ledger.seal(&reservation, b"x").unwrap();
                ledger.release(&sealed).unwrap();
            }
            Err(Error::OverCap { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Started at the same moment, on a ledger that is not there yet.
#[test]
fn processes_that_race_never_overspend_together() {
    let site = Site::in_memory();
    let children: Vec<_> = (0..4)
        .map(|_| {
            std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--ignored", "--exact"])
                .arg("a_worker_that_charges_until_the_cap_refuses")
                .env(FOLDER, site.folder.path())
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let seen = site.open().verify().unwrap();
    let spent = seen.data_sets[0].spent.unwrap();
    assert!(
        spent.epsilon <= 4.0 && (4..24).contains(&spent.charges),
        "{spent:?}"
    );
    assert!(
        seen.charges
            .iter()
            .all(|charge| charge.state == State::Released)
    );
    let larger = site.open().reserve(&request(3.0, "one more"));
    assert!(matches!(larger, Err(Error::OverCap { .. })), "{larger:?}");
}

#[test]
fn an_export_tells_every_charge_and_entry() {
    let site = Site::new();
    let mut ledger = site.open_with_cap(5.0);
    run(&mut ledger, &request(2.0, "a"), b"noisy samples");
    let json = ledger.verify().unwrap().to_json();
    assert_eq!(json["entries"].as_array().unwrap().len(), 5);
    assert_eq!(json["charges"][0]["state"], "RELEASED");
    assert_eq!(json["charges"][0]["events"][0][0], "gauss");
    assert_eq!(
        json["charges"][0]["output"],
        Digest::of(b"noisy samples").to_string()
    );
    assert_eq!(json["data_sets"][0]["name"], DATA_SET);
    assert_eq!(json["head"]["count"], 5);
    assert_eq!(json["public_key"], ledger.public_key().to_string());
}

#[test]
fn a_data_set_may_lie_as_deep_as_a_path_goes() {
    let site = Site::new();
    let mut ledger = site.open();
    for (length, fits) in [(4096, true), (4097, false)] {
        let mut request = request(3.0, "a");
        request.data_set = "/".repeat(length);
        request.cap = Some(cap(9.0));
        request.data = Digest::of(&length.to_le_bytes());
        assert_eq!(ledger.reserve(&request).is_ok(), fits, "{length}");
    }
}
