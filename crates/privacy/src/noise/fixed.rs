//! Integer tables and the exponential for the sampler, in 128-bit fixed point.
//!
//! Everything here is integer arithmetic evaluated from first principles at
//! compile time: no constant is taken from elsewhere. A number in [0, 1) is
//! stored as a `u128` times 2^-128 and rounded down. `proof.md` bounds the
//! errors. Deliberately absent: floating point.

/// Strips of width 1/16 that cover |Z| in [0, 16).
pub(super) const STRIPS: usize = 256;

/// Bits of a column's threshold in the alias table.
pub(super) const COLUMN_BITS: u32 = 112;

/// The high half of a 256-bit product: floor(a b / 2^128).
///
/// Wrapping operations, because none can wrap: each half product is at most
/// (2^64 - 1)^2, which leaves room for the two carries below 2^64 added to it.
#[inline]
pub(super) const fn multiply(a: u128, b: u128) -> u128 {
    const fn wide(a: u64, b: u64) -> u128 {
        (a as u128).wrapping_mul(b as u128)
    }
    let (a_high, a_low) = ((a >> 64) as u64, a as u64);
    let (b_high, b_low) = ((b >> 64) as u64, b as u64);
    let low = wide(a_low, b_low) >> 64;
    let cross = wide(a_high, b_low).wrapping_add(low);
    let other = wide(a_low, b_high).wrapping_add(cross as u64 as u128);
    wide(a_high, b_high)
        .wrapping_add(cross >> 64)
        .wrapping_add(other >> 64)
}

/// exp(-y) for y < 2^-7, by the Taylor series to the 13th term in Horner form.
const fn exp_of_small(y: u128) -> u128 {
    let mut term = u128::MAX;
    let mut n = 13;
    while n > 0 {
        term = u128::MAX - multiply(y, term) / n;
        n -= 1;
    }
    term
}

/// [exp(-0 step), exp(-1 step), ...] for a step of at most 2^-8.
const fn exp_table(step: u128) -> [u128; 256] {
    let ratio = exp_of_small(step);
    let mut table = [u128::MAX; 256];
    let mut i = 1;
    while i < 256 {
        table[i] = multiply(table[i - 1], ratio);
        i += 1;
    }
    table
}

/// exp(-j / 2^8).
static COARSE: [u128; 256] = exp_table(1 << 120);
/// exp(-j / 2^16).
static FINE: [u128; 256] = exp_table(1 << 112);

/// exp(-y) for any y in [0, 1) given as y 2^128; within 2^-118, see `proof.md`.
#[inline]
pub(super) fn exp_negative(y: u128) -> u128 {
    let coarse = COARSE[(y >> 120) as usize];
    let fine = FINE[(y >> 112) as usize & 0xff];
    let rest = y & ((1 << 112) - 1);
    // 1 - r (1 - r (1/2 - r (1/6 - ...))); nothing wraps, as r < 2^-16 makes each product smaller.
    const ONE: u128 = u128::MAX;
    let mut series = ONE / 720;
    series = (ONE / 120).wrapping_sub(multiply(rest, series));
    series = (ONE / 24).wrapping_sub(multiply(rest, series));
    series = (ONE / 6).wrapping_sub(multiply(rest, series));
    series = (ONE / 2).wrapping_sub(multiply(rest, series));
    series = ONE.wrapping_sub(multiply(rest, series));
    series = ONE.wrapping_sub(multiply(rest, series));
    multiply(multiply(coarse, fine), series)
}

/// A table from which strip i is drawn with probability w_i / (w_0 + ... + w_255),
/// w_i = exp(-(i/16)^2 / 2), by one uniform column and one uniform threshold.
///
/// Method: Walker, "An efficient method for generating discrete random
/// variables with general distributions", 1977, in exact integers.
pub(super) struct Alias {
    /// Below the threshold the column itself is drawn, otherwise its alias.
    pub(super) threshold: [u128; STRIPS],
    pub(super) alias: [u8; STRIPS],
}

/// The table of the half normal's strips.
pub(super) static ALIAS: Alias = Alias::new();

impl Alias {
    const fn new() -> Self {
        let mut left = Self::column_weights();
        let full = 1u128 << COLUMN_BITS;
        let mut table = Self {
            threshold: [full; STRIPS],
            alias: [0; STRIPS],
        };
        let mut done = [false; STRIPS];
        let mut filled = 0;
        while filled < STRIPS {
            // A poor column (at most full) is topped up by the richest one.
            let (mut poor, mut rich) = (STRIPS, STRIPS);
            let mut i = 0;
            while i < STRIPS {
                if !done[i] {
                    if poor == STRIPS || left[i] < left[poor] {
                        poor = i;
                    }
                    if rich == STRIPS || left[i] > left[rich] {
                        rich = i;
                    }
                }
                i += 1;
            }
            table.threshold[poor] = left[poor];
            table.alias[poor] = rich as u8;
            done[poor] = true;
            // For the last column poor == rich and its weight is exactly full.
            left[rich] -= full - left[poor];
            filled += 1;
        }
        table
    }

    /// Integers close to 256 * 2^112 * w_i / (sum of w), which sum to exactly 256 * 2^112.
    pub(super) const fn column_weights() -> [u128; STRIPS] {
        // w_{i+1} = w_i exp(-(2i+1)/512), from exp(-1/512) and exp(-2/512).
        let mut weights = [0u128; STRIPS];
        let mut weight = u128::MAX;
        let mut ratio = exp_of_small(1 << 119);
        let ratio_step = exp_of_small(1 << 120);
        let mut sum = 0u128;
        let mut i = 0;
        while i < STRIPS {
            weights[i] = weight;
            sum += weight >> 5;
            weight = multiply(weight, ratio);
            ratio = multiply(ratio, ratio_step);
            i += 1;
        }
        // The true sum is about 20.55, kept as sum/2^5 to be a fraction: the scale is 2^120 over the sum.
        let scale = divide(1 << 115, sum);
        let total = 1u128 << (COLUMN_BITS + 8);
        let mut scaled_sum = 0u128;
        i = 0;
        while i < STRIPS {
            weights[i] = multiply(weights[i], scale);
            scaled_sum += weights[i];
            i += 1;
        }
        weights[0] += total - scaled_sum;
        weights
    }
}

/// floor(a 2^128 / b) for a < b, by long division.
const fn divide(a: u128, b: u128) -> u128 {
    let (mut quotient, mut rest) = (0u128, a);
    let mut bit = 0;
    while bit < 128 {
        let carry = rest >> 127 == 1;
        rest = rest.wrapping_shl(1);
        quotient <<= 1;
        if carry || rest >= b {
            rest = rest.wrapping_sub(b);
            quotient |= 1;
        }
        bit += 1;
    }
    quotient
}
