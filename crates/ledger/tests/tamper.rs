//! Whatever is changed in a ledger without the key, `verify` finds it and says where.

mod common;

use std::path::{Path, PathBuf};

use common::{Site, cap, charge, request, run};
use noisegate_ledger::{Error, Head, Ledger, PublicKey, verify};
use rusqlite::Connection;

/// A closed ledger of ten entries, and its key.
struct Closed {
    _site: Site,
    path: PathBuf,
    key: PublicKey,
    bytes: Vec<u8>,
    count: u64,
}

fn closed() -> Closed {
    let site = Site::in_memory();
    let mut ledger = site.open_with_cap(9.0);
    run(&mut ledger, &request(3.0, "a"), b"the first noisy output");
    run(&mut ledger, &request(3.0, "b"), b"the second noisy output");
    let reservation = charge(&mut ledger, &request(3.0, "c"));
    ledger.burn(&reservation, "trapped").unwrap();
    let key = ledger.public_key();
    let count = ledger.head().unwrap().count;
    drop(ledger);
    let path = site.path();
    Closed {
        bytes: std::fs::read(&path).unwrap(),
        _site: site,
        path,
        key,
        count,
    }
}

impl Closed {
    /// What `verify` says after `change` was made to a fresh copy with SQL.
    fn after(&self, change: impl FnOnce(&Connection)) -> Result<(), Error> {
        let copy = self.path.with_file_name("copy.db");
        remove(&copy);
        std::fs::write(&copy, &self.bytes).unwrap();
        let connection = Connection::open(&copy).unwrap();
        change(&connection);
        connection.close().unwrap();
        verify(&copy, &self.key, None).map(|_| ())
    }

    /// The entry named by the refusal.
    fn bad_entry(&self, sql: &str) -> (u64, String) {
        match self.after(|connection| connection.execute_batch(sql).unwrap()) {
            Err(Error::Tampered { entry, problem, .. }) => (entry, problem),
            other => panic!("{sql}: {other:?}"),
        }
    }
}

fn remove(path: &Path) {
    for ending in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{ending}", path.display()));
    }
}

/// Every cell of every table: table, row id, column, bytes.
fn cells(connection: &Connection) -> Vec<(&'static str, i64, &'static str, Vec<u8>)> {
    let mut all = Vec::new();
    for (table, column) in [
        ("entries", "body"),
        ("entries", "signature"),
        ("head", "body"),
        ("head", "signature"),
        ("outputs", "digest"),
        ("outputs", "bytes"),
    ] {
        let sql = format!("SELECT rowid, {column} FROM {table}");
        let mut statement = connection.prepare(&sql).unwrap();
        let rows = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        all.extend(rows.map(|row| {
            let (id, bytes): (i64, Vec<u8>) = row.unwrap();
            (table, id, column, bytes)
        }));
    }
    all
}

#[test]
fn every_changed_byte_of_every_cell_is_found_and_placed() {
    let ledger = closed();
    let copy = ledger.path.with_file_name("copy.db");
    std::fs::write(&copy, &ledger.bytes).unwrap();
    let connection = Connection::open(&copy).unwrap();
    connection
        .pragma_update(None, "synchronous", "OFF")
        .unwrap();
    let mut flips = 0;
    for (table, id, column, bytes) in cells(&connection) {
        let sql = format!("UPDATE {table} SET {column} = ?1 WHERE rowid = ?2");
        for position in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[position] ^= 1 << (position % 8);
            connection.execute(&sql, (&changed, id)).unwrap();
            let error = verify(&copy, &ledger.key, None).unwrap_err();
            match error {
                Error::Tampered { entry, .. } if table == "entries" => {
                    assert_eq!(entry, id as u64, "{column} byte {position}");
                }
                Error::Tampered { .. } => {}
                other => panic!("{table} {id} {column} byte {position}: {other:?}"),
            }
            flips += 1;
        }
        connection.execute(&sql, (&bytes, id)).unwrap();
    }
    verify(&copy, &ledger.key, None).unwrap();
    assert!(flips > 3000, "{flips}");
}

/// The same ledger in a file of small pages, so that every byte of it can be tried.
fn in_small_pages(ledger: &Closed) -> Vec<u8> {
    let copy = ledger.path.with_file_name("small.db");
    std::fs::write(&copy, &ledger.bytes).unwrap();
    let connection = Connection::open(&copy).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode = DELETE; PRAGMA page_size = 512; VACUUM; PRAGMA journal_mode = WAL",
        )
        .unwrap();
    connection.close().unwrap();
    std::fs::read(&copy).unwrap()
}

#[test]
fn each_flipped_byte_of_the_file_is_found_or_changes_nothing_that_is_said() {
    let ledger = closed();
    let bytes = in_small_pages(&ledger);
    let truth = verify(&ledger.path, &ledger.key, None).unwrap().to_json();
    assert!(
        bytes.len() < 32_000,
        "{} bytes are too many to try",
        bytes.len()
    );
    // How many of every second byte are found, with a bit that moves along.
    let found = |first: usize| {
        let copy = ledger.path.with_file_name(format!("copy{first}.db"));
        let mut found = 0;
        for position in (first..bytes.len()).step_by(2) {
            let mut bytes = bytes.clone();
            bytes[position] ^= 1 << (position / 2 % 8);
            remove(&copy);
            std::fs::write(&copy, &bytes).unwrap();
            match verify(&copy, &ledger.key, None) {
                Ok(seen) => assert_eq!(seen.to_json(), truth, "byte {position}"),
                Err(_) => found += 1,
            }
        }
        found
    };
    let (even, odd): (usize, usize) = std::thread::scope(|scope| {
        let odd = scope.spawn(|| found(1));
        (found(0), odd.join().unwrap())
    });
    eprintln!(
        "found {} of {} flipped bytes; the others change nothing",
        even + odd,
        bytes.len()
    );
    // Most bytes are entries and signatures; the rest is unused space and SQLite's own counters.
    assert!(2 * (even + odd) > bytes.len());
}

#[test]
fn removed_reordered_repeated_and_added_entries_are_found() {
    let ledger = closed();
    let last = ledger.count - 1;
    assert_eq!(ledger.count, 10);
    let (entry, problem) = ledger.bad_entry("DELETE FROM entries WHERE number = 4");
    assert!(
        entry == 4 && problem.contains("missing"),
        "{entry} {problem}"
    );
    let (entry, problem) = ledger.bad_entry(&format!("DELETE FROM entries WHERE number = {last}"));
    assert!(
        entry == last && problem.contains("counts 10 entries, there are 9"),
        "{problem}"
    );
    ledger.bad_entry("DELETE FROM entries WHERE number > 1");
    ledger.bad_entry("DELETE FROM entries");
    let swap = "UPDATE entries SET number = 1000 WHERE number = 3; \
                UPDATE entries SET number = 3 WHERE number = 6; \
                UPDATE entries SET number = 6 WHERE number = 1000";
    assert_eq!(ledger.bad_entry(swap).0, 3);
    let repeat = format!(
        "INSERT INTO entries SELECT {}, body, signature FROM entries WHERE number = 3",
        last + 1
    );
    assert_eq!(ledger.bad_entry(&repeat).0, last + 1);
    ledger
        .bad_entry("INSERT INTO entries SELECT -5, body, signature FROM entries WHERE number = 3");
    ledger.bad_entry("UPDATE entries SET number = number + 1000");
    let overwrite = "UPDATE entries SET (body, signature) = \
                     (SELECT body, signature FROM entries WHERE number = 2) WHERE number = 5";
    assert_eq!(ledger.bad_entry(overwrite).0, 5);
}

#[test]
fn a_missing_doubled_or_foreign_head_is_found() {
    let ledger = closed();
    assert!(ledger.bad_entry("DELETE FROM head").1.contains("0 heads"));
    let double = "INSERT INTO head SELECT 2, body, signature FROM head";
    assert!(ledger.bad_entry(double).1.contains("2 heads"));
    let entry_as_head = "UPDATE head SET (body, signature) = \
                         (SELECT body, signature FROM entries WHERE number = 1)";
    assert!(ledger.bad_entry(entry_as_head).1.contains("the head"));
}

#[test]
fn changed_exchanged_lost_and_smuggled_outputs_are_found() {
    let ledger = closed();
    let first = "(SELECT min(rowid) FROM outputs)";
    let (entry, problem) = ledger.bad_entry(&format!(
        "UPDATE outputs SET bytes = 'fresh noise' WHERE rowid = {first}"
    ));
    assert!(
        problem.contains("was changed") && entry >= 2,
        "{entry} {problem}"
    );
    let (_, problem) = ledger.bad_entry(&format!("DELETE FROM outputs WHERE rowid = {first}"));
    assert!(problem.contains("is gone"), "{problem}");
    let (entry, problem) =
        ledger.bad_entry("INSERT INTO outputs VALUES (zeroblob(32), 'private rows')");
    assert!(
        entry == ledger.count && problem.contains("no entry speaks of"),
        "{problem}"
    );
}

#[test]
fn triggers_views_and_other_tables_are_found() {
    let ledger = closed();
    for sql in [
        "CREATE TRIGGER forget AFTER INSERT ON entries BEGIN DELETE FROM entries WHERE number = new.number; END",
        "CREATE VIEW more AS SELECT * FROM entries",
        "CREATE TABLE notes (text TEXT)",
        "ALTER TABLE entries ADD COLUMN remark TEXT",
        "DROP TABLE outputs",
    ] {
        let (_, problem) = ledger.bad_entry(sql);
        assert!(
            problem.contains("the tables are not those of a ledger"),
            "{sql}: {problem}"
        );
    }
}

#[test]
fn a_ledger_is_not_opened_for_writing_after_tampering() {
    let site = Site::new();
    let mut ledger = site.open_with_cap(9.0);
    run(&mut ledger, &request(3.0, "a"), b"x");
    let mut open = site.open();
    let connection = Connection::open(site.path()).unwrap();
    connection
        .execute("DELETE FROM entries WHERE number > 1", [])
        .unwrap();
    // Handles that have seen the entries, handles that have not, and new ones: all notice.
    assert!(matches!(ledger.verify(), Err(Error::Tampered { .. })));
    assert!(open.reserve(&request(3.0, "b")).is_err());
    assert!(matches!(
        Ledger::open(&site.options),
        Err(Error::Tampered { .. })
    ));
}

#[test]
fn an_older_copy_put_back_is_found_by_the_head_noted_beside_it_or_elsewhere() {
    let site = Site::new();
    let mut ledger = site.open_with_cap(9.0);
    run(&mut ledger, &request(3.0, "a"), b"x");
    let early = ledger.head().unwrap();
    let key = ledger.public_key();
    drop(ledger);
    let older = std::fs::read(site.path()).unwrap();
    let mut ledger = site.open();
    run(&mut ledger, &request(3.0, "b"), b"y");
    let noted = ledger.head().unwrap();
    drop(ledger);
    verify(&site.path(), &key, Some(&early)).unwrap();
    verify(&site.path(), &key, Some(&noted)).unwrap();

    std::fs::write(site.path(), older).unwrap();
    let beside = site.path().with_extension("begun");
    for found in [
        verify(&site.path(), &key, None).map(|_| ()),
        Ledger::open(&site.options).map(|_| ()),
    ] {
        let error = found.unwrap_err();
        assert!(matches!(error, Error::RolledBack { noted: Some(_), .. }));
        assert!(
            error.to_string().contains("ledger.begun") && error.to_string().contains("restore"),
            "{error}"
        );
    }

    // Who puts the note back too is found with a head noted elsewhere alone.
    std::fs::write(&beside, format!("{}:{}\n", early.count, early.hash)).unwrap();
    verify(&site.path(), &key, None).unwrap();
    let error = verify(&site.path(), &key, Some(&noted)).unwrap_err();
    assert!(matches!(error, Error::RolledBack { .. }), "{error:?}");
    let mut anchored = site.options.clone();
    anchored.anchor = Some(noted);
    assert!(matches!(
        Ledger::open(&anchored),
        Err(Error::RolledBack { .. })
    ));
    // Another history of the same length does not pass either.
    let mut ledger = site.open();
    run(&mut ledger, &request(3.0, "other"), b"z");
    assert_eq!(ledger.head().unwrap().count, noted.count);
    assert!(matches!(
        verify(&site.path(), &key, Some(&noted)),
        Err(Error::RolledBack { .. })
    ));
    let beginning = Head {
        count: 0,
        hash: noted.hash,
    };
    verify(&site.path(), &key, Some(&beginning)).unwrap();
}

#[test]
fn another_sites_key_is_called_that_and_not_tampering() {
    let ledger = closed();
    let other = Site::new().open().public_key();
    let error = verify(&ledger.path, &other, None).unwrap_err();
    assert!(matches!(error, Error::OtherKey { .. }), "{error:?}");
    assert!(error.to_string().contains(&ledger.key.to_string()));
}

#[test]
fn a_cap_raised_without_the_key_is_found() {
    let ledger = closed();
    let found = ledger.after(|connection| {
        let body: Vec<u8> = connection
            .query_row("SELECT body FROM entries WHERE number = 1", [], |row| {
                row.get(0)
            })
            .unwrap();
        let text = String::from_utf8(body).unwrap();
        assert!(text.contains("\"epsilon\":9.0"), "{text}");
        let raised = text.replace("\"epsilon\":9.0", "\"epsilon\":90.");
        connection
            .execute(
                "UPDATE entries SET body = ?1 WHERE number = 1",
                [raised.as_bytes()],
            )
            .unwrap();
    });
    assert!(
        matches!(found, Err(Error::Tampered { entry: 1, .. })),
        "{found:?}"
    );
    let _ = cap(9.0);
}
