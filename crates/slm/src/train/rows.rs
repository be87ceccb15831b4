//! Examples as the graph sees them: token ids, targets, weights.

use super::batches::Batch;
use super::options::{self, TrainOptions, TrainingData};
use super::step::Inputs;
use crate::error::SlmError;
use crate::model::Model;
use crate::random::Stream;

/// Stream of the validation split; see [`Stream`].
const SPLIT: u64 = 1 << 43;

/// An example ready for the graph.
pub(super) struct Row {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Index of its label.
    pub target: usize,
    /// Its share in the loss.
    pub weight: f32,
}

/// The rows of a run, and what was noticed on the way.
pub(super) struct Rows {
    /// To train on.
    pub train: Vec<Row>,
    /// To choose the best epoch by.
    pub validation: Vec<Row>,
    /// Examples whose end was cut off.
    pub cut: usize,
    /// Examples without a token the model knows.
    pub only_unknown: usize,
}

/// Encodes, splits and balances as the options say.
///
/// # Errors
/// [`SlmError::Tokenizer`], [`SlmError::UnknownLabel`].
pub(super) fn prepare(
    model: &Model,
    data: &TrainingData<'_>,
    options: &TrainOptions,
) -> Result<Rows, SlmError> {
    let mut rows = Rows {
        train: Vec::new(),
        validation: Vec::new(),
        cut: 0,
        only_unknown: 0,
    };
    rows.train = encode(model, data.labels, data.examples, &mut rows)?;
    rows.validation = encode(model, data.labels, data.validation, &mut rows)?;
    if rows.validation.is_empty() && options.validation_share > 0.0 {
        rows.validation = split(&mut rows.train, options);
    }
    if options.balance_labels {
        balance(&mut rows.train, data.labels.len());
    }
    Ok(rows)
}

fn encode(
    model: &Model,
    labels: &[String],
    examples: &[options::Example],
    notes: &mut Rows,
) -> Result<Vec<Row>, SlmError> {
    let targets = options::targets(labels, examples)?;
    let texts: Vec<&str> = examples.iter().map(|e| e.text.as_str()).collect();
    let encoded = model.tokens.encode(&texts)?;
    notes.cut += encoded.iter().filter(|e| e.cut).count();
    notes.only_unknown += encoded.iter().filter(|e| e.only_unknown).count();
    let rows = encoded.into_iter().zip(targets).zip(examples);
    let rows = rows.map(|((encoded, target), example)| Row {
        ids: encoded.ids,
        target,
        weight: example.weight,
    });
    Ok(rows.collect())
}

/// Takes the validation share out of `rows`.
fn split(rows: &mut Vec<Row>, options: &TrainOptions) -> Vec<Row> {
    let count = (rows.len() as f32 * options.validation_share) as usize;
    let order = Stream::new(options.seed, SPLIT).shuffled(rows.len());
    let mut held: Vec<bool> = vec![false; rows.len()];
    for &row in &order[..count] {
        held[row] = true;
    }
    let mut held = held.into_iter();
    rows.extract_if(.., |_| held.next().unwrap_or(false))
        .collect()
}

/// Scales weights so that each label that occurs has the same total.
fn balance(rows: &mut [Row], labels: usize) {
    let mut totals = vec![0.0f64; labels];
    for row in rows.iter() {
        totals[row.target] += f64::from(row.weight);
    }
    let used = totals.iter().filter(|t| **t > 0.0).count() as f64;
    let all: f64 = totals.iter().sum();
    for row in rows {
        let total = totals[row.target];
        if total > 0.0 {
            row.weight = (f64::from(row.weight) * all / (used * total)) as f32;
        }
    }
}

/// Labels that no row has.
pub(super) fn empty_labels(rows: &[Row], labels: &[String]) -> Vec<String> {
    let mut seen = vec![false; labels.len()];
    for row in rows {
        seen[row.target] = true;
    }
    let unseen = labels.iter().zip(seen).filter(|(_, seen)| !seen);
    unseen.map(|(label, _)| label.clone()).collect()
}

/// How a batch becomes numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filling {
    /// Rows of the session; missing ones are padding.
    pub size: usize,
    /// Labels of the head.
    pub labels: usize,
    /// The id rows are padded with.
    pub pad: u32,
    /// A row's targets sum to this times its weight.
    pub scale: f32,
    /// Share of the target spread over all labels.
    pub smoothing: f32,
}

/// Pads a batch to its session's shape.
pub(super) fn fill(rows: &[Row], batch: &Batch, filling: Filling) -> Inputs {
    let (size, labels) = (filling.size, filling.labels);
    let mut inputs = Inputs {
        ids: vec![i64::from(filling.pad); size * batch.length],
        mask: vec![0; size * batch.length],
        targets: vec![0.0; size * labels],
    };
    for (at, &row) in batch.rows.iter().enumerate() {
        let row = &rows[row];
        for (column, &id) in row.ids.iter().take(batch.length).enumerate() {
            inputs.ids[at * batch.length + column] = i64::from(id);
            inputs.mask[at * batch.length + column] = 1;
        }
        let weight = row.weight * filling.scale;
        let targets = &mut inputs.targets[at * labels..][..labels];
        targets.fill(weight * filling.smoothing / labels as f32);
        targets[row.target] += weight * (1.0 - filling.smoothing);
    }
    inputs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(target: usize, weight: f32) -> Row {
        Row {
            ids: vec![2, 7, 3],
            target,
            weight,
        }
    }

    #[test]
    fn balanced_labels_have_equal_totals_and_the_sum_stays() {
        let mut rows = vec![row(0, 1.0), row(0, 1.0), row(0, 1.0), row(2, 0.5)];
        balance(&mut rows, 3);
        let total = |label: usize| -> f32 {
            let of_label = rows.iter().filter(|r| r.target == label);
            of_label.map(|r| r.weight).sum()
        };
        assert!((total(0) - total(2)).abs() < 1e-6);
        assert!((total(0) + total(2) - 3.5).abs() < 1e-6);
    }

    #[test]
    fn targets_of_a_row_sum_to_its_weight() {
        let rows = vec![row(1, 0.5), row(0, 2.0)];
        let batch = Batch {
            rows: vec![1, 0],
            length: 4,
        };
        let filling = Filling {
            size: 3,
            labels: 2,
            pad: 9,
            scale: 0.25,
            smoothing: 0.1,
        };
        let inputs = fill(&rows, &batch, filling);
        assert_eq!(inputs.ids, [2, 7, 3, 9, 2, 7, 3, 9, 9, 9, 9, 9]);
        assert_eq!(inputs.mask, [1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 0, 0]);
        let sums: Vec<f32> = inputs.targets.chunks(2).map(|t| t.iter().sum()).collect();
        for (sum, expected) in sums.iter().zip([0.5, 0.125, 0.0]) {
            assert!((sum - expected).abs() < 1e-6);
        }
        assert!(inputs.targets[0] > inputs.targets[1]);
    }

    #[test]
    fn a_split_takes_its_share_and_loses_no_row() {
        let mut rows: Vec<Row> = (0..100).map(|i| row(i, 1.0)).collect();
        let options = TrainOptions {
            validation_share: 0.2,
            ..TrainOptions::default()
        };
        let held = split(&mut rows, &options);
        assert_eq!((rows.len(), held.len()), (80, 20));
        let mut all: Vec<usize> = rows.iter().chain(&held).map(|r| r.target).collect();
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
    }
}
