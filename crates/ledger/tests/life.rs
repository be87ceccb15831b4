//! The life of a charge: reserved, sealed, released, served again, burned, refused.

mod common;

use common::{DATA_SET, Site, cap, charge, request, run, stored};
use noisegate_ledger::{Action, Digest, Error, State};
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
