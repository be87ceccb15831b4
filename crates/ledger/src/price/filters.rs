//! Ways to add charges up that stay sound when they are chosen on the way, and how a cap's
//! delta is divided among them.
//!
//! Deliberately absent: the argument why the division is sound (`price.rs`).

use noisegate_privacy::accountant::{self, rdp};
use noisegate_privacy::{AccountantError, Delta, Event};

use super::{Cap, NOISE_SHARE};

/// A way to add charges up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Filter {
    /// Renyi divergences at one order.
    Renyi { order: f64 },
    /// Epsilons and deltas, each charge being given half of the delta that is left.
    Sums {
        /// With more charges it refuses: it asks the accountant about each of them.
        charges_max: usize,
    },
}

/// The share of delta that the filter with the most room has.
const MOST: f64 = 0.8;

/// A filter and the part of delta that it may use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Part {
    pub(super) filter: Filter,
    pub(super) delta: f64,
}

/// When most of delta goes to a Renyi filter. It is the first charge's for ever: a division that
/// changed on the way would promise twice the delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// If the first charge could be repeated more often under it.
    Repeats,
    /// Also if a larger charge of the first one's kind could come next.
    RepeatsOrNext,
}

impl Rule {
    pub(crate) const NEWEST: Self = Self::RepeatsOrNext;

    /// That of the program with this accountant.
    pub(crate) fn of(accountant: &str) -> Self {
        match accountant {
            "noisegate-accountant-1" => Self::Repeats,
            _ => Self::NEWEST,
        }
    }
}

/// How the cap's delta is divided, given what was charged first and what that costs alone.
pub(super) fn parts(first: &[Event], alone: f64, cap: Cap, rule: Rule) -> Vec<Part> {
    // The last factor covers the rounding of the shares.
    let whole = cap.delta.get() * (1.0 - NOISE_SHARE) * (1.0 - 1e-12);
    let repeats = |order: f64| {
        let budget = cap.epsilon.get() - rdp::convert(0.0, order, whole);
        budget / rdp::renyi_sum(first, order)
    };
    // Orders from 1.06 to 1025; a finer grid gains less than 1 %.
    let (order, renyi_repeats) = (-16..=40)
        .map(|quarter| 1.0 + 2f64.powf(f64::from(quarter) / 4.0))
        .map(|order| (order, repeats(order)))
        .filter(|(_, repeats)| repeats.is_finite())
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .unwrap_or((2.0, 0.0));
    let more_often = renyi_repeats >= cap.epsilon.get() / alone;
    let larger_next = || {
        let budget = cap.epsilon.get() - rdp::convert(0.0, order, whole * MOST);
        let next = largest_within(first, order, budget - rdp::renyi_sum(first, order));
        let alone_next = next.and_then(|next| accountant::epsilon(&next, cap.delta).ok());
        alone_next.is_some_and(|next| next.epsilon > cap.epsilon.get() - alone)
    };
    let renyi_first =
        own_delta(first) == 0.0 && (more_often || (rule == Rule::RepeatsOrNext && larger_next()));
    // Larger orders are tight while little is spent.
    let renyi = |times: f64| Filter::Renyi {
        order: 1.0 + (order - 1.0) * times,
    };
    let sums = |charges_max| Filter::Sums { charges_max };
    // The shares of each row add up to 1.
    let shares = if renyi_first {
        [
            (renyi(1.0), MOST),
            (renyi(2.0), 0.06),
            (renyi(4.0), 0.04),
            (renyi(16.0), 0.03),
            (renyi(64.0), 0.02),
            (sums(8), 0.05),
        ]
    } else {
        [
            (sums(usize::MAX), MOST),
            (renyi(1.0), 0.08),
            (renyi(2.0), 0.04),
            (renyi(4.0), 0.04),
            (renyi(16.0), 0.02),
            (renyi(64.0), 0.02),
        ]
    };
    let part = |(filter, share)| Part {
        filter,
        delta: whole * share,
    };
    shares.map(part).to_vec()
}

/// The least noisy charge of this kind whose divergence at `order` is at most `left`; `None` if none is.
fn largest_within(kind: &[Event], order: f64, left: f64) -> Option<Vec<Event>> {
    let with_noise = |log2: f64| noisier(kind, log2.exp2());
    let fits = |log2: f64| rdp::renyi_sum(&with_noise(log2), order) <= left;
    let (mut low, mut high) = (-3.0, 10.0);
    if !fits(high) {
        return None;
    }
    for _ in 0..20 {
        let middle = (low + high) / 2.0;
        if fits(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    Some(with_noise(high))
}

/// The same events with `factor` times the noise.
pub(super) fn noisier(events: &[Event], factor: f64) -> Vec<Event> {
    let noisier = |event: &Event| {
        let mut event = *event;
        match &mut event {
            Event::SampledGaussian { sigma, .. } | Event::Gaussian { sigma, .. } => {
                *sigma *= factor;
            }
            Event::Laplace { scale, .. } | Event::SampledLaplace { scale, .. } => *scale *= factor,
            Event::DiscreteLaplace { parameter, .. } => *parameter /= factor,
            Event::Zcdp { rho } => *rho /= factor * factor,
            Event::Approximate { epsilon, .. } => *epsilon /= factor,
            Event::Noise { .. } => {}
        }
        event
    };
    events.iter().map(noisier).collect()
}

/// What the charges so far come to under one filter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sum {
    part: Part,
    charges: usize,
    /// Divergences, or epsilons; infinite where the filter cannot express a charge.
    total: f64,
    /// Of the part's delta, for the charges to come.
    delta_left: f64,
}

impl Sum {
    pub(super) fn new(part: Part) -> Self {
        Self {
            part,
            charges: 0,
            total: 0.0,
            delta_left: part.delta,
        }
    }

    pub(super) fn add(&mut self, charge: &[Event]) -> Result<(), AccountantError> {
        self.charges += 1;
        if self.total == f64::INFINITY {
            return Ok(());
        }
        let own = own_delta(charge);
        self.total += match self.part.filter {
            Filter::Renyi { .. } if own > 0.0 => f64::INFINITY,
            Filter::Renyi { order } => rdp::renyi_sum(charge, order),
            Filter::Sums { charges_max } if self.charges > charges_max => f64::INFINITY,
            Filter::Sums { .. } => self.alone(charge, own)?,
        };
        Ok(())
    }

    /// Epsilon of a charge at half of the delta that is left, which it uses up.
    fn alone(&mut self, charge: &[Event], own: f64) -> Result<f64, AccountantError> {
        let given = own + (self.delta_left - own) / 2.0;
        let Ok(delta) = Delta::new(given) else {
            return Ok(f64::INFINITY);
        };
        self.delta_left -= given;
        if self.delta_left <= 0.0 {
            return Ok(f64::INFINITY);
        }
        match accountant::epsilon(charge, delta) {
            Ok(bound) => Ok(bound.epsilon),
            Err(AccountantError::NotFinite { .. }) => Ok(f64::INFINITY),
            Err(error) => Err(error),
        }
    }

    /// The factors cover the rounding of the sums.
    pub(super) fn epsilon(&self) -> f64 {
        let total = self.total * (1.0 + 1e-12);
        match self.part.filter {
            Filter::Renyi { order } => rdp::convert(total, order, self.part.delta).max(0.0),
            Filter::Sums { .. } => total,
        }
    }
}

/// What events take off delta by themselves, which a Renyi filter cannot express.
fn own_delta(events: &[Event]) -> f64 {
    let of = |event: &Event| match *event {
        Event::Approximate { delta, count, .. } => delta * count as f64,
        _ => 0.0,
    };
    events.iter().map(of).sum()
}

/// Coordinates of noise drawn.
pub(super) fn draws(events: &[Event]) -> f64 {
    let of = |event: &Event| match *event {
        Event::Noise { draws } => draws as f64,
        _ => 0.0,
    };
    events.iter().map(of).sum()
}
