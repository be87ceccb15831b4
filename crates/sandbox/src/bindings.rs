//! Types and export wrappers generated from `wit/client.wit`.
//!
//! Imports are not wired here: [`crate::kernels::link`] does it by hand,
//! because a kernel needs the store to charge fuel.

#![allow(
    missing_docs,
    unsafe_code,
    unused_qualifications,
    clippy::undocumented_unsafe_blocks,
    reason = "generated code: wasmtime's derives implement its unsafe lifting traits"
)]

wasmtime::component::bindgen!({
    path: "wit",
    world: "client-step",
    with: {
        "noisegate:client/kernels.tensor": crate::kernels::Tensor,
        "noisegate:client/kernels.accum": crate::kernels::Accum,
    },
});
