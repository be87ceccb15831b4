//! The mechanism `votes` through the whole sandbox, and guests that try to vote for more.

use noisegate_privacy::{NoiseMultiplier, SamplingRate};
use noisegate_sandbox::{Declaration, Guest, Mechanism, SandboxError, Session};

use crate::support::Text;
use crate::support_session::{all_sums, limits, run_with, units};

fn votes(per_unit: u32) -> Declaration {
    Declaration {
        mechanism: Mechanism::Votes { per_unit },
        noise_multiplier: NoiseMultiplier::new(1.0 / 32.0).unwrap(),
        sampling_rate: SamplingRate::ONE,
        units_public: 1,
        steps: 1,
    }
}

/// Marks the bin of the text's length; a text that begins with `!` does `attack` instead.
fn voter(attack: &str) -> Text {
    let contribute = format!(
        "(if (i32.eq (i32.load8_u (i32.load (local.get $records))) (i32.const 33))
            (then {attack})
            (else (call $emit (local.get $into)
                (i64.extend_i32_u (i32.load offset=4 (local.get $records))) (f32.const 1))))"
    );
    Text {
        contribute,
        ..Text::default()
    }
}

fn counted(attack: &str, per_unit: u32, texts: &[&str]) -> Vec<f32> {
    all_sums(&voter(attack), &units(texts), &limits(), &votes(per_unit)).swap_remove(0)
}

fn emit(bin: u32, value: &str) -> String {
    format!("(call $emit (local.get $into) (i64.const {bin}) (f32.const {value}))")
}

#[test]
fn votes_are_counted() {
    assert_eq!(
        counted("", 1, &["a", "a", "bb", "ccc"]),
        [0.0, 2.0, 1.0, 1.0]
    );
}

#[test]
fn a_vote_of_any_value_is_one_vote() {
    for value in ["1000000", "-7", "1e-40", "3e38"] {
        assert_eq!(
            counted(&emit(0, value), 1, &["a", "!record"]),
            [1.0, 1.0, 0.0, 0.0],
            "{value}"
        );
    }
}

#[test]
fn more_votes_than_declared_and_bad_numbers_are_none_at_all() {
    let two = emit(0, "1") + &emit(2, "0.5");
    assert_eq!(counted(&two, 1, &["a", "!record"]), [0.0, 1.0, 0.0, 0.0]);
    assert_eq!(counted(&two, 2, &["a", "!record"]), [1.0, 1.0, 1.0, 0.0]);
    for value in ["nan", "inf"] {
        let attack = emit(0, "1") + &emit(2, value);
        assert_eq!(
            counted(&attack, 2, &["a", "!record"]),
            [0.0, 1.0, 0.0, 0.0],
            "{value}"
        );
    }
}

#[test]
fn a_unit_that_votes_for_too_much_leaves_the_same_bytes_as_one_that_is_absent() {
    let attack = (0..4).map(|bin| emit(bin, "1")).collect::<String>();
    let run =
        |texts: &[&str]| run_with(&voter(&attack), &units(texts), &limits(), votes(3)).unwrap();
    let (with, without) = (run(&["a", "!record"]), run(&["a"]));
    assert_eq!(with.files[0].data, without.files[0].data);
    assert_eq!(with.said, without.said);
}

#[test]
fn a_vote_that_the_gate_cannot_run_is_refused_before_any_unit() {
    let guest = Guest::load(&voter("").component(), None, &limits()).unwrap();
    let refused = |declaration| {
        Session::start(&guest, "{}", &[], declaration)
            .err()
            .unwrap()
    };
    for broken in [
        votes(0),
        Declaration {
            units_public: 0,
            ..votes(1)
        },
    ] {
        let error = refused(broken);
        assert!(matches!(error, SandboxError::Mechanism { .. }), "{error}");
    }
}
