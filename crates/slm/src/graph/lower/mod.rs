//! From the IR to plain ONNX nodes (opset 20), shared by both back ends.
//!
//! Nodes that no output needs are left out here, so builders and VJPs may be generous.

mod gradients;
mod quantised;

use std::borrow::Cow;
use std::collections::HashSet;

use super::live::live;
use super::onnx::{
    Attribute, OnnxGraph, OnnxNode, OnnxTensor, Values, last_axis, sizes, transposed,
};
use super::{Dim, Graph, Node, Op, Origin, TensorId};
use crate::error::SlmError;
use crate::params::Parameters;

/// How parameters enter the graph.
#[derive(Clone, Copy, Debug)]
pub enum Weights<'p> {
    /// As inputs: for training.
    Fed,
    /// As initializers with these values: for serving, where ONNX Runtime prepacks them.
    Baked(&'p Parameters),
    /// As [`Baked`](Self::Baked), the matrices of products as 8-bit integers: see `quantised`.
    Quantised(&'p Parameters),
    /// As parts of a few long vectors that are fed: for an optimizer inside the graph.
    Packed(&'p [Pack]),
}

/// A vector of weights, one after the other.
#[derive(Clone, Debug, Default)]
pub struct Pack {
    /// Name of the input that holds it.
    pub name: String,
    /// Names and shapes of the weights, in order.
    pub parts: Vec<(String, Vec<usize>)>,
}

impl Pack {
    /// Numbers of all weights together.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lengths().sum()
    }

    /// Does it hold nothing?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    fn lengths(&self) -> impl Iterator<Item = usize> + '_ {
        self.parts.iter().map(|(_, shape)| shape.iter().product())
    }
}

/// Which operators the graph may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// ONNX's own: for files, for cards, for any library.
    #[default]
    Plain,
    /// Ours too, which a session of this crate knows on a processor.
    Kernels,
    /// Ours, and large products are made of bf16 numbers.
    KernelsBf16,
}

/// The smallest size of a product that is worth packing as bf16.
const BF16_FROM: usize = 32;

/// Writes `graph` in ONNX's own terms.
///
/// # Errors
/// As [`lower_for`].
pub fn lower<'p>(graph: &Graph, weights: Weights<'p>) -> Result<OnnxGraph<'p>, SlmError> {
    lower_for(graph, weights, Target::Plain)
}

/// Writes `graph` in ONNX's terms, with the operators of `target`.
///
/// # Errors
/// [`SlmError::WeightMissing`] if a baked weight is absent; [`SlmError::Shape`] for a reshape whose
/// symbolic axes ONNX cannot express.
pub fn lower_for<'p>(
    graph: &Graph,
    weights: Weights<'p>,
    target: Target,
) -> Result<OnnxGraph<'p>, SlmError> {
    let mut lowering = Lowering {
        graph,
        weights,
        target,
        live: live(graph),
        onnx: OnnxGraph::default(),
        helpers: 0,
    };
    lowering.tensors()?;
    if let Weights::Packed(packs) = weights {
        packs.iter().for_each(|pack| lowering.unpack(pack));
    }
    for node in &graph.nodes {
        if node.outputs.iter().any(|&o| lowering.is_live(o)) {
            lowering.node(node)?;
        }
    }
    for (name, id) in &graph.outputs {
        let info = graph.tensor(*id);
        let (shape, dtype) = (info.shape.clone(), info.dtype);
        lowering.emit("Identity", vec![info.name.clone()], name.clone(), vec![]);
        lowering.onnx.outputs.push((name.clone(), dtype, shape));
    }
    Ok(lowering.onnx)
}

struct Lowering<'g, 'p> {
    graph: &'g Graph,
    weights: Weights<'p>,
    target: Target,
    live: HashSet<TensorId>,
    onnx: OnnxGraph<'p>,
    helpers: usize,
}

impl<'p> Lowering<'_, 'p> {
    fn is_live(&self, id: TensorId) -> bool {
        self.live.contains(&id)
    }

    fn name(&self, id: TensorId) -> String {
        self.graph.tensor(id).name.clone()
    }

    /// Declares inputs, weights and constants.
    fn tensors(&mut self) -> Result<(), SlmError> {
        for (index, info) in self.graph.tensors.iter().enumerate() {
            if !self.is_live(TensorId(index)) {
                continue;
            }
            match (&info.origin, self.weights) {
                (Origin::Node(_), _) | (Origin::Parameter, Weights::Packed(_)) => {}
                (Origin::Input, _) | (Origin::Parameter, Weights::Fed) => {
                    let input = (info.name.clone(), info.dtype, info.shape.clone());
                    self.onnx.inputs.push(input);
                }
                (
                    Origin::Parameter,
                    Weights::Baked(parameters) | Weights::Quantised(parameters),
                ) => {
                    let array = parameters.get(&info.name)?;
                    self.onnx.initializers.push(OnnxTensor {
                        name: info.name.clone(),
                        shape: array.shape.iter().map(|&n| n as i64).collect(),
                        values: Values::F32(Cow::Borrowed(&array.data)),
                    });
                }
                (Origin::Constant(values), _) => self.onnx.initializers.push(OnnxTensor {
                    name: info.name.clone(),
                    shape: sizes(&info.shape),
                    values: Values::F32(Cow::Owned(values.clone())),
                }),
            }
        }
        Ok(())
    }

    /// Cuts a pack into the weights that are needed.
    fn unpack(&mut self, pack: &Pack) {
        let live: HashSet<&str> = self
            .live
            .iter()
            .map(|&id| self.graph.tensor(id))
            .filter(|info| info.origin == Origin::Parameter)
            .map(|info| info.name.as_str())
            .collect();
        if !pack
            .parts
            .iter()
            .any(|(name, _)| live.contains(name.as_str()))
        {
            return;
        }
        let shape = vec![Dim::Size(pack.len())];
        if !self.onnx.inputs.iter().any(|(name, ..)| *name == pack.name) {
            let input = (pack.name.clone(), super::Dtype::F32, shape);
            self.onnx.inputs.push(input);
        }
        let width = super::build::grain(pack.lengths());
        let (tall, rows) = (self.helper(), pack.len() / width);
        let target = self.integers(vec![rows as i64, width as i64]);
        self.emit(
            "Reshape",
            vec![pack.name.clone(), target],
            tall.clone(),
            vec![],
        );
        let lengths = pack.lengths().map(|n| (n / width) as i64).collect();
        let lengths = self.integers(lengths);
        let flat: Vec<String> = pack.parts.iter().map(|_| self.helper()).collect();
        self.onnx.nodes.push(OnnxNode {
            domain: "",
            op: "Split",
            inputs: vec![tall, lengths],
            outputs: flat.clone(),
            attributes: vec![("axis", Attribute::Int(0))],
        });
        for ((name, shape), flat) in pack.parts.iter().zip(flat) {
            if live.contains(name.as_str()) {
                let target = self.integers(shape.iter().map(|&n| n as i64).collect());
                self.emit("Reshape", vec![flat, target], name.clone(), vec![]);
            }
        }
    }

    fn emit(
        &mut self,
        op: &'static str,
        inputs: Vec<String>,
        output: String,
        attributes: Vec<(&'static str, Attribute)>,
    ) {
        self.onnx.nodes.push(OnnxNode {
            domain: "",
            op,
            inputs,
            outputs: vec![output],
            attributes,
        });
    }

    /// A fresh name for something the IR has no name for.
    fn helper(&mut self) -> String {
        self.helpers += 1;
        format!("h{}", self.helpers)
    }

    fn integers(&mut self, values: Vec<i64>) -> String {
        let name = self.helper();
        self.onnx.initializers.push(OnnxTensor {
            name: name.clone(),
            shape: vec![values.len() as i64],
            values: Values::I64(values),
        });
        name
    }

    fn node(&mut self, node: &Node) -> Result<(), SlmError> {
        let inputs: Vec<String> = node.inputs.iter().map(|&id| self.name(id)).collect();
        let output = self.name(node.outputs[0]);
        let simple = match &node.op {
            Op::Add => "Add",
            Op::Sub => "Sub",
            Op::Mul => "Mul",
            Op::Div => "Div",
            Op::Max => "Max",
            Op::Neg => "Neg",
            Op::Exp => "Exp",
            Op::Sqrt => "Sqrt",
            Op::Erf => "Erf",
            Op::Tanh => "Tanh",
            Op::Sigmoid => "Sigmoid",
            Op::Relu => "Relu",
            Op::Gelu => "Gelu",
            Op::Gather => "Gather",
            _ => return self.compound(node, inputs, output),
        };
        self.emit(simple, inputs, output, vec![]);
        Ok(())
    }

    fn compound(
        &mut self,
        node: &Node,
        mut inputs: Vec<String>,
        output: String,
    ) -> Result<(), SlmError> {
        match &node.op {
            Op::Softmax => self.emit("Softmax", inputs, output, last_axis()),
            Op::LogSoftmax => self.emit("LogSoftmax", inputs, output, last_axis()),
            Op::Linear => self.linear(node, inputs, output)?,
            Op::MatMul { left, right } => self.matmul(node, inputs, output, *left, *right),
            Op::LayerNorm { epsilon } => {
                let wanted = |id: &TensorId| match self.is_live(*id) {
                    true => self.name(*id),
                    false => String::new(),
                };
                let mut outputs: Vec<String> = node.outputs.iter().map(wanted).collect();
                while outputs.last().is_some_and(String::is_empty) {
                    outputs.pop();
                }
                let mut attributes = last_axis();
                attributes.push(("epsilon", Attribute::Float(*epsilon)));
                self.onnx.nodes.push(OnnxNode {
                    domain: "",
                    op: "LayerNormalization",
                    inputs,
                    outputs,
                    attributes,
                });
            }
            Op::Step => {
                let positive = self.helper();
                self.emit("Relu", inputs, positive.clone(), vec![]);
                self.emit("Sign", vec![positive], output, vec![]);
            }
            Op::Reshape => {
                let target = self.reshape_target(node)?;
                inputs.push(self.integers(target));
                self.emit("Reshape", inputs, output, vec![]);
            }
            Op::Transpose(order) => {
                let order = order.iter().map(|&axis| axis as i64).collect();
                let attributes = vec![("perm", Attribute::Ints(order))];
                self.emit("Transpose", inputs, output, attributes);
            }
            Op::ReduceSum { axes, keep } => self.reduce("ReduceSum", inputs, output, axes, *keep),
            Op::ReduceMean { axes, keep } => self.reduce("ReduceMean", inputs, output, axes, *keep),
            Op::Expand => {
                let target = sizes(self.graph.shape(node.outputs[0]));
                inputs.push(self.integers(target));
                self.emit("Expand", inputs, output, vec![]);
            }
            Op::ToFloat => {
                let attributes = vec![("to", Attribute::Int(1))];
                self.emit("Cast", inputs, output, attributes);
            }
            Op::GeluGrad | Op::SoftmaxGrad | Op::LayerNormGrad => self.gradient(node, inputs),
            Op::Concat => {
                let attributes = vec![("axis", Attribute::Int(0))];
                self.emit("Concat", inputs, output, attributes);
            }
            Op::Rows { start, axis } => self.rows(node, &inputs, output, *start, *axis),
            Op::PadRows { start } => {
                let (from, to) = (node.inputs[0], node.outputs[0]);
                let has = sizes(self.graph.shape(from))[0];
                let wants = sizes(self.graph.shape(to))[0];
                let after = wants - has - *start as i64;
                inputs.push(self.integers(vec![*start as i64, 0, after, 0]));
                self.emit("Pad", inputs, output, vec![]);
            }
            Op::ScatterAdd => {
                // Not `ConstantOfShape`, whose newest version has no CUDA kernel.
                let (zero, zeros) = (self.helper(), self.helper());
                self.onnx.initializers.push(OnnxTensor {
                    name: zero.clone(),
                    shape: vec![1, 1],
                    values: Values::F32(Cow::Owned(vec![0.0])),
                });
                let shape = self.integers(sizes(self.graph.shape(node.outputs[0])));
                self.emit("Expand", vec![zero, shape], zeros.clone(), vec![]);
                let indices = self.helper();
                let axis = self.integers(vec![-1]);
                let ids = inputs[0].clone();
                self.emit("Unsqueeze", vec![ids, axis], indices.clone(), vec![]);
                let attributes = vec![("reduction", Attribute::Text("add"))];
                let operands = vec![zeros, indices, inputs[1].clone()];
                self.emit("ScatterND", operands, output, attributes);
            }
            other => unreachable!("`{other:?}` is lowered as a simple operator"),
        }
        Ok(())
    }

    /// Fixed sizes: `Gemm` over all rows. Symbolic axes: `MatMul` with the weight baked transposed,
    /// which ONNX Runtime packs once and runs as one product.
    fn linear(
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

    fn matmul(
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

    fn reduce(
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

    fn rows(&mut self, node: &Node, inputs: &[String], output: String, start: usize, axis: usize) {
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
    fn reshape_target(&self, node: &Node) -> Result<Vec<i64>, SlmError> {
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
            return Err(super::shape_error("reshape", from, to));
        }
        Ok(target)
    }
}
