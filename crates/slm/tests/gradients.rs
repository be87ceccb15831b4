//! Every VJP against central finite differences, both sides run by ONNX Runtime.

mod common;

use common::{Feed, Noise, Runner};
use noisegate_slm::SlmError;
use noisegate_slm::graph::{Dim, Dtype, Graph, Op, TensorId, Weights, gradients};

type Build = fn(&mut Graph, &[TensorId]) -> Result<TensorId, SlmError>;

/// Compares `d sum(y * r) / dx` with central differences for every coordinate of every operand.
fn check(name: &str, operands: &[&[usize]], positive: bool, build: Build) {
    let Some(runtime) = common::runtime() else {
        return;
    };
    let mut noise = Noise(7);
    let mut graph = Graph::new();
    let ids: Vec<TensorId> = operands
        .iter()
        .enumerate()
        .map(|(i, shape)| graph.parameter(&format!("x{i}"), shape))
        .collect();
    let y = build(&mut graph, &ids).unwrap();
    let shape: Vec<usize> = graph
        .shape(y)
        .iter()
        .map(|dim| match dim {
            Dim::Size(n) => *n,
            other => panic!("{other}"),
        })
        .collect();
    let axes: Vec<usize> = (0..shape.len()).collect();
    let random = noise.many(shape.iter().product());
    let r = graph.constant(&shape, random).unwrap();
    let weighted = graph.mul(y, r).unwrap();
    let loss = graph.reduce_sum(weighted, &axes, false).unwrap();
    let wanted = gradients(&mut graph, loss, &ids).unwrap();
    graph.output("loss", loss);
    for (i, id) in wanted.iter().enumerate() {
        assert_eq!(
            graph.shape(*id),
            graph.shape(ids[i]),
            "{name}: gradient {i}"
        );
        graph.output(&format!("g{i}"), *id);
    }
    let mut runner = Runner::new(&runtime, &graph, Weights::Fed);
    let values: Vec<Vec<f32>> = operands
        .iter()
        .map(|shape| {
            let mut values = noise.many(shape.iter().product());
            if positive {
                values.iter_mut().for_each(|v| *v = v.abs() + 0.5);
            }
            values
        })
        .collect();
    let mut run = |values: &[Vec<f32>]| {
        let feeds: Vec<(String, Feed)> = values
            .iter()
            .enumerate()
            .map(|(i, v)| (format!("x{i}"), Feed::F32(v.clone())))
            .collect();
        let feeds: Vec<(&str, &Feed)> = feeds.iter().map(|(n, f)| (n.as_str(), f)).collect();
        runner.run(&feeds)
    };
    let exact = run(&values);
    let step = 1e-2_f32;
    for operand in 0..operands.len() {
        for at in 0..values[operand].len() {
            let mut moved = values.clone();
            moved[operand][at] += step;
            let above = f64::from(run(&moved)[0][0]);
            moved[operand][at] = values[operand][at] - step;
            let below = f64::from(run(&moved)[0][0]);
            let estimate = (above - below) / (2.0 * f64::from(step));
            let gradient = f64::from(exact[operand + 1][at]);
            let tolerance = 2e-3 + 1e-2 * estimate.abs();
            assert!(
                (estimate - gradient).abs() < tolerance,
                "{name}: operand {operand}, coordinate {at}: {gradient} vs {estimate}"
            );
        }
    }
}

#[test]
fn linear_has_the_right_gradient() {
    check("linear", &[&[2, 3, 4], &[5, 4], &[5]], false, |g, x| {
        g.linear(x[0], x[1], Some(x[2]))
    });
    check("linear, no bias", &[&[3, 4], &[5, 4]], false, |g, x| {
        g.linear(x[0], x[1], None)
    });
}

#[test]
fn matmul_has_the_right_gradient_however_it_is_transposed() {
    check("ab", &[&[2, 3, 4], &[2, 4, 5]], false, |g, x| {
        g.matmul(x[0], x[1], false, false)
    });
    check("atb", &[&[2, 4, 3], &[2, 4, 5]], false, |g, x| {
        g.matmul(x[0], x[1], true, false)
    });
    check("abt", &[&[2, 3, 4], &[2, 5, 4]], false, |g, x| {
        g.matmul(x[0], x[1], false, true)
    });
    check("atbt", &[&[4, 3], &[5, 4]], false, |g, x| {
        g.matmul(x[0], x[1], true, true)
    });
}

#[test]
fn elementwise_operators_have_the_right_gradient_under_broadcasting() {
    check("add", &[&[2, 3, 4], &[4]], false, |g, x| g.add(x[0], x[1]));
    check("sub", &[&[3, 1], &[2, 3, 4]], false, |g, x| {
        g.sub(x[0], x[1])
    });
    check("mul", &[&[2, 1, 4], &[3, 1]], false, |g, x| {
        g.mul(x[0], x[1])
    });
    check("div", &[&[2, 3], &[3]], true, |g, x| g.div(x[0], x[1]));
    check("scale", &[&[2, 3]], false, |g, x| g.scale(x[0], -1.5));
    check("shift", &[&[2, 3]], false, |g, x| g.shift(x[0], 0.5));
}

#[test]
fn unary_operators_have_the_right_gradient() {
    for op in [
        Op::Neg,
        Op::Exp,
        Op::Erf,
        Op::Tanh,
        Op::Sigmoid,
        Op::Gelu,
        Op::Softmax,
        Op::LogSoftmax,
    ] {
        CURRENT.set(Some(op.clone()));
        check(&format!("{op:?}"), &[&[3, 5]], false, apply_current);
    }
    for op in [Op::Sqrt, Op::Relu] {
        CURRENT.set(Some(op.clone()));
        check(&format!("{op:?}"), &[&[3, 5]], true, apply_current);
    }
}

thread_local! {
    static CURRENT: std::cell::RefCell<Option<Op>> = const { std::cell::RefCell::new(None) };
}

fn apply_current(graph: &mut Graph, x: &[TensorId]) -> Result<TensorId, SlmError> {
    let op = CURRENT.with(|op| op.borrow().clone()).expect("set before");
    Ok(graph.unary(op, x[0]))
}

#[test]
fn relu_passes_nothing_below_zero() {
    let Some(runtime) = common::runtime() else {
        return;
    };
    let mut graph = Graph::new();
    let x = graph.parameter("x", &[4]);
    let y = graph.unary(Op::Relu, x);
    let loss = graph.reduce_sum(y, &[0], false).unwrap();
    let gradient = gradients(&mut graph, loss, &[x]).unwrap()[0];
    graph.output("g", gradient);
    let mut runner = Runner::new(&runtime, &graph, Weights::Fed);
    let out = runner.run(&[("x", &Feed::F32(vec![-1.0, -0.1, 0.1, 1.0]))]);
    assert_eq!(out[0], [0.0, 0.0, 1.0, 1.0]);
}

#[test]
fn layer_norm_has_the_right_gradient() {
    check("layer_norm", &[&[2, 3, 6], &[6], &[6]], false, |g, x| {
        g.layer_norm(x[0], x[1], x[2], 1e-5)
    });
}

#[test]
fn shape_operators_have_the_right_gradient() {
    check("reshape", &[&[2, 6]], false, |g, x| {
        g.reshape(x[0], &[Dim::Size(3), Dim::Size(4)])
    });
    check("transpose", &[&[2, 3, 4]], false, |g, x| {
        g.transpose(x[0], &[2, 0, 1])
    });
    check("expand", &[&[2, 1, 3]], false, |g, x| {
        g.expand(x[0], &[Dim::Size(2), Dim::Size(4), Dim::Size(3)])
    });
    check("rows", &[&[5, 3], &[2, 4]], false, |g, x| {
        let rows = g.rows(x[0], x[1], 1, 0)?;
        g.matmul(rows, x[1], true, false)
    });
}

#[test]
fn reductions_have_the_right_gradient() {
    check("sum", &[&[2, 3, 4]], false, |g, x| {
        g.reduce_sum(x[0], &[1], false)
    });
    check("sum, kept", &[&[2, 3]], false, |g, x| {
        g.reduce_sum(x[0], &[0], true)
    });
    check("mean", &[&[2, 3, 4]], false, |g, x| {
        g.reduce_mean(x[0], &[0, 2], false)
    });
}

#[test]
fn a_tensor_used_twice_gets_both_gradients() {
    check("x * tanh(x) + x", &[&[2, 3]], false, |g, x| {
        let t = g.unary(Op::Tanh, x[0]);
        let product = g.mul(x[0], t)?;
        g.add(product, x[0])
    });
}

#[test]
fn gathered_rows_get_the_sum_of_their_gradients() {
    let Some(runtime) = common::runtime() else {
        return;
    };
    let mut graph = Graph::new();
    let table = graph.parameter("table", &[4, 2]);
    let ids = graph.input("ids", Dtype::I64, &[Dim::Size(2), Dim::Size(2)]);
    let rows = graph.gather(table, ids).unwrap();
    let r = graph
        .constant(&[2, 2, 2], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
        .unwrap();
    let weighted = graph.mul(rows, r).unwrap();
    let loss = graph.reduce_sum(weighted, &[0, 1, 2], false).unwrap();
    let gradient = gradients(&mut graph, loss, &[table, rows]).unwrap();
    graph.output("dense", gradient[0]);
    graph.output("rows", gradient[1]);
    let mut runner = Runner::new(&runtime, &graph, Weights::Fed);
    let feeds = (Feed::F32(vec![0.5; 8]), Feed::I64(vec![3, 0, 3, 1]));
    let out = runner.run(&[("table", &feeds.0), ("ids", &feeds.1)]);
    assert_eq!(out[0], [3.0, 4.0, 7.0, 8.0, 0.0, 0.0, 6.0, 8.0]);
    assert_eq!(out[1], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
}

#[test]
fn a_tensor_the_loss_does_not_depend_on_has_a_zero_gradient() {
    let Some(runtime) = common::runtime() else {
        return;
    };
    let mut graph = Graph::new();
    let x = graph.parameter("x", &[3]);
    let unused = graph.parameter("unused", &[2, 2]);
    let loss = graph.reduce_sum(x, &[0], false).unwrap();
    let gradient = gradients(&mut graph, loss, &[unused]).unwrap()[0];
    graph.output("g", gradient);
    let out = Runner::new(&runtime, &graph, Weights::Fed).run(&[]);
    assert_eq!(out[0], [0.0; 4]);
}

#[test]
fn a_shape_error_names_the_operator_and_both_shapes() {
    let mut graph = Graph::new();
    let a = graph.parameter("a", &[2, 3]);
    let b = graph.parameter("b", &[4, 5]);
    let error = graph.matmul(a, b, false, false).unwrap_err().to_string();
    assert_eq!(error, "`matmul` cannot take shapes [2, 3] and [4, 5]");
    let error = graph.add(a, b).unwrap_err().to_string();
    assert_eq!(error, "`add` cannot take shapes [2, 3] and [4, 5]");
}

#[test]
fn only_a_scalar_has_gradients() {
    let mut graph = Graph::new();
    let x = graph.parameter("x", &[2]);
    assert!(matches!(
        gradients(&mut graph, x, &[x]),
        Err(SlmError::Shape { .. })
    ));
}
