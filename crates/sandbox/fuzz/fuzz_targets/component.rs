//! `cargo fuzz run component`: see `noisegate_sandbox::fuzzing::component`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| noisegate_sandbox::fuzzing::component(bytes));
