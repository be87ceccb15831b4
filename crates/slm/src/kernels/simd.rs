//! The one product of bf16 pairs.
//!
//! The only file of the crate with `unsafe` code: a function compiled for an instruction set may be
//! called only where the machine has it, which is asked right before each call.

#![allow(unsafe_code, reason = "see each block")]

/// Has the machine AVX512-BF16?
pub(super) fn bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    let has = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    let has = false;
    has
}

/// Rows of a tile.
pub(super) const ROWS: usize = 8;
/// Columns of a tile: three registers of 16.
pub(super) const COLUMNS: usize = 48;

/// A tile of a product: for each pair of `k`, `a` holds [`ROWS`] pairs and `b` holds [`COLUMNS`].
///
/// Products are of bf16 numbers, sums of f32.
///
/// # Panics
/// If the machine lacks [`bf16`].
#[allow(unused_variables, reason = "used on one platform")]
pub(super) fn tile(a: &[u32], b: &[u32]) -> [[f32; COLUMNS]; ROWS] {
    assert!(bf16(), "a bf16 product on a machine without AVX512-BF16");
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the machine has the features, as was just asserted.
    return unsafe { x86::tile(a, b) };
    #[cfg(not(target_arch = "x86_64"))]
    unreachable!("asserted above");
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m512, __m512bh, _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_set1_epi32,
        _mm512_setzero_ps, _mm512_storeu_ps,
    };
    use std::mem::transmute;

    use super::{COLUMNS, ROWS};

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn tile(a: &[u32], b: &[u32]) -> [[f32; COLUMNS]; ROWS] {
        let mut sums = [[_mm512_setzero_ps(); COLUMNS / 16]; ROWS];
        for (a, b) in a
            .as_chunks::<ROWS>()
            .0
            .iter()
            .zip(b.as_chunks::<COLUMNS>().0)
        {
            let (lanes, _) = b.as_chunks::<16>();
            let b = [load(&lanes[0]), load(&lanes[1]), load(&lanes[2])];
            for (sums, a) in sums.iter_mut().zip(a) {
                // SAFETY: both types are 512 bits without a meaning of their own.
                let a: __m512bh = unsafe { transmute(_mm512_set1_epi32(a.cast_signed())) };
                for (sum, b) in sums.iter_mut().zip(b) {
                    *sum = _mm512_dpbf16_ps(*sum, a, b);
                }
            }
        }
        let mut tile = [[0.0; COLUMNS]; ROWS];
        for (row, sums) in tile.iter_mut().zip(sums) {
            for (to, sum) in row.as_chunks_mut::<16>().0.iter_mut().zip(sums) {
                store(to, sum);
            }
        }
        tile
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load(lanes: &[u32; 16]) -> __m512bh {
        // SAFETY: the reference is to 64 readable bytes, and the load needs no alignment.
        unsafe { transmute(_mm512_loadu_si512(lanes.as_ptr().cast())) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn store(to: &mut [f32; 16], sum: __m512) {
        // SAFETY: the reference is to 64 writable bytes, and the store needs no alignment.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), sum) }
    }
}
