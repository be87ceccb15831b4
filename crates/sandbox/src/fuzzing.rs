//! What the fuzz targets in `fuzz/` feed with bytes; `tests/sandbox/fuzzed.rs` runs the
//! same functions on random bytes in every test run.
//!
//! Each must return for any input: no panic, no memory beyond a small multiple of
//! the input's. Not for use elsewhere.

use crate::component::audit;
use crate::engine::engine;
use crate::inspect::read_description;
use crate::kernels::math::{Product, add, gather, gathered_len, matmul, range, scatter_add};
use crate::limits::Limits;
use crate::messages::{self, Kind};
use crate::wire::{HEADER_BYTES, Header, Reader};
use crate::{Digest, worker};

/// Everything that the parent decodes from a worker that its guest may have taken over.
pub fn messages(bytes: &[u8]) {
    if let Some((header, _)) = bytes.split_first_chunk::<HEADER_BYTES>() {
        let _ = Header::from_bytes(header).map(|header| Kind::from_number(header.kind));
    }
    let _ = messages::read_ready(bytes);
    let _ = messages::read_started(bytes);
    let _ = messages::read_turned(bytes);
    let _ = messages::read_files(&mut Reader::new(bytes));
    let _ = messages::read_rehearsed(bytes);
    let _ = messages::read_refused(bytes, "next");
    let _ = read_description(bytes, Digest([0; 32]), 0);
}

/// Everything that a worker decodes; its parent is honest, so this is for defects.
pub fn questions(bytes: &[u8]) {
    let _ = messages::read_hello(bytes);
    let _ = messages::read_unit(&mut Reader::new(bytes));
    let _ = messages::read_context(&mut Reader::new(bytes));
}

/// Parses, validates, compiles and audits a component, in this process.
///
/// # Panics
/// If this machine cannot hold the engine.
pub fn component(bytes: &[u8]) {
    use std::sync::OnceLock;
    static ENGINE: OnceLock<wasmtime::Engine> = OnceLock::new();
    let engine = ENGINE.get_or_init(|| engine(&Limits::default()).expect("the engine starts"));
    if let Ok(component) = worker::compile(engine, bytes) {
        let _ = audit(engine, &component, crate::wasi::Wasi::Frozen);
    }
}

/// One kernel after the other, with shapes, offsets and lengths as the bytes say.
pub fn kernels(bytes: &[u8]) {
    let mut from = Reader::new(bytes);
    while let Ok(which) = from.u8() {
        if kernel(which, &mut from).is_none() {
            return;
        }
    }
}

fn kernel(which: u8, from: &mut Reader<'_>) -> Option<()> {
    let mut next = || from.u32().ok();
    let (m, k, n) = (next()?, next()?, next()?);
    // Slices of at most 64 Ki numbers, that fit the sizes half of the time.
    let mut slice = |fitting: u64| {
        let drawn = u64::from(next()?);
        let len = if drawn & 1 == 0 { fitting } else { drawn >> 1 };
        Some(vec![1.0_f32; (len & 0xffff) as usize])
    };
    let product = Product {
        m: small(m),
        k: small(k),
        n: small(n),
        trans_a: which & 8 != 0,
        trans_b: which & 16 != 0,
    };
    let rows = [k, n, k ^ n];
    let offset = u64::from(m) << (which >> 3);
    match which & 7 {
        0 | 1 => {
            let (a, b) = (slice(product.a_len())?, slice(product.b_len())?);
            let mut c = slice(product.c_len())?;
            let done = matmul(product, &a, &b, &mut c, which & 1 == 0);
            let fits = [
                (&a, product.a_len()),
                (&b, product.b_len()),
                (&c, product.c_len()),
            ];
            let fits = fits.iter().all(|(list, len)| list.len() as u64 == *len);
            assert_eq!(done.is_ok(), fits);
        }
        2 => {
            // The host reserves the result before it gathers.
            if gathered_len(small(n), rows.len()).is_ok_and(|len| len < 1 << 20) {
                let _ = gather(&slice(u64::from(k))?, offset, small(n), &rows);
            }
        }
        3 => {
            let values = slice(3 * u64::from(small(n)))?;
            let _ = scatter_add(&mut slice(u64::from(k))?, offset, small(n), &rows, &values);
        }
        4 => {
            let _ = range(&slice(u64::from(k))?, offset, u64::from(n));
        }
        _ => {
            let _ = add(&mut slice(u64::from(k))?, &slice(u64::from(k))?);
        }
    }
    Some(())
}

/// Mostly a size that can be computed, sometimes any.
fn small(size: u32) -> u32 {
    if size & 0x8000_0000 == 0 {
        size & 0x3f
    } else {
        size
    }
}
