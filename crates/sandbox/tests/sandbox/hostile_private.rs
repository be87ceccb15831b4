//! Guests that try to make one unit tell on another, or on itself.
//!
//! Every attack below is made by units whose text begins with `!`; the others
//! are counted honestly. What is released must be the honest units' sum, as if
//! the attacking units were zero.

use noisegate_sandbox::{Limits, Unit};

use crate::support::{COUNT, Text};
use crate::support_session::{all_sums, declaration, limits, run, sums, units};

/// Counts honestly, and does `attack` after that for texts that begin with `!`.
fn attacking(attack: &str) -> Text {
    let contribute = format!(
        "{COUNT}
        (if (i32.eq (i32.load8_u (i32.load (local.get $records))) (i32.const 33))
            (then {attack}))"
    );
    Text {
        contribute,
        ..Text::default()
    }
}

fn data() -> Vec<Unit> {
    units(&["aa", "!attack", "bbb", "!again", "c"])
}

const HONEST: [f32; 4] = [6.0, 3.0, 0.0, 0.0];

#[test]
fn a_trapping_unit_counts_as_zero() {
    assert_eq!(sums(&attacking("(unreachable)"), &data()), HONEST);
}

#[test]
fn a_unit_that_loops_for_ever_counts_as_zero() {
    assert_eq!(sums(&attacking("(loop $l (br $l))"), &data()), HONEST);
}

#[test]
fn a_unit_that_recurses_without_end_counts_as_zero() {
    let mut text = attacking("(call $deep)");
    text.fields = "(func $deep (call $deep))".to_owned();
    assert_eq!(sums(&text, &data()), HONEST);
}

#[test]
fn a_nan_an_infinity_and_any_nan_payload_count_as_zero() {
    for value in ["nan", "inf", "-inf", "nan:0x200001", "-nan:0x3fffff"] {
        let attack = format!("(call $emit (local.get $into) (i64.const 3) (f32.const {value}))");
        assert_eq!(sums(&attacking(&attack), &data()), HONEST, "{value}");
    }
}

#[test]
fn values_whose_sum_overflows_to_infinity_count_as_zero() {
    let add = "(call $emit (local.get $into) (i64.const 3) (f32.const 3e38))";
    assert_eq!(sums(&attacking(&add.repeat(2)), &data()), HONEST);
}

#[test]
fn denormals_are_as_invisible_as_they_are_small() {
    let attack = "(call $emit (local.get $into) (i64.const 3) (f32.const 1e-45))";
    assert_eq!(sums(&attacking(attack), &data()), [19.0, 5.0, 0.0, 0.0]);
}

#[test]
fn writing_beyond_the_contribution_counts_as_zero() {
    for offset in ["4", "-1", "0x7fffffffffffffff", "0x3fffffffffffffff"] {
        let attack = format!("(call $emit (local.get $into) (i64.const {offset}) (f32.const 1))");
        assert_eq!(sums(&attacking(&attack), &data()), HONEST, "{offset}");
    }
}

#[test]
fn a_list_beyond_the_guests_memory_counts_as_zero() {
    let attack = "(call $accum_add (local.get $into) (i64.const 0)
        (i32.const 0x1fff0) (i32.const 0x7fffffff))";
    assert_eq!(sums(&attacking(attack), &data()), HONEST);
}

#[test]
fn an_unaligned_list_counts_as_zero() {
    let attack = "(call $accum_add (local.get $into) (i64.const 0) (i32.const 65) (i32.const 1))";
    assert_eq!(sums(&attacking(attack), &data()), HONEST);
}

#[test]
fn a_made_up_handle_counts_as_zero() {
    let attack = "(call $emit (i32.const 77) (i64.const 0) (f32.const 1))";
    assert_eq!(sums(&attacking(attack), &data()), HONEST);
}

#[test]
fn dropping_the_accumulator_twice_counts_as_zero() {
    assert_eq!(
        sums(&attacking("(call $accum_drop (local.get $into))"), &data()),
        HONEST
    );
}

#[test]
fn keeping_the_accumulator_counts_as_zero() {
    // Returns without giving the borrowed handle back.
    assert_eq!(sums(&attacking("(return)"), &data()), HONEST);
}

#[test]
fn memory_can_be_grown_to_the_limit_and_no_further() {
    let grow = "
        (loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
        (call $emit (local.get $into) (i64.const 2) (f32.convert_i32_u (i32.shr_u (memory.size) (i32.const 5))))";
    let text = Text {
        contribute: grow.to_owned(),
        ..Text::default()
    };
    assert_eq!(sums(&text, &units(&["a"]))[2], 8.0);
}

#[test]
fn tensors_can_be_made_to_the_limit_and_no_further() {
    let mut text =
        attacking("(loop $l (drop (call $tensor (i32.const 0) (i32.const 16384))) (br $l))");
    text.imports = r#"(import "noisegate:client/kernels@0.1.0" "[constructor]tensor"
        (func $tensor (param i32 i32) (result i32)))"#
        .to_owned();
    assert_eq!(sums(&text, &data()), HONEST);
    // Empty ones are limited too.
    text.contribute = text
        .contribute
        .replace("(i32.const 16384)", "(i32.const 0)");
    assert_eq!(sums(&text, &data()), HONEST);
}

#[test]
fn nothing_is_remembered_from_one_unit_to_the_next() {
    // Emits what an earlier unit left in a global, in memory, in grown memory,
    // and in the host's buffers; then leaves marks in all of them.
    let contribute = "
        (call $emit (local.get $into) (i64.const 0) (global.get $mark))
        (call $emit (local.get $into) (i64.const 1) (f32.load (i32.const 1024)))
        (call $emit (local.get $into) (i64.const 2)
            (f32.convert_i32_u (i32.sub (memory.size) (i32.const 2))))
        (global.set $mark (f32.const 100))
        (f32.store (i32.const 1024) (f32.const 100))
        (drop (memory.grow (i32.const 40)))
        (f32.store (i32.const 2000000) (f32.const 100))
        (if (i32.eq (i32.load8_u (i32.load (local.get $records))) (i32.const 33))
            (then (call $emit (local.get $into) (i64.const 3) (f32.const 5))
                (unreachable)))";
    let text = Text {
        contribute: contribute.to_owned(),
        fields: "(global $mark (mut f32) (f32.const 0))".to_owned(),
        ..Text::default()
    };
    let many: Vec<Unit> = (0..50).flat_map(|_| data()).collect();
    assert_eq!(sums(&text, &many), [0.0; 4]);
    let alone = Limits {
        threads: 1,
        ..limits()
    };
    assert_eq!(all_sums(&text, &many, &alone, &declaration(1)), [[0.0; 4]]);
}

#[test]
fn grown_memory_is_zero_in_every_instance() {
    let contribute = "
        (drop (memory.grow (i32.const 40)))
        (local.set $i (i32.const 131072))
        (loop $l
            (local.set $f (f32.add (local.get $f) (f32.load (local.get $i))))
            (f32.store (local.get $i) (f32.const 1))
            (local.set $i (i32.add (local.get $i) (i32.const 64)))
            (br_if $l (i32.lt_u (local.get $i) (i32.const 2700000))))
        (call $emit (local.get $into) (i64.const 0) (local.get $f))";
    let text = Text {
        contribute: contribute.to_owned(),
        ..Text::default()
    };
    let many: Vec<Unit> = (0..20).flat_map(|_| data()).collect();
    assert_eq!(sums(&text, &many), [0.0; 4]);
}

#[test]
fn the_hosts_buffer_is_zero_for_every_unit() {
    // Only the first unit adds; a leftover would be counted once a unit.
    let attack = "(call $emit (local.get $into) (i64.const 3) (f32.const 10))";
    let contribute = format!(
        "(if (i32.eq (i32.load8_u (i32.load (local.get $records))) (i32.const 33))
            (then {attack}))"
    );
    let text = Text {
        contribute,
        queries: 2,
        ..Text::default()
    };
    let data = units(&["!", "a", "b", "c", "d", "e", "f"]);
    let alone = Limits {
        threads: 1,
        ..limits()
    };
    assert_eq!(
        all_sums(&text, &data, &alone, &declaration(1)),
        [[0.0, 0.0, 0.0, 10.0]; 2]
    );
}

#[test]
fn an_attacked_unit_leaves_no_trace_beside_its_zero() {
    // The same bytes leave, whether the attacking unit is there or not.
    for attack in [
        "(unreachable)",
        "(loop $l (br $l))",
        "(drop (memory.grow (i32.const 9999)))",
    ] {
        let text = attacking(&format!("{attack} (unreachable)"));
        let without = run(&text, &units(&["aa", "bbb"])).unwrap();
        let with = run(&text, &units(&["aa", "bbb", "!secret"])).unwrap();
        assert_eq!(without.said, with.said);
        assert_eq!(without.files.len(), with.files.len());
        assert!(
            without
                .files
                .iter()
                .zip(&with.files)
                .all(|(a, b)| a.data == b.data)
        );
    }
}

#[test]
fn no_instruction_does_much_work_for_little_fuel() {
    // Each loop does as much as it can for one turn; 20 million fuel must end it soon.
    let greedy = [
        "(memory.fill (i32.const 0) (i32.const 0) (i32.const 1048576))",
        "(memory.copy (i32.const 0) (i32.const 8) (i32.const 1048576))",
        "(drop (memory.grow (i32.const 0)))",
        "(drop (memory.grow (i32.const 60000)))",
        "(call $accum_add (local.get $into) (i64.const 0) (i32.const 0) (i32.const 0))",
        "(local.set $d (f64.sqrt (f64.div (local.get $d) (f64.const 1.1))))",
    ];
    for instruction in greedy {
        let mut text = attacking(&format!("(loop $l {instruction} (br $l))"));
        text.pages = 32;
        let start = std::time::Instant::now();
        assert_eq!(sums(&text, &data()), HONEST);
        assert!(
            start.elapsed().as_secs() < 10,
            "{instruction}: {:?}",
            start.elapsed()
        );
    }
}
