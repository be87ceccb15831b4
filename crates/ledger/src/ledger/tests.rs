//! A full disk, a read-only file, the pragmas, a kill at every write point, a charge above its cap:
//! tried from inside.

use super::*;
use noisegate_privacy::{Delta, Epsilon, Event};
use std::path::Path;

fn open(folder: &tempfile::TempDir) -> Ledger {
    let path = |name| folder.path().join(name);
    let mut ledger = Ledger::open(&OpenOptions::new(path("ledger.db"), path("site.key"))).unwrap();
    let cap = Cap {
        epsilon: Epsilon::new(9.0).unwrap(),
        delta: Delta::new(1e-5).unwrap(),
    };
    if ledger.spent("notes").unwrap().is_none() {
        ledger.set_cap("notes", cap, "a test").unwrap();
    }
    ledger
}

fn request(parameters: &[u8]) -> Request {
    Request {
        data_set: "notes".to_owned(),
        data: Digest::of(b"data"),
        guest: Digest::of(b"guest"),
        parameters: Digest::of(parameters),
        unit: "record".to_owned(),
        cap: None,
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

/// What nobody without the key can write, and nobody with it should.
#[test]
fn a_signed_charge_above_the_cap_of_its_time_is_named_by_verify() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(&folder);
    drop(charged(ledger.reserve(&request(b"a")).unwrap()));
    let over = |together: f64, sigma: f64, accountant: &str| Action::Reserved {
        data_set: "notes".to_owned(),
        data: Digest::of(b"data"),
        guest: Digest::of(b"guest"),
        parameters: Digest::of(b"b"),
        unit: Some("record".to_owned()),
        events: vec![Event::Gaussian { sigma, count: 1 }],
        together,
        accountant: accountant.to_owned(),
        session: crate::SessionId {
            slot: 0,
            nonce: String::new(),
        },
        note: "run 2".to_owned(),
    };
    let bytes = |folder: &tempfile::TempDir| {
        let copy = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(folder.path()).unwrap().flatten() {
            if file.path().is_file() {
                std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
            }
        }
        copy
    };
    let ours = noisegate_privacy::accountant::ACCOUNTANT_VERSION;
    drop(ledger);
    for (action, part) in [
        (over(8.9, 0.4, ours), "above the cap of 9"),
        (over(8.9, 3.0, ours), "it states epsilon 8.9"),
        (
            over(9.1, 3.0, "another-accountant"),
            "to epsilon 9.1000, above the cap of 9",
        ),
        (
            over(f64::MAX, 3.0, "another-accountant"),
            "above the cap of 9",
        ),
    ] {
        let copy = bytes(&folder);
        let mut ledger = open(&copy);
        let entry = ledger.head().unwrap().count;
        ledger.write(|pen| pen.append(action)).unwrap();
        // A later raise does not make it right.
        let raised = Cap {
            epsilon: Epsilon::new(500.0).unwrap(),
            delta: Delta::new(1e-5).unwrap(),
        };
        ledger.set_cap("notes", raised, "too late").unwrap();
        match ledger.verify() {
            Err(Error::Tampered {
                entry: named,
                problem,
                ..
            }) => {
                assert_eq!(named, entry, "{problem}");
                assert!(problem.contains(part), "{problem}");
            }
            other => panic!("{part}: {other:?}"),
        }
    }
    let copy = bytes(&folder);
    let mut ledger = open(&copy);
    ledger
        .write(|pen| pen.append(over(8.9, 0.4, "another-accountant")))
        .unwrap();
    ledger.verify().unwrap();
}

/// Entries from before units were recorded: nobody knows what they protect, so nothing is taken
/// for it; what is recorded since is kept to.
#[test]
fn a_ledger_from_before_units_were_recorded_goes_on_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(&folder);
    let old = Action::Reserved {
        data_set: "notes".to_owned(),
        data: Digest::of(b"data"),
        guest: Digest::of(b"guest"),
        parameters: Digest::of(b"old"),
        unit: None,
        events: request(b"old").events,
        together: noisegate_privacy::accountant::epsilon(
            &request(b"old").events,
            Delta::new(1e-5).unwrap(),
        )
        .unwrap()
        .epsilon,
        accountant: noisegate_privacy::accountant::ACCOUNTANT_VERSION.to_owned(),
        session: crate::SessionId {
            slot: 0,
            nonce: String::new(),
        },
        note: "an old run".to_owned(),
    };
    let body = serde_json::to_string(&old).unwrap();
    assert!(!body.contains("unit"), "as it was written then: {body}");
    ledger.write(|pen| pen.append(old)).unwrap();
    let of = |unit: &str| Request {
        unit: unit.to_owned(),
        ..request(unit.as_bytes())
    };
    for unit in ["record", "patient"] {
        drop(charged(ledger.reserve(&of(unit)).unwrap()));
    }
    let seen = ledger.verify().unwrap();
    assert_eq!(seen.data_sets[0].unit, None);
    let units: Vec<_> = seen.charges.iter().map(|one| one.unit.as_deref()).collect();
    assert_eq!(units, [None, Some("record"), Some("patient")]);
}

/// Nor can the key's holder write one that does not fit.
#[test]
fn an_entry_for_another_unit_breaks_a_rule_of_the_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(&folder);
    drop(charged(ledger.reserve(&request(b"a")).unwrap()));
    let cap = Cap {
        epsilon: Epsilon::new(9.0).unwrap(),
        delta: Delta::new(1e-5).unwrap(),
    };
    let error = ledger.write(|pen| pen.append_cap("notes", cap, Some("patient"), "sly"));
    match error {
        Err(Error::Rule { problem, .. }) => {
            assert!(problem.contains("is for `record`"), "{problem}")
        }
        other => panic!("{other:?}"),
    }
}

const FOLDER: &str = "NOISEGATE_LEDGER_KILL_FOLDER";

#[test]
#[ignore = "the child of the test below, which starts it and has it killed"]
fn a_worker_that_makes_one_charge_and_hands_its_output_out() {
    use std::io::Write as _;
    let folder = PathBuf::from(std::env::var_os(FOLDER).expect("set by the parent"));
    let options = OpenOptions::new(folder.join("ledger.db"), folder.join("site.key"));
    let mut ledger = Ledger::open(&options).unwrap();
    let cap = Cap {
        epsilon: Epsilon::new(90.0).unwrap(),
        delta: Delta::new(1e-5).unwrap(),
    };
    let first = Request {
        cap: Some(cap),
        ..request(b"a")
    };
    let sealed = match ledger.reserve(&first).unwrap() {
        Outcome::Charged(reservation) => {
            let noise = format!("noise of process {} ", std::process::id()).repeat(400);
            ledger.seal(&reservation, noise.as_bytes()).unwrap()
        }
        Outcome::Stored(sealed) => sealed,
    };
    let bytes = ledger.release(&sealed).unwrap();
    let outbox = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("outbox"));
    writeln!(
        outbox.unwrap(),
        "{} {}",
        sealed.number(),
        Digest::of(&bytes)
    )
    .unwrap();
}

/// The whole life of a ledger and of one charge, killed once at each of its write points and then
/// taken up again: one output, one charge for it, and nothing lost.
#[test]
fn killed_at_each_write_point_a_charge_still_has_one_output() {
    let worker = |folder: &Path, kill_at: u32| {
        std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact"])
            .arg("ledger::tests::a_worker_that_makes_one_charge_and_hands_its_output_out")
            .env(FOLDER, folder)
            .env(crate::kill_point::KILL_AT, kill_at.to_string())
            .output()
            .unwrap()
    };
    let mut kills = 0;
    loop {
        let memory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let folder = memory.unwrap();
        let ended = worker(folder.path(), kills + 1).status;
        let survived = ended.success();
        assert!(
            survived || ended.code().is_none(),
            "point {}: {ended}",
            kills + 1
        );
        // Twice more, undisturbed: the second is served what the first was.
        for _ in 0..2 {
            let again = worker(folder.path(), 0);
            assert!(again.status.success(), "point {}: {again:?}", kills + 1);
        }
        let key = PublicKey::read(&folder.path().join("site.pub")).unwrap();
        let seen = verify(&folder.path().join("ledger.db"), &key, None).unwrap();
        let outbox = std::fs::read_to_string(folder.path().join("outbox")).unwrap();
        let mut lines: Vec<&str> = outbox.lines().collect();
        lines.dedup();
        let [line] = lines[..] else {
            panic!("point {}: two outputs: {lines:?}", kills + 1);
        };
        let (last, burned) = seen.charges.split_last().unwrap();
        assert_eq!(
            line,
            format!("{} {}", last.reservation, last.output.unwrap())
        );
        assert_eq!(last.state, State::Released);
        assert!(burned.len() <= 1 && burned.iter().all(|charge| charge.state == State::Burned));
        if survived {
            break;
        }
        kills += 1;
    }
    // Key, tables, and for each of five entries: entry, head, before and after the commit, the note.
    assert!(kills >= 25, "only {kills} write points");
    eprintln!("killed at {kills} write points");
}
