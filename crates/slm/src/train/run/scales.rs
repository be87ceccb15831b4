//! Heads of numbers are trained on scaled ones: mean 0, deviation 1.

use crate::error::SlmError;
use crate::model::heads::Task;
use crate::model::{Model, names};
use crate::params::Parameters;

/// Makes the head speak in scaled numbers, which are what is trained.
pub(super) fn descale(model: &mut Model, scales: &[(f64, f64)]) -> Result<(), SlmError> {
    if model.heads.iter().all(|head| head.task != Task::Number) {
        return Ok(());
    }
    // A head that was just made speaks in scaled numbers as it is: its biases are exactly 0, which
    // no training leaves. To shift it would have it begin at `-mean / deviation`, far away.
    let biases = &model.weights.get(names::HEAD_BIAS)?.data;
    let inverse: Vec<(f64, f64)> = scales
        .iter()
        .zip(biases)
        .map(|((mean, deviation), bias)| match *bias {
            0.0 => (0.0, 1.0),
            _ => (-mean / deviation, 1.0 / deviation),
        })
        .collect();
    rescale(&mut model.weights, &inverse)
}

/// Makes the head speak in the numbers of the examples: `deviation * (w x + b) + mean`.
pub(super) fn rescale(weights: &mut Parameters, scales: &[(f64, f64)]) -> Result<(), SlmError> {
    if scales.iter().all(|scale| *scale == (0.0, 1.0)) {
        return Ok(());
    }
    let mut matrix = weights.get(names::HEAD_WEIGHT)?.clone();
    let mut bias = weights.get(names::HEAD_BIAS)?.clone();
    let width = matrix.shape[1];
    let rows = matrix.data.chunks_exact_mut(width).zip(&mut bias.data);
    for ((row, bias), (mean, deviation)) in rows.zip(scales) {
        let scaled = |value: f32| f64::from(value) * deviation;
        row.iter_mut()
            .for_each(|value| *value = scaled(*value) as f32);
        *bias = (scaled(*bias) + mean) as f32;
    }
    weights.insert(names::HEAD_WEIGHT, matrix);
    weights.insert(names::HEAD_BIAS, bias);
    Ok(())
}
