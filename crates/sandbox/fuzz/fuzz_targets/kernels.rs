//! `cargo fuzz run kernels`: see `noisegate_sandbox::fuzzing::kernels`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| noisegate_sandbox::fuzzing::kernels(bytes));
