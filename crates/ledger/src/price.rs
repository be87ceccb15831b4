//! Does a charge fit under the cap? Pure functions over lists of events.
//!
//! Charges are composed, not added up. Which theorem may be used depends on who could have seen
//! what when a charge was chosen:
//!
//! - The **first** charge was chosen before anything was released, so its parameters are fixed in
//!   advance and the tightest accountant counts ([`accountant::epsilon`]: PLD, RDP, exact Gaussian).
//! - A **later** one may have been chosen after looking at released samples. Composition of
//!   mechanisms whose *parameters* depend on earlier outputs needs a privacy filter. Two kinds are
//!   sound: Renyi divergences added up at one order, and plain sums of epsilons and deltas.
//!
//! No single filter is tight from the first run to the last, and taking the best of several after
//! the fact is covered by neither theorem. So delta is divided among a few filters beforehand, and
//! a charge is accepted if *one* of them accepts it. That is sound: sort the outcomes by a filter
//! that holds for them at the end; on its share, filter j bounds P(S_j) by e^epsilon Q(S_j) +
//! delta_j, and these add up to e^epsilon Q(S) + delta. The filters and their parts of delta are
//! settled by the cap and the first charge, by a rule that the first charge's entry names
//! ([`Rule`]); most goes to the filter that leaves the most room.
//!
//! So a price may exceed the plain sum of the charges' epsilons: that sum is a second filter, and
//! may not be taken beside the others without a part of delta of its own (decision 070).
//!
//! Deliberately absent: time and storage. A burned charge counts like any other.
//!
//! # Source
//! Feldman and Zrnic, "Individual Privacy Accounting via a Renyi Filter", 2021, Theorem 3.1 (costs
//! chosen on the way whose sum stays below a fixed bound) and section 4; Rogers, Roth, Ullman and
//! Vadhan, "Privacy Odometers and Filters: Pay-as-you-Go Composition", 2016, on the filter of basic
//! composition (sums of epsilons and deltas remain valid when both are chosen on the way).

mod filters;
#[cfg(test)]
mod tests;

pub(crate) use filters::Rule;
use filters::{Sum, draws, noisier, parts};
use noisegate_privacy::accountant::{self, ACCOUNTANT_VERSION};
use noisegate_privacy::noise::NOISE_TV_PER_DRAW;
use noisegate_privacy::{AccountantError, Delta, Epsilon, Event};
use serde::{Deserialize, Serialize};

/// The most that may ever be known about one unit of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cap {
    /// Over all runs, for ever.
    pub epsilon: Epsilon,
    /// The delta at which epsilon is stated.
    pub delta: Delta,
}

impl Cap {
    /// Equal, or equal once written down and read back, which may change a figure's last digit.
    #[must_use]
    pub fn same_as(self, other: Self) -> bool {
        let written = serde_json::to_string(&other).ok();
        let read = written.and_then(|text| serde_json::from_str::<Self>(&text).ok());
        self == other || read == Some(self)
    }
}

/// What a data set's charges amount to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// Under which cap.
    pub cap: Cap,
    /// How many charges, burned ones included.
    pub charges: usize,
    /// What counts against the cap, at its delta, even if each run was chosen after seeing the ones before.
    pub epsilon: f64,
    /// What it would be if all runs had been fixed in advance; absent if the accountant refuses.
    pub epsilon_if_fixed: Option<f64>,
}

/// A charge as it is priced.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Made<'a> {
    pub events: &'a [Event],
    /// Of the program that made it; the first charge's counts.
    pub rule: Rule,
}

impl<'a> Made<'a> {
    /// - `accountant`: the version that priced it.
    pub(crate) fn by(accountant: &str, events: &'a [Event]) -> Self {
        let rule = Rule::of(accountant);
        Self { events, rule }
    }

    /// As this program would make it.
    pub(crate) fn now(events: &'a [Event]) -> Self {
        Self::by(ACCOUNTANT_VERSION, events)
    }
}

/// The share of delta set aside for the noise sampler's error, as in the accountant.
const NOISE_SHARE: f64 = 1e-3;

/// The charges of one data set under one cap, added up as they come.
///
/// Adding a charge takes as long as it did for the first one, however many there are.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    cap: Cap,
    charges: usize,
    /// The first charge alone, which may use the tightest accountant.
    first: Vec<Event>,
    rule: Rule,
    alone: f64,
    /// Every way of adding up; settled by the first charge.
    sums: Vec<Sum>,
    draws: f64,
}

impl Account {
    pub(crate) fn new(cap: Cap) -> Self {
        Self {
            cap,
            charges: 0,
            first: Vec::new(),
            rule: Rule::NEWEST,
            alone: 0.0,
            sums: Vec::new(),
            draws: 0.0,
        }
    }

    /// An account with these charges.
    ///
    /// # Errors
    /// [`AccountantError`] if a charge cannot be priced at all.
    pub(crate) fn of(charges: &[Made<'_>], cap: Cap) -> Result<Self, AccountantError> {
        let mut account = Self::new(cap);
        charges.iter().try_for_each(|charge| account.add(*charge))?;
        Ok(account)
    }

    /// Takes in one more charge.
    ///
    /// # Errors
    /// [`AccountantError`] if it cannot be priced at all; then the account must not be used any more.
    pub(crate) fn add(&mut self, charge: Made<'_>) -> Result<(), AccountantError> {
        let Made { events, rule } = charge;
        if self.charges == 0 {
            self.alone = accountant::epsilon(events, self.cap.delta)?.epsilon;
            self.first = events.to_vec();
            self.rule = rule;
        }
        if self.charges == 1 {
            self.sums = parts(&self.first, self.alone, self.cap, self.rule)
                .into_iter()
                .map(Sum::new)
                .collect();
            let first = std::mem::take(&mut self.first);
            self.sums.iter_mut().try_for_each(|sum| sum.add(&first))?;
        }
        if self.charges > 0 {
            self.sums.iter_mut().try_for_each(|sum| sum.add(events))?;
        }
        self.charges += 1;
        self.draws += draws(events);
        Ok(())
    }

    /// What counts against the cap. May be infinite.
    ///
    /// If every charge was made only while this, with it, was at most the cap's epsilon, all of them
    /// together are (`cap.epsilon`, `cap.delta`)-DP, chosen on the way or not. The promise is the cap's; this
    /// is the filters' reading, and a promise by itself only if it had been the cap.
    pub(crate) fn epsilon(&self) -> f64 {
        if self.charges < 2 {
            return self.alone;
        }
        let best = self
            .sums
            .iter()
            .map(Sum::epsilon)
            .fold(f64::INFINITY, f64::min);
        // The share of delta set aside must cover the sampler's total-variation error, which
        // (epsilon, delta)-DP turns into a delta of `(1 + e^epsilon)` times as much.
        let lost = self.draws * NOISE_TV_PER_DRAW * (1.0 + best.exp());
        if self.draws == 0.0 || lost <= NOISE_SHARE * self.cap.delta.get() {
            best
        } else {
            f64::INFINITY
        }
    }

    /// Whether everything so far is under the cap. A price that is not a number is not.
    pub(crate) fn fits(&self) -> bool {
        self.epsilon() <= self.cap.epsilon.get()
    }
}

/// The price of these charges together: see [`Account::epsilon`].
///
/// # Errors
/// [`AccountantError`] if a charge cannot be priced at all.
pub(crate) fn guaranteed(charges: &[Made<'_>], cap: Cap) -> Result<f64, AccountantError> {
    Ok(Account::of(charges, cap)?.epsilon())
}

/// [`Spent`] of these charges.
pub(crate) fn spent(charges: &[Made<'_>], cap: Cap) -> Result<Spent, AccountantError> {
    let all: Vec<Event> = charges
        .iter()
        .flat_map(|charge| charge.events)
        .copied()
        .collect();
    Ok(Spent {
        cap,
        charges: charges.len(),
        epsilon: guaranteed(charges, cap)?,
        epsilon_if_fixed: accountant::epsilon(&all, cap.delta)
            .ok()
            .map(|bound| bound.epsilon),
    })
}

/// Puts a new cap in force.
///
/// A lower one comes on top of those that it is below: they stay promised, and a charge must fit
/// under each with the filters that were settled for it. One that is above another in epsilon or
/// delta is a decision to give that one up.
pub(crate) fn put_in_force(caps: &mut Vec<Cap>, new: Cap) {
    caps.retain(|old| {
        *old != new && old.epsilon.get() >= new.epsilon.get() && old.delta.get() >= new.delta.get()
    });
    caps.push(new);
}

/// The epsilon, alone, of the largest request like this one that would still fit: the same steps
/// with more noise. `None` if none does, however noisy.
///
/// - `delta`: at which that epsilon is told.
pub(crate) fn largest_that_fits(
    charges: &[Made<'_>],
    request: &[Event],
    caps: &[Cap],
    delta: Delta,
) -> Option<f64> {
    let accounts: Vec<Account> = caps
        .iter()
        .map(|cap| Account::of(charges, *cap).ok())
        .collect::<Option<_>>()?;
    let with_noise = |log2: f64| noisier(request, log2.exp2());
    let least = least_that_fits(|log2| {
        accounts.iter().all(|account| {
            let mut with = account.clone();
            with.add(Made::now(&with_noise(log2))).is_ok() && with.fits()
        })
    })?;
    let alone = accountant::epsilon(&with_noise(least), delta).ok()?;
    Some(alone.epsilon)
}

/// How far the noise is sought from the request's own, in powers of two.
const REACH: f64 = 31.0;
/// The grid of the search: steps of 0.27 % in the noise.
const GRID: f64 = 1.0 / 256.0;

/// The least power of two on the grid, within [`REACH`] of 0, that fits, where more noise never
/// fits less; `None` if none does.
///
/// Whatever is given back was tried and fits; the next one on the grid was tried and does not.
fn least_that_fits(fits: impl Fn(f64) -> bool) -> Option<f64> {
    let fits_now = fits(0.0);
    let mut step = if fits_now { -1.0 } else { 1.0 };
    // Away from the request's own noise, twice as far each time, until the edge lies between.
    let mut near = 0.0;
    let far = loop {
        let far = near + step;
        if fits(far) != fits_now {
            break far;
        }
        if far.abs() >= REACH {
            return fits_now.then_some(far);
        }
        (near, step) = (far, step * 2.0);
    };
    let (mut low, mut high) = if fits_now { (far, near) } else { (near, far) };
    while high - low > GRID {
        let middle = (low + high) / 2.0;
        if fits(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    Some(high)
}
