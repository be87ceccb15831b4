//! Seeded splits into train and validation, and seeded samples.
//!
//! A privacy unit never straddles a split: if records name units, all records of one unit go to
//! the same side, otherwise the validation score would be read off people seen in training.

use std::collections::BTreeMap;

use crate::random::Draws;
use crate::{Error, Record, Result, UnitBy, group};

/// How to split.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SplitOptions {
    /// The share of units that goes to validation, above 0 and below 1.
    pub validation_share: f64,
    /// Keeps the share the same within each label (of a unit's first record).
    pub stratified: bool,
    /// The same seed gives the same split.
    pub seed: u64,
}

impl Default for SplitOptions {
    fn default() -> Self {
        Self {
            validation_share: 0.1,
            stratified: true,
            seed: 0,
        }
    }
}

/// Two sides, each in file order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Rows to train on.
    pub train: Vec<Record>,
    /// Rows to choose by.
    pub validation: Vec<Record>,
}

/// Splits records into train and validation.
///
/// The number of validation units is the share rounded to the nearest within each stratum, so a
/// label with very few units may be absent from validation. At least one unit stays on each side
/// whenever there are two or more.
///
/// # Errors
/// [`Error::Option`] for a share outside (0, 1).
pub fn split(records: Vec<Record>, options: &SplitOptions) -> Result<Split> {
    let share = options.validation_share;
    if !(share > 0.0 && share < 1.0) {
        return Err(Error::Option {
            option: "validation_share",
            given: share.to_string(),
            expected: "above 0 and below 1",
        });
    }
    let by = if records.iter().all(|record| record.unit.is_some()) {
        UnitBy::Column
    } else {
        UnitBy::Record
    };
    let units = group(records, by)?;
    let mut strata: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
    for (index, unit) in units.iter().enumerate() {
        let label = unit.records[0].label.as_deref();
        let key = if options.stratified { label } else { None };
        strata.entry(key).or_default().push(index);
    }

    let mut draws = Draws::new(options.seed);
    let mut chosen = Vec::new();
    for stratum in strata.values_mut() {
        draws.shuffle(stratum);
        let count = (stratum.len() as f64 * share).round() as usize;
        chosen.extend_from_slice(&stratum[..count]);
    }
    if units.len() >= 2 && chosen.is_empty() {
        chosen.push(draws.below(units.len()));
    }
    if units.len() >= 2 && chosen.len() == units.len() {
        chosen.pop();
    }

    let mut to_validation = vec![false; units.len()];
    for index in chosen {
        to_validation[index] = true;
    }
    let mut split = Split {
        train: Vec::new(),
        validation: Vec::new(),
    };
    for (unit, to_validation) in units.into_iter().zip(to_validation) {
        let side = if to_validation {
            &mut split.validation
        } else {
            &mut split.train
        };
        side.extend(unit.records);
    }
    Ok(split)
}

/// At most `count` records drawn without replacement, in file order.
pub fn sample(records: Vec<Record>, count: usize, seed: u64) -> Vec<Record> {
    let mut order: Vec<usize> = (0..records.len()).collect();
    Draws::new(seed).shuffle(&mut order);
    let mut keep = vec![false; records.len()];
    for &index in order.iter().take(count) {
        keep[index] = true;
    }
    records
        .into_iter()
        .zip(keep)
        .filter_map(|(record, keep)| keep.then_some(record))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows(labels: &[(&str, usize)]) -> Vec<Record> {
        labels
            .iter()
            .flat_map(|(label, count)| {
                (0..*count).map(move |i| Record::labelled(format!("{label} {i}"), *label))
            })
            .collect()
    }

    #[test]
    fn a_stratified_split_keeps_each_label_at_its_share() {
        let options = SplitOptions {
            validation_share: 0.2,
            ..SplitOptions::default()
        };
        let split = split(rows(&[("a", 50), ("b", 10)]), &options).unwrap();
        let count = |label: &str| {
            split
                .validation
                .iter()
                .filter(|r| r.label.as_deref() == Some(label))
                .count()
        };
        assert_eq!((count("a"), count("b")), (10, 2));
        assert_eq!(split.train.len(), 48);
    }

    #[test]
    fn a_unit_never_straddles_a_split() {
        let mut records = rows(&[("a", 60)]);
        for (i, record) in records.iter_mut().enumerate() {
            record.unit = Some(format!("patient {}", i % 12));
        }
        let options = SplitOptions {
            validation_share: 0.3,
            ..SplitOptions::default()
        };
        let split = split(records, &options).unwrap();
        let units = |side: &[Record]| -> std::collections::BTreeSet<String> {
            side.iter().filter_map(|r| r.unit.clone()).collect()
        };
        assert!(units(&split.train).is_disjoint(&units(&split.validation)));
        assert_eq!(split.validation.len(), 20);
    }

    #[test]
    fn a_share_outside_its_range_is_refused() {
        for share in [0.0, 1.0, -0.1, f64::NAN] {
            let options = SplitOptions {
                validation_share: share,
                ..SplitOptions::default()
            };
            assert!(split(rows(&[("a", 3)]), &options).is_err());
        }
    }

    proptest! {
        #[test]
        fn a_split_loses_and_repeats_nothing(
            a in 0_usize..40, b in 0_usize..40, share in 0.01_f64..0.99, seed: u64, stratified: bool,
        ) {
            let records = rows(&[("a", a), ("b", b)]);
            let options = SplitOptions { validation_share: share, stratified, seed };
            let split = split(records.clone(), &options).unwrap();
            prop_assert_eq!(&split, &super::split(records.clone(), &options).unwrap());
            if records.len() >= 2 {
                prop_assert!(!split.train.is_empty() && !split.validation.is_empty());
            }
            let mut back: Vec<String> =
                split.train.into_iter().chain(split.validation).map(|r| r.text).collect();
            let mut texts: Vec<String> = records.into_iter().map(|r| r.text).collect();
            back.sort();
            texts.sort();
            prop_assert_eq!(back, texts);
        }

        #[test]
        fn a_sample_is_a_subsequence_of_the_stated_size(count in 0_usize..30, seed: u64) {
            let records = rows(&[("a", 20)]);
            let chosen = sample(records.clone(), count, seed);
            prop_assert_eq!(chosen.len(), count.min(20));
            let mut rest = records.iter();
            prop_assert!(chosen.iter().all(|c| rest.any(|r| r == c)));
        }
    }
}
