//! Files that are missing, foreign, damaged, read-only, locked or on a full disk.

mod common;

use common::{DATA_SET, Site, cap, charge, request, run};
use noisegate_ledger::{Error, Ledger, begun, verify};
use rusqlite::Connection;

#[test]
fn a_ledger_without_its_key_is_refused_with_a_remedy() {
    let site = Site::new();
    drop(site.open_with_cap(3.0));
    std::fs::remove_file(&site.options.key).unwrap();
    let error = Ledger::open(&site.options).unwrap_err();
    assert!(matches!(error, Error::KeyMissing { .. }), "{error:?}");
    assert!(error.to_string().contains("restore the key"), "{error}");
    assert!(
        !site.options.key.exists(),
        "no new key may be made for an old ledger"
    );
}

#[test]
fn a_ledger_of_another_site_is_refused() {
    let (site, other) = (Site::new(), Site::new());
    drop(site.open_with_cap(3.0));
    drop(other.open());
    let mut mixed = site.options.clone();
    mixed.key = other.options.key.clone();
    assert!(matches!(Ledger::open(&mixed), Err(Error::OtherKey { .. })));
}

#[test]
fn a_ledger_of_another_version_is_refused() {
    let site = Site::new();
    let key = site.open_with_cap(3.0).public_key();
    let connection = Connection::open(site.path()).unwrap();
    connection.pragma_update(None, "user_version", 1).unwrap();
    drop(connection);
    for error in [
        Ledger::open(&site.options).unwrap_err(),
        verify(&site.path(), &key, None).unwrap_err(),
    ] {
        assert!(
            matches!(
                error,
                Error::OtherVersion {
                    found: 1,
                    supported: 2,
                    ..
                }
            ),
            "{error:?}"
        );
    }
}

#[test]
fn a_file_that_is_no_ledger_is_left_alone() {
    let site = Site::new();
    let key = Site::new().open().public_key();
    drop(site.open());
    std::fs::remove_file(site.path()).unwrap();
    let text = "this is a text of more than one hundred bytes, long enough that no database \
                could mistake it for an empty file of its own";
    std::fs::write(site.path(), text).unwrap();
    assert!(matches!(
        Ledger::open(&site.options),
        Err(Error::NotALedger { .. })
    ));
    assert!(matches!(
        verify(&site.path(), &key, None),
        Err(Error::NotALedger { .. })
    ));
    assert_eq!(std::fs::read_to_string(site.path()).unwrap(), text);

    std::fs::remove_file(site.path()).unwrap();
    let connection = Connection::open(site.path()).unwrap();
    connection
        .execute_batch("CREATE TABLE recipes (text TEXT)")
        .unwrap();
    drop(connection);
    assert!(matches!(
        Ledger::open(&site.options),
        Err(Error::NotALedger { .. })
    ));
}

#[test]
fn a_missing_ledger_cannot_be_verified() {
    let site = Site::new();
    let key = Site::new().open().public_key();
    let error = verify(&site.path(), &key, None).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }));
    assert!(!site.path().exists(), "verifying creates nothing");
}

#[test]
fn a_ledger_that_is_gone_is_told_from_one_that_was_never_begun() {
    let site = Site::new();
    assert!(!begun(&site.path()).unwrap());
    let mut ledger = site.open_with_cap(3.0);
    run(&mut ledger, &request(9.0, "a"), b"x");
    let key = ledger.public_key();
    drop(ledger);
    assert!(begun(&site.path()).unwrap());
    std::fs::remove_file(&site.options.key).unwrap();
    for lost in [false, true] {
        std::fs::write(site.path(), b"").unwrap();
        if lost {
            std::fs::remove_file(site.path()).unwrap();
        }
        for error in [
            begun(&site.path()).unwrap_err(),
            verify(&site.path(), &key, None).unwrap_err(),
            Ledger::open(&site.options).unwrap_err(),
        ] {
            assert!(matches!(error, Error::Gone { .. }), "{error:?}");
            assert!(error.to_string().contains("from a backup"), "{error}");
        }
        assert!(!site.options.key.exists(), "its key is not made anew");
    }
}

#[test]
fn a_note_without_a_head_is_no_note_that_all_is_well() {
    let site = Site::new();
    let mut ledger = site.open_with_cap(9.0);
    run(&mut ledger, &request(9.0, "a"), b"x");
    let (key, head) = (ledger.public_key(), ledger.head().unwrap());
    drop(ledger);
    let note = site.path().with_extension("begun");
    let good = std::fs::read(&note).unwrap();
    for damaged in [&b""[..], b"\0\0\0", b"5", b"5:00", b"five:", b"\xff"] {
        std::fs::write(&note, damaged).unwrap();
        for error in [
            verify(&site.path(), &key, None).unwrap_err(),
            Ledger::open(&site.options).unwrap_err(),
        ] {
            assert!(matches!(error, Error::NoteDamaged { .. }), "{error:?}");
            let text = error.to_string();
            assert!(
                text.contains("ledger.begun") && text.contains("--head"),
                "{text}"
            );
        }
        // The remedy: hold it against another head, then take the note away.
        verify(&site.path(), &key, Some(&head)).unwrap();
        std::fs::remove_file(&note).unwrap();
        drop(site.open());
        assert_eq!(std::fs::read(&note).unwrap(), good);
    }
}

#[test]
fn a_truncated_or_overwritten_database_is_refused() {
    let site = Site::new();
    let mut ledger = site.open_with_cap(9.0);
    for number in 0..5 {
        run(&mut ledger, &request(5.0, &number.to_string()), &[7; 5000]);
    }
    let key = ledger.public_key();
    drop(ledger);
    let whole = std::fs::read(site.path()).unwrap();
    for keep in [whole.len() / 2, whole.len() - 4096, 4096, 700, 40] {
        std::fs::write(site.path(), &whole[..keep]).unwrap();
        assert!(verify(&site.path(), &key, None).is_err(), "cut to {keep}");
        assert!(Ledger::open(&site.options).is_err(), "cut to {keep}");
    }
    let mut holed = whole.clone();
    holed[4096..8192].fill(0);
    std::fs::write(site.path(), &holed).unwrap();
    assert!(verify(&site.path(), &key, None).is_err());
    assert!(Ledger::open(&site.options).is_err());
    std::fs::write(site.path(), &whole).unwrap();
    verify(&site.path(), &key, None).unwrap();
}

#[test]
fn an_emptied_ledger_file_is_refused_with_and_without_an_anchor() {
    let site = Site::new();
    let mut ledger = site.open_with_cap(9.0);
    let head = ledger.head().unwrap();
    drop(ledger);
    std::fs::write(site.path(), b"").unwrap();
    let mut anchored = site.options.clone();
    anchored.anchor = Some(head);
    for options in [&anchored, &site.options] {
        assert!(matches!(Ledger::open(options), Err(Error::Gone { .. })));
    }
}

/// While its file is made and while it is written, as much as when it is charged.
#[test]
fn a_ledger_that_cannot_be_opened_says_how_long_it_was_waited_for() {
    let site = Site::new();
    let mut options = site.options.clone();
    options.busy_timeout_ms = 120;
    std::fs::write(site.path(), b"").unwrap();
    let connection = Connection::open(site.path()).unwrap();
    connection.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let started = std::time::Instant::now();
    let error = Ledger::open(&options).unwrap_err();
    let truly = started.elapsed().as_millis() as u64;
    match error {
        Error::Locked { waited_ms, .. } => {
            assert!(
                waited_ms >= 120 && waited_ms <= truly,
                "{waited_ms} of {truly}"
            );
        }
        other => panic!("{other:?}"),
    }
    connection.execute_batch("COMMIT").unwrap();
    Ledger::open(&options).unwrap();
}

#[test]
fn a_ledger_held_by_another_process_is_waited_for_and_then_given_up() {
    let site = Site::new();
    let mut options = site.options.clone();
    options.busy_timeout_ms = 50;
    let mut ledger = Ledger::open(&options).unwrap();
    ledger.set_cap(DATA_SET, cap(9.0), "a test").unwrap();
    let connection = Connection::open(site.path()).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = ledger.reserve(&request(3.0, "a")).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Locked {
                waited_ms: 50..5000,
                ..
            }
        ),
        "{error:?}"
    );
    connection.execute_batch("COMMIT").unwrap();
    charge(&mut ledger, &request(3.0, "a"));
}

/// SQLite turns one of them away at once; whoever opens a ledger must not notice.
#[test]
fn many_that_begin_a_ledger_at_once_share_one() {
    for _ in 0..40 {
        let site = Site::in_memory();
        let keys: Vec<_> = std::thread::scope(|scope| {
            let open = || Ledger::open(&site.options).unwrap().public_key();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert!(keys.windows(2).all(|pair| pair[0] == pair[1]));
        assert_eq!(site.open().verify().unwrap().entries.len(), 1);
    }
}
