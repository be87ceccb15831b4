//! Records gathered into privacy units: what adding or removing *one* means.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::{Error, Record, Result};

/// What one privacy unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnitBy {
    /// Every record by itself.
    Record,
    /// All records that name the same unit, such as one patient.
    Column,
}

/// All records of one unit, in file order; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The records.
    pub records: Vec<Record>,
}

/// Groups records into units, in order of each unit's first record.
///
/// The unit's name is compared byte for byte: `P1` and `p1 ` are two units. Names that should be
/// one must be made one before, else one person counts as two and is protected less.
///
/// # Errors
/// [`Error::NoUnit`] if records are grouped by column and one names no unit.
pub fn group(records: impl IntoIterator<Item = Record>, by: UnitBy) -> Result<Vec<Unit>> {
    let mut units: Vec<Unit> = Vec::new();
    let mut positions: HashMap<String, usize> = HashMap::new();
    for (index, record) in records.into_iter().enumerate() {
        if by == UnitBy::Record {
            units.push(Unit {
                records: vec![record],
            });
            continue;
        }
        let name = record.unit.clone().ok_or(Error::NoUnit { index })?;
        match positions.get(&name) {
            Some(&position) => units[position].records.push(record),
            None => {
                positions.insert(name, units.len());
                units.push(Unit {
                    records: vec![record],
                });
            }
        }
    }
    Ok(units)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(unit: Option<&str>, text: &str) -> Record {
        Record {
            unit: unit.map(str::to_owned),
            ..Record::labelled(text, "l")
        }
    }

    #[test]
    fn all_records_of_one_patient_are_one_unit() {
        let records = vec![
            of(Some("p1"), "a"),
            of(Some("p2"), "b"),
            of(Some("p1"), "c"),
        ];
        let texts = |by| -> Vec<Vec<String>> {
            group(records.clone(), by)
                .unwrap()
                .into_iter()
                .map(|unit| unit.records.into_iter().map(|r| r.text).collect())
                .collect()
        };
        assert_eq!(texts(UnitBy::Column), [vec!["a", "c"], vec!["b"]]);
        assert_eq!(texts(UnitBy::Record), [["a"], ["b"], ["c"]]);
    }

    #[test]
    fn a_record_without_a_unit_is_refused_when_units_matter() {
        let error = group([of(Some("p"), "a"), of(None, "b")], UnitBy::Column).unwrap_err();
        assert!(matches!(error, Error::NoUnit { index: 1 }));
    }
}
