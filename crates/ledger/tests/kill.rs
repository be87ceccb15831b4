//! A process killed between any two of its writes: the chain holds, no release is without its
//! charge, and no charge ever gives two outputs.
//!
//! ```text
//! parent ── starts ──> child: reserve, seal, release, note in the outbox, again and again
//!    └── SIGKILL after a random moment, then opens the ledger and compares it with the outbox
//! ```

mod common;

use std::collections::HashMap;
use std::fs::OpenOptions as FileOptions;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Site, request};
use noisegate_ledger::{Digest, Ledger, OpenOptions, Outcome, State, verify};

const FOLDER: &str = "NOISEGATE_LEDGER_KILL_TEST_FOLDER";
/// The line that says that a child has opened the ledger.
const READY: &str = "the ledger is open";
/// Several short ledgers rather than one long one: each child verifies all of it at the start.
const LEDGERS: u32 = 20;
const KILLS: u32 = 15;
/// Each child starts a little further on, so it meets stored outputs first and new requests then.
const REQUESTS: u32 = 2000;

#[test]
#[ignore = "the child of the test below, which starts and kills it"]
fn a_worker_that_charges_seals_and_releases_until_it_is_killed() {
    let folder = std::path::PathBuf::from(std::env::var_os(FOLDER).expect("set by the parent"));
    let options = OpenOptions::new(folder.join("ledger.db"), folder.join("site.key"));
    let mut outbox = FileOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("outbox"))
        .unwrap();
    let mut ledger = Ledger::open(&options).unwrap();
    println!("{READY}");
    let start = std::process::id() % REQUESTS;
    for step in 0.. {
        let number = (start + step) % REQUESTS;
        let sealed = match ledger.reserve(&request(50.0, &number.to_string())).unwrap() {
            Outcome::Charged(reservation) => {
                // The noise: different in each attempt, and more than one page of it.
                let noise = format!("{number} {} {step} ", std::process::id()).repeat(300);
                ledger.seal(&reservation, noise.as_bytes()).unwrap()
            }
            Outcome::Stored(sealed) => sealed,
        };
        let bytes = ledger.release(&sealed).unwrap();
        let line = format!("{number} {} {}\n", sealed.number(), Digest::of(&bytes));
        outbox.write_all(line.as_bytes()).unwrap();
    }
}

#[test]
fn killed_at_any_moment_a_ledger_is_whole_and_no_charge_gives_two_outputs() {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for ledger in 0..LEDGERS {
        let site = Site::in_memory();
        let key = site.open_with_cap(1000.0).public_key();
        for kill in 0..KILLS {
            start_and_kill(&site, ledger * KILLS + kill);
        }
        check(&site, &key);
        for charge in site.open().verify().unwrap().charges {
            let name = match charge.state {
                State::Reserved => panic!("opening burns what the dead left open"),
                State::Sealed => "sealed",
                State::Released => "released",
                State::Burned => "burned",
            };
            *counts.entry(name).or_default() += 1;
        }
        check(&site, &key);
    }
    eprintln!("{} kills: {counts:?}", LEDGERS * KILLS);
    assert!(
        counts["burned"] >= 3,
        "some kills must fall between reserve and seal"
    );
    assert!(
        counts["released"] >= 100,
        "most children must get somewhere"
    );
}

fn start_and_kill(site: &Site, kill: u32) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture"])
        .arg("a_worker_that_charges_seals_and_releases_until_it_is_killed")
        .env(FOLDER, site.folder.path())
        .env("RUST_BACKTRACE", "0")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Every fourth child is killed while it starts or opens the ledger, the others at work.
    if !kill.is_multiple_of(4) {
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.map(Result::unwrap).any(|line| line.ends_with(READY));
        assert!(ready, "kill {kill}: the child never opened the ledger");
    }
    // A multiplicative sequence: spread over 0 to 8 ms, the same in every run.
    std::thread::sleep(Duration::from_micros(u64::from(kill * 7919 % 8_000)));
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert_eq!(
        status.code(),
        None,
        "kill {kill}: the child ended by itself with {status}"
    );
}

/// Compares the ledger with everything that ever left a child.
fn check(site: &Site, key: &noisegate_ledger::PublicKey) {
    let seen = verify(&site.path(), key, None).unwrap();
    let charges: HashMap<u64, _> = seen.charges.iter().map(|c| (c.reservation, c)).collect();
    let outbox = std::fs::read_to_string(site.folder.path().join("outbox")).unwrap_or_default();
    let mut outputs: HashMap<u64, Digest> = HashMap::new();
    for line in outbox.lines() {
        let mut words = line.split(' ');
        let (number, reservation, digest) = (
            words.next().unwrap(),
            words.next().unwrap(),
            words.next().unwrap(),
        );
        let digest: Digest = digest.parse().unwrap();
        let charge = charges[&reservation.parse().unwrap()];
        assert_eq!(
            charge.state,
            State::Released,
            "released without being marked so"
        );
        assert_eq!(
            charge.output,
            Some(digest),
            "released bytes that were never sealed"
        );
        assert_eq!(
            charge.parameters,
            Digest::of(number.as_bytes()),
            "another request's charge"
        );
        assert!(!charge.events.is_empty(), "released without a charge");
        let first = *outputs.entry(number.parse().unwrap()).or_insert(digest);
        assert_eq!(first, digest, "two outputs for request {number}");
    }
    let outputs = seen.charges.iter().filter(|charge| charge.output.is_some());
    let mut requests: Vec<Digest> = outputs.map(|charge| charge.parameters).collect();
    let all = requests.len();
    requests.sort_unstable();
    requests.dedup();
    assert_eq!(requests.len(), all, "one request, two sealed outputs");
}
