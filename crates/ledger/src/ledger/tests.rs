//! A full disk, a read-only file and the pragmas, tried from inside.

use super::*;
use noisegate_privacy::{Delta, Epsilon, Event};

fn open(folder: &tempfile::TempDir) -> Ledger {
    let path = |name| folder.path().join(name);
    let mut ledger = Ledger::open(&OpenOptions::new(path("ledger.db"), path("site.key"))).unwrap();
    let cap = Cap {
        epsilon: Epsilon::new(9.0).unwrap(),
        delta: Delta::new(1e-5).unwrap(),
    };
    ledger.ensure_cap("notes", cap).unwrap();
    ledger
}

fn request(parameters: &[u8]) -> Request {
    Request {
        data_set: "notes".to_owned(),
        data: Digest::of(b"data"),
        guest: Digest::of(b"guest"),
        parameters: Digest::of(parameters),
        events: vec![Event::Gaussian {
            sigma: 4.0,
            count: 1,
        }],
        note: "run 1".to_owned(),
    }
}

fn charged(outcome: Outcome) -> Reservation {
    match outcome {
        Outcome::Charged(reservation) => reservation,
        Outcome::Stored(_) => panic!("nothing was stored before"),
    }
}

#[test]
fn a_full_disk_releases_nothing_and_sealing_may_be_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(&folder);
    let reservation = charged(ledger.reserve(&request(b"a")).unwrap());
    let before = ledger.head().unwrap();
    let pages = |ledger: &Ledger, count: i64| {
        let mut set = ledger
            .store
            .connection
            .prepare("PRAGMA max_page_count(0)")
            .unwrap();
        drop(set.query([]).unwrap());
        ledger
            .store
            .connection
            .pragma_update(None, "max_page_count", count)
            .unwrap();
    };
    pages(&ledger, 12);
    let output = vec![7; 100_000];
    let error = ledger.seal(&reservation, &output).unwrap_err();
    assert!(matches!(error, Error::DiskFull { .. }), "{error:?}");
    assert!(error.to_string().contains("free some space"), "{error}");
    assert_eq!(ledger.head().unwrap(), before);
    ledger.verify().unwrap();
    pages(&ledger, 1 << 20);
    let sealed = ledger.seal(&reservation, &output).unwrap();
    assert_eq!(ledger.release(&sealed).unwrap(), output);
}

#[test]
fn a_ledger_that_cannot_be_written_charges_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(&folder);
    ledger
        .store
        .connection
        .pragma_update(None, "query_only", true)
        .unwrap();
    let error = ledger.reserve(&request(b"a")).unwrap_err();
    assert!(matches!(error, Error::ReadOnly { .. }), "{error:?}");
    assert!(
        error
            .to_string()
            .contains("make the file and its folder writable"),
        "{error}"
    );
    ledger
        .store
        .connection
        .pragma_update(None, "query_only", false)
        .unwrap();
    charged(ledger.reserve(&request(b"a")).unwrap());
}

#[test]
fn every_commit_is_synced_to_disk() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(&folder);
    let pragma = |name: &str| -> String {
        let sql = format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}");
        ledger
            .store
            .connection
            .query_row(&sql, [], |row| row.get(0))
            .unwrap()
    };
    assert_eq!(
        (
            pragma("journal_mode").as_str(),
            pragma("synchronous").as_str()
        ),
        ("wal", "2")
    );
}
