//! What moves numbers or sums them along axes.

use super::super::onnx::Attribute;
use super::super::{Dim, Node, shape_error};
use super::Lowering;
use crate::error::SlmError;

impl Lowering<'_, '_> {
    pub(super) fn reduce(
        &mut self,
        op: &'static str,
        mut inputs: Vec<String>,
        output: String,
        axes: &[usize],
        keep: bool,
    ) {
        inputs.push(self.integers(axes.iter().map(|&axis| axis as i64).collect()));
        let attributes = vec![("keepdims", Attribute::Int(i64::from(keep)))];
        self.emit(op, inputs, output, attributes);
    }

    pub(super) fn rows(
        &mut self,
        node: &Node,
        inputs: &[String],
        output: String,
        start: usize,
        axis: usize,
    ) {
        let first = self.integers(vec![start as i64]);
        let end = match self.graph.shape(node.inputs[1])[axis] {
            Dim::Size(size) => self.integers(vec![(start + size) as i64]),
            _ => {
                let (length, end) = (self.helper(), self.helper());
                let attributes = vec![
                    ("start", Attribute::Int(axis as i64)),
                    ("end", Attribute::Int(axis as i64 + 1)),
                ];
                self.emit("Shape", vec![inputs[1].clone()], length.clone(), attributes);
                self.emit("Add", vec![length, first.clone()], end.clone(), vec![]);
                end
            }
        };
        let axes = self.integers(vec![0]);
        let operands = vec![inputs[0].clone(), first, end, axes];
        self.emit("Slice", operands, output, vec![]);
    }

    /// ONNX's notation: 0 copies the axis at the same place, one -1 is worked out.
    pub(super) fn reshape_target(&self, node: &Node) -> Result<Vec<i64>, SlmError> {
        let from = self.graph.shape(node.inputs[0]);
        let to = self.graph.shape(node.outputs[0]);
        let mut inferred = 0;
        let target = to
            .iter()
            .enumerate()
            .map(|(axis, dim)| match dim {
                Dim::Size(size) => *size as i64,
                symbol if from.get(axis) == Some(symbol) => 0,
                _ => {
                    inferred += 1;
                    -1
                }
            })
            .collect();
        if inferred > 1 {
            return Err(shape_error("reshape", from, to));
        }
        Ok(target)
    }
}
