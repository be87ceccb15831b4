//! The gradients that are one operator of ours, or a handful of ONNX's.

use super::super::onnx::{Attribute, OnnxNode};
use super::{Lowering, Target};
use crate::graph::{Node, OnnxTensor, Op, Values};
use crate::kernels;

impl Lowering<'_, '_> {
    /// `GeluGrad`, `SoftmaxGrad` and `LayerNormGrad`.
    pub(super) fn gradient(&mut self, node: &Node, inputs: Vec<String>) {
        let outputs: Vec<String> = node.outputs.iter().map(|&id| self.name(id)).collect();
        if self.target != Target::Plain {
            self.onnx.nodes.push(OnnxNode {
                domain: kernels::DOMAIN,
                op: match node.op {
                    Op::GeluGrad => "GeluGrad",
                    Op::SoftmaxGrad => "SoftmaxGrad",
                    _ => "LayerNormGrad",
                },
                inputs,
                outputs,
                attributes: vec![],
            });
            return;
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        match node.op {
            Op::GeluGrad => self.gelu(inputs[0], inputs[1], &outputs[0]),
            Op::SoftmaxGrad => self.softmax(inputs[0], inputs[1], &outputs[0]),
            _ => {
                let rank = self.graph.shape(node.inputs[0]).len();
                let live: Vec<bool> = node.outputs.iter().map(|&id| self.is_live(id)).collect();
                self.layer_norm(&inputs, &outputs, &live, rank);
            }
        }
    }

    /// `dy (Phi(x) + x phi(x))`.
    ///
    /// Source: Hendrycks, Gimpel, "Gaussian Error Linear Units", 2016.
    fn gelu(&mut self, dy: &str, x: &str, dx: &str) {
        let (half, root) = (self.float(0.5), self.float(std::f32::consts::FRAC_1_SQRT_2));
        let scaled = self.two("Mul", x, &root);
        let erf = self.one("Erf", &scaled);
        let below = self.two("Mul", &erf, &half);
        let below = self.two("Add", &below, &half);
        let square = self.two("Mul", x, x);
        let minus_half = self.float(-0.5);
        let exponent = self.two("Mul", &square, &minus_half);
        let bell = self.one("Exp", &exponent);
        let height = self.float(1.0 / (2.0 * std::f32::consts::PI).sqrt());
        let density = self.two("Mul", &bell, &height);
        let weighted = self.two("Mul", x, &density);
        let slope = self.two("Add", &below, &weighted);
        self.emit("Mul", vec![dy.to_owned(), slope], dx.to_owned(), vec![]);
    }

    /// `y (dy - sum(dy y))`.
    fn softmax(&mut self, dy: &str, y: &str, dx: &str) {
        let weighted = self.two("Mul", dy, y);
        let total = self.reduced("ReduceSum", &weighted, vec![-1], true);
        let centred = self.two("Sub", dy, &total);
        self.emit("Mul", vec![y.to_owned(), centred], dx.to_owned(), vec![]);
    }

    /// With `h = (x - mean) r` and `d = dy scale`: `dx = r (d - mean(d) - h mean(d h))`,
    /// `dscale = sum(dy h)`, `dbias = sum(dy)`.
    ///
    /// Source: Ba, Kiros, Hinton, "Layer Normalization", 2016.
    fn layer_norm(&mut self, inputs: &[&str], outputs: &[String], live: &[bool], rank: usize) {
        let &[dy, x, scale, mean, inverse] = inputs else {
            unreachable!("the builder gives five operands")
        };
        let centred = self.two("Sub", x, mean);
        let normed = self.two("Mul", &centred, inverse);
        if live[0] {
            let d = self.two("Mul", dy, scale);
            let along = self.two("Mul", &d, &normed);
            let mean_along = self.reduced("ReduceMean", &along, vec![-1], true);
            let mean_d = self.reduced("ReduceMean", &d, vec![-1], true);
            let parallel = self.two("Mul", &normed, &mean_along);
            let without_mean = self.two("Sub", &d, &mean_d);
            let orthogonal = self.two("Sub", &without_mean, &parallel);
            let operands = vec![orthogonal, inverse.to_owned()];
            self.emit("Mul", operands, outputs[0].clone(), vec![]);
        }
        let rows: Vec<i64> = (0..rank as i64 - 1).collect();
        let weighted = match live[1] {
            true => self.two("Mul", dy, &normed),
            false => String::new(),
        };
        for (index, operand) in [(1, weighted.as_str()), (2, dy)] {
            if live[index] {
                let sum = self.reduced("ReduceSum", operand, rows.clone(), false);
                self.emit("Identity", vec![sum], outputs[index].clone(), vec![]);
            }
        }
    }

    fn float(&mut self, value: f32) -> String {
        let name = self.helper();
        self.onnx.initializers.push(OnnxTensor {
            name: name.clone(),
            shape: vec![],
            values: Values::F32(vec![value].into()),
        });
        name
    }

    fn one(&mut self, op: &'static str, x: &str) -> String {
        let out = self.helper();
        self.emit(op, vec![x.to_owned()], out.clone(), vec![]);
        out
    }

    fn two(&mut self, op: &'static str, a: &str, b: &str) -> String {
        let out = self.helper();
        self.emit(op, vec![a.to_owned(), b.to_owned()], out.clone(), vec![]);
        out
    }

    fn reduced(&mut self, op: &'static str, x: &str, axes: Vec<i64>, keep: bool) -> String {
        let (axes, out) = (self.integers(axes), self.helper());
        let attributes = vec![("keepdims", Attribute::Int(i64::from(keep)))];
        self.emit(op, vec![x.to_owned(), axes], out.clone(), attributes);
        out
    }
}
