//! Gradients against finite differences, for every trained set.

mod support;

use noisegate_guest_sdk::rng::Rng;
use support::{World, config, sequence, shape, trained_sets};

/// Derivative of the loss along `direction`, by central differences of fourth order.
fn slope(world: &World, direction: &[f32], sequence: &dp_generator::context::Sequence) -> f64 {
    const STEP: f32 = 0.08;
    let loss = |reach: f32| {
        let moved: Vec<f32> = world
            .parameters
            .iter()
            .zip(direction)
            .map(|(p, d)| p + reach * STEP * d)
            .collect();
        f64::from(world.gradient(&moved, sequence).0)
    };
    (8.0 * (loss(1.0) - loss(-1.0)) - (loss(2.0) - loss(-2.0))) / (12.0 * f64::from(STEP))
}

/// Compares along random directions that move only `range` of the parameters.
fn check_range(world: &World, range: std::ops::Range<usize>, what: &str) {
    let sequence = sequence(1, 9, 3);
    let gradient = world.gradient(&world.parameters, &sequence).1;
    let mut rng = Rng::new(17, 0);
    for _ in 0..4 {
        let mut direction = vec![0.0; gradient.len()];
        let scale = 1.0 / (range.len() as f32).sqrt();
        direction[range.clone()].fill_with(|| rng.normal() * scale);
        let along: f64 = gradient
            .iter()
            .zip(&direction)
            .map(|(g, d)| f64::from(*g) * f64::from(*d))
            .sum();
        let measured = slope(world, &direction, &sequence);
        let size = gradient[range.clone()]
            .iter()
            .map(|g| g * g)
            .sum::<f32>()
            .sqrt()
            * scale;
        let error = (along - measured).abs() / f64::from(size.max(1e-3));
        assert!(
            error < 2e-2,
            "{what}: gradient {along:e}, measured {measured:e}, size {size:e}"
        );
    }
}

/// Every matrix, norm and label parameter apart, so that a small error cannot hide behind a large part.
fn check_parts(world: &World, name: &str) {
    let dim = world.plan.dim(&world.shape);
    let parts = 23;
    for part in 0..parts {
        check_range(
            world,
            part * dim / parts..(part + 1) * dim / parts,
            &format!("{name}, part {part} of {parts}"),
        );
    }
}

#[test]
fn gradients_equal_finite_differences_for_every_trained_set() {
    for (train, config) in trained_sets() {
        check_parts(&World::new(shape(true), &config), &format!("{train:?}"));
    }
}

#[test]
fn gradients_are_right_with_an_untied_head_and_without_label_parameters() {
    let changes =
        serde_json::json!({ "train": "full", "label_vectors": false, "label_bias": false });
    check_parts(&World::new(shape(false), &config(changes)), "untied");
}

#[test]
fn label_parameters_alone_can_be_trained() {
    let bias_only = config(serde_json::json!({ "rank": 0, "label_vectors": false }));
    check_parts(&World::new(shape(true), &bias_only), "bias only");
    let vectors_only = config(serde_json::json!({ "rank": 0, "label_bias": false }));
    check_parts(&World::new(shape(true), &vectors_only), "vectors only");
}

#[test]
fn a_record_moves_only_its_own_labels_parameters() {
    let world = World::new(shape(true), &config(serde_json::json!({ "rank": 0 })));
    let gradient = world.gradient(&world.parameters, &sequence(1, 9, 3)).1;
    let other = world.plan.bias(&world.shape, 0).unwrap();
    assert!(
        gradient[other..other + world.shape.vocab]
            .iter()
            .all(|g| *g == 0.0)
    );
    let own = world.plan.bias(&world.shape, 1).unwrap();
    assert!(
        gradient[own..own + world.shape.vocab]
            .iter()
            .any(|g| *g != 0.0)
    );
}

#[test]
fn the_loss_of_a_record_does_not_depend_on_what_follows_its_end() {
    let world = World::new(shape(true), &config(serde_json::json!({})));
    let long = sequence(0, 12, 3);
    let mut short = long.clone();
    short.tokens.truncate(7);
    let losses: Vec<f32> = [&long, &short]
        .iter()
        .map(|s| world.gradient(&world.parameters, s).0)
        .collect();
    // The long one's mean is over its first four targets and five more.
    let mut only_rest = long.clone();
    only_rest.prefix = 7;
    let rest = world.gradient(&world.parameters, &only_rest).0;
    let whole = (4.0 * losses[1] + 5.0 * rest) / 9.0;
    assert!(
        (losses[0] - whole).abs() < 1e-4,
        "{} against {whole}",
        losses[0]
    );
}
