//! The in-process back end: an [`OnnxGraph`] becomes an ONNX Runtime session, without a file.

use ort::editor::{Graph, Model, Node, ONNX_DOMAIN, Opset};
use ort::ep;
use ort::memory::Allocator;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::{Outlet, Shape, SymbolicDimensions, Tensor, TensorElementType, ValueType};

use super::onnx::{OPSET, Values, sizes};
use super::{Attribute, Dim, Dtype, OnnxGraph};
use crate::error::SlmError;
use crate::kernels;
use crate::runtime::{Device, Runtime};

/// How a session runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionOptions {
    /// Threads inside one operator on a processor; at least one.
    pub threads: usize,
    /// What computes.
    pub device: Device,
}

/// Opens a session on `graph`.
///
/// # Errors
/// [`SlmError::Runtime`] if ONNX Runtime refuses the graph.
pub fn open(
    runtime: &Runtime,
    graph: &OnnxGraph<'_>,
    options: SessionOptions,
) -> Result<Session, SlmError> {
    runtime.expect_device(options.device)?;
    build(runtime, graph, options).map_err(SlmError::runtime(
        "open a session on a graph built in memory",
    ))
}

/// Opens a session on the bytes of an `.onnx` file.
///
/// # Errors
/// [`SlmError::Runtime`] if ONNX Runtime refuses it.
pub fn open_file(
    runtime: &Runtime,
    bytes: &[u8],
    options: SessionOptions,
) -> Result<Session, SlmError> {
    runtime.expect_device(options.device)?;
    builder(runtime, options)
        .and_then(|mut builder| builder.commit_from_memory(bytes))
        .map_err(SlmError::runtime("open a session on an `.onnx` file"))
}

/// The settings of every session of this crate.
///
/// Memory pattern off is 5-16 % faster on graphs of this kind, and the arena stays on. Threads spin
/// between operators, but briefly, and not between runs: the optimizer and other work want the cores.
///
/// Products of 8-bit integers are exact: on processors without VNNI instructions sums of two products
/// would saturate at 16 bits, so the weights are moved to unsigned bytes there. Other graphs have
/// none.
///
/// On a card every node must run there: a session of which a part would fall back to the processor
/// is refused, since it would be slow without saying so.
fn builder(runtime: &Runtime, options: SessionOptions) -> ort::Result<SessionBuilder> {
    let mut builder = SessionBuilder::new(runtime.environment())?;
    if let Device::Cuda(card) = options.device {
        let cuda = ep::CUDA::default().with_device_id(card).build();
        builder = builder
            .with_execution_providers([cuda.error_on_failure()])?
            .with_disable_cpu_fallback()?;
    }
    Ok(builder
        .with_intra_threads(options.threads.max(1))?
        .with_inter_threads(1)?
        .with_memory_pattern(false)?
        .with_config_entry("session.intra_op.spin_duration_us", "20")?
        .with_config_entry("session.force_spinning_stop", "1")?
        .with_config_entry("session.x64quantprecision", "1")?
        .with_optimization_level(GraphOptimizationLevel::All)?)
}

fn build(
    runtime: &Runtime,
    graph: &OnnxGraph<'_>,
    options: SessionOptions,
) -> ort::Result<Session> {
    if graph.holds_kernels() {
        // A session on a graph built in memory does not know operators that were added to it.
        let with_kernels = builder(runtime, options)?.with_operators(kernels::domain()?);
        return with_kernels?.commit_from_memory(&super::encode(graph));
    }
    let mut built = Graph::new()?;
    built.set_inputs(graph.inputs.iter().map(outlet))?;
    built.set_outputs(graph.outputs.iter().map(outlet))?;
    for tensor in &graph.initializers {
        let shape = tensor.shape.clone();
        match &tensor.values {
            Values::F32(values) => {
                let mut value = Tensor::<f32>::new(&Allocator::default(), shape)?;
                value.extract_tensor_mut().1.copy_from_slice(values);
                built.add_initializer(&tensor.name, value, false)?;
            }
            Values::I8(values) => {
                let mut value = Tensor::<i8>::new(&Allocator::default(), shape)?;
                value.extract_tensor_mut().1.copy_from_slice(values);
                built.add_initializer(&tensor.name, value, false)?;
            }
            Values::I64(values) => {
                let mut value = Tensor::<i64>::new(&Allocator::default(), shape)?;
                value.extract_tensor_mut().1.copy_from_slice(values);
                built.add_initializer(&tensor.name, value, false)?;
            }
        }
    }
    for (index, node) in graph.nodes.iter().enumerate() {
        let attributes = node
            .attributes
            .iter()
            .map(|(name, value)| attribute(name, value))
            .collect::<ort::Result<Vec<_>>>()?;
        built.add_node(Node::new(
            node.op,
            ONNX_DOMAIN,
            format!("{}_{index}", node.op),
            &node.inputs,
            &node.outputs,
            attributes,
        )?)?;
    }
    let mut model = Model::new([Opset::new(ONNX_DOMAIN, OPSET)?])?;
    model.set_graph(built)?;
    model.into_session(&builder(runtime, options)?)
}

fn attribute(name: &str, value: &Attribute) -> ort::Result<ort::operator::Attribute> {
    match value {
        Attribute::Int(value) => ort::operator::Attribute::new(name, *value),
        Attribute::Ints(values) => ort::operator::Attribute::new(name, values.clone()),
        Attribute::Float(value) => ort::operator::Attribute::new(name, *value),
        Attribute::Text(value) => ort::operator::Attribute::new(name, (*value).to_owned()),
    }
}

fn outlet((name, dtype, shape): &(String, Dtype, super::Shape)) -> Outlet {
    let symbols = shape.iter().map(|dim| match dim {
        Dim::Size(_) => String::new(),
        symbol => symbol.to_string(),
    });
    Outlet::new(
        name,
        ValueType::Tensor {
            ty: match dtype {
                Dtype::F32 => TensorElementType::Float32,
                Dtype::I64 => TensorElementType::Int64,
            },
            shape: Shape::new(sizes(shape)),
            dimension_symbols: SymbolicDimensions::new(symbols),
        },
    )
}
