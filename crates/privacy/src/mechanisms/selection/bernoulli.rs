//! Exact coins: uniform integers, and Bernoulli(exp(-x)) for a rational x.
//!
//! # Source
//! Canonne, Kamath and Steinke, "The Discrete Gaussian for Differential
//! Privacy", 2020, section 5.1.

use crate::random::Stream;

/// A uniform integer in [0, n), n > 0, by rejection.
pub(super) fn uniform_below(stream: &mut Stream, n: u128) -> u128 {
    let mask = u128::MAX >> (n - 1).leading_zeros().min(127);
    loop {
        let bits = (u128::from(stream.word()) << 64 | u128::from(stream.word())) & mask;
        if bits < n {
            return bits;
        }
    }
}

/// True with probability exp(-numerator / denominator).
pub(super) fn exp_minus(stream: &mut Stream, mut numerator: u128, denominator: u128) -> bool {
    // exp(-x) = exp(-1) exp(-(x - 1)): stops at the first failure, after 1.6 rounds in the mean.
    while numerator > denominator {
        if !exp_minus_fraction(stream, 1, 1) {
            return false;
        }
        numerator -= denominator;
    }
    exp_minus_fraction(stream, numerator, denominator)
}

/// The same for numerator <= denominator: the first k at which a coin of
/// probability x / k fails is odd with probability 1 - x + x^2/2 - ... = exp(-x).
fn exp_minus_fraction(stream: &mut Stream, numerator: u128, denominator: u128) -> bool {
    let mut k = 1;
    // k! grows so fast that denominator * k stays far below 2^128.
    while uniform_below(stream, denominator * k) < numerator {
        k += 1;
    }
    k % 2 == 1
}
