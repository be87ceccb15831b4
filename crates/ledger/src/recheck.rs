//! Was every charge under the caps in force when it was made?
//!
//! The signatures say who wrote an entry; this asks whether it was right to. Every charge is priced
//! again from its events, in the order of the entries. Pure: a fold over entries that were found good.
//!
//! Deliberately absent: charges priced by a version of the accountant with other bounds. The figure
//! that was written down then is held against the cap instead.

use std::collections::BTreeMap;

use noisegate_privacy::accountant::ACCOUNTANT_VERSION;

use crate::Digest;
use crate::entry::{Action, Entry};
use crate::price::{self, Account, Cap, Made};

/// Mathematical functions differ in their last digits from machine to machine.
const ROUNDING: f64 = 1.0 + 1e-9;

/// Versions of the accountant whose prices this program can repeat.
const REPEATABLE: [&str; 2] = ["noisegate-accountant-1", ACCOUNTANT_VERSION];

/// What is known of a data set after some of the entries.
#[derive(Default)]
struct DataSet<'a> {
    caps: Vec<Cap>,
    /// One for each cap; `None` where the accountant refuses the charges.
    accounts: Vec<Option<Account>>,
    charges: Vec<Made<'a>>,
}

/// The first charge that did not fit when it was made, and why.
pub(crate) fn first_overspent(entries: &[(Entry, Digest)]) -> Option<(u64, String)> {
    let mut data_sets: BTreeMap<&str, DataSet<'_>> = BTreeMap::new();
    for (entry, _) in entries {
        match &entry.action {
            Action::Cap { data_set, cap, .. } => {
                data_sets.entry(data_set).or_default().put_in_force(*cap);
            }
            Action::Reserved {
                data_set,
                events,
                together,
                accountant,
                ..
            } => {
                let account = data_sets.entry(data_set).or_default();
                account.charge(Made::by(accountant, events));
                let stated = (*together, accountant.as_str());
                if let Some(problem) = account.problem(data_set, stated) {
                    return Some((entry.number, problem));
                }
            }
            _ => {}
        }
    }
    None
}

impl<'a> DataSet<'a> {
    fn put_in_force(&mut self, cap: Cap) {
        let mut caps = self.caps.clone();
        price::put_in_force(&mut caps, cap);
        let kept = |cap: &Cap| {
            let known = self.caps.iter().position(|old| old == cap);
            match known {
                Some(place) => self.accounts[place].clone(),
                None => Account::of(&self.charges, *cap).ok(),
            }
        };
        self.accounts = caps.iter().map(kept).collect();
        self.caps = caps;
    }

    fn charge(&mut self, charge: Made<'a>) {
        self.charges.push(charge);
        for slot in &mut self.accounts {
            if slot
                .as_mut()
                .is_some_and(|account| account.add(charge).is_err())
            {
                *slot = None;
            }
        }
    }

    /// What is wrong with the last charge; `stated` is the price written down, and by whom.
    fn problem(&self, data_set: &str, stated: (f64, &str)) -> Option<String> {
        let over = |together: f64, cap: &Cap| {
            // Written so that a price that is not a number is over.
            let under = together <= cap.epsilon.get() * ROUNDING;
            (!under).then(|| {
                format!(
                    "it brings data set `{data_set}` to epsilon {together:.4}, above the cap of {} at delta {:e} that was in force",
                    cap.epsilon.get(),
                    cap.delta.get()
                )
            })
        };
        let (together, accountant) = stated;
        if !REPEATABLE.contains(&accountant) {
            return over(together, self.caps.last()?);
        }
        for (cap, account) in self.caps.iter().zip(&self.accounts) {
            let Some(account) = account else {
                return Some(format!(
                    "its charge to data set `{data_set}` has no price, so it cannot have been under the cap"
                ));
            };
            if let Some(problem) = over(account.epsilon(), cap) {
                return Some(problem);
            }
        }
        let priced = self.accounts.last()?.as_ref()?.epsilon();
        let as_stated = (priced - together).abs() <= 1e-6 * priced.max(1e-6);
        (!as_stated)
            .then(|| format!("it states epsilon {together:.6} for what comes to {priced:.6}"))
    }
}
