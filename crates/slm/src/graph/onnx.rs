//! A graph in ONNX's terms: what both back ends write.

use std::borrow::Cow;

use super::{Dim, Dtype, Shape};
use crate::kernels;

/// The operator set all graphs are written in.
pub const OPSET: u32 = 20;

/// A value of a node attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// One integer.
    Int(i64),
    /// A list of integers.
    Ints(Vec<i64>),
    /// One float.
    Float(f32),
    /// A string.
    Text(&'static str),
}

/// The values of an initializer.
#[derive(Clone, Debug)]
pub enum Values<'p> {
    /// 32-bit floats.
    F32(Cow<'p, [f32]>),
    /// 64-bit integers.
    I64(Vec<i64>),
    /// 8-bit integers: quantised weights.
    I8(Vec<i8>),
}

/// One ONNX node.
#[derive(Clone, Debug)]
pub struct OnnxNode {
    /// Whose operator it is; empty for ONNX's own.
    pub domain: &'static str,
    /// ONNX's name of the operator.
    pub op: &'static str,
    /// Names of its inputs.
    pub inputs: Vec<String>,
    /// Names of its outputs; empty for one that is not wanted.
    pub outputs: Vec<String>,
    /// Its attributes.
    pub attributes: Vec<(&'static str, Attribute)>,
}

/// A named constant.
#[derive(Clone, Debug)]
pub struct OnnxTensor<'p> {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<i64>,
    /// Its values, row-major.
    pub values: Values<'p>,
}

/// A graph in ONNX's terms.
#[derive(Clone, Debug, Default)]
pub struct OnnxGraph<'p> {
    /// Nodes in running order.
    pub nodes: Vec<OnnxNode>,
    /// Constants, and weights if they are baked in.
    pub initializers: Vec<OnnxTensor<'p>>,
    /// Names, types and shapes of what is fed.
    pub inputs: Vec<(String, Dtype, Shape)>,
    /// Names, types and shapes of what comes out.
    pub outputs: Vec<(String, Dtype, Shape)>,
}

impl OnnxGraph<'_> {
    /// Does it hold operators of ours? Then only this crate can run it.
    pub(super) fn holds_kernels(&self) -> bool {
        self.nodes.iter().any(|node| node.domain == kernels::DOMAIN)
    }
}

/// A shape in ONNX's integers; symbolic axes are -1.
pub(super) fn sizes(shape: &[Dim]) -> Vec<i64> {
    shape
        .iter()
        .map(|dim| match dim {
            Dim::Size(size) => *size as i64,
            _ => -1,
        })
        .collect()
}

/// The attribute of operators that work along the last axis.
pub(super) fn last_axis() -> Vec<(&'static str, Attribute)> {
    vec![("axis", Attribute::Int(-1))]
}

/// A matrix turned.
pub(super) fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    for (r, row) in values.chunks_exact(columns).enumerate() {
        for (c, value) in row.iter().enumerate() {
            out[c * rows + r] = *value;
        }
    }
    out
}
