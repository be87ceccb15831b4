//! What of a graph matters for its outputs; the rest is left out when it is lowered.

use std::collections::HashSet;

use super::{Dim, Graph, Node, Op, TensorId};

/// Tensors that an output depends on.
pub(super) fn live(graph: &Graph) -> HashSet<TensorId> {
    let mut live: HashSet<TensorId> = graph.outputs.iter().map(|(_, id)| *id).collect();
    for node in graph.nodes.iter().rev() {
        if node.outputs.iter().any(|id| live.contains(id)) {
            live.extend(&node.inputs[..read_when_running(graph, node)]);
        }
    }
    live
}

/// How many of a node's inputs matter when the graph runs: `Rows` may only need a shape.
fn read_when_running(graph: &Graph, node: &Node) -> usize {
    match node.op {
        Op::Rows { axis, .. } if matches!(graph.shape(node.inputs[1])[axis], Dim::Size(_)) => 1,
        _ => node.inputs.len(),
    }
}
