//! A guest that imports WASI: refused by name, or frozen with every channel shut.

use noisegate_sandbox::{Guest, Limits, SandboxError, Session, Wasi, inspect};

use crate::support::{COUNT, Text, WORLD, component};
use crate::support_session::{declaration, floats, limits, run_bytes, unit, units};

const MAIN: &str = "(core instance $main (instantiate $guest";
const CHANNELS: [&str; 8] = [
    "now",
    "wall",
    "environment",
    "directories",
    "bytes",
    "word",
    "write",
    "read",
];

fn frozen() -> Limits {
    Limits {
        wasi: Wasi::Frozen,
        ..limits()
    }
}

/// Counts, tries every channel of WASI, and does `more`.
fn guest(more: &str) -> Vec<u8> {
    let import =
        |name: &&str| format!("(import \"adapter\" \"{name}\" (func ${name} (result f32)))");
    let mut imports: String = CHANNELS.iter().map(import).collect();
    imports += "(import \"adapter\" \"pour\" (func $pour (param i32)))";
    imports += "(import \"adapter\" \"exit\" (func $exit)) (import \"adapter\" \"network\" (func $network))";
    let emit = |(at, name): (usize, &&str)| {
        format!(
            "(call $emit (local.get $into) (i64.const {}) (call ${name}))",
            at + 2
        )
    };
    let tried: String = CHANNELS.iter().enumerate().map(emit).collect();
    let text = Text {
        dim: 12,
        contribute: format!("{COUNT} {tried} {more}"),
        imports,
        ..Text::default()
    };
    let adapter = include_str!("wasi.wat");
    let world = WORLD.replace(
        MAIN,
        &format!("{adapter} {MAIN} (with \"adapter\" (instance $adapter))"),
    );
    component(&text.wat(), &world)
}

/// A step's released sums, less the noise.
fn sums(bytes: &[u8], texts: &[&str]) -> Vec<f32> {
    let wide = noisegate_sandbox::Declaration {
        mechanism: noisegate_sandbox::Mechanism::GaussianSum {
            clip: noisegate_privacy::ClipBound::new(65536.0).unwrap(),
        },
        ..declaration(1)
    };
    let run = |texts: &[&str]| {
        let finished = run_bytes(bytes, &units(texts), &frozen(), wide.clone()).unwrap();
        floats(&finished.files[0])
    };
    run(texts)
        .iter()
        .zip(run(&[]))
        .map(|(with, without)| (with - without).round())
        .collect()
}

#[test]
fn wasi_is_refused_by_name_unless_it_is_frozen() {
    let bytes = guest("");
    match Guest::load(&bytes, None, &limits()).err().unwrap() {
        SandboxError::ForbiddenImport { import, .. } => {
            assert!(import.starts_with("wasi:"), "{import}")
        }
        other => panic!("{other}"),
    }
    let seen = inspect(&bytes, &frozen()).unwrap();
    assert!(seen.verdict.is_ok(), "{:?}", seen.verdict);
    assert!(
        seen.imports
            .iter()
            .any(|import| import.name.contains("get-random-bytes"))
    );
}

#[test]
fn every_channel_of_frozen_wasi_is_shut() {
    let bytes = guest("");
    let once = sums(&bytes, &["a"]);
    let [
        count,
        length,
        now,
        wall,
        environment,
        directories,
        random,
        word,
        written,
        read,
    ] = once[..10]
    else {
        panic!("{once:?}")
    };
    assert_eq!((length, count), (1.0, 1.0));
    assert_eq!((now, wall), (0.0, 0.0), "clocks stand still");
    assert_eq!(
        (environment, directories),
        (0.0, 0.0),
        "there is nothing to see"
    );
    assert_eq!(
        (written, read),
        (0.0, 1.0),
        "output is taken, input is at its end"
    );
    assert_ne!(random, word, "a stream, not one number");
    // Another time, and every other instance, sees the same.
    std::thread::sleep(std::time::Duration::from_millis(30));
    let thrice = sums(&bytes, &["a", "a", "a"]);
    let tripled: Vec<f32> = once.iter().map(|value| value * 3.0).collect();
    assert_eq!(thrice, tripled);
}

#[test]
fn what_is_not_there_makes_the_unit_zero() {
    for forbidden in ["(call $exit)", "(call $network)"] {
        let attack = format!(
            "(if (i32.eq (i32.load8_u (i32.load (local.get $records))) (i32.const 33)) (then {forbidden}))"
        );
        let bytes = guest(&attack);
        assert_eq!(sums(&bytes, &["a"])[1], 1.0, "others count");
        assert_eq!(
            sums(&bytes, &["a", "!secret"]),
            sums(&bytes, &["a"]),
            "{forbidden}"
        );
    }
}

/// Each byte that is passed of such a type would become as long as its name.
#[test]
fn a_function_with_long_names_in_its_type_is_refused() {
    let load = |length: usize| {
        let import = format!(
            "(import \"wasi:cli/stdin@0.2.9\" (instance
               (type $cases (enum \"{}\"))
               (export \"cases\" (type $exported (eq $cases)))
               (type $list (list $exported))
               (export \"get-stdin\" (func (param \"of\" $list)))))",
            "x".repeat(length)
        );
        let world = WORLD.replace(MAIN, &format!("{import} {MAIN}"));
        let guest = component(&Text::default().wat(), &world);
        Guest::load(&guest, None, &frozen()).map(|_| ())
    };
    load(64).unwrap();
    let refused = load(65).unwrap_err().to_string();
    assert!(
        refused.contains("wasi:cli/stdin@0.2.9/get-stdin"),
        "{refused}"
    );
}

#[test]
fn a_call_costs_by_what_is_passed() {
    let fuel_of = |bytes: u32| {
        let guest = guest(&format!("(call $pour (i32.const {bytes}))"));
        let guest = Guest::load(&guest, None, &frozen()).unwrap();
        let mut session = Session::start(&guest, "{}", &[], declaration(1)).unwrap();
        let seen = session.rehearse(&unit("made up"), &mut |_| {}).unwrap();
        assert_eq!(seen.problem, None);
        seen.fuel_used
    };
    assert_eq!(fuel_of(65_000) - fuel_of(0), 650_000);
}

#[test]
fn an_unknown_interface_of_wasi_is_refused_even_so() {
    for import in [
        "wasi:http/outgoing-handler@0.2.0",
        "wasi:clocks/wall-clock@0.3.0",
        "wasi:keyvalue/store@0.2.0",
    ] {
        let world = WORLD.replacen(
            "(component",
            &format!("(component (import \"{import}\" (instance (export \"f\" (func))))"),
            1,
        );
        let bytes = component(&Text::default().wat(), &world);
        let error = Guest::load(&bytes, None, &frozen()).err().unwrap();
        assert!(
            matches!(error, SandboxError::ForbiddenImport { .. }),
            "{import}: {error}"
        );
    }
}
