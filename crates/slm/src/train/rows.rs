//! Examples as the graph sees them: token ids, targets, weights.

use super::batches::Batch;
use super::held_out;
use super::loss::{self, Weighing};
use super::options::{Example, TrainOptions, TrainingData};
use super::step::Inputs;
use super::targets::{Known, Outputs, likeliest};
use crate::error::SlmError;
use crate::model::Model;
use crate::model::heads::{self, Head, Task};

/// One text in so many may hold no token the model knows; more mean that the model does not fit.
const UNKNOWN_ONE_IN: usize = 10;

/// An example ready for the graph.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// Token ids.
    pub ids: Vec<u32>,
    /// The head it trains.
    pub head: usize,
    /// What the head should say.
    pub known: Known,
    /// Whose text it is, if that is known.
    pub unit: Option<usize>,
    /// Its share in the loss.
    pub weight: f32,
    /// Written by a language model.
    pub synthetic: bool,
}

/// The rows of a run, and what was noticed on the way.
pub(super) struct Rows {
    /// To train on.
    pub train: Vec<Row>,
    /// To choose the best epoch by.
    pub validation: Vec<Row>,
    /// Factor of each output's share in the loss.
    pub factors: Vec<f32>,
    /// Mean and deviation of each output's numbers; 0 and 1 where there are none.
    pub scales: Vec<(f64, f64)>,
    /// Examples whose end was cut off.
    pub cut: usize,
    /// Examples without a token the model knows.
    pub only_unknown: usize,
    /// Outputs that no example asks for.
    pub empty_labels: Vec<String>,
}

/// Encodes, splits, weighs and scales as the options say.
///
/// # Errors
/// [`SlmError::Tokenizer`], [`SlmError::UnknownTexts`], [`SlmError::Option`] if no row can be held
/// back, [`SlmError::NoExamples`] if none of a stage weighs anything, and those of [`Outputs`].
pub(super) fn prepare(
    model: &Model,
    data: &TrainingData<'_>,
    options: &TrainOptions,
) -> Result<Rows, SlmError> {
    let outputs = Outputs::new(data.heads)?;
    let known = outputs.known(data.examples)?;
    let mut rows = Rows {
        train: Vec::new(),
        validation: Vec::new(),
        factors: Vec::new(),
        scales: Vec::new(),
        cut: 0,
        only_unknown: 0,
        empty_labels: outputs.empty_labels(data.examples, &known),
    };
    rows.train = encode(model, data.examples, known, &mut rows)?;
    let known = outputs.known(data.validation)?;
    rows.validation = encode(model, data.validation, known, &mut rows)?;
    if rows.validation.is_empty() && options.validation_share > 0.0 {
        rows.validation = held_out::split(&mut rows.train, data.heads, options)?;
    }
    if rows.train.iter().all(|row| row.weight == 0.0) {
        return Err(SlmError::NoExamples);
    }
    rows.factors = match outputs.factors(&options.class_weights)? {
        Some(factors) => factors,
        None => balanced(&rows.train, data.heads),
    };
    rows.scales = scales(&rows.train, data.heads);
    for row in rows.train.iter_mut().chain(&mut rows.validation) {
        scale(row, &rows.scales, data.heads);
    }
    Ok(rows)
}

fn encode(
    model: &Model,
    examples: &[Example],
    known: Vec<Known>,
    notes: &mut Rows,
) -> Result<Vec<Row>, SlmError> {
    let texts: Vec<&str> = examples.iter().map(|e| e.text.as_str()).collect();
    let encoded = model.tokens.encode(&texts)?;
    let unknown = encoded.iter().filter(|e| e.only_unknown).count();
    if unknown * UNKNOWN_ONE_IN > encoded.len() {
        return Err(SlmError::UnknownTexts {
            count: unknown,
            of: encoded.len(),
            first: encoded.iter().position(|e| e.only_unknown).unwrap_or(0),
        });
    }
    notes.cut += encoded.iter().filter(|e| e.cut).count();
    notes.only_unknown += unknown;
    let rows = encoded.into_iter().zip(known).zip(examples);
    let rows = rows.map(|((encoded, known), example)| Row {
        ids: encoded.ids,
        head: example.head,
        known,
        unit: example.unit,
        weight: example.weight,
        synthetic: example.synthetic,
    });
    Ok(rows.collect())
}

/// Factors by which each label of a single-label head has the same total, with the sum over the
/// head as it was; and by which yes and no weigh the same for each label of a multi-label head.
fn balanced(rows: &[Row], heads: &[Head]) -> Vec<f32> {
    let mut totals = vec![0.0f64; heads::outputs(heads)];
    let mut of_head = vec![0.0f64; heads.len()];
    for row in rows {
        let weight = f64::from(row.weight);
        of_head[row.head] += weight;
        match &row.known {
            Known::Label(output) => totals[*output] += weight,
            // By the likeliest: a label that many texts have a trace of is not one to weigh up.
            Known::Shares(shares) => {
                likeliest(shares)
                    .into_iter()
                    .for_each(|output| totals[output] += weight);
            }
            Known::Labels(outputs) => outputs.iter().for_each(|o| totals[*o] += weight),
            Known::Numbers(_) => {}
        }
    }
    let mut factors = vec![1.0; totals.len()];
    for ((head, range), all) in heads.iter().zip(heads::ranges(heads)).zip(of_head) {
        let used = totals[range.clone()].iter().filter(|t| **t > 0.0).count();
        for output in range {
            let total = totals[output];
            factors[output] = match head.task {
                _ if total == 0.0 => 1.0,
                Task::SingleLabel => (all / (used as f64 * total)) as f32,
                // A label that nearly every row has is not weighed down to nothing.
                Task::MultiLabel => ((all - total) / total).clamp(0.1, 100.0) as f32,
                Task::Number => 1.0,
            };
        }
    }
    factors
}

/// Numbers whose deviation is smaller beside the largest of them differ by rounding alone.
const ALIKE: f64 = 1e-12;

/// Mean and deviation of the numbers that the training rows know, by output.
fn scales(rows: &[Row], heads: &[Head]) -> Vec<(f64, f64)> {
    let ranges = heads::ranges(heads);
    let mut scales = vec![(0.0, 1.0); heads::outputs(heads)];
    for (index, head) in heads.iter().enumerate() {
        if head.task != Task::Number {
            continue;
        }
        for (place, output) in ranges[index].clone().enumerate() {
            let values = rows.iter().filter(|row| row.head == index);
            let values = values.filter_map(|row| match &row.known {
                Known::Numbers(numbers) => Some(numbers[place]),
                _ => None,
            });
            let values: Vec<f64> = values.collect();
            let count = values.len().max(1) as f64;
            let mean = values.iter().sum::<f64>() / count;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
            let largest = values
                .iter()
                .fold(0.0, |so_far: f64, v| so_far.max(v.abs()));
            scales[output] = match variance.sqrt() {
                deviation if deviation > ALIKE * largest => (mean, deviation),
                // Numbers that are all alike stay a distance of zero from their mean.
                _ if largest > 0.0 => (mean, largest),
                _ => (mean, 1.0),
            };
        }
    }
    scales
}

fn scale(row: &mut Row, scales: &[(f64, f64)], heads: &[Head]) {
    let start = heads::ranges(heads)[row.head].start;
    if let Known::Numbers(numbers) = &mut row.known {
        for (number, (mean, deviation)) in numbers.iter_mut().zip(&scales[start..]) {
            *number = (*number - mean) / deviation;
        }
    }
}

/// How a batch becomes numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filling<'f> {
    /// Rows of the session; missing ones are padding.
    pub size: usize,
    /// The heads.
    pub heads: &'f [Head],
    /// The id rows are padded with.
    pub pad: u32,
    /// How targets weigh.
    pub weighing: Weighing<'f>,
}

/// Pads a batch to its session's shape.
pub(super) fn fill(rows: &[Row], batch: &Batch, filling: Filling<'_>) -> Inputs {
    let size = filling.size;
    let chosen = batch.rows.iter().map(|&row| &rows[row]);
    let mut inputs = Inputs {
        ids: vec![i64::from(filling.pad); size * batch.length],
        mask: vec![0; size * batch.length],
        loss: loss::fill(filling.heads, chosen.clone(), size, filling.weighing),
    };
    for (at, row) in chosen.enumerate() {
        for (column, &id) in row.ids.iter().take(batch.length).enumerate() {
            inputs.ids[at * batch.length + column] = i64::from(id);
            inputs.mask[at * batch.length + column] = 1;
        }
    }
    inputs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(target: usize, weight: f32) -> Row {
        Row {
            ids: vec![2, 7, 3],
            head: 0,
            known: Known::Label(target),
            unit: None,
            weight,
            synthetic: false,
        }
    }

    #[test]
    fn balanced_labels_have_equal_totals_and_the_sum_stays() {
        let rows = vec![row(0, 1.0), row(0, 1.0), row(0, 1.0), row(2, 0.5)];
        let factors = balanced(&rows, &[Head::single(["a", "b", "c"])]);
        let total = |label: usize| -> f32 {
            let of_label = rows.iter().filter(|r| r.known == Known::Label(label));
            of_label.map(|r| r.weight * factors[label]).sum()
        };
        assert!((total(0) - total(2)).abs() < 1e-6);
        assert!((total(0) + total(2) - 3.5).abs() < 1e-6);
    }

    #[test]
    fn yes_and_no_balance_for_each_label_of_many() {
        let many = |labels: &[usize]| Row {
            known: Known::Labels(labels.to_vec()),
            ..row(0, 1.0)
        };
        let rows = [many(&[0]), many(&[]), many(&[1, 0]), many(&[0])];
        let factors = balanced(&rows, &[Head::only(Task::MultiLabel, ["a", "b"])]);
        assert!((factors[0] - 1.0 / 3.0).abs() < 1e-6 && (factors[1] - 3.0).abs() < 1e-6);
    }

    #[test]
    fn numbers_are_scaled_to_mean_0_and_deviation_1() {
        let heads = [Head::only(Task::Number, ["age"])];
        let number = |value: f64| Row {
            known: Known::Numbers(vec![value]),
            ..row(0, 1.0)
        };
        let mut rows = vec![number(10.0), number(20.0), number(30.0)];
        let scales = scales(&rows, &heads);
        rows.iter_mut().for_each(|row| scale(row, &scales, &heads));
        let expected = 1.5f64.sqrt();
        let Known::Numbers(first) = &rows[0].known else {
            panic!()
        };
        assert!((first[0] + expected).abs() < 1e-5, "{first:?}");
        assert_eq!(scales[0].0, 20.0);
    }

    #[test]
    fn the_unit_of_numbers_and_their_zero_do_not_change_what_is_trained() {
        let heads = [Head::only(Task::Number, ["age"])];
        let scaled = |values: [f64; 3]| {
            let number = |value: f64| Row {
                known: Known::Numbers(vec![value]),
                ..row(0, 1.0)
            };
            let mut rows = values.map(number);
            let scales = scales(&rows, &heads);
            rows.iter_mut().for_each(|row| scale(row, &scales, &heads));
            rows.map(|row| match row.known {
                Known::Numbers(numbers) => numbers[0],
                other => panic!("{other:?}"),
            })
        };
        let usual = scaled([1.0, 2.0, 3.0]);
        for values in [
            [1e-7, 2e-7, 3e-7],
            [1e-30, 2e-30, 3e-30],
            [1e8 + 1.0, 1e8 + 2.0, 1e8 + 3.0],
        ] {
            for (told, wanted) in scaled(values).iter().zip(usual) {
                assert!((told - wanted).abs() < 1e-6, "{values:?}: {told} {wanted}");
            }
        }
        for alike in [0.0, 0.1, 1e9 + 0.1] {
            assert!(scaled([alike; 3]).iter().all(|told| told.abs() < 1e-9));
        }
    }

    #[test]
    fn a_batch_is_padded_to_its_sessions_shape() {
        let rows = vec![row(1, 0.5), row(0, 2.0)];
        let batch = Batch {
            rows: vec![1, 0],
            length: 4,
        };
        let heads = [Head::single(["a", "b"])];
        let filling = Filling {
            size: 3,
            heads: &heads,
            pad: 9,
            weighing: Weighing {
                scale: 0.25,
                smoothing: 0.0,
                factors: &[1.0; 2],
            },
        };
        let inputs = fill(&rows, &batch, filling);
        assert_eq!(inputs.ids, [2, 7, 3, 9, 2, 7, 3, 9, 9, 9, 9, 9]);
        assert_eq!(inputs.mask, [1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 0, 0]);
        assert_eq!(inputs.loss, [[0.5, 0.0, 0.0, 0.125, 0.0, 0.0]]);
    }
}
