//! Weights that enter as parts of a few long vectors: for an optimizer inside the graph.

use std::collections::HashSet;

use super::super::onnx::{Attribute, OnnxNode};
use super::super::{Dim, Dtype, Origin, build};
use super::Lowering;

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

impl Lowering<'_, '_> {
    /// Cuts a pack into the weights that are needed.
    pub(super) fn unpack(&mut self, pack: &Pack) {
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
            let input = (pack.name.clone(), Dtype::F32, shape);
            self.onnx.inputs.push(input);
        }
        let width = build::grain(pack.lengths());
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
}
