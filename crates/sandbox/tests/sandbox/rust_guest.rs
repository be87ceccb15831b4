//! The attacks of `wasm-guests/hostile`, a guest built with the SDK.

use std::sync::{Mutex, OnceLock, PoisonError};

use noisegate_sandbox::{Guest, Unit, inspect};

use crate::support_session::{Finished, declaration, floats, limits, run_guest, units};

const GUEST: &[u8] = include_bytes!("hostile.wasm");

/// What a step with this attack releases, less the noise.
fn sums(attack: &str, data: &[Unit]) -> Vec<f32> {
    let (noise, noised) = (run(attack, &[]), run(attack, data));
    let pairs = floats(&noised.files[0])
        .into_iter()
        .zip(floats(&noise.files[0]));
    pairs
        .map(|(with, without)| (with - without).round())
        .collect()
}

fn run(attack: &str, data: &[Unit]) -> Finished {
    // One guest, so one step at a time: its instances are counted.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    static LOADED: OnceLock<Guest> = OnceLock::new();
    let guest = LOADED.get_or_init(|| {
        // Enough fuel for an honest unit and for filling a few megabytes.
        let mut limits = limits();
        limits.private.fuel_per_call = 50_000_000;
        Guest::load(GUEST, None, &limits).unwrap()
    });
    let config = format!("{{\"attack\": \"{attack}\"}}");
    run_guest(guest, &config, data, declaration(1))
        .unwrap_or_else(|error| panic!("`{attack}`: {error}"))
}

fn honest_sums(bytes: f32, count: f32) -> Vec<f32> {
    let mut sums = vec![0.0; 16];
    (sums[0], sums[1]) = (bytes, count);
    sums
}

#[test]
fn it_imports_kernels_alone_and_is_loaded_like_any_other() {
    let seen = inspect(GUEST, &limits()).unwrap();
    assert!(seen.verdict.is_ok());
    assert!(seen.imports.iter().all(|import| import.allowed));
}

#[test]
fn attacks_that_end_in_a_trap_or_a_bad_number_count_as_zero() {
    let data = units(&["aa", "!secret", "bbb", "!another secret"]);
    let attacks = [
        "panic", "abort", "loop", "recurse", "allocate", "tensors", "nan", "infinity", "beyond",
    ];
    for attack in attacks {
        assert_eq!(sums(attack, &data), honest_sums(5.0, 2.0), "{attack}");
    }
}

#[test]
fn such_attacks_leave_the_same_bytes_as_if_the_unit_were_absent() {
    let attacks = [
        "panic", "abort", "loop", "recurse", "allocate", "tensors", "nan", "infinity", "beyond",
    ];
    for attack in attacks {
        let with = run(attack, &units(&["aa", "bbb", "!secret"]));
        let without = run(attack, &units(&["aa", "bbb"]));
        assert_eq!(with.said, without.said);
        assert!(
            with.files
                .iter()
                .zip(&without.files)
                .all(|(a, b)| a.data == b.data),
            "{attack}"
        );
    }
}

#[test]
fn nothing_is_remembered_in_statics_thread_locals_or_the_heap() {
    let data: Vec<Unit> = (0..25)
        .flat_map(|_| units(&["aa", "!secret", "bbb"]))
        .collect();
    assert_eq!(sums("remember", &data), honest_sums(25.0 * 12.0, 75.0));
}

#[test]
fn a_record_spelled_in_huge_values_moves_the_sum_by_the_clip_bound_at_most() {
    let sums = sums("huge", &units(&["!secret"]));
    let norm = sums.iter().map(|value| value * value).sum::<f32>().sqrt();
    assert!(norm < 16.0 + 2.0, "{norm}");
    assert_eq!(sums[..2], [0.0, 0.0]);
}

#[test]
fn time_memory_handles_and_denormals_change_nothing_that_leaves() {
    // The same unit, attacking and not: what is released is the same to the last bit.
    for attack in ["time", "grow", "handles", "denormal"] {
        let attacking = run(attack, &units(&["aa", "!zzzzzzzz"]));
        let honest = run(attack, &units(&["aa", "?zzzzzzzz"]));
        assert_eq!(attacking.said, honest.said, "{attack}");
        assert!(
            attacking
                .files
                .iter()
                .zip(&honest.files)
                .all(|(a, b)| a.data == b.data),
            "{attack}"
        );
    }
}
