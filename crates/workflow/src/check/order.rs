//! Cycles, and an order in which the steps may run.

use std::collections::{BTreeSet, VecDeque};

use petgraph::algo::tarjan_scc;
use petgraph::graph::DiGraph;

use crate::artifact::ArtifactId;
use crate::diagnostics::Report;
use crate::error::Problem;
use crate::source::Place;
use crate::workflow::Step;

/// One way from a step to a step that reads its output, and where that is written.
struct Edge {
    from: usize,
    to: usize,
    place: Place,
}

/// Indices into `steps`, each after all it reads from; steps of a cycle come last.
///
/// Among steps that could go next, the first of the file does, so that the order only changes
/// where the file does.
pub(super) fn order(steps: &[Step], report: &mut Report) -> Vec<usize> {
    let edges = edges(steps);
    let (itself, edges): (Vec<Edge>, Vec<Edge>) =
        edges.into_iter().partition(|edge| edge.from == edge.to);
    for edge in itself {
        let step = steps[edge.to].name.value.clone();
        report.error(edge.place, Problem::ReadsItself { step });
    }
    let graph: DiGraph<(), (), usize> = {
        let mut graph = DiGraph::default();
        let nodes: Vec<_> = steps.iter().map(|_| graph.add_node(())).collect();
        for edge in &edges {
            graph.add_edge(nodes[edge.from], nodes[edge.to], ());
        }
        graph
    };
    for group in tarjan_scc(&graph)
        .into_iter()
        .filter(|group| group.len() > 1)
    {
        let group: BTreeSet<usize> = group.into_iter().map(|node| node.index()).collect();
        report_cycle(steps, &edges, &group, report);
    }
    sorted(steps.len(), &edges)
}

fn edges(steps: &[Step]) -> Vec<Edge> {
    let mut edges = Vec::new();
    for (to, step) in steps.iter().enumerate() {
        for reference in step.reads.iter().flat_map(|read| &read.references) {
            let ArtifactId::Output { step: name, .. } = &reference.value else {
                continue;
            };
            if let Some(from) = steps.iter().position(|other| other.name.value == *name) {
                edges.push(Edge {
                    from,
                    to,
                    place: reference.place,
                });
            }
        }
    }
    edges
}

/// Shows a shortest cycle through the group's first step: all others may be consequences.
fn report_cycle(steps: &[Step], edges: &[Edge], group: &BTreeSet<usize>, report: &mut Report) {
    let Some(&first) = group.first() else { return };
    let mut came_by: Vec<Option<&Edge>> = steps.iter().map(|_| None).collect();
    let mut queue = VecDeque::from([first]);
    while let (Some(at), None) = (queue.pop_front(), came_by[first]) {
        for edge in edges
            .iter()
            .filter(|edge| edge.from == at && group.contains(&edge.to))
        {
            if came_by[edge.to].is_none() {
                came_by[edge.to] = Some(edge);
                queue.push_back(edge.to);
            }
        }
    }
    let name = |index: usize| steps[index].name.value.clone();
    let mut cycle = vec![name(first)];
    let mut see = Vec::new();
    let mut at = first;
    while let Some(edge) = came_by[at] {
        cycle.push(name(edge.from));
        see.push((
            format!("`{}` reads from `{}`", name(edge.to), name(edge.from)),
            edge.place,
        ));
        at = edge.from;
        if at == first {
            break;
        }
    }
    cycle.reverse();
    see.reverse();
    report.error_with(steps[first].name.place, Problem::Cycle { cycle }, see);
}

fn sorted(count: usize, edges: &[Edge]) -> Vec<usize> {
    let mut waits_for = vec![BTreeSet::new(); count];
    for edge in edges {
        waits_for[edge.to].insert(edge.from);
    }
    let mut left: BTreeSet<usize> = (0..count).collect();
    let mut order = Vec::with_capacity(count);
    while !left.is_empty() {
        let free = |step: &&usize| waits_for[**step].is_disjoint(&left);
        // Without a free step the rest is a cycle: any order does, the workflow is refused.
        let next = left.iter().find(free).or(left.first()).copied();
        let Some(next) = next else { break };
        left.remove(&next);
        order.push(next);
    }
    order
}
