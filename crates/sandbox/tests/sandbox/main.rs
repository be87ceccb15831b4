//! Whole stories of the sandbox: loading, the gate, hostile guests.

mod escaped;
mod fuzzed;
mod gate;
mod hostile_private;
mod hostile_public;
mod kernel_maths;
mod kernels;
mod loading;
mod packaged;
mod rust_guest;
mod support;
mod support_session;
mod votes;
mod wasi;

noisegate_sandbox::serve_workers_in_tests!(escaped::escape);
