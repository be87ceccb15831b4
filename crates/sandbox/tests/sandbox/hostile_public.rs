//! Public sides that ask for more than they may, or fail.

use noisegate_sandbox::{Guest, Limits, SandboxError, Session};

use crate::support::Text;
use crate::support_session::{declaration, limits, run, run_with, units};

fn refusal(text: &Text) -> SandboxError {
    match run(text, &units(&["a"])) {
        Ok(_) => panic!("the step must fail"),
        Err(error) => error,
    }
}

fn over_ask(text: &Text) -> (&'static str, u64, u64) {
    match refusal(text) {
        SandboxError::OverAsk { what, asked, limit } => (what, asked, limit),
        other => panic!("{other}"),
    }
}

#[test]
fn a_dimension_beyond_the_limit_is_refused() {
    let text = Text {
        dim: (16 << 20) + 1,
        ..Text::default()
    };
    assert_eq!(over_ask(&text), ("a dimension", (16 << 20) + 1, 16 << 20));
}

#[test]
fn a_dimension_of_zero_is_refused() {
    let text = Text {
        dim: 0,
        ..Text::default()
    };
    assert!(matches!(
        refusal(&text),
        SandboxError::Guest { call: "start", .. }
    ));
}

#[test]
fn more_queries_than_declared_are_refused_at_the_start() {
    let text = Text {
        queries: 11,
        ..Text::default()
    };
    assert_eq!(over_ask(&text), ("a number of queries", 11, 10));
}

#[test]
fn a_query_beyond_those_announced_is_refused_when_asked() {
    let text = Text {
        next: "(i32.store8 (i32.const 192) (i32.const 0)) (i32.const 192)".to_owned(),
        queries: 2,
        ..Text::default()
    };
    assert_eq!(over_ask(&text), ("a number of queries", 3, 2));
}

#[test]
fn a_step_that_asks_nothing_is_refused() {
    let text = Text {
        queries: 0,
        ..Text::default()
    };
    assert!(matches!(refusal(&text), SandboxError::NoQuery));
}

#[test]
fn a_refused_configuration_is_reported_in_the_guests_own_words() {
    let start = "
        (i32.store8 (i32.const 128) (i32.const 1))
        (i32.store (i32.const 132) (i32.const 512))
        (i32.store (i32.const 136) (i32.const 8))
        (i32.const 128)";
    let text = Text {
        start: start.to_owned(),
        ..Text::default()
    };
    match refusal(&text) {
        SandboxError::Guest {
            call: "start",
            message,
        } => assert_eq!(message, "released"),
        other => panic!("{other}"),
    }
}

#[test]
fn a_trap_names_the_call_it_happened_in() {
    let trap = || "(unreachable)".to_owned();
    let in_start = Text {
        start: trap(),
        ..Text::default()
    };
    let in_next = Text {
        next: trap(),
        ..Text::default()
    };
    let in_outputs = Text {
        outputs: trap(),
        ..Text::default()
    };
    for (text, expected) in [
        (in_start, "start"),
        (in_next, "next"),
        (in_outputs, "outputs"),
    ] {
        match refusal(&text) {
            SandboxError::PublicTrap { call, problem } => {
                assert_eq!(call, expected);
                assert!(problem.contains("unreachable"), "{problem}");
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_public_side_that_loops_for_ever_runs_out_of_fuel() {
    let text = Text {
        next: "(loop $l (br $l)) (i32.const 0)".to_owned(),
        ..Text::default()
    };
    let error = refusal(&text);
    assert!(error.to_string().contains("fuel"), "{error}");
}

#[test]
fn a_public_side_that_works_for_ever_is_stopped() {
    let text = Text {
        next: "(i32.store8 (i32.const 192) (i32.const 1)) (i32.const 192)".to_owned(),
        ..Text::default()
    };
    let patient = Limits {
        working_turns_max: 50,
        ..limits()
    };
    let error = run_with(&text, &[], &patient, declaration(1))
        .err()
        .unwrap();
    assert!(
        matches!(error, SandboxError::OverAsk { asked: 51, .. }),
        "{error}"
    );
}

#[test]
fn outputs_beyond_the_limit_are_refused() {
    // 100 files that all claim the same 64 KiB.
    let outputs = "(local $i i32)
        (loop $l
            (i32.store offset=4096 (local.get $i) (i32.const 512))
            (i32.store offset=4100 (local.get $i) (i32.const 8))
            (i32.store offset=4104 (local.get $i) (i32.const 0))
            (i32.store offset=4108 (local.get $i) (i32.const 65536))
            (local.set $i (i32.add (local.get $i) (i32.const 16)))
            (br_if $l (i32.lt_u (local.get $i) (i32.const 1600))))
        (i32.store8 (i32.const 256) (i32.const 0))
        (i32.store (i32.const 260) (i32.const 4096))
        (i32.store (i32.const 264) (i32.const 100))
        (i32.const 256)";
    let text = Text {
        outputs: outputs.to_owned(),
        ..Text::default()
    };
    let small = Limits {
        output_bytes_max: 1 << 20,
        ..limits()
    };
    let error = run_with(&text, &[], &small, declaration(1)).err().unwrap();
    assert!(
        matches!(
            error,
            SandboxError::OverAsk {
                limit: 1_048_576,
                ..
            }
        ),
        "{error}"
    );
    // Far beyond, they do not even cross the wall.
    let mut narrow = limits();
    narrow.public.call_bytes_max = 1 << 20;
    let error = run_with(&text, &[], &narrow, declaration(1)).err().unwrap();
    assert!(
        matches!(
            error,
            SandboxError::PublicTrap {
                call: "outputs",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_start_function_that_traps_is_an_error_before_any_unit_is_seen() {
    let text = Text {
        fields: "(func $boom (unreachable)) (start $boom)".to_owned(),
        ..Text::default()
    };
    assert!(matches!(refusal(&text), SandboxError::Instantiate { .. }));
}

#[test]
fn a_guest_whose_first_memory_exceeds_the_limit_is_refused_before_any_charge() {
    // Fits the public side's limit, but not the private side's 16 MiB.
    let text = Text {
        pages: 300,
        ..Text::default()
    };
    let guest = Guest::load(&text.component(), None, &limits()).unwrap();
    let started = Session::start(&guest, "{}", &[], declaration(1));
    assert!(matches!(started, Err(SandboxError::Instantiate { .. })));
}

#[test]
fn the_public_side_has_no_contribution_to_write_to() {
    // Handle 0 is an accumulator on the private side only.
    let text = Text {
        next: "(call $emit (i32.const 0) (i64.const 0) (f32.const 1)) (unreachable)".to_owned(),
        ..Text::default()
    };
    match refusal(&text) {
        SandboxError::PublicTrap { problem, .. } => {
            assert!(problem.contains("handle"), "{problem}")
        }
        other => panic!("{other}"),
    }
}
