//! The training graph of one batch shape, opened as a session and bound to shared tensors.
//!
//! ```text
//! weights (shared) ──┐                       ┌─> loss
//! ids, mask, targets ┼─> forward + backward ─┼─> gradients of arrays (shared)
//! dropout masks ─────┘                       └─> gradients of the table rows this batch used
//! ```
//!
//! Weights are inputs and gradients are other tensors: ONNX Runtime would overwrite a weight bound
//! in place before its last reader.

use ort::memory::Allocator;
use ort::session::{IoBinding, Session};
use ort::value::Tensor;

use super::loss;
use super::options::{Precision, TrainOptions};
use super::weights::Weights;
use crate::error::SlmError;
use crate::graph::{self, Dim, Graph, SessionOptions, Target, TensorId, gradients};
use crate::model::Lora;
use crate::model::config::EncoderConfig;
use crate::model::encoder::{
    ATTENTION_MASK, Additions, INPUT_IDS, TableRows, Which, encoder, head, mean_pool,
};
use crate::model::heads::{self, Head};
use crate::random::Stream;
use crate::runtime::Runtime;

/// The shape of a step and what it computes.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepShape<'h> {
    /// Rows.
    pub batch: usize,
    /// Tokens a row.
    pub length: usize,
    /// The heads.
    pub heads: &'h [Head],
    /// Chance to drop a value.
    pub dropout: f32,
    /// Low-rank adapters, and the first layer that has them.
    pub lora: Option<(Lora, usize)>,
    /// Compute gradients, or the loss and the logits only.
    pub backward: bool,
}

/// One batch as numbers; rows beyond `rows` are padding.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    /// Token ids `[batch, length]`.
    pub ids: Vec<i64>,
    /// Ones and zeros `[batch, length]`.
    pub mask: Vec<i64>,
    /// What the loss is fed, in the order of [`loss::inputs`].
    pub loss: Vec<Vec<f32>>,
}

/// A graph for training or for its validation.
#[derive(Debug)]
pub(super) struct StepGraph {
    /// The nodes.
    pub graph: Graph,
    /// Which table rows have gradients, in the order of the outputs `rows:*`.
    pub tables: Vec<TableRows>,
    /// Names of the dropout masks.
    pub masks: Vec<String>,
}

/// Builds the graph: forward, the loss of [`loss::build`], and backward if the shape asks for it.
///
/// # Errors
/// [`SlmError::Shape`], [`SlmError::Derivative`].
pub(super) fn step_graph(
    config: &EncoderConfig,
    shape: &StepShape<'_>,
    trained: impl Fn(&str) -> bool,
) -> Result<StepGraph, SlmError> {
    let mut graph = Graph::new();
    let mut additions = Additions {
        dropout: shape.backward && shape.dropout > 0.0,
        masks: Vec::new(),
        lora: shape.lora,
        ..Additions::default()
    };
    let (batch, length) = (Dim::Size(shape.batch), Dim::Size(shape.length));
    let states = encoder(&mut graph, config, batch, length, &mut additions)?;
    let pooled = mean_pool(&mut graph, &states)?;
    let logits = head(&mut graph, config, pooled, heads::outputs(shape.heads))?;
    let loss = loss::build(&mut graph, logits, shape.batch, shape.heads)?;
    graph.output("loss", loss);
    let mut tables = states.tables;
    tables.retain(|table| trained(&table.table));
    if shape.backward {
        add_gradients(&mut graph, loss, &tables, trained)?;
    } else {
        graph.output("logits", logits);
    }
    Ok(StepGraph {
        graph,
        tables,
        masks: additions.masks,
    })
}

fn add_gradients(
    graph: &mut Graph,
    loss: TensorId,
    tables: &[TableRows],
    trained: impl Fn(&str) -> bool,
) -> Result<(), SlmError> {
    let arrays: Vec<(String, TensorId)> = graph
        .parameters()
        .map(|id| (graph.tensor(id).name.clone(), id))
        .filter(|(name, _)| trained(name) && !Weights::is_table(name))
        .collect();
    let mut wrt: Vec<TensorId> = arrays.iter().map(|(_, id)| *id).collect();
    wrt.extend(tables.iter().map(|table| table.rows));
    let found = gradients(graph, loss, &wrt)?;
    for ((name, _), id) in arrays.iter().zip(&found) {
        graph.output(&format!("grad:{name}"), *id);
    }
    for (table, id) in tables.iter().zip(&found[arrays.len()..]) {
        graph.output(&format!("rows:{}", table.table), *id);
    }
    Ok(())
}

/// A session for one batch shape.
#[derive(Debug)]
pub(super) struct Step {
    session: Session,
    binding: IoBinding,
    ids: Tensor<i64>,
    mask: Tensor<i64>,
    targets: Vec<Tensor<f32>>,
    dropout: Vec<Tensor<f32>>,
    loss: Tensor<f32>,
    logits: Option<Tensor<f32>>,
    rows: Vec<(TableRows, Tensor<f32>)>,
}

impl Step {
    /// Opens a session and binds it to `weights`.
    ///
    /// # Errors
    /// [`SlmError::Shape`], [`SlmError::Runtime`].
    pub(super) fn open(
        runtime: &Runtime,
        config: &EncoderConfig,
        shape: &StepShape<'_>,
        weights: &mut Weights,
        options: &TrainOptions,
    ) -> Result<Self, SlmError> {
        let target = match options.precision {
            Precision::F32 => Target::Kernels,
            Precision::Bf16 => Target::KernelsBf16,
        };
        let built = step_graph(config, shape, |name| weights.is_trained(name))?;
        let onnx = graph::lower_for(&built.graph, graph::Weights::Fed, target)?;
        let options = SessionOptions {
            threads: options.threads,
            ..SessionOptions::default()
        };
        let session = graph::open(runtime, &onnx, options)?;
        Self::bind(session, built, shape, weights)
            .map_err(SlmError::runtime("bind the tensors of a training step"))
    }

    fn bind(
        session: Session,
        built: StepGraph,
        shape: &StepShape<'_>,
        weights: &mut Weights,
    ) -> ort::Result<Self> {
        let mut binding = session.create_binding()?;
        let grid = [shape.batch, shape.length];
        let ids = bound_input::<i64>(&mut binding, INPUT_IDS, &grid)?;
        let mask = bound_input::<i64>(&mut binding, ATTENTION_MASK, &grid)?;
        let targets = loss::inputs(shape.heads, shape.batch)
            .into_iter()
            .map(|(name, shape)| bound_input::<f32>(&mut binding, name, &shape))
            .collect::<ort::Result<Vec<_>>>()?;
        let dropout = built
            .masks
            .iter()
            .map(|name| {
                let input = session.inputs().iter().find(|input| input.name() == name);
                let shape = input.and_then(|input| input.dtype().tensor_shape());
                let shape: Vec<usize> = shape
                    .map(|shape| shape.iter().map(|n| *n as usize).collect())
                    .unwrap_or_default();
                bound_input::<f32>(&mut binding, name, &shape)
            })
            .collect::<ort::Result<Vec<_>>>()?;
        for (name, value) in weights.values() {
            binding.bind_input(name, value)?;
        }
        let loss = bound_output(&mut binding, "loss", &[])?;
        let logits = match shape.backward {
            true => None,
            false => Some(bound_output(
                &mut binding,
                "logits",
                &[shape.batch, heads::outputs(shape.heads)],
            )?),
        };
        let mut rows = Vec::new();
        if shape.backward {
            for (name, gradient) in weights.gradients_mut() {
                binding.bind_output(format!("grad:{name}"), gradient)?;
            }
            for table in built.tables {
                let size: Vec<usize> = graph_sizes(&built.graph, table.rows);
                let name = format!("rows:{}", table.table);
                rows.push((table, bound_output(&mut binding, &name, &size)?));
            }
        }
        Ok(Self {
            session,
            binding,
            ids,
            mask,
            targets,
            dropout,
            loss,
            logits,
            rows,
        })
    }

    /// Runs a batch; returns its loss. Gradients of arrays are then in the shared tensors.
    ///
    /// `masks` is the randomness of this step's dropout.
    ///
    /// # Errors
    /// [`SlmError::Runtime`].
    pub(super) fn run(
        &mut self,
        inputs: &Inputs,
        dropout: f32,
        masks: &mut Stream,
    ) -> Result<f32, SlmError> {
        self.ids.extract_tensor_mut().1.copy_from_slice(&inputs.ids);
        self.mask
            .extract_tensor_mut()
            .1
            .copy_from_slice(&inputs.mask);
        for (target, values) in self.targets.iter_mut().zip(&inputs.loss) {
            target.extract_tensor_mut().1.copy_from_slice(values);
        }
        for mask in &mut self.dropout {
            masks.dropout(mask.extract_tensor_mut().1, dropout);
        }
        self.session
            .run_binding(&self.binding)
            .map_err(SlmError::runtime("run a training step"))?;
        Ok(self.loss.extract_tensor().1[0])
    }

    /// The logits of the last batch, `[batch, outputs]`; empty if the step computes gradients.
    pub(super) fn logits(&self) -> &[f32] {
        match &self.logits {
            Some(logits) => logits.extract_tensor().1,
            None => &[],
        }
    }

    /// For each trained table: its name, the rows of the last batch, and their gradients.
    ///
    /// A row may come up several times; its gradients add up.
    pub(super) fn row_gradients(&self) -> impl Iterator<Item = (&str, Vec<usize>, &[f32])> {
        let ids = self.ids.extract_tensor().1;
        let mask = self.mask.extract_tensor().1;
        self.rows.iter().map(move |(table, gradient)| {
            let (shape, values) = gradient.extract_tensor();
            let width = shape.last().map_or(1, |n| *n as usize);
            let rows = match table.which {
                // Padding has no gradient, and must not count as a touched row.
                Which::Ids => ids
                    .iter()
                    .zip(mask)
                    .map(|(id, real)| if *real == 1 { *id as usize } else { usize::MAX })
                    .collect(),
                Which::From(start) => (start..start + values.len() / width).collect(),
            };
            (table.table.as_str(), rows, values)
        })
    }
}

fn graph_sizes(graph: &Graph, id: TensorId) -> Vec<usize> {
    let sizes = graph.shape(id).iter().map(|dim| match dim {
        Dim::Size(size) => *size,
        // Training graphs have fixed sizes only.
        _ => 0,
    });
    sizes.collect()
}

fn bound_input<T>(binding: &mut IoBinding, name: &str, shape: &[usize]) -> ort::Result<Tensor<T>>
where
    T: ort::value::PrimitiveTensorElementType + std::fmt::Debug,
{
    let tensor = Tensor::<T>::new(&Allocator::default(), shape)?;
    binding.bind_input(name, &tensor)?;
    Ok(tensor)
}

fn bound_output(binding: &mut IoBinding, name: &str, shape: &[usize]) -> ort::Result<Tensor<f32>> {
    let mut tensor = Tensor::<f32>::new(&Allocator::default(), shape)?;
    binding.bind_output(name, &mut tensor)?;
    Ok(tensor)
}
