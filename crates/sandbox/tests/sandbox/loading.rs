//! What is refused before a guest runs an instruction.

use noisegate_sandbox::{Digest, Guest, Limits, SandboxError, inspect};

use crate::support::{Text, WORLD, component};
use crate::support_session::{declaration, limits, run_bytes, units};

fn refusal(bytes: &[u8]) -> SandboxError {
    match Guest::load(bytes, None, &limits()) {
        Ok(_) => panic!("the component must be refused"),
        Err(error) => error,
    }
}

#[test]
fn an_honest_guest_is_loaded_and_known_by_its_digest() {
    let bytes = Text::default().component();
    let guest = Guest::load(&bytes, Some(&Digest::of(&bytes)), &limits()).unwrap();
    assert_eq!(*guest.digest(), Digest::of(&bytes));
}

#[test]
fn another_digest_is_refused_with_both_named() {
    let bytes = Text::default().component();
    let expected = Digest::of(b"something else");
    let error = Guest::load(&bytes, Some(&expected), &limits())
        .err()
        .unwrap();
    assert!(matches!(error, SandboxError::DigestMismatch { .. }));
    let message = error.to_string();
    assert!(
        message.contains(&expected.to_string())
            && message.contains(&Digest::of(&bytes).to_string())
    );
}

#[test]
fn a_component_of_200_megabytes_is_refused_by_its_size_alone() {
    let bytes = vec![0; 200 << 20];
    let start = std::time::Instant::now();
    assert!(matches!(refusal(&bytes), SandboxError::TooLarge { .. }));
    assert!(start.elapsed().as_secs() < 1);
}

#[test]
fn truncated_bytes_are_refused_at_every_length() {
    let bytes = Text::default().component();
    for len in (0..bytes.len()).step_by(61) {
        refusal(&bytes[..len]);
    }
}

#[test]
fn a_flipped_bit_is_refused_or_leaves_a_guest_within_the_same_world() {
    let bytes = Text::default().component();
    let mut loaded = 0;
    for at in (0..bytes.len()).step_by(131) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        // Never a panic; what still loads imports nothing but kernels, and runs
        // to an end or an error.
        if Guest::load(&flipped, None, &limits()).is_ok() {
            loaded += 1;
            let seen = inspect(&flipped, &limits()).unwrap();
            assert!(seen.imports.iter().all(|import| import.allowed));
            let _ = run_bytes(&flipped, &units(&["a", "b"]), &limits(), declaration(1));
        }
    }
    assert!(loaded > 5, "no flipped guest loads, so nothing was tried");
}

#[test]
fn a_component_that_takes_too_long_to_compile_is_refused_in_time() {
    let body = "(local.set $i (i32.mul (local.get $i) (i32.add (local.get $i) (i32.const 7))))";
    let text = Text {
        contribute: body.repeat(60_000),
        ..Text::default()
    };
    let hasty = Limits {
        compile_ms_max: 1,
        ..limits()
    };
    let bytes = text.component();
    let start = std::time::Instant::now();
    let error = Guest::load(&bytes, None, &hasty).err().unwrap();
    assert!(
        matches!(error, SandboxError::CompileTime { limit_ms: 1 }),
        "{error}"
    );
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}

#[test]
fn component_text_is_not_accepted_in_place_of_bytes() {
    assert!(matches!(
        refusal(b"(component)"),
        SandboxError::NotAComponent { .. }
    ));
}

#[test]
fn a_core_module_is_refused() {
    let module = wat::parse_str("(module)").unwrap();
    assert!(matches!(
        refusal(&module),
        SandboxError::NotAComponent { .. }
    ));
}

#[test]
fn every_forbidden_import_is_refused_by_name() {
    let forbidden = [
        (
            "wasi:clocks/monotonic-clock@0.2.0",
            r#"(instance (export "now" (func (result u64))))"#,
        ),
        (
            "wasi:cli/environment@0.2.0",
            r#"(instance (export "get" (func (result string))))"#,
        ),
        (
            "wasi:filesystem/types@0.2.0",
            r#"(instance (export "open" (func)))"#,
        ),
        (
            "wasi:random/random@0.2.0",
            r#"(instance (export "get-u64" (func (result u64))))"#,
        ),
        (
            "noisegate:client/kernels@0.2.0",
            r#"(instance (export "gemm" (func)))"#,
        ),
        (
            "noisegate:client/kernels",
            r#"(instance (export "gemm" (func)))"#,
        ),
        ("env", "(func)"),
    ];
    for (name, kind) in forbidden {
        let import = format!("(component (import \"{name}\" {kind})");
        let bytes = component(
            &Text::default().wat(),
            &WORLD.replace("(component\n", &import),
        );
        match refusal(&bytes) {
            SandboxError::ForbiddenImport { import, .. } => assert!(import.starts_with(name)),
            other => panic!("`{name}`: {other}"),
        }
    }
}

#[test]
fn an_unknown_kernel_is_refused_by_name() {
    let gemm = r#"(export "gemm" (func"#;
    let world = WORLD.replacen(gemm, &format!(r#"(export "read-ledger" (func)) {gemm}"#), 1);
    let bytes = component(&Text::default().wat(), &world);
    match refusal(&bytes) {
        SandboxError::ForbiddenImport { import, .. } => {
            assert_eq!(import, "noisegate:client/kernels@0.1.0/read-ledger");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_kernel_of_another_type_is_refused() {
    let bytes = component(
        r#"(core module $guest (memory (export "memory") 1))"#,
        r#"(component
            (import "noisegate:client/kernels@0.1.0" (instance
                (export "gemm" (func (param "a" u32) (result u32)))))
            MODULE)"#,
    );
    assert!(matches!(refusal(&bytes), SandboxError::ImportType { .. }));
}

#[test]
fn a_function_among_the_types_is_refused_by_name() {
    let bytes = component(
        "",
        r#"(component (import "noisegate:client/types@0.1.0" (instance (export "now" (func)))) MODULE)"#,
    );
    assert!(matches!(
        refusal(&bytes),
        SandboxError::ForbiddenImport { .. }
    ));
}

#[test]
fn missing_exports_are_refused() {
    let bytes = component("", "(component MODULE)");
    let error = refusal(&bytes);
    assert!(
        matches!(error, SandboxError::WrongExports { .. }),
        "{error}"
    );
    let only_public = WORLD.replace(
        r#"(export "noisegate:client/private-side@0.1.0" (instance $private))"#,
        "",
    );
    let error = refusal(&component(&Text::default().wat(), &only_public));
    assert!(error.to_string().contains("private-side"), "{error}");
}

#[test]
fn exports_of_other_types_are_refused() {
    let others = [
        ("(tuple u32 u32)", "(tuple u32 s32)"),
        (
            "(param \"released\" $floats)",
            "(param \"released\" string)",
        ),
        ("(field \"dim\" u32)", "(field \"dim\" s32)"),
    ];
    for (right, wrong) in others {
        let error = refusal(&component(
            &Text::default().wat(),
            &WORLD.replace(right, wrong),
        ));
        assert!(
            matches!(error, SandboxError::WrongExports { .. }),
            "{wrong}: {error}"
        );
    }
}

#[test]
fn more_memories_than_one_are_refused() {
    let module = Text::default()
        .wat()
        .replace("(memory (export", "(memory 1) (memory (export");
    assert!(matches!(
        refusal(&component(&module, WORLD)),
        SandboxError::NotAComponent { .. }
    ));
}

#[test]
fn an_inspection_tells_an_auditor_what_is_imported_and_exported() {
    let bytes = Text::default().component();
    let seen = inspect(&bytes, &limits()).unwrap();
    assert_eq!((seen.bytes, seen.digest), (bytes.len(), Digest::of(&bytes)));
    assert!(seen.verdict.is_ok());
    assert!(
        seen.imports
            .iter()
            .any(|import| import.name.ends_with("/gemm-acc"))
    );
    assert!(seen.imports.iter().all(|import| import.allowed));
    let start = "noisegate:client/public-side@0.1.0/start(config, inputs)";
    assert!(
        seen.exports.iter().any(|export| export == start),
        "{:?}",
        seen.exports
    );
    assert_eq!(seen.memories, Some(1));
    assert_eq!(seen.memory_bytes_min, Some(2 << 16));
}
