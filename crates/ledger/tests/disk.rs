//! A disk that is really full, and one that is really read-only.
//!
//! The test starts itself again in a mount namespace of its own, where it may mount a disk of a few
//! hundred kilobytes. Where the system does not allow that, it says so and is skipped.

mod common;

use std::path::Path;
use std::process::Command;

use common::{DATA_SET, Site, charge, request, run};
use noisegate_ledger::{Error, Ledger, verify};

#[test]
fn a_full_and_a_read_only_disk_are_named_and_lose_nothing() {
    let inside = "inside_a_namespace_with_a_small_disk";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount"])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", inside])
        .output();
    let Ok(output) = output else {
        eprintln!("skipped: there is no `unshare` here");
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if said.contains("unshare:") || said.contains("cannot mount") {
        eprintln!("skipped: this system does not allow mounts in a namespace");
        return;
    }
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

fn mount(options: &str, folder: &Path) {
    let done = Command::new("mount")
        .args(["-t", "tmpfs", "-o", options, "tmpfs"])
        .arg(folder)
        .status();
    assert!(
        done.is_ok_and(|status| status.success()),
        "cannot mount a small disk"
    );
}

#[test]
#[ignore = "the inner half of the test above, which starts it"]
fn inside_a_namespace_with_a_small_disk() {
    let site = Site::new();
    mount("size=1m", site.folder.path());
    let mut ledger = site.open_with_cap(500.0);
    let first = run(&mut ledger, &request(2.0, "first"), &[1; 50_000]);
    let mut refused = None;
    for number in 0..100 {
        let reservation = match ledger.reserve(&request(2.0, &number.to_string())) {
            Ok(noisegate_ledger::Outcome::Charged(reservation)) => reservation,
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                refused = Some(error);
                break;
            }
        };
        if let Err(error) = ledger.seal(&reservation, &[2; 50_000]) {
            refused = Some(error);
            break;
        }
    }
    let refused = refused.expect("a disk of 1 MiB must fill up");
    assert!(matches!(refused, Error::DiskFull { .. }), "{refused:?}");
    assert!(
        refused.to_string().contains("nothing was released"),
        "{refused}"
    );

    let key = ledger.public_key();
    let seen = ledger.verify().unwrap();
    drop(ledger);
    assert_eq!(
        verify(&site.path(), &key, Some(&seen.head))
            .unwrap()
            .charges
            .len(),
        seen.charges.len()
    );

    mount_again("remount,size=8m", site.folder.path());
    let mut ledger = site.open();
    let served = common::stored(&mut ledger, &request(2.0, "first"));
    assert_eq!(ledger.release(&served).unwrap(), first);
    charge(&mut ledger, &request(2.0, "after"));
    let charges = ledger.spent(DATA_SET).unwrap().unwrap().charges;
    drop(ledger);

    mount_again("remount,ro", site.folder.path());
    assert_eq!(
        verify(&site.path(), &key, None).unwrap().charges.len(),
        charges
    );
    let error = Ledger::open(&site.options).unwrap_err();
    assert!(matches!(error, Error::ReadOnly { .. }), "{error:?}");
    assert!(
        error
            .to_string()
            .contains("make the file and its folder writable"),
        "{error}"
    );
}

fn mount_again(options: &str, folder: &Path) {
    let status = Command::new("mount")
        .args(["-o", options])
        .arg(folder)
        .status()
        .unwrap();
    assert!(status.success());
}
