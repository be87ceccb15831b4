//! Reserving, sealing and unpacking, in homes of their own.

use super::*;

#[test]
fn packed_outputs_unpack_to_the_same_bytes() {
    let files = vec![
        File {
            name: "samples.jsonl".to_owned(),
            data: b"{\"text\":\"\xc3\xa4\"}\n".to_vec(),
        },
        File {
            name: "empty".to_owned(),
            data: Vec::new(),
        },
        File {
            name: "binary".to_owned(),
            data: (0..=255).collect(),
        },
    ];
    let again = unpack(&pack(&files).unwrap()).unwrap();
    assert!(
        files
            .iter()
            .zip(&again)
            .all(|(one, two)| one.name == two.name && one.data == two.data)
    );
    assert_eq!(files.len(), again.len());
}

fn order() -> Order {
    Order {
        data: Digest::of(b"data"),
        data_set: "/notes.jsonl".to_owned(),
        cap: Cap {
            epsilon: noisegate_privacy::Epsilon::new(4.0).unwrap(),
            delta: noisegate_privacy::Delta::new(1e-5).unwrap(),
        },
        unit: "record".to_owned(),
        events: vec![noisegate_privacy::Event::Gaussian {
            sigma: 9.0,
            count: 1,
        }],
        guest: Digest::of(b"guest"),
        parameters: Digest::of(b"parameters"),
        note: "run 1, step count".to_owned(),
    }
}

fn entries(site: &Path) -> usize {
    let key = PublicKey::beside(&site.join(KEY_FILE)).unwrap();
    verify(&site.join(LEDGER_FILE), &key, None)
        .unwrap()
        .entries
        .len()
}

#[test]
fn nothing_is_charged_once_the_run_is_to_stop() {
    let home = tempfile::tempdir().unwrap();
    let site = home.path().join("clinic");
    let mut account = Account::open(&site).unwrap();
    let stopped = account.reserve(order(), &AtomicBool::new(true), || ());
    assert!(matches!(stopped, Err(StepFailure::Cancelled)));
    assert_eq!(entries(&site), 1);
    let going = account.reserve(order(), &AtomicBool::new(false), || ());
    assert!(matches!(going, Ok(Answer::Charged(_))));
}

#[test]
fn a_wait_for_others_is_told_and_ends_when_the_run_is_to_stop() {
    let home = tempfile::tempdir().unwrap();
    let site = home.path().join("clinic");
    let mut account = Account::open(&site).unwrap();
    let turn = Lock::create(home.path().join(".turn")).unwrap();
    turn.lock().unwrap();
    // Told of the wait, the person stops the run.
    let cancel = AtomicBool::new(false);
    let stopped = account.reserve(order(), &cancel, || cancel.store(true, Ordering::Relaxed));
    assert!(matches!(stopped, Err(StepFailure::Cancelled)));
    assert_eq!(entries(&site), 1);
    // Told of the wait, the other lets go.
    let told = || turn.unlock().unwrap();
    let going = account.reserve(order(), &AtomicBool::new(false), told);
    assert!(matches!(going, Ok(Answer::Charged(_))));
}

#[test]
fn another_sites_ledger_that_is_gone_is_no_new_budget() {
    let home = tempfile::tempdir().unwrap();
    let (one, other) = (home.path().join("clinic"), home.path().join("clinic2"));
    let going = AtomicBool::new(false);
    let mut account = Account::open(&one).unwrap();
    account.reserve(order(), &going, || ()).unwrap();
    drop(account);
    // What a crash may have left of the public key is no reason to refuse.
    std::fs::write(one.join(PUBLIC_KEY_FILE), "").unwrap();
    for (lose, part) in [
        (false, "charged by site `clinic` already"),
        (true, "is gone"),
    ] {
        if lose {
            std::fs::remove_file(one.join(LEDGER_FILE)).unwrap();
        }
        match Account::open(&other)
            .unwrap()
            .reserve(order(), &going, || ())
        {
            Err(StepFailure::Refused(why)) => assert!(why.contains(part), "{why}"),
            _ => panic!("a second budget"),
        }
        assert_eq!(entries(&other), 1);
    }
}

#[test]
fn a_failure_between_charge_and_release_says_that_the_charge_stays() {
    let home = tempfile::tempdir().unwrap();
    let mut account = Account::open(&home.path().join("clinic")).unwrap();
    let going = AtomicBool::new(false);
    let Ok(Answer::Charged(charged)) = account.reserve(order(), &going, || ()) else {
        panic!("a new charge")
    };
    account.ledger.burn(&charged, "a test").unwrap();
    match account.seal_and_release(&charged, &[]) {
        Err(StepFailure::Refused(why)) => {
            assert!(why.ends_with("what was charged stays charged"), "{why}");
        }
        _ => panic!("a release of a burned charge"),
    }
}

#[test]
fn a_damaged_output_is_refused() {
    assert!(matches!(
        unpack(b"[{\"name\":\"x\",\"hex\":\"zz\"}]"),
        Err(StepFailure::Refused(_))
    ));
}
