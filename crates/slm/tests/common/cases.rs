//! Every operator that has a derivative, as the cases of `fixtures/vjps.py`.

#![allow(dead_code, reason = "each test binary uses a part")]

use noisegate_slm::SlmError;
use noisegate_slm::graph::{Dim, Dtype, Graph, Op, TensorId, gradients};

type Build = fn(&mut Graph, &[TensorId]) -> Result<TensorId, SlmError>;

/// Name, operands' shapes, and how the result is made.
pub type Case = (&'static str, &'static [&'static [usize]], Build);

pub const CASES: [Case; 28] = [
    ("linear", &[&[2, 3, 4], &[5, 4], &[5]], |g, x| {
        g.linear(x[0], x[1], Some(x[2]))
    }),
    ("linear_flat", &[&[3, 4], &[5, 4]], |g, x| {
        g.linear(x[0], x[1], None)
    }),
    ("matmul", &[&[2, 3, 4], &[2, 4, 5]], |g, x| {
        g.matmul(x[0], x[1], false, false)
    }),
    ("matmul_left", &[&[2, 4, 3], &[2, 4, 5]], |g, x| {
        g.matmul(x[0], x[1], true, false)
    }),
    ("matmul_right", &[&[2, 3, 4], &[2, 5, 4]], |g, x| {
        g.matmul(x[0], x[1], false, true)
    }),
    ("matmul_both", &[&[4, 3], &[5, 4]], |g, x| {
        g.matmul(x[0], x[1], true, true)
    }),
    ("add", &[&[2, 3, 4], &[4]], |g, x| g.add(x[0], x[1])),
    ("sub", &[&[3, 1], &[2, 3, 4]], |g, x| g.sub(x[0], x[1])),
    ("mul", &[&[2, 1, 4], &[3, 1]], |g, x| g.mul(x[0], x[1])),
    ("div", &[&[2, 3], &[3]], |g, x| g.div(x[0], x[1])),
    ("neg", &[&[3, 5]], |g, x| Ok(g.unary(Op::Neg, x[0]))),
    ("exp", &[&[3, 5]], |g, x| Ok(g.unary(Op::Exp, x[0]))),
    ("sqrt", &[&[3, 5]], |g, x| Ok(g.unary(Op::Sqrt, x[0]))),
    ("erf", &[&[3, 5]], |g, x| Ok(g.unary(Op::Erf, x[0]))),
    ("tanh", &[&[3, 5]], |g, x| Ok(g.unary(Op::Tanh, x[0]))),
    ("sigmoid", &[&[3, 5]], |g, x| Ok(g.unary(Op::Sigmoid, x[0]))),
    ("relu", &[&[3, 5]], |g, x| Ok(g.unary(Op::Relu, x[0]))),
    ("gelu", &[&[3, 5]], |g, x| Ok(g.unary(Op::Gelu, x[0]))),
    ("softmax", &[&[3, 5]], |g, x| Ok(g.unary(Op::Softmax, x[0]))),
    ("log_softmax", &[&[3, 5]], |g, x| {
        Ok(g.unary(Op::LogSoftmax, x[0]))
    }),
    ("layer_norm", &[&[2, 3, 6], &[6], &[6]], |g, x| {
        g.layer_norm(x[0], x[1], x[2], 1e-5)
    }),
    ("reshape", &[&[2, 6]], |g, x| {
        g.reshape(x[0], &[Dim::Size(3), Dim::Size(4)])
    }),
    ("transpose", &[&[2, 3, 4]], |g, x| {
        g.transpose(x[0], &[2, 0, 1])
    }),
    ("expand", &[&[2, 1, 3]], |g, x| {
        g.expand(x[0], &[2, 4, 3].map(Dim::Size))
    }),
    ("rows", &[&[5, 3]], |g, x| {
        let two = g.constant(&[2], vec![0.0; 2])?;
        g.rows(x[0], two, 1, 0)
    }),
    ("reduce_sum", &[&[2, 3, 4]], |g, x| {
        g.reduce_sum(x[0], &[1], false)
    }),
    ("reduce_sum_kept", &[&[2, 3]], |g, x| {
        g.reduce_sum(x[0], &[0], true)
    }),
    ("reduce_mean", &[&[2, 3, 4]], |g, x| {
        g.reduce_mean(x[0], &[0, 2], false)
    }),
];

/// Outputs `y`, and `g0`, ... of `sum(y * r)`, with operands `x0`, ... as parameters.
pub fn graph(case: &Case) -> Graph {
    let (_, shapes, build) = case;
    let mut graph = Graph::new();
    let operands: Vec<TensorId> = shapes
        .iter()
        .enumerate()
        .map(|(i, shape)| graph.parameter(&format!("x{i}"), shape))
        .collect();
    let y = build(&mut graph, &operands).unwrap();
    let shape = graph.shape(y).to_vec();
    let r = graph.input("r", Dtype::F32, &shape);
    let weighted = graph.mul(y, r).unwrap();
    let axes: Vec<usize> = (0..shape.len()).collect();
    let loss = graph.reduce_sum(weighted, &axes, false).unwrap();
    let found = gradients(&mut graph, loss, &operands).unwrap();
    graph.output("y", y);
    for (i, id) in found.iter().enumerate() {
        graph.output(&format!("g{i}"), *id);
    }
    graph
}
