//! The gate with an honest guest: true sums, bounded influence, reproducible runs.

use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use noisegate_privacy::{ClipBound, NoiseMultiplier, SamplingRate};
use noisegate_sandbox::{
    Declaration, Guest, Limits, Mechanism, Progress, SandboxError, Session, Unit,
};

use proptest::prelude::*;

use crate::support::{COUNT, Text};
use crate::support_session::{
    declaration, floats, limits, randomness, run, run_guest, run_with, sums, unit, units,
};

#[test]
fn released_values_are_the_true_sums_up_to_noise() {
    let texts = ["a", "bb", "ccc", "dddd"];
    assert_eq!(
        sums(&Text::default(), &units(&texts)),
        [10.0, 4.0, 0.0, 0.0]
    );
}

#[test]
fn sums_are_divided_by_the_public_number_of_units_never_the_true_one() {
    let texts = units(&["aaaa", "bbbb"]);
    let finished = run_with(&Text::default(), &texts, &limits(), declaration(1000)).unwrap();
    let released = floats(&finished.files[0]);
    assert!((released[0] - 0.008).abs() < 5e-4, "{released:?}");
}

#[test]
fn the_noise_has_the_declared_scale() {
    let declared = Declaration {
        mechanism: Mechanism::GaussianSum {
            clip: ClipBound::new(1.0).unwrap(),
        },
        noise_multiplier: NoiseMultiplier::new(2.0).unwrap(),
        sampling_rate: SamplingRate::new(0.5).unwrap(),
        units_public: 10,
        steps: 1,
    };
    let text = Text {
        dim: 10_000,
        ..Text::default()
    };
    let finished = run_with(&text, &[], &limits(), declared).unwrap();
    let released = floats(&finished.files[0]);
    let mean = released.iter().sum::<f32>() / 10_000.0;
    let variance = released.iter().map(|value| value * value).sum::<f32>() / 10_000.0;
    // Standard deviation 2 * 1 / (0.5 * 10) = 0.4; the tolerances are more than
    // six standard errors wide.
    assert!(
        (variance.sqrt() - 0.4).abs() < 0.4 * 0.045,
        "{}",
        variance.sqrt()
    );
    assert!(mean.abs() < 0.4 * 0.065, "{mean}");
}

#[test]
fn a_unit_moves_the_sum_by_at_most_the_clip_bound() {
    let huge = "
        (call $emit (local.get $into) (i64.const 0) (f32.const 1e30))
        (call $emit (local.get $into) (i64.const 1) (f32.const -1e30))";
    let text = Text {
        contribute: huge.to_owned(),
        ..Text::default()
    };
    // 16 / sqrt(2) each way.
    let released = sums(&text, &units(&["a"]));
    assert_eq!(released, [11.0, -11.0, 0.0, 0.0]);
}

#[test]
fn neighbouring_data_sets_differ_in_the_noised_values_alone() {
    let text = Text {
        queries: 3,
        ..Text::default()
    };
    let mut data = units(&["a", "bb", "ccc"]);
    let without = run(&text, &data).unwrap();
    data.push(unit("dddd"));
    let with = run(&text, &data).unwrap();
    assert_eq!(without.said, with.said);
    assert_eq!(without.files.len(), with.files.len());
    for (without, with) in without.files.iter().zip(&with.files) {
        assert_eq!(without.name, with.name);
        assert_eq!(without.data.len(), with.data.len());
        let difference: Vec<f32> = floats(with)
            .iter()
            .zip(floats(without))
            .map(|(a, b)| (a - b).round())
            .collect();
        assert_eq!(difference, [4.0, 1.0, 0.0, 0.0]);
    }
}

#[test]
fn the_same_randomness_gives_the_same_bytes_on_any_number_of_threads() {
    let text = Text {
        queries: 2,
        ..Text::default()
    };
    let data: Vec<Unit> = (0..40).map(|i| unit(&"x".repeat(i))).collect();
    let declared = || Declaration {
        sampling_rate: SamplingRate::new(0.3).unwrap(),
        noise_multiplier: NoiseMultiplier::new(1.0).unwrap(),
        ..declaration(40)
    };
    let on = |threads| {
        let limits = Limits {
            threads,
            ..limits()
        };
        run_with(&text, &data, &limits, declared()).unwrap().files
    };
    let one = on(1);
    for threads in [2, 3, 8] {
        let many = on(threads);
        assert!(one.iter().zip(&many).all(|(a, b)| a.data == b.data));
    }
    assert_ne!(one[0].data, one[1].data);
}

#[test]
fn progress_counts_queries_and_nothing_else() {
    let text = Text {
        queries: 2,
        ..Text::default()
    };
    let finished = run(&text, &units(&["a"])).unwrap();
    assert_eq!(
        finished.said,
        [
            Progress::Query { index: 1, total: 2 },
            Progress::Query { index: 2, total: 2 }
        ]
    );
}

#[test]
fn cancelling_ends_the_step_with_an_error() {
    let guest = Guest::load(&Text::default().component(), None, &limits()).unwrap();
    let session = Session::start(&guest, "{}", &[], declaration(1)).unwrap();
    let cancel = AtomicBool::new(true);
    let ended = session.run(&units(&["a"]), randomness(), &mut |_| {}, &cancel);
    assert!(matches!(ended, Err(SandboxError::Cancelled)));
}

#[test]
fn cancelling_and_the_clock_end_a_step_whose_units_loop_and_never_zero_them() {
    let text = Text {
        contribute: "(loop $l (br $l))".to_owned(),
        ..Text::default()
    };
    let mut patient = Limits {
        step_seconds_max: 0,
        ..limits()
    };
    patient.private.fuel_per_call = u64::MAX / 4;
    let started = std::time::Instant::now();
    let ended = run_with(&text, &units(&["a", "b"]), &patient, declaration(1));
    assert!(matches!(
        ended,
        Err(SandboxError::TimedOut { limit_seconds: 0 })
    ));

    patient.step_seconds_max = 1000;
    let guest = Guest::load(&text.component(), None, &patient).unwrap();
    let session = Session::start(&guest, "{}", &[], declaration(1)).unwrap();
    let cancel = AtomicBool::new(false);
    let mut set_once_asked = |_| cancel.store(true, std::sync::atomic::Ordering::Relaxed);
    let ended = session.run(&units(&["a"]), randomness(), &mut set_once_asked, &cancel);
    assert!(matches!(ended, Err(SandboxError::Cancelled)));
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

#[test]
fn the_charge_of_the_outputs_is_the_whole_step() {
    let text = Text {
        queries: 3,
        ..Text::default()
    };
    let guest = Guest::load(&text.component(), None, &limits()).unwrap();
    let session = Session::start(&guest, "{}", &[], declaration(1)).unwrap();
    assert_eq!(session.queries(), 3);
    let expected = session.events(3);
    let never = AtomicBool::new(false);
    let released = session
        .run(&units(&["a"]), randomness(), &mut |_| {}, &never)
        .unwrap();
    assert_eq!(released.charge(), expected);
}

#[test]
fn a_rehearsal_uses_the_same_fuel_every_time_and_does_not_skip_a_query() {
    let guest = Guest::load(&Text::default().component(), None, &limits()).unwrap();
    let mut session = Session::start(&guest, "{}", &[], declaration(1)).unwrap();
    let first = session.rehearse(&unit("made up"), &mut |_| {}).unwrap();
    let second = session.rehearse(&unit("made up"), &mut |_| {}).unwrap();
    assert_eq!(first, second);
    assert_eq!(first.problem, None);
    assert!(first.fuel_used > 100);
    assert!((first.norm - 50.0_f64.sqrt()).abs() < 1e-6);
    let never = AtomicBool::new(false);
    let released = session
        .run(&units(&["a"]), randomness(), &mut |_| {}, &never)
        .unwrap();
    assert_eq!(released.value().len(), 1);
}

#[test]
fn long_texts_and_surplus_records_are_cut_by_the_host() {
    let cut = Limits {
        text_bytes_max: 8,
        unit_records_max: 1,
        ..limits()
    };
    let mut data = units(&["short", "much longer than eight bytes"]);
    let surplus = data[0].records[0].clone();
    data[0].records.push(surplus);
    let count_records = format!(
        "{COUNT} (call $emit (local.get $into) (i64.const 2)
            (f32.convert_i32_u (local.get $records_len)))"
    );
    let text = Text {
        contribute: count_records,
        ..Text::default()
    };
    let finished = run_with(&text, &data, &cut, declaration(1)).unwrap();
    let released: Vec<f32> = floats(&finished.files[0])
        .into_iter()
        .map(f32::round)
        .collect();
    assert_eq!(released, [13.0, 2.0, 2.0, 0.0]);
}

#[test]
fn an_empty_data_set_releases_noise_like_any_other() {
    let finished = run(&Text::default(), &[]).unwrap();
    assert_eq!(floats(&finished.files[0]).len(), 4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_set_of_units_within_the_clip_bound_is_summed_exactly(
        lengths in proptest::collection::vec(0_usize..15, 0..40),
    ) {
        static LOADED: OnceLock<Guest> = OnceLock::new();
        let guest = LOADED.get_or_init(|| {
            Guest::load(&Text::default().component(), None, &limits()).unwrap()
        });
        let data: Vec<Unit> = lengths.iter().map(|&len| unit(&"x".repeat(len))).collect();
        let released = |data: &[Unit]| {
            floats(&run_guest(guest, "{}", data, declaration(1)).unwrap().files[0])
        };
        let pairs = released(&data).into_iter().zip(released(&[]));
        let sums: Vec<usize> =
            pairs.map(|(with, without)| (with - without).round() as usize).collect();
        prop_assert_eq!(sums, [lengths.iter().sum(), lengths.len(), 0, 0]);
    }
}
