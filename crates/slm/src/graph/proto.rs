//! The file back end: an [`OnnxGraph`] as the bytes of an `.onnx` file.
//!
//! Only the protobuf messages and fields that this crate writes are declared; their numbers are
//! those of ONNX's `onnx.proto` (IR version 9).

use super::onnx::{OPSET, Values};
use super::{Attribute, Dim, Dtype, OnnxGraph, Shape};

use prost::Message;

use crate::kernels;

const IR_VERSION: i64 = 9;
const FLOAT: i32 = 1;
const INT64: i32 = 7;
const INT8: i32 = 3;

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(string, tag = "2")]
    producer_name: String,
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<OperatorSet>,
}

#[derive(Clone, PartialEq, Message)]
struct OperatorSet {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    node: Vec<NodeProto>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfo>,
}

#[derive(Clone, PartialEq, Message)]
struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    op_type: String,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<AttributeProto>,
    #[prost(string, tag = "7")]
    domain: String,
}

#[derive(Clone, PartialEq, Message)]
struct AttributeProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(float, optional, tag = "2")]
    f: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    i: Option<i64>,
    #[prost(bytes = "vec", optional, tag = "4")]
    s: Option<Vec<u8>>,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    ints: Vec<i64>,
    #[prost(int32, tag = "20")]
    kind: i32,
}

#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "vec", tag = "9")]
    raw_data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct ValueInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    kind: Option<TypeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TypeProto {
    #[prost(message, optional, tag = "1")]
    tensor_type: Option<TensorType>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorType {
    #[prost(int32, tag = "1")]
    elem_type: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<TensorShape>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorShape {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
struct Dimension {
    #[prost(int64, optional, tag = "1")]
    dim_value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    dim_param: Option<String>,
}

/// The bytes of an `.onnx` file with `graph`; weights must be baked in for it to stand alone.
///
/// Protobuf limits a file to 2 GiB, about 500 M parameters.
#[must_use]
pub fn encode(graph: &OnnxGraph<'_>) -> Vec<u8> {
    let node = |(index, node): (usize, &super::OnnxNode)| NodeProto {
        input: node.inputs.clone(),
        output: node.outputs.clone(),
        name: format!("{}_{index}", node.op),
        op_type: node.op.to_owned(),
        attribute: node
            .attributes
            .iter()
            .map(|(name, value)| attribute(name, value))
            .collect(),
        domain: node.domain.to_owned(),
    };
    let mut opset_import = vec![OperatorSet {
        domain: String::new(),
        version: i64::from(OPSET),
    }];
    if graph.holds_kernels() {
        opset_import.push(OperatorSet {
            domain: kernels::DOMAIN.to_owned(),
            version: 1,
        });
    }
    let graph = GraphProto {
        node: graph.nodes.iter().enumerate().map(node).collect(),
        name: "noisegate".to_owned(),
        initializer: graph.initializers.iter().map(tensor).collect(),
        input: graph.inputs.iter().map(value_info).collect(),
        output: graph.outputs.iter().map(value_info).collect(),
    };
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "noisegate".to_owned(),
        graph: Some(graph),
        opset_import,
    };
    model.encode_to_vec()
}

fn attribute(name: &str, value: &Attribute) -> AttributeProto {
    let mut proto = AttributeProto {
        name: name.to_owned(),
        ..AttributeProto::default()
    };
    match value {
        Attribute::Float(value) => (proto.f, proto.kind) = (Some(*value), 1),
        Attribute::Int(value) => (proto.i, proto.kind) = (Some(*value), 2),
        Attribute::Text(value) => (proto.s, proto.kind) = (Some(value.as_bytes().to_vec()), 3),
        Attribute::Ints(values) => (proto.ints, proto.kind) = (values.clone(), 7),
    }
    proto
}

fn tensor(tensor: &super::OnnxTensor<'_>) -> TensorProto {
    let (data_type, raw_data) = match &tensor.values {
        Values::F32(values) => (FLOAT, values.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Values::I8(values) => (INT8, values.iter().map(|v| v.cast_unsigned()).collect()),
        Values::I64(values) => (INT64, values.iter().flat_map(|v| v.to_le_bytes()).collect()),
    };
    TensorProto {
        dims: tensor.shape.clone(),
        data_type,
        name: tensor.name.clone(),
        raw_data,
    }
}

fn value_info((name, dtype, shape): &(String, Dtype, Shape)) -> ValueInfo {
    let dim = |dim: &Dim| match dim {
        Dim::Size(size) => Dimension {
            dim_value: Some(*size as i64),
            dim_param: None,
        },
        symbol => Dimension {
            dim_value: None,
            dim_param: Some(symbol.to_string()),
        },
    };
    ValueInfo {
        name: name.clone(),
        kind: Some(TypeProto {
            tensor_type: Some(TensorType {
                elem_type: match dtype {
                    Dtype::F32 => FLOAT,
                    Dtype::I64 => INT64,
                },
                shape: Some(TensorShape {
                    dim: shape.iter().map(dim).collect(),
                }),
            }),
        }),
    }
}
