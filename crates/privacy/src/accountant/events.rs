//! What a mechanism costs, as data: the terms in which charges are stored.
//!
//! An event is a JSON array, such as `["sgd", 0.01, 1.1, 1000]`; a charge is a
//! list of them. Sensitivity is 1 throughout, neighbours differ by one unit
//! added or removed. Deliberately absent: any accounting.

use super::AccountantError;
use serde::de::{Error, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// One kind of mechanism, run some number of times, possibly adaptively.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event {
    /// `["sgd", q, sigma, steps]`: Gaussian noise on a sum over Poisson-sampled units.
    SampledGaussian {
        /// Sampling rate, 0 < q <= 1.
        q: f64,
        /// Noise multiplier.
        sigma: f64,
        /// How often.
        steps: u64,
    },
    /// `["gauss", sigma, count]`: Gaussian noise, every unit included.
    Gaussian {
        /// Noise multiplier.
        sigma: f64,
        /// How often.
        count: u64,
    },
    /// `["lap", scale, count]`: Laplace noise of that scale.
    Laplace {
        /// Scale over the L1 sensitivity.
        scale: f64,
        /// How often.
        count: u64,
    },
    /// `["dlap", parameter, sensitivity, count]`: integer noise, P(x) proportional to exp(-parameter |x|).
    DiscreteLaplace {
        /// Decay per integer.
        parameter: f64,
        /// Integer L1 sensitivity.
        sensitivity: u64,
        /// How often.
        count: u64,
    },
    /// `["sglap", q, scale, count]`: Laplace noise on a sum over Poisson-sampled units.
    SampledLaplace {
        /// Sampling rate, 0 < q <= 1.
        q: f64,
        /// Scale over the L1 sensitivity.
        scale: f64,
        /// How often.
        count: u64,
    },
    /// `["zcdp", rho]`: any rho-zCDP mechanism (Bun and Steinke, 2016).
    Zcdp {
        /// Its parameter.
        rho: f64,
    },
    /// `["dp", epsilon, delta, count]`: any (epsilon, delta)-DP mechanism, zeros allowed.
    Approximate {
        /// Its epsilon.
        epsilon: f64,
        /// Its delta.
        delta: f64,
        /// How often.
        count: u64,
    },
    /// `["noise", draws]`: the total-variation error of the Gaussian sampler over that many draws.
    Noise {
        /// How many coordinates were drawn.
        draws: u64,
    },
}

/// The least noise, over the sensitivity, whose losses are integrated over.
pub(crate) const SCALE_MIN: f64 = 1e-3;

use Event::{
    Approximate, DiscreteLaplace, Gaussian, Laplace, Noise, SampledGaussian, SampledLaplace, Zcdp,
};

impl Event {
    /// The first word of its JSON form, and the numbers after it.
    fn parts(&self) -> (&'static str, Vec<f64>) {
        match *self {
            SampledGaussian { q, sigma, steps } => ("sgd", vec![q, sigma, steps as f64]),
            Gaussian { sigma, count } => ("gauss", vec![sigma, count as f64]),
            Laplace { scale, count } => ("lap", vec![scale, count as f64]),
            DiscreteLaplace {
                parameter,
                sensitivity,
                count,
            } => ("dlap", vec![parameter, sensitivity as f64, count as f64]),
            SampledLaplace { q, scale, count } => ("sglap", vec![q, scale, count as f64]),
            Zcdp { rho } => ("zcdp", vec![rho]),
            Approximate {
                epsilon,
                delta,
                count,
            } => ("dp", vec![epsilon, delta, count as f64]),
            Noise { draws } => ("noise", vec![draws as f64]),
        }
    }

    /// Refuses numbers outside their range; `index` is the event's place in its list.
    pub(crate) fn check(&self, index: usize) -> Result<(), AccountantError> {
        type Rule = (&'static str, fn(f64) -> bool);
        const POSITIVE: Rule = ("positive and finite", |v| v > 0.0 && v.is_finite());
        // Less noise than this hides nothing, and its losses span more than can be integrated over.
        const SIGMA: Rule = ("at least 1e-3 and finite", |v| {
            v >= SCALE_MIN && v.is_finite()
        });
        const RATE: Rule = ("above 0 and at most 1", |v| v > 0.0 && v <= 1.0);
        const COUNT: Rule = ("at most 2^53", |v| v <= 9_007_199_254_740_992.0);
        const NOT_NEGATIVE: Rule = ("finite and not negative", |v| v >= 0.0 && v.is_finite());
        const CHANCE: Rule = ("at least 0 and below 1", |v| (0.0..1.0).contains(&v));
        let rules: &[(&'static str, Rule)] = match self {
            SampledGaussian { .. } => &[("q", RATE), ("sigma", SIGMA), ("steps", COUNT)],
            Gaussian { .. } => &[("sigma", POSITIVE), ("count", COUNT)],
            Laplace { .. } => &[("scale", SIGMA), ("count", COUNT)],
            DiscreteLaplace { .. } => &[
                ("parameter", POSITIVE),
                ("sensitivity", POSITIVE),
                ("count", COUNT),
            ],
            SampledLaplace { .. } => &[("q", RATE), ("scale", SIGMA), ("count", COUNT)],
            Zcdp { .. } => &[("rho", NOT_NEGATIVE)],
            Approximate { .. } => &[
                ("epsilon", NOT_NEGATIVE),
                ("delta", CHANCE),
                ("count", COUNT),
            ],
            Noise { .. } => &[("draws", COUNT)],
        };
        let (kind, numbers) = self.parts();
        for ((name, (range, accept)), value) in rules.iter().zip(numbers) {
            if !accept(value) {
                return Err(AccountantError::BadEvent {
                    index,
                    kind,
                    name,
                    value,
                    range,
                });
            }
        }
        Ok(())
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (kind, numbers) = self.parts();
        let mut tuple = serializer.serialize_tuple(1 + numbers.len())?;
        tuple.serialize_element(kind)?;
        for number in numbers {
            // Whole numbers print as such: counts stay counts.
            if number.fract() == 0.0 && number.abs() < 9e15 {
                tuple.serialize_element(&(number as i64))?;
            } else {
                tuple.serialize_element(&number)?;
            }
        }
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(EventVisitor)
    }
}

struct EventVisitor;

impl<'de> Visitor<'de> for EventVisitor {
    type Value = Event;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an event such as `[\"sgd\", q, sigma, steps]`")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Event, A::Error> {
        let kind: String = seq
            .next_element()?
            .ok_or_else(|| A::Error::custom("an event is empty"))?;
        let mut numbers = Vec::new();
        while let Some(number) = seq.next_element::<f64>()? {
            numbers.push(number);
        }
        parse(&kind, &numbers).map_err(A::Error::custom)
    }
}

/// The event of a kind and its numbers, or what is wrong with them.
fn parse(kind: &str, numbers: &[f64]) -> Result<Event, String> {
    let count = |value: f64| {
        let whole = value.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&value);
        whole.then_some(value as u64).ok_or(format!(
            "`{kind}`: `{value}` is not a whole number from 0 to 2^53"
        ))
    };
    let event = match (kind, numbers) {
        ("sgd", &[q, sigma, steps]) => SampledGaussian {
            q,
            sigma,
            steps: count(steps)?,
        },
        ("gauss", &[sigma, n]) => Gaussian {
            sigma,
            count: count(n)?,
        },
        ("lap", &[scale, n]) => Laplace {
            scale,
            count: count(n)?,
        },
        ("dlap", &[parameter, sensitivity, n]) => DiscreteLaplace {
            parameter,
            sensitivity: count(sensitivity)?,
            count: count(n)?,
        },
        ("sglap", &[q, scale, n]) => SampledLaplace {
            q,
            scale,
            count: count(n)?,
        },
        ("zcdp", &[rho]) => Zcdp { rho },
        ("dp", &[epsilon, delta, n]) => Approximate {
            epsilon,
            delta,
            count: count(n)?,
        },
        ("noise", &[draws]) => Noise {
            draws: count(draws)?,
        },
        _ => {
            return Err(format!(
                "`{kind}` with {} numbers is no event; write one of [\"sgd\",q,sigma,steps], [\"gauss\",sigma,count], \
                 [\"lap\",scale,count], [\"dlap\",parameter,sensitivity,count], [\"sglap\",q,scale,count], \
                 [\"zcdp\",rho], [\"dp\",epsilon,delta,count], [\"noise\",draws]",
                numbers.len()
            ));
        }
    };
    Ok(event)
}

/// The same list, shorter: events that differ only in their counts become one.
#[must_use]
pub fn merged(events: &[Event]) -> Vec<Event> {
    let mut out: Vec<(Event, u64)> = Vec::new();
    for event in events {
        let mut kind = *event;
        let count = kind.count_mut().map_or(1, std::mem::take);
        match out
            .iter_mut()
            .find(|(seen, _)| *seen == kind && !matches!(kind, Zcdp { .. }))
        {
            Some((_, total)) => *total = total.saturating_add(count),
            None => out.push((kind, count)),
        }
    }
    out.into_iter()
        .map(|(mut event, total)| {
            event
                .count_mut()
                .into_iter()
                .for_each(|count| *count = total);
            event
        })
        .collect()
}

impl Event {
    /// How often it ran; a zCDP event has no count, its rho is the total.
    fn count_mut(&mut self) -> Option<&mut u64> {
        match self {
            SampledGaussian { steps: count, .. }
            | Gaussian { count, .. }
            | Laplace { count, .. }
            | DiscreteLaplace { count, .. }
            | SampledLaplace { count, .. }
            | Approximate { count, .. }
            | Noise { draws: count } => Some(count),
            Zcdp { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_list_survives_json() {
        let text = r#"[["sgd",0.01,1.1,1000],["gauss",10,5],["lap",0.5,1],["dlap",0.5,1,4],["sglap",0.01,1,100],["zcdp",0.1],["dp",1,1e-7,2],["noise",12]]"#;
        let events: Vec<Event> = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&events).unwrap(), text);
        assert_eq!(
            events[0],
            SampledGaussian {
                q: 0.01,
                sigma: 1.1,
                steps: 1000
            }
        );
    }

    #[test]
    fn a_list_that_does_not_parse_says_what_an_event_looks_like() {
        for text in [
            r#"[["sdg",1,1,1]]"#,
            r#"[["sgd",0.1,1]]"#,
            "[[]]",
            r#"["sgd"]"#,
            r#"[["sgd",0.1,1,1.5]]"#,
            r#"[["sgd",0.1,1,-1]]"#,
            r#"{"a":1}"#,
        ] {
            let message = serde_json::from_str::<Vec<Event>>(text)
                .unwrap_err()
                .to_string();
            assert!(
                message.contains("event")
                    || message.contains("whole number")
                    || message.contains("sequence"),
                "{message}"
            );
        }
    }

    #[test]
    fn equal_mechanisms_merge_and_different_ones_do_not() {
        let a = SampledGaussian {
            q: 0.1,
            sigma: 1.0,
            steps: 2,
        };
        let b = SampledGaussian {
            q: 0.1,
            sigma: 1.5,
            steps: 2,
        };
        let z = Zcdp { rho: 0.5 };
        let twice = SampledGaussian {
            q: 0.1,
            sigma: 1.0,
            steps: 4,
        };
        assert_eq!(merged(&[a, z, b, a, z]), [twice, z, b, z]);
    }

    #[test]
    fn numbers_outside_their_range_are_refused_with_their_place() {
        let bad = SampledGaussian {
            q: 1.5,
            sigma: 1.0,
            steps: 1,
        };
        assert_eq!(
            bad.check(3).unwrap_err().to_string(),
            "event 3 `sgd`: q is `1.5`, but must be above 0 and at most 1"
        );
        for sigma in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Gaussian { sigma, count: 1 }.check(0).is_err());
        }
    }
}
