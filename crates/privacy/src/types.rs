//! Validated numbers: once one of these exists, it is in range.
//!
//! NaN, infinities, zero and negative values are refused at construction and
//! when deserialised, so nothing behind this file checks again. Deliberately
//! absent: arithmetic. A formula takes `get()` and says what it computes.

use crate::PrivacyError;
use serde::{Deserialize, Serialize};

macro_rules! positive {
    ($(#[$doc:meta])* $name:ident, $words:literal, $range:literal, $accept:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(try_from = "f64", into = "f64")]
        pub struct $name(f64);

        impl $name {
            /// # Errors
            /// [`PrivacyError::OutOfRange`] unless the value is in range.
            pub fn new(value: f64) -> Result<Self, PrivacyError> {
                let accept: fn(f64) -> bool = $accept;
                if accept(value) {
                    Ok(Self(value))
                } else {
                    Err(PrivacyError::OutOfRange { name: $words, value, range: $range })
                }
            }

            /// The number itself.
            #[must_use]
            pub fn get(self) -> f64 {
                self.0
            }
        }

        impl TryFrom<f64> for $name {
            type Error = PrivacyError;
            fn try_from(value: f64) -> Result<Self, PrivacyError> {
                Self::new(value)
            }
        }

        impl From<$name> for f64 {
            fn from(value: $name) -> f64 {
                value.0
            }
        }
    };
}

positive!(
    /// A privacy budget: the largest log-ratio of two neighbours' output densities.
    Epsilon, "epsilon", "positive and finite", |v| v > 0.0 && v.is_finite()
);
positive!(
    /// The probability with which epsilon may be exceeded.
    Delta, "delta", "above 0 and below 1", |v| v > 0.0 && v < 1.0
);
positive!(
    /// Standard deviation of the noise over the L2 sensitivity (often `sigma` or `z`).
    NoiseMultiplier, "the noise multiplier", "positive and finite", |v| v > 0.0 && v.is_finite()
);
positive!(
    /// The L2 norm that one unit's contribution is clipped to, in natural units.
    ClipBound, "the clip bound", "between 1e-25 and 1e25", |v| (1e-25..=1e25).contains(&v)
);

impl Delta {
    /// A delta that is also at most 1/N.
    ///
    /// # Errors
    /// [`PrivacyError::DeltaAboveOneOverN`]: above 1/N, "release one whole
    /// unit, chosen at random" would satisfy the guarantee.
    pub fn for_units(delta: f64, units_public: u64) -> Result<Self, PrivacyError> {
        let checked = Self::new(delta)?;
        let delta_max = 1.0 / units_public.max(1) as f64;
        if delta > delta_max {
            return Err(PrivacyError::DeltaAboveOneOverN {
                delta,
                units_public,
                delta_max,
            });
        }
        Ok(checked)
    }
}

/// A Poisson sampling rate q = a / 2^64, exactly, with 1 <= a <= 2^64.
///
/// Stored as `a - 1`, so that rate 1 needs no special case: a unit is
/// included iff a uniform 64-bit word is at most `a - 1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct SamplingRate {
    last_included: u64,
}

impl SamplingRate {
    /// Every unit, always.
    pub const ONE: Self = Self {
        last_included: u64::MAX,
    };

    /// The largest multiple of 2^-64 that is at most `rate`.
    ///
    /// # Errors
    /// [`PrivacyError::OutOfRange`] unless 2^-64 <= `rate` <= 1.
    pub fn new(rate: f64) -> Result<Self, PrivacyError> {
        let two_to_64 = 2f64.powi(64);
        // Scaling by a power of two is exact; NaN fails the comparison.
        let threshold = (rate * two_to_64).floor();
        if !(1.0..=two_to_64).contains(&threshold) {
            return Err(PrivacyError::OutOfRange {
                name: "the sampling rate",
                value: rate,
                range: "at least 2^-64 and at most 1",
            });
        }
        Ok(Self {
            last_included: (threshold as u128 - 1) as u64,
        })
    }

    /// q as a float, exactly: `new` only makes thresholds of at most 53 significant bits.
    #[must_use]
    pub fn get(self) -> f64 {
        (u128::from(self.last_included) + 1) as f64 / 2f64.powi(64)
    }

    /// Whether a uniform 64-bit word means "included"; true for exactly `a` of 2^64 words.
    #[must_use]
    pub fn includes(self, word: u64) -> bool {
        word <= self.last_included
    }
}

impl TryFrom<f64> for SamplingRate {
    type Error = PrivacyError;
    fn try_from(value: f64) -> Result<Self, PrivacyError> {
        Self::new(value)
    }
}

impl From<SamplingRate> for f64 {
    fn from(value: SamplingRate) -> f64 {
        value.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_negative_nan_and_infinite_values_are_refused() {
        for bad in [0.0, -0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(Epsilon::new(bad).is_err(), "epsilon {bad}");
            assert!(Delta::new(bad).is_err(), "delta {bad}");
            assert!(NoiseMultiplier::new(bad).is_err(), "multiplier {bad}");
            assert!(ClipBound::new(bad).is_err(), "clip {bad}");
            assert!(SamplingRate::new(bad).is_err(), "rate {bad}");
        }
        assert!(Delta::new(1.0).is_err());
        assert!(SamplingRate::new(1.0 + f64::EPSILON).is_err());
        assert!(SamplingRate::new(2f64.powi(-65)).is_err());
    }

    #[test]
    fn a_refusal_names_the_value_and_the_range() {
        let message = Delta::new(f64::NAN).unwrap_err().to_string();
        assert_eq!(
            message,
            "delta is `NaN`, but must be above 0 and below 1; give a value in that range"
        );
        assert!(
            serde_json::from_str::<Epsilon>("-3")
                .unwrap_err()
                .to_string()
                .contains("epsilon is `-3`")
        );
    }

    #[test]
    fn a_delta_above_one_over_n_is_refused() {
        assert!(Delta::for_units(1e-3, 1000).is_ok());
        assert!(Delta::for_units(1.1e-3, 1000).is_err());
    }

    #[test]
    fn the_rate_is_exactly_the_float_it_reports() {
        for rate in [
            1.0,
            0.5,
            0.01,
            1.0 / 3.0,
            1e-6,
            1e-8,
            2f64.powi(-64),
            1.0 - f64::EPSILON / 2.0,
        ] {
            let sampling = SamplingRate::new(rate).unwrap();
            let threshold = u128::from(sampling.last_included) + 1;
            assert!(sampling.get() <= rate);
            assert_eq!((sampling.get() * 2f64.powi(64)) as u128, threshold);
            assert_eq!(SamplingRate::new(sampling.get()).unwrap(), sampling);
        }
        assert_eq!(SamplingRate::new(1.0).unwrap(), SamplingRate::ONE);
        assert!(SamplingRate::ONE.includes(u64::MAX));
        assert!(!SamplingRate::new(0.5).unwrap().includes(1 << 63));
        assert!(SamplingRate::new(0.5).unwrap().includes((1 << 63) - 1));
    }
}
