//! A small graph IR: tensors with known shapes, and nodes that are one ONNX operator each (or nearly).
//!
//! ```text
//! build.rs ── checks shapes ──> Graph ──autodiff.rs──> Graph (forward + backward)
//!                                 │
//!                              lower.rs ──> OnnxGraph ──┬─ session.rs  in process, through `ort::editor`
//!                                                       └─ proto.rs    an `.onnx` file
//! ```
//!
//! Training graphs have fixed sizes only. A graph for serving may use [`Dim::Batch`] and
//! [`Dim::Length`], which become symbolic axes of the file.
//!
//! Deliberately absent: control flow, dtypes other than f32 and i64, graph optimisation (ONNX
//! Runtime does that), and any knowledge of models.

mod autodiff;
mod build;
mod live;
mod lower;
mod onnx;
mod proto;
mod session;

pub use autodiff::gradients;
pub use lower::{Pack, Target, Weights, lower, lower_for};
pub use onnx::{Attribute, OPSET, OnnxGraph, OnnxNode, OnnxTensor, Values};
pub use proto::encode;
pub use session::{SessionOptions, open, open_file};

use std::fmt;

use crate::error::SlmError;

/// One axis of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// A fixed size.
    Size(usize),
    /// The number of rows of a batch, known only when the graph runs.
    Batch,
    /// The number of tokens of a row, known only when the graph runs.
    Length,
}

impl From<usize> for Dim {
    fn from(size: usize) -> Self {
        Self::Size(size)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(size) => write!(f, "{size}"),
            Self::Batch => f.write_str("batch"),
            Self::Length => f.write_str("length"),
        }
    }
}

/// A shape, outermost axis first.
pub type Shape = Vec<Dim>;

/// `[16, 32, 384]` or `[batch, length, 384]`.
#[must_use]
pub fn show(shape: &[Dim]) -> String {
    let dims: Vec<String> = shape.iter().map(Dim::to_string).collect();
    format!("[{}]", dims.join(", "))
}

/// The element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// 32-bit float.
    F32,
    /// 64-bit integer: token ids and masks.
    I64,
}

/// A tensor of one [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorId(pub(crate) usize);

/// Where a tensor comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// Fed at every run.
    Input,
    /// A named weight: an input while training, an initializer when serving.
    Parameter,
    /// A small constant.
    Constant(Vec<f32>),
    /// The output of node `n`.
    Node(usize),
}

/// What the graph knows of a tensor.
#[derive(Clone, Debug)]
pub struct TensorInfo {
    /// Unique in the graph; parameters keep their model's name.
    pub name: String,
    /// Its shape.
    pub shape: Shape,
    /// Its element type.
    pub dtype: Dtype,
    /// Where it comes from.
    pub origin: Origin,
}

/// An operator. Shapes are checked when a node is built, see the methods of [`Graph`].
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// `x[.., in] W[out, in]^T (+ b[out])`.
    Linear,
    /// Matrix product of the last two axes; equal batch axes before them.
    MatMul {
        /// Transpose the last two axes of the left operand.
        left: bool,
        /// Transpose the last two axes of the right operand.
        right: bool,
    },
    /// Elementwise with broadcasting.
    Add,
    /// Elementwise with broadcasting.
    Sub,
    /// Elementwise with broadcasting.
    Mul,
    /// Elementwise with broadcasting.
    Div,
    /// Elementwise maximum with broadcasting; not differentiable here.
    Max,
    /// `-x`.
    Neg,
    /// `e^x`.
    Exp,
    /// Square root.
    Sqrt,
    /// Error function.
    Erf,
    /// Hyperbolic tangent.
    Tanh,
    /// Logistic function.
    Sigmoid,
    /// `max(x, 0)`.
    Relu,
    /// 1 where `x > 0`, else 0: the slope of `Relu`.
    Step,
    /// `x Phi(x)`, exact.
    Gelu,
    /// Over the last axis.
    Softmax,
    /// Over the last axis.
    LogSoftmax,
    /// Over the last axis, with scale and bias; outputs `y`, mean, inverse deviation.
    LayerNorm {
        /// Added to the variance.
        epsilon: f32,
    },
    /// Rows of a table by integer id.
    Gather,
    /// Adds rows into a zero table by integer id: the gradient of `Gather`.
    ScatterAdd,
    /// Rows `start .. start + n` of a table, where `n` is axis `axis` of the second operand.
    Rows {
        /// First row.
        start: usize,
        /// Axis of the second operand that says how many.
        axis: usize,
    },
    /// Rows put back into a zero table: the gradient of `Rows`.
    PadRows {
        /// First row.
        start: usize,
    },
    /// Same elements, other shape.
    Reshape,
    /// Axes in another order.
    Transpose(Vec<usize>),
    /// Sum over axes.
    ReduceSum {
        /// Axes, ascending.
        axes: Vec<usize>,
        /// Keep them with size 1.
        keep: bool,
    },
    /// Mean over axes.
    ReduceMean {
        /// Axes, ascending.
        axes: Vec<usize>,
        /// Keep them with size 1.
        keep: bool,
    },
    /// A size-1 axis repeated to the output's size.
    Expand,
    /// i64 to f32.
    ToFloat,
    /// Matrices one below the other.
    Concat,
    /// Gradient of `Gelu`, of `dy` and `x`.
    GeluGrad,
    /// Gradient of `Softmax`, of `dy` and `y`.
    SoftmaxGrad,
    /// Gradients of `LayerNorm` at `x`, scale and bias, of `dy`, `x`, scale, mean and inverse
    /// deviation.
    LayerNormGrad,
}

/// One operator applied.
#[derive(Clone, Debug)]
pub struct Node {
    /// The operator.
    pub op: Op,
    /// Its operands.
    pub inputs: Vec<TensorId>,
    /// Its results; all but the first are used by the backward pass only.
    pub outputs: Vec<TensorId>,
}

/// A graph under construction; nodes stand in an order in which they can run.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    pub(crate) tensors: Vec<TensorInfo>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) outputs: Vec<(String, TensorId)>,
}

impl Graph {
    /// An empty graph.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What is known of a tensor.
    #[must_use]
    pub fn tensor(&self, id: TensorId) -> &TensorInfo {
        &self.tensors[id.0]
    }

    /// Its shape.
    #[must_use]
    pub fn shape(&self, id: TensorId) -> &[Dim] {
        &self.tensors[id.0].shape
    }

    /// The nodes in running order.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The named outputs.
    #[must_use]
    pub fn outputs(&self) -> &[(String, TensorId)] {
        &self.outputs
    }

    /// Tensors fed at every run, in the order they were declared.
    pub fn inputs(&self) -> impl Iterator<Item = TensorId> + '_ {
        self.of_origin(|origin| *origin == Origin::Input)
    }

    /// The named weights, in the order they were declared.
    pub fn parameters(&self) -> impl Iterator<Item = TensorId> + '_ {
        self.of_origin(|origin| *origin == Origin::Parameter)
    }

    fn of_origin(&self, wanted: fn(&Origin) -> bool) -> impl Iterator<Item = TensorId> + '_ {
        let ids = 0..self.tensors.len();
        ids.filter(move |&id| wanted(&self.tensors[id].origin))
            .map(TensorId)
    }

    /// Declares a tensor that is fed at every run.
    pub fn input(&mut self, name: &str, dtype: Dtype, shape: &[Dim]) -> TensorId {
        self.declare(name.to_owned(), shape.to_vec(), dtype, Origin::Input)
    }

    /// Declares a weight.
    pub fn parameter(&mut self, name: &str, shape: &[usize]) -> TensorId {
        let shape = shape.iter().map(|&size| Dim::Size(size)).collect();
        self.declare(name.to_owned(), shape, Dtype::F32, Origin::Parameter)
    }

    /// A constant of shape `shape`.
    ///
    /// # Errors
    /// [`SlmError::Shape`] if the number of values is not the product of the shape.
    pub fn constant(&mut self, shape: &[usize], values: Vec<f32>) -> Result<TensorId, SlmError> {
        let dims: Shape = shape.iter().map(|&size| Dim::Size(size)).collect();
        if shape.iter().product::<usize>() != values.len() {
            return Err(shape_error("constant", &dims, &[Dim::Size(values.len())]));
        }
        let name = format!("c{}", self.tensors.len());
        Ok(self.declare(name, dims, Dtype::F32, Origin::Constant(values)))
    }

    /// Makes `id` an output named `name`.
    pub fn output(&mut self, name: &str, id: TensorId) {
        self.outputs.push((name.to_owned(), id));
    }

    fn declare(&mut self, name: String, shape: Shape, dtype: Dtype, origin: Origin) -> TensorId {
        self.tensors.push(TensorInfo {
            name,
            shape,
            dtype,
            origin,
        });
        TensorId(self.tensors.len() - 1)
    }

    /// Appends a node whose outputs have the given shapes; the first output is returned.
    fn push(&mut self, op: Op, inputs: &[TensorId], dtype: Dtype, shapes: Vec<Shape>) -> TensorId {
        let node = self.nodes.len();
        let outputs: Vec<TensorId> = shapes
            .into_iter()
            .enumerate()
            .map(|(i, shape)| {
                self.declare(format!("n{node}_{i}"), shape, dtype, Origin::Node(node))
            })
            .collect();
        let first = outputs[0];
        self.nodes.push(Node {
            op,
            inputs: inputs.to_vec(),
            outputs,
        });
        first
    }
}

pub(crate) fn shape_error(op: &'static str, left: &[Dim], right: &[Dim]) -> SlmError {
    SlmError::Shape {
        op,
        left: show(left),
        right: show(right),
    }
}
