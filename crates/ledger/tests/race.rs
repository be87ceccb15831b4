//! Many at once, in threads and in processes, never overspend together.
//!
//! ```text
//! parent ── starts ──> 4 children: reserve, seal, release, as far as the cap admits
//!    └── waits for all, then opens the ledger and counts what they were charged
//! ```

mod common;

use common::{DATA_SET, Site, cap, request};
use noisegate_ledger::{Error, Outcome, State};

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
