//! `cargo fuzz run messages`: see `noisegate_sandbox::fuzzing::messages`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| noisegate_sandbox::fuzzing::messages(bytes));
