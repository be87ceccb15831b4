//! From the IR to plain ONNX nodes (opset 20), shared by both back ends.
//!
//! Nodes that no output needs are left out here, so builders and VJPs may be generous.
//!
//! ```text
//! gradients.rs  our gradient kernels, or plain nodes     products.rs   matrix products
//! packs.rs      weights as parts of long vectors         quantised.rs  products of 8-bit integers
//! shapes.rs     axes: sums, slices, reshapes
//! ```

mod gradients;
mod packs;
mod products;
mod quantised;
mod shapes;

use std::borrow::Cow;
use std::collections::HashSet;

use super::live::live;
use super::onnx::{Attribute, OnnxGraph, OnnxNode, OnnxTensor, Values, last_axis, sizes};
use super::{Graph, Node, Op, Origin, TensorId};
use crate::error::SlmError;
use crate::params::Parameters;

pub use packs::Pack;

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
}
