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
    let rows = [k, n, k ^ n];
    let offset = u64::from(m) << (which >> 3);
    match which & 7 {
        0 | 1 => product(which, [m, k, n].map(small), from)?,
        2 => {
            // The host reserves the result before it gathers.
            if gathered_len(small(n), rows.len()).is_ok_and(|len| len < 1 << 20) {
                let _ = gather(&slice(u64::from(k), from)?, offset, small(n), &rows);
            }
        }
        3 => {
            let values = slice(3 * u64::from(small(n)), from)?;
            let mut table = slice(u64::from(k), from)?;
            let _ = scatter_add(&mut table, offset, small(n), &rows, &values);
        }
        4 => {
            let _ = range(&slice(u64::from(k), from)?, offset, u64::from(n));
        }
        _ => {
            let (mut into, values) = (slice(u64::from(k), from)?, slice(u64::from(k), from)?);
            let _ = add(&mut into, &values);
        }
    }
    Some(())
}

/// A product is computed exactly if its strides and lengths fit.
fn product(which: u8, [m, k, n]: [u32; 3], from: &mut Reader<'_>) -> Option<()> {
    // Small gaps half of the time, else anything.
    let mut stride = |columns: u32| {
        let drawn = from.u32().ok()?;
        let small = columns.saturating_add(drawn >> 1 & 7);
        Some(if drawn & 1 == 0 { small } else { drawn >> 1 })
    };
    let (trans_a, trans_b) = (which & 8 != 0, which & 16 != 0);
    let product = Product {
        m,
        k,
        n,
        lda: stride(if trans_a { m } else { k })?,
        ldb: stride(if trans_b { k } else { n })?,
        ldc: stride(n)?,
        trans_a,
        trans_b,
    };
    let lens = [product.a(), product.b(), product.c()].map(|matrix| matrix.numbers());
    let mut list = |i: usize| slice(lens[i].unwrap_or(0), from);
    let (a, b, mut c) = (list(0)?, list(1)?, list(2)?);
    let fits = [&a, &b, &c].map(|list| Ok(list.len() as u64)) == lens;
    let done = matmul(product, &a, &b, &mut c, which & 1 == 0);
    assert_eq!(done.is_ok(), fits);
    Some(())
}

/// At most 64 Ki numbers, as many as fit half of the time.
fn slice(fitting: u64, from: &mut Reader<'_>) -> Option<Vec<f32>> {
    let drawn = u64::from(from.u32().ok()?);
    let len = if drawn & 1 == 0 { fitting } else { drawn >> 1 };
    Some(vec![1.0; (len & 0xffff) as usize])
}

/// Mostly a size that can be computed, few of them large, sometimes any.
fn small(size: u32) -> u32 {
    match size >> 29 {
        0..=2 => size & 0x3f,
        3 => size & 0x3ff,
        _ => size,
    }
}
