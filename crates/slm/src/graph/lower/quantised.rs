//! Products with weights of 8 bits: smaller files, faster serving, a little less exact.
//!
//! ```text
//! x ── DynamicQuantizeLinear ── MatMulInteger ── Cast ── Mul (scale of x, scales of columns) ── Add bias
//! ```
//!
//! A weight's column (one output) has one scale and is symmetric; the other operand is quantised as
//! a whole while the graph runs. All of it is ONNX's own, and ONNX Runtime fuses it into one
//! operator. Tables, norms and biases stay f32.
//!
//! Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient
//! Integer-Arithmetic-Only Inference", 2018, eq. 1 to 4.

use std::borrow::Cow;

use super::super::onnx::{Attribute, OnnxNode, OnnxTensor, Values};
use super::Lowering;
use crate::error::SlmError;
use crate::params::Parameters;

impl Lowering<'_, '_> {
    /// `x w^T + b` with `w` quantised.
    pub(super) fn quantised_linear(
        &mut self,
        parameters: &Parameters,
        inputs: &[String],
        output: String,
    ) -> Result<(), SlmError> {
        let (x, weight) = (&inputs[0], &inputs[1]);
        let (name, scales) = (format!("{weight}^T:int8"), format!("{weight}:scales"));
        if !self.onnx.initializers.iter().any(|t| t.name == name) {
            let array = parameters.get(weight)?;
            let (rows, columns) = (array.shape[0], array.shape[1]);
            let (values, factors) = quantise(&array.data, rows, columns);
            self.onnx.initializers.retain(|t| t.name != *weight);
            self.onnx.initializers.push(OnnxTensor {
                name: name.clone(),
                shape: vec![columns as i64, rows as i64],
                values: Values::I8(values),
            });
            self.onnx.initializers.push(OnnxTensor {
                name: scales.clone(),
                shape: vec![rows as i64],
                values: Values::F32(Cow::Owned(factors)),
            });
        }
        let [bytes, scale, zero] = [(); 3].map(|()| self.helper());
        self.onnx.nodes.push(OnnxNode {
            domain: "",
            op: "DynamicQuantizeLinear",
            inputs: vec![x.clone()],
            outputs: vec![bytes.clone(), scale.clone(), zero.clone()],
            attributes: vec![],
        });
        let [sums, floats, factor, product] = [(); 4].map(|()| self.helper());
        self.emit(
            "MatMulInteger",
            vec![bytes, name, zero],
            sums.clone(),
            vec![],
        );
        let to_float = vec![("to", Attribute::Int(1))];
        self.emit("Cast", vec![sums], floats.clone(), to_float);
        self.emit("Mul", vec![scale, scales], factor.clone(), vec![]);
        match inputs.get(2) {
            None => self.emit("Mul", vec![floats, factor], output, vec![]),
            Some(bias) => {
                self.emit("Mul", vec![floats, factor], product.clone(), vec![]);
                self.emit("Add", vec![product, bias.clone()], output, vec![]);
            }
        }
        Ok(())
    }
}

/// A matrix `[rows, columns]` turned and rounded to `-127..=127`, and one factor a row.
fn quantise(values: &[f32], rows: usize, columns: usize) -> (Vec<i8>, Vec<f32>) {
    let mut out = vec![0i8; values.len()];
    let mut factors = Vec::with_capacity(rows);
    for (r, row) in values.chunks_exact(columns).enumerate() {
        let largest = row.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        let factor = if largest > 0.0 { largest / 127.0 } else { 1.0 };
        for (c, value) in row.iter().enumerate() {
            out[c * rows + r] = (value / factor).round() as i8;
        }
        factors.push(factor);
    }
    (out, factors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rounded_weight_is_off_by_half_a_step_at_most() {
        let values = [0.5, -1.0, 0.25, 0.0, 0.0, 0.0];
        let (rounded, factors) = quantise(&values, 2, 3);
        assert_eq!(factors[1], 1.0);
        for (index, value) in values.iter().enumerate() {
            let (r, c) = (index / 3, index % 3);
            let back = f32::from(rounded[c * 2 + r]) * factors[r];
            assert!(
                (back - value).abs() <= factors[r] / 2.0,
                "{back} vs {value}"
            );
        }
    }
}
