//! Which rows are held back for validation: whole units, stratified, and never the last of a label.
//!
//! ```text
//! real rows ─ by unit ─> units ─ in order of strata ─> every so-manieth is held back
//! ```
//!
//! A privacy unit never straddles the split: otherwise the best epoch would be chosen by texts of
//! people who were seen in training. A stratum is a label of a head, so that each label has about
//! the same share on both sides.

use std::collections::HashMap;

use super::options::TrainOptions;
use super::rows::Row;
use super::targets::{Known, likeliest};
use crate::error::SlmError;
use crate::model::heads::{self, Head};
use crate::random::Stream;

/// Stream of the validation split; see [`Stream`].
const SPLIT: u64 = 1 << 43;

/// Takes the validation share of the real rows out of `rows`, rounded to whole units, at least one.
///
/// Every label and every head of which training has rows keeps one there, synthetic or real.
///
/// # Errors
/// [`SlmError::Option`] if not a single unit can be spared.
///
/// # Source
/// Systematic sampling of units in the order of their strata: Cochran, "Sampling Techniques", 3rd
/// edition, 1977, chapter 8. A unit with rows of several labels belongs to the rarest, as in
/// Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-Label Data", 2011.
pub(super) fn split(
    rows: &mut Vec<Row>,
    heads: &[Head],
    options: &TrainOptions,
) -> Result<Vec<Row>, SlmError> {
    let mut left = Left::of(rows, heads);
    let units = in_order_of_strata(rows, &left, options.seed);
    let share = f64::from(options.validation_share);
    let mut held = vec![false; rows.len()];
    let (mut count, mut due) = (0.0, 0.0);
    for unit in &units {
        if !left.spares(rows, unit) {
            continue;
        }
        due += share * unit.len() as f64;
        // Whichever is nearer to what is due: with the unit, or without.
        if count + unit.len() as f64 / 2.0 <= due {
            count += unit.len() as f64;
            left.hold(rows, unit, &mut held);
        }
    }
    if count == 0.0 {
        // Of the commonest label, if units are alike.
        let spare = units.iter().rev().filter(|unit| left.spares(rows, unit));
        let spare = spare.min_by_key(|unit| unit.len()).ok_or_else(|| SlmError::Option {
            name: "validation_share",
            value: options.validation_share.to_string(),
            remedy: "no record can be held back: each is the last of its label, or all are of one \
                     privacy unit; leave it out, or train on more records",
        })?;
        left.hold(rows, spare, &mut held);
    }
    let mut held = held.into_iter();
    let taken = rows.extract_if(.., |_| held.next().unwrap_or(false));
    Ok(taken.collect())
}

/// The real rows by unit, shuffled, then in the order of their rarest classes.
fn in_order_of_strata(rows: &[Row], left: &Left<'_>, seed: u64) -> Vec<Vec<usize>> {
    let mut units: Vec<Vec<usize>> = Vec::new();
    let mut places: HashMap<usize, usize> = HashMap::new();
    for (index, row) in rows.iter().enumerate().filter(|(_, row)| !row.synthetic) {
        let next = units.len();
        let place = match row.unit {
            None => next,
            Some(unit) => *places.entry(unit).or_insert(next),
        };
        match units.get_mut(place) {
            Some(unit) => unit.push(index),
            None => units.push(vec![index]),
        }
    }
    let order = Stream::new(seed, SPLIT).shuffled(units.len());
    let mut units: Vec<Vec<usize>> = order
        .into_iter()
        .map(|place| std::mem::take(&mut units[place]))
        .collect();
    units.sort_by_cached_key(|unit| {
        let classes = unit.iter().flat_map(|&index| left.classes(&rows[index]));
        classes.min_by_key(|class| (left.counts[*class], *class))
    });
    units
}

/// How many rows that count are left to train each class: an output, or a head as a whole.
struct Left<'h> {
    heads: &'h [Head],
    counts: Vec<usize>,
}

impl<'h> Left<'h> {
    fn of(rows: &[Row], heads: &'h [Head]) -> Self {
        let counts = vec![0; heads::outputs(heads) + heads.len()];
        let mut left = Self { heads, counts };
        for row in rows.iter().filter(|row| row.weight > 0.0) {
            for class in left.classes(row) {
                left.counts[class] += 1;
            }
        }
        left
    }

    /// The outputs that a row asks for, and its head.
    fn classes(&self, row: &Row) -> Vec<usize> {
        let mut classes = match &row.known {
            Known::Label(output) => vec![*output],
            Known::Shares(shares) => likeliest(shares).into_iter().collect(),
            Known::Labels(outputs) => outputs.clone(),
            Known::Numbers(_) => Vec::new(),
        };
        classes.push(heads::outputs(self.heads) + row.head);
        classes
    }

    /// Whether each class of the unit keeps a row without it.
    fn spares(&self, rows: &[Row], unit: &[usize]) -> bool {
        let mut taken: HashMap<usize, usize> = HashMap::new();
        for row in unit.iter().map(|&index| &rows[index]) {
            for class in self.classes(row).into_iter().filter(|_| row.weight > 0.0) {
                *taken.entry(class).or_default() += 1;
            }
        }
        taken
            .iter()
            .all(|(class, taken)| *taken < self.counts[*class])
    }

    fn hold(&mut self, rows: &[Row], unit: &[usize], held: &mut [bool]) {
        for &index in unit {
            held[index] = true;
            for class in self.classes(&rows[index]) {
                self.counts[class] -= usize::from(rows[index].weight > 0.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::heads::Task;

    fn row(output: usize) -> Row {
        Row {
            ids: vec![2, 7, 3],
            head: 0,
            known: Known::Label(output),
            unit: None,
            weight: 1.0,
            synthetic: false,
        }
    }

    /// So many rows of each output of one head.
    fn rows(counts: &[usize]) -> (Vec<Row>, Vec<Head>) {
        let of_output = |(output, count): (usize, &usize)| vec![row(output); *count];
        let rows = counts.iter().enumerate().flat_map(of_output).collect();
        let labels = (0..counts.len()).map(|output| output.to_string());
        (rows, vec![Head::single(labels)])
    }

    fn options(validation_share: f32, seed: u64) -> TrainOptions {
        TrainOptions {
            validation_share,
            seed,
            ..TrainOptions::default()
        }
    }

    fn of_output(rows: &[Row], output: usize) -> usize {
        let asks = |row: &&Row| match &row.known {
            Known::Labels(outputs) => outputs.contains(&output),
            known => *known == Known::Label(output),
        };
        rows.iter().filter(asks).count()
    }

    #[test]
    fn each_label_has_its_share_on_both_sides_and_no_row_is_lost() {
        for seed in 0..5 {
            let (mut rows, heads) = rows(&[60, 30, 10]);
            rows.extend(vec![row(0); 50].into_iter().map(|row| Row {
                synthetic: true,
                ..row
            }));
            for (place, row) in rows.iter_mut().enumerate() {
                row.ids = vec![place as u32];
            }
            let held = split(&mut rows, &heads, &options(0.2, seed)).unwrap();
            assert_eq!([0, 1, 2].map(|output| of_output(&held, output)), [12, 6, 2]);
            assert!(held.iter().all(|row| !row.synthetic));
            let mut places: Vec<u32> = rows.iter().chain(&held).map(|row| row.ids[0]).collect();
            places.sort_unstable();
            assert_eq!(places, (0..150).collect::<Vec<_>>());
        }
    }

    #[test]
    fn many_rare_labels_come_to_the_share_together() {
        let (mut rows, heads) = rows(&[4; 20]);
        let held = split(&mut rows, &heads, &options(0.1, 3)).unwrap();
        assert_eq!((held.len(), rows.len()), (8, 72));
        assert!((0..20).all(|output| of_output(&held, output) <= 1));
    }

    #[test]
    fn a_unit_never_straddles_the_split() {
        for seed in 0..20 {
            let (mut rows, heads) = rows(&[40, 20]);
            for (place, row) in rows.iter_mut().enumerate() {
                row.unit = Some(place * 7 % 12);
            }
            let held = split(&mut rows, &heads, &options(0.3, seed)).unwrap();
            let apart = |row: &Row| held.iter().all(|other| other.unit != row.unit);
            assert!(rows.iter().all(apart), "seed {seed}");
            // To half a unit of five rows.
            assert!((15..=20).contains(&held.len()), "{}", held.len());
        }
    }

    #[test]
    fn the_last_row_of_a_label_or_a_head_stays_in_training() {
        for seed in 0..20 {
            let (mut rows, mut heads) = rows(&[50, 1, 2]);
            heads.push(Head::only(Task::Number, ["age"]));
            rows.push(Row {
                head: 1,
                known: Known::Numbers(vec![3.0]),
                ..row(0)
            });
            let held = split(&mut rows, &heads, &options(0.9, seed)).unwrap();
            assert!((0..3).all(|output| of_output(&rows, output) >= 1));
            assert!(rows.iter().any(|row| row.head == 1));
            assert_eq!(held.len(), 46);
        }
        // Unless released texts of the label stay there.
        let (mut rows, heads) = rows(&[1, 1]);
        rows[1].synthetic = true;
        rows.push(Row {
            synthetic: true,
            ..row(0)
        });
        let held = split(&mut rows, &heads, &options(0.5, 0)).unwrap();
        assert_eq!((held.len(), rows.len()), (1, 2));
    }

    #[test]
    fn a_label_among_many_stays_in_training_too() {
        let heads = [Head::only(Task::MultiLabel, ["a", "b"])];
        for seed in 0..20 {
            let mut rows = vec![row(0); 30];
            for row in &mut rows {
                row.known = Known::Labels(Vec::new());
            }
            rows[3].known = Known::Labels(vec![0, 1]);
            rows[9].known = Known::Labels(vec![0]);
            split(&mut rows, &heads, &options(0.5, seed)).unwrap();
            assert_eq!((of_output(&rows, 1), rows.len()), (1, 15));
        }
    }

    #[test]
    fn a_share_below_one_row_holds_one_back() {
        let (mut rows, heads) = rows(&[3, 4]);
        let held = split(&mut rows, &heads, &options(0.01, 0)).unwrap();
        assert_eq!((held.len(), rows.len()), (1, 6));
    }

    #[test]
    fn what_cannot_be_held_back_is_refused() {
        let refused = |mut rows: Vec<Row>, heads: &[Head]| {
            let error = split(&mut rows, heads, &options(0.5, 0)).unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains("`validation_share` is 0.5; no record"),
                "{text}"
            );
        };
        let (few, heads) = rows(&[1, 1]);
        refused(few, &heads);
        let (mut one, heads) = rows(&[5, 5]);
        one.iter_mut().for_each(|row| row.unit = Some(7));
        refused(one, &heads);
        let (mut written, heads) = rows(&[5, 5]);
        written.iter_mut().for_each(|row| row.synthetic = true);
        refused(written, &heads);
    }
}
