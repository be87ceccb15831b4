//! Matrix products: ONNX's own `Gemm` and `MatMul`, or our kernels of bf16 numbers.

use std::borrow::Cow;

use super::super::onnx::{Attribute, OnnxNode, OnnxTensor, Values, sizes, transposed};
use super::super::{Dim, Node, TensorId};
use super::{Lowering, Target, Weights};
use crate::error::SlmError;

/// The smallest size of a product that is worth packing as bf16.
const BF16_FROM: usize = 32;

impl Lowering<'_, '_> {
    /// Fixed sizes: `Gemm` over all rows. Symbolic axes: `MatMul` with the weight baked transposed,
    /// which ONNX Runtime packs once and runs as one product.
    pub(super) fn linear(
        &mut self,
        node: &Node,
        mut inputs: Vec<String>,
        output: String,
    ) -> Result<(), SlmError> {
        let x = self.graph.shape(node.inputs[0]).to_vec();
        let width = self.graph.shape(node.outputs[0])[x.len() - 1];
        if let Weights::Quantised(parameters) = self.weights {
            return self.quantised_linear(parameters, &inputs, output);
        }
        if let Weights::Baked(parameters) = self.weights {
            let array = parameters.get(&inputs[1])?;
            let name = format!("{}^T", inputs[1]);
            if !self.onnx.initializers.iter().any(|t| t.name == name) {
                let (rows, columns) = (array.shape[0], array.shape[1]);
                self.onnx.initializers.push(OnnxTensor {
                    name: name.clone(),
                    shape: vec![columns as i64, rows as i64],
                    values: Values::F32(Cow::Owned(transposed(&array.data, rows, columns))),
                });
                let original = &inputs[1];
                self.onnx.initializers.retain(|t| t.name != *original);
            }
            let product = self.helper();
            let operands = vec![inputs[0].clone(), name];
            match inputs.get(2) {
                None => self.emit("MatMul", operands, output, vec![]),
                Some(bias) => {
                    let bias = bias.clone();
                    self.emit("MatMul", operands, product.clone(), vec![]);
                    self.emit("Add", vec![product, bias], output, vec![]);
                }
            }
            return Ok(());
        }
        if self.is_large(node, false, true) {
            self.product(inputs, output, false, true);
            return Ok(());
        }
        let attributes = vec![("transB", Attribute::Int(1))];
        if x.len() == 2 {
            self.emit("Gemm", inputs, output, attributes);
            return Ok(());
        }
        let flat = self.helper();
        let target = self.integers(vec![-1, sizes(&x)[x.len() - 1]]);
        self.emit(
            "Reshape",
            vec![inputs[0].clone(), target],
            flat.clone(),
            vec![],
        );
        inputs[0] = flat;
        let product = self.helper();
        self.emit("Gemm", inputs, product.clone(), attributes);
        let mut shape = x;
        *shape.last_mut().expect("a linear operand has a last axis") = width;
        let target = self.integers(sizes(&shape));
        self.emit("Reshape", vec![product, target], output, vec![]);
        Ok(())
    }

    /// Is this a product of fixed sizes, all of them large, for which bf16 was asked?
    fn is_large(&self, node: &Node, left: bool, right: bool) -> bool {
        let size = |id: TensorId| -> Vec<usize> {
            let dims = self.graph.shape(id).iter().map(|dim| match dim {
                Dim::Size(size) => *size,
                _ => 0,
            });
            dims.collect()
        };
        let (a, b) = (size(node.inputs[0]), size(node.inputs[1]));
        let width = a[a.len() - 1];
        let rows = a.iter().product::<usize>() / width.max(1);
        let (m, k) = if left { (width, rows) } else { (rows, width) };
        let n = if right { b[0] } else { b[1] };
        self.target == Target::KernelsBf16 && m.min(n).min(k) >= BF16_FROM
    }

    fn product(&mut self, inputs: Vec<String>, output: String, left: bool, right: bool) {
        self.onnx.nodes.push(OnnxNode {
            domain: crate::kernels::DOMAIN,
            op: if inputs.len() == 3 {
                "ProductBias"
            } else {
                "Product"
            },
            inputs,
            outputs: vec![output],
            attributes: vec![
                ("transA", Attribute::Int(i64::from(left))),
                ("transB", Attribute::Int(i64::from(right))),
            ],
        });
    }

    pub(super) fn matmul(
        &mut self,
        node: &Node,
        mut inputs: Vec<String>,
        output: String,
        left: bool,
        right: bool,
    ) {
        let rank = self.graph.shape(node.inputs[0]).len();
        if rank == 2 && self.is_large(node, left, right) {
            self.product(inputs, output, left, right);
            return;
        }
        if rank == 2 {
            let attributes = vec![
                ("transA", Attribute::Int(i64::from(left))),
                ("transB", Attribute::Int(i64::from(right))),
            ];
            self.emit("Gemm", inputs, output, attributes);
            return;
        }
        // ONNX Runtime fuses these transposes into the product.
        let mut order: Vec<i64> = (0..rank as i64).collect();
        order.swap(rank - 1, rank - 2);
        for (operand, flip) in [left, right].into_iter().enumerate() {
            if flip {
                let turned = self.helper();
                let attributes = vec![("perm", Attribute::Ints(order.clone()))];
                self.emit(
                    "Transpose",
                    vec![inputs[operand].clone()],
                    turned.clone(),
                    attributes,
                );
                inputs[operand] = turned;
            }
        }
        self.emit("MatMul", inputs, output, vec![]);
    }
}
