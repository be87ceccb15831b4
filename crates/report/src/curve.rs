//! Epsilon at every delta, as the accountant gives it.

use noisegate_privacy::{AccountantError, Delta, Event, accountant};
use serde::Serialize;

/// Where the curve is shown: one delta for each half decade.
const EXPONENTS: std::ops::RangeInclusive<i32> = -20..=-4;

/// One point of a curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// Delta.
    pub delta: f64,
    /// Epsilon at it.
    pub epsilon: f64,
}

/// The curve of some events.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Curve(pub Vec<Point>);

impl Curve {
    /// From delta 1e-10 to 1e-2; a delta without a finite bound has no point.
    ///
    /// # Errors
    /// [`AccountantError`] if there is no point at all.
    pub fn of(events: &[Event]) -> Result<Self, AccountantError> {
        let (mut points, mut refused) = (Vec::new(), None);
        for exponent in EXPONENTS {
            let Ok(delta) = Delta::new(10f64.powf(f64::from(exponent) / 2.0)) else {
                continue;
            };
            match accountant::epsilon(events, delta) {
                Ok(bound) => points.push(Point {
                    delta: delta.get(),
                    epsilon: bound.epsilon,
                }),
                Err(error) => refused = Some(error),
            }
        }
        match refused {
            Some(error) if points.is_empty() => Err(error),
            _ => Ok(Self(points)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_falls_as_delta_grows() {
        let event = Event::Gaussian {
            sigma: 2.0,
            count: 3,
        };
        let Curve(points) = Curve::of(&[event]).unwrap();
        assert_eq!(points.len(), 17);
        assert!(points.is_sorted_by(|a, b| a.delta < b.delta && a.epsilon > b.epsilon));
    }
}
