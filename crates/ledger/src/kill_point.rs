//! For tests: kills this process at a chosen one of its write points.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

/// Which point, counted from 1; none if it is not set.
pub(crate) const KILL_AT: &str = "NOISEGATE_LEDGER_KILL_AT";

static PASSED: AtomicU64 = AtomicU64::new(0);

/// Passes one point, or dies there.
pub(crate) fn pass() {
    let Some(at) = std::env::var(KILL_AT)
        .ok()
        .and_then(|at| at.parse::<u64>().ok())
    else {
        return;
    };
    if PASSED.fetch_add(1, Ordering::SeqCst) + 1 == at {
        let pid = std::process::id().to_string();
        let _ = Command::new("kill").args(["-KILL", &pid]).status();
        loop {
            std::thread::park();
        }
    }
}
