//! Reverse-mode differentiation: appends to a graph the nodes that compute gradients of a scalar.
//!
//! One vector-Jacobian product (VJP) per operator, each tested against finite differences in
//! `tests/gradients.rs`. Gradients may be asked for at any tensor, not only at parameters: the
//! trainer asks for them at gathered embedding rows, so that no gradient is as big as a vocabulary.
//!
//! Deliberately absent: higher derivatives, and graphs with symbolic axes.

use std::collections::HashMap;

use super::{Dim, Graph, Op, TensorId, shape_error};
use crate::error::SlmError;

/// Appends the gradients of the scalar `loss` with respect to each of `wrt`.
///
/// A tensor that `loss` does not depend on gets a zero gradient.
///
/// # Errors
/// [`SlmError::Shape`] if `loss` is not a scalar; [`SlmError::Derivative`] if an operator on the
/// way has no VJP.
pub fn gradients(
    graph: &mut Graph,
    loss: TensorId,
    wrt: &[TensorId],
) -> Result<Vec<TensorId>, SlmError> {
    if !graph.shape(loss).is_empty() {
        return Err(shape_error("gradients of", graph.shape(loss), &[]));
    }
    let active = depends_on(graph, wrt);
    let mut adjoints = HashMap::new();
    adjoints.insert(loss, graph.constant(&[], vec![1.0])?);
    for index in (0..graph.nodes.len()).rev() {
        let node = &graph.nodes[index];
        let Some(&adjoint) = adjoints.get(&node.outputs[0]) else {
            continue;
        };
        let (inputs, outputs) = (node.inputs.clone(), node.outputs.clone());
        let op = node.op.clone();
        let needed: Vec<bool> = inputs.iter().map(|id| active[id.0]).collect();
        if !needed.contains(&true) {
            continue;
        }
        let step = Backward {
            graph,
            inputs: &inputs,
            outputs: &outputs,
            needed: &needed,
        };
        for (input, gradient) in inputs.iter().zip(step.vjp(&op, adjoint)?) {
            let Some(gradient) = gradient else { continue };
            let sum = match adjoints.get(input) {
                Some(&so_far) => graph.add(so_far, gradient)?,
                None => gradient,
            };
            adjoints.insert(*input, sum);
        }
    }
    wrt.iter()
        .map(|id| match adjoints.get(id) {
            Some(&adjoint) => Ok(adjoint),
            None => {
                let shape = graph.shape(*id).to_vec();
                let zero = graph.constant(&vec![1; shape.len()], vec![0.0])?;
                graph.expand(zero, &shape)
            }
        })
        .collect()
}

/// For each tensor: does it depend on one of `wrt` (or is it one)?
fn depends_on(graph: &Graph, wrt: &[TensorId]) -> Vec<bool> {
    let mut active = vec![false; graph.tensors.len()];
    for id in wrt {
        active[id.0] = true;
    }
    for node in &graph.nodes {
        if node.inputs.iter().any(|id| active[id.0]) {
            for id in &node.outputs {
                active[id.0] = true;
            }
        }
    }
    active
}

type Vjp = Result<Vec<Option<TensorId>>, SlmError>;

/// One node seen from behind.
struct Backward<'g> {
    graph: &'g mut Graph,
    inputs: &'g [TensorId],
    outputs: &'g [TensorId],
    needed: &'g [bool],
}

impl Backward<'_> {
    fn vjp(self, op: &Op, dy: TensorId) -> Vjp {
        let y = self.outputs[0];
        let x = self.inputs[0];
        match op {
            Op::Linear => self.linear(dy),
            Op::MatMul { left, right } => self.matmul(dy, *left, *right),
            Op::Add => self.broadcasting(|_, _| Ok((dy, dy))),
            Op::Sub => self.broadcasting(|g, _| Ok((dy, g.unary(Op::Neg, dy)))),
            Op::Mul => self.broadcasting(|g, [a, b]| Ok((g.mul(dy, b)?, g.mul(dy, a)?))),
            Op::Div => self.broadcasting(|g, [_, b]| {
                let da = g.div(dy, b)?;
                let share = g.mul(da, y)?;
                Ok((da, g.unary(Op::Neg, share)))
            }),
            Op::Neg => Ok(vec![Some(self.graph.unary(Op::Neg, dy))]),
            Op::Exp => one(self.graph.mul(dy, y)),
            Op::Sqrt => {
                let half = self.graph.scale(dy, 0.5)?;
                one(self.graph.div(half, y))
            }
            Op::Erf => {
                let slope = bell(self.graph, x, -1.0, std::f32::consts::FRAC_2_SQRT_PI)?;
                one(self.graph.mul(dy, slope))
            }
            Op::Tanh => {
                let square = self.graph.mul(y, y)?;
                let minus = self.graph.scale(square, -1.0)?;
                let slope = self.graph.shift(minus, 1.0)?;
                one(self.graph.mul(dy, slope))
            }
            Op::Sigmoid => {
                let square = self.graph.mul(y, y)?;
                let slope = self.graph.sub(y, square)?;
                one(self.graph.mul(dy, slope))
            }
            Op::Relu => {
                let slope = self.graph.unary(Op::Step, x);
                one(self.graph.mul(dy, slope))
            }
            Op::Gelu => one(self.graph.elementwise_gradient(Op::GeluGrad, dy, x)),
            Op::Softmax => one(self.graph.elementwise_gradient(Op::SoftmaxGrad, dy, y)),
            Op::LogSoftmax => self.log_softmax(dy),
            Op::LayerNorm { .. } => self.layer_norm(dy),
            Op::Gather => {
                let rows = fixed(self.graph, x, 0)?;
                one(self.graph.scatter_add(self.inputs[1], dy, rows)).map(with_none)
            }
            Op::Rows { start, .. } => {
                let rows = fixed(self.graph, x, 0)?;
                one(self.graph.pad_rows(dy, *start, rows)).map(with_none)
            }
            Op::Reshape => {
                let shape = self.graph.shape(x).to_vec();
                one(self.graph.reshape(dy, &shape))
            }
            Op::Transpose(order) => {
                let mut back = vec![0; order.len()];
                for (to, &from) in order.iter().enumerate() {
                    back[from] = to;
                }
                one(self.graph.transpose(dy, &back))
            }
            Op::ReduceSum { axes, keep } => self.reduce(dy, axes, *keep, false),
            Op::ReduceMean { axes, keep } => self.reduce(dy, axes, *keep, true),
            Op::Expand => {
                let shape = self.graph.shape(x).to_vec();
                one(unbroadcast(self.graph, dy, &shape))
            }
            Op::Step
            | Op::ToFloat
            | Op::Max
            | Op::ScatterAdd
            | Op::PadRows { .. }
            | Op::Concat
            | Op::GeluGrad
            | Op::SoftmaxGrad
            | Op::LayerNormGrad => Err(SlmError::Derivative {
                op: format!("{op:?}"),
            }),
        }
    }

    /// `y = x w^T + b`: `dx = dy w`, `dw = dy^T x`, `db = sum dy`, over all rows at once.
    fn linear(self, dy: TensorId) -> Vjp {
        let Self { graph, needed, .. } = self;
        let (x, w) = (self.inputs[0], self.inputs[1]);
        let flat_dy = flatten(graph, dy)?;
        let mut gradients = vec![None; self.inputs.len()];
        if needed[0] {
            let flat_dx = graph.matmul(flat_dy, w, false, false)?;
            let shape = graph.shape(x).to_vec();
            gradients[0] = Some(graph.reshape(flat_dx, &shape)?);
        }
        if needed[1] {
            let flat_x = flatten(graph, x)?;
            gradients[1] = Some(graph.matmul(flat_dy, flat_x, true, false)?);
        }
        if needed.get(2) == Some(&true) {
            gradients[2] = Some(graph.reduce_sum(flat_dy, &[0], false)?);
        }
        Ok(gradients)
    }

    fn matmul(self, dy: TensorId, left: bool, right: bool) -> Vjp {
        let Self { graph, needed, .. } = self;
        let (a, b) = (self.inputs[0], self.inputs[1]);
        let mut gradients = vec![None, None];
        if needed[0] {
            gradients[0] = Some(match left {
                false => graph.matmul(dy, b, false, !right)?,
                true => graph.matmul(b, dy, right, true)?,
            });
        }
        if needed[1] {
            gradients[1] = Some(match right {
                false => graph.matmul(a, dy, !left, false)?,
                true => graph.matmul(dy, a, true, left)?,
            });
        }
        Ok(gradients)
    }

    /// Two operands that may have been broadcast: `slopes` gives both full-size gradients.
    fn broadcasting(
        self,
        slopes: impl FnOnce(&mut Graph, [TensorId; 2]) -> Result<(TensorId, TensorId), SlmError>,
    ) -> Vjp {
        let Self { graph, needed, .. } = self;
        let operands = [self.inputs[0], self.inputs[1]];
        let (da, db) = slopes(graph, operands)?;
        let mut gradients = Vec::with_capacity(2);
        for ((operand, full), &needed) in operands.into_iter().zip([da, db]).zip(needed) {
            let shape = graph.shape(operand).to_vec();
            gradients.push(match needed {
                true => Some(unbroadcast(graph, full, &shape)?),
                false => None,
            });
        }
        Ok(gradients)
    }

    /// `dx = dy - softmax(x) sum(dy)`.
    fn log_softmax(self, dy: TensorId) -> Vjp {
        let Self { graph, .. } = self;
        let y = self.outputs[0];
        let last = graph.shape(y).len() - 1;
        let total = graph.reduce_sum(dy, &[last], true)?;
        let probabilities = graph.unary(Op::Exp, y);
        let share = graph.mul(probabilities, total)?;
        one(graph.sub(dy, share))
    }

    fn layer_norm(self, dy: TensorId) -> Vjp {
        let Self { graph, needed, .. } = self;
        let (x, scale) = (self.inputs[0], self.inputs[1]);
        let statistics = [self.outputs[1], self.outputs[2]];
        let found = graph.layer_norm_gradient(dy, x, scale, statistics);
        let pairs = found.into_iter().zip(needed);
        Ok(pairs.map(|(id, &needed)| needed.then_some(id)).collect())
    }

    fn reduce(self, dy: TensorId, axes: &[usize], keep: bool, mean: bool) -> Vjp {
        let Self { graph, .. } = self;
        let x = self.inputs[0];
        let shape = graph.shape(x).to_vec();
        let mut kept = shape.clone();
        let mut count = 1;
        for &axis in axes {
            count *= fixed(graph, x, axis)?;
            kept[axis] = Dim::Size(1);
        }
        let mut dy = dy;
        if mean {
            dy = graph.scale(dy, 1.0 / count as f32)?;
        }
        if !keep {
            dy = graph.reshape(dy, &kept)?;
        }
        one(graph.expand(dy, &shape))
    }
}

/// `height * exp(curvature * x^2)`.
fn bell(graph: &mut Graph, x: TensorId, curvature: f32, height: f32) -> Result<TensorId, SlmError> {
    let square = graph.mul(x, x)?;
    let exponent = graph.scale(square, curvature)?;
    let exponential = graph.unary(Op::Exp, exponent);
    graph.scale(exponential, height)
}

/// Sums a gradient over the axes along which its operand was repeated.
fn unbroadcast(graph: &mut Graph, dy: TensorId, shape: &[Dim]) -> Result<TensorId, SlmError> {
    let full = graph.shape(dy).to_vec();
    if full == shape {
        return Ok(dy);
    }
    let extra = full.len() - shape.len();
    let axes: Vec<usize> = (0..full.len())
        .filter(|&axis| axis < extra || (shape[axis - extra] != full[axis]))
        .collect();
    let summed = graph.reduce_sum(dy, &axes, true)?;
    graph.reshape(summed, shape)
}

/// `[.., d]` as `[rows, d]`.
fn flatten(graph: &mut Graph, x: TensorId) -> Result<TensorId, SlmError> {
    let rank = graph.shape(x).len();
    let mut rows = 1;
    for axis in 0..rank - 1 {
        rows *= fixed(graph, x, axis)?;
    }
    let width = graph.shape(x)[rank - 1];
    graph.reshape(x, &[Dim::Size(rows), width])
}

fn fixed(graph: &Graph, x: TensorId, axis: usize) -> Result<usize, SlmError> {
    match graph.shape(x)[axis] {
        Dim::Size(size) => Ok(size),
        _ => Err(shape_error(
            "gradients (fixed sizes only)",
            graph.shape(x),
            &[],
        )),
    }
}

fn one(gradient: Result<TensorId, SlmError>) -> Vjp {
    Ok(vec![Some(gradient?)])
}

fn with_none(mut gradients: Vec<Option<TensorId>>) -> Vec<Option<TensorId>> {
    gradients.push(None);
    gradients
}
