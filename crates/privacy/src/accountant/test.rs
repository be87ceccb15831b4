//! The oracle, known values, extremes, and laws.

use super::*;

fn bound(text: &str, delta: f64) -> Bound {
    epsilon(
        &serde_json::from_str::<Vec<Event>>(text).unwrap(),
        Delta::new(delta).unwrap(),
    )
    .unwrap()
}

#[derive(serde::Deserialize)]
struct Row {
    id: String,
    spec_json: String,
    delta: f64,
    eps_rdp: Option<f64>,
    eps_pld: Option<f64>,
    eps_best: Option<f64>,
    eps_best_rel_tol: Option<f64>,
}

/// Soundness on every row: not below the best value known. Tightness: within 0.5 % of it. Never
/// above the oracle's Renyi value, and where its own PLD value is all there is, within 0.5 % of that.
#[test]
fn every_oracle_row_is_bounded_soundly_and_tightly() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/oracle/accountant.csv"
    );
    let Ok(mut reader) = csv::Reader::from_path(path) else {
        println!("skipped: `{path}` is absent");
        return;
    };
    let mut failures = Vec::new();
    for row in reader.deserialize() {
        let row: Row = row.unwrap();
        let start = std::time::Instant::now();
        let found = bound(&row.spec_json, row.delta);
        let epsilon = found.epsilon;
        println!(
            "{} {epsilon:.9} {:?} rdp {:?} best {:?} pld {:?} ({:.1} ms) {:?}",
            row.id,
            found.accountant,
            found.epsilon_rdp,
            row.eps_best,
            row.eps_pld,
            start.elapsed().as_secs_f64() * 1e3,
            found.pld_refused
        );
        let mut fail = |what: &str| failures.push(format!("{}: {what}: {found:?}", row.id));
        if let (Some(best), Some(tolerance)) = (row.eps_best, row.eps_best_rel_tol) {
            if epsilon < best * (1.0 - tolerance) {
                fail("below the best value known");
            }
            if epsilon > best * 1.005 {
                fail("loose");
            }
        } else if let Some(pld) = row.eps_pld
            && epsilon > pld * 1.005
        {
            fail("looser than the reference PLD");
        }
        if row.eps_rdp.is_some_and(|rdp| epsilon > rdp * (1.0 + 1e-9)) {
            fail("above the reference RDP");
        }
        if found.epsilon_rdp.is_some_and(|rdp| epsilon > rdp) {
            fail("above the own RDP");
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// The same, for a checkout without the oracle: (q, sigma, steps, delta, best value known, its tolerance).
#[test]
fn known_values_are_bounded_soundly_and_tightly() {
    for (q, sigma, steps, delta, best, tolerance) in [
        (0.01, 1.0, 1000, 1e-5, 1.828_238_41, 1e-4),
        (0.05, 1.5, 1000, 1e-6, 6.199_692_61, 1e-4),
        (0.0256, 0.6, 500, 1e-5, 12.826_378_01, 1e-4),
        (0.1, 1.0, 1, 1e-9, 3.501_038_09, 1e-6),
        (0.01, 2.0, 10_000, 1e-12, 3.759_224_45, 1e-4),
        (1.0, 10.0, 100, 1e-6, 4.886_554_117, 1e-6),
    ] {
        let event = Event::SampledGaussian { q, sigma, steps };
        let found = epsilon(&[event], Delta::new(delta).unwrap())
            .unwrap()
            .epsilon;
        assert!(
            found >= best * (1.0 - tolerance) && found <= best * 1.002,
            "{event:?}: {found} against {best}"
        );
    }
}

/// Extremes converge or are refused with a reason, and stay below Renyi's bound and above zero.
#[test]
fn extreme_schedules_converge_or_say_why_not() {
    for q in [1e-8, 0.5, 1.0] {
        for sigma in [0.3, 1000.0] {
            for (steps, delta) in [(1, 1e-12), (1_000_000, 1e-12)] {
                let event = Event::SampledGaussian { q, sigma, steps };
                let found = epsilon(&[event], Delta::new(delta).unwrap()).unwrap();
                assert!(found.epsilon >= 0.0 && found.epsilon.is_finite());
                assert!(found.epsilon <= found.epsilon_rdp.unwrap());
                assert!(
                    found.epsilon_pld.is_some() || found.pld_refused.is_some(),
                    "{event:?}"
                );
            }
        }
    }
}

/// Numbers near the ends of double precision: a finite bound or a refusal, never a zero that is none.
#[test]
fn numbers_at_the_ends_of_double_precision_are_bounded_or_refused() {
    for text in [
        r#"[["gauss",1e-200,1]]"#,
        r#"[["gauss",1e200,9007199254740992]]"#,
        r#"[["gauss",1,1000000000000],["lap",1,1]]"#,
        r#"[["lap",1e-3,1000000]]"#,
        r#"[["lap",1e300,1000]]"#,
        r#"[["dlap",1e300,1000,1000]]"#,
        r#"[["dlap",1e-300,10000,1]]"#,
        r#"[["zcdp",1e308]]"#,
        r#"[["dp",1e308,0,9]]"#,
        r#"[["sgd",1e-300,1e-3,1]]"#,
        r#"[["sgd",1e-300,1e200,9007199254740992]]"#,
        r#"[["sgd",0.9999999999999999,1e-3,1000]]"#,
        r#"[["sglap",1e-12,1e-3,1000000]]"#,
    ] {
        let events: Vec<Event> = serde_json::from_str(text).unwrap();
        for delta in [1e-5, 1e-30, 1e-100] {
            if let Ok(bound) = epsilon(&events, Delta::new(delta).unwrap()) {
                let values = [Some(bound.epsilon), bound.epsilon_pld, bound.epsilon_rdp];
                let sound = |value: f64| value.is_finite() && value >= 0.0;
                assert!(values.into_iter().flatten().all(sound), "{text}: {bound:?}");
            }
        }
    }
    // Too little noise is refused rather than integrated over for ever.
    for text in [r#"[["lap",1e-300,1]]"#, r#"[["sglap",0.1,1e-9,1]]"#] {
        let events: Vec<Event> = serde_json::from_str(text).unwrap();
        assert!(matches!(
            epsilon(&events, Delta::new(1e-5).unwrap()),
            Err(AccountantError::BadEvent { .. })
        ));
    }
    // One release that hides nothing must cost what it hides.
    let plain = epsilon(
        &[Event::Gaussian {
            sigma: 1e-3,
            count: 1,
        }],
        Delta::new(1e-5).unwrap(),
    );
    assert!(plain.unwrap().epsilon > 500_000.0);
    // Its total variation is 4e-161, far above this delta: an epsilon of 0 would be a lie.
    let hidden = [Event::Gaussian {
        sigma: 1e160,
        count: 1,
    }];
    assert!(matches!(
        epsilon(&hidden, Delta::new(1e-300).unwrap()),
        Err(AccountantError::NotFinite { .. })
    ));
}

/// delta(epsilon) of one step, in the direction given, by direct integration.
fn one_step_delta(q: f64, sigma: f64, epsilon: f64, added: bool) -> f64 {
    let h = 1e-4;
    let density = |x: f64, mean: f64| quadrature::normal_density((x - mean) / sigma) / sigma;
    (0..((24.0 * sigma + 2.0) / h) as usize)
        .map(|i| {
            let x = -12.0 * sigma - 0.5 + h * i as f64;
            let without = density(x, 0.0);
            let with = (1.0 - q) * without + q * density(x, 1.0);
            let (p, q) = if added {
                (without, with)
            } else {
                (with, without)
            };
            (p - epsilon.exp() * q).max(0.0) * h
        })
        .sum()
}

#[test]
fn one_step_matches_direct_integration_in_both_directions() {
    for (q, sigma, delta) in [
        (0.1, 1.0, 1e-5),
        (0.5, 0.7, 1e-6),
        (0.01, 2.0, 1e-4),
        (0.9, 1.5, 1e-3),
    ] {
        let event = Event::SampledGaussian { q, sigma, steps: 1 };
        let found = epsilon(&[event], Delta::new(delta).unwrap())
            .unwrap()
            .epsilon_pld
            .unwrap();
        let at = |epsilon: f64| {
            one_step_delta(q, sigma, epsilon, false).max(one_step_delta(q, sigma, epsilon, true))
        };
        assert!(
            at(found) <= delta * (1.0 + 1e-6),
            "{event:?}: epsilon {found} is too small"
        );
        assert!(
            found == 0.0 || at(found * 0.998 - 1e-6) > delta,
            "{event:?}: epsilon {found} is loose"
        );
    }
}

#[test]
fn deltas_of_the_events_come_off_the_target() {
    let pure = bound(r#"[["dp",1,0,2]]"#, 1e-6);
    let with_delta = bound(r#"[["dp",1,4e-7,2]]"#, 1e-6);
    assert!(with_delta.epsilon >= pure.epsilon);
    let all_spent: Vec<Event> = serde_json::from_str(r#"[["dp",1,6e-7,2]]"#).unwrap();
    assert!(matches!(
        epsilon(&all_spent, Delta::new(1e-6).unwrap()),
        Err(AccountantError::NotFinite { .. })
    ));
}

#[test]
fn the_samplers_error_is_charged_and_too_many_draws_are_refused() {
    let plain = bound(r#"[["sgd",0.01,1,1000]]"#, 1e-5);
    let with_noise = bound(r#"[["sgd",0.01,1,1000],["noise",4000000000]]"#, 1e-5);
    assert!(with_noise.epsilon > plain.epsilon && with_noise.epsilon < plain.epsilon * 1.001);
    let many: Vec<Event> =
        serde_json::from_str(r#"[["gauss",0.2,1],["noise",9007199254740992]]"#).unwrap();
    assert!(matches!(
        epsilon(&many, Delta::new(1e-12).unwrap()),
        Err(AccountantError::NotFinite { .. })
    ));
}

#[test]
fn no_events_cost_nothing() {
    let none = epsilon(&[], Delta::new(1e-9).unwrap()).unwrap();
    assert_eq!(none.epsilon, 0.0);
    assert_eq!(bound(r#"[["sgd",0.5,1,0],["lap",1,0]]"#, 1e-9).epsilon, 0.0);
}

#[test]
fn more_steps_and_less_noise_never_cost_less() {
    let at =
        |sigma: f64, steps: u64| bound(&format!(r#"[["sgd",0.02,{sigma},{steps}]]"#), 1e-5).epsilon;
    for (sigma, steps) in [(0.8, 10), (1.0, 100), (2.0, 1000)] {
        assert!(at(sigma, steps * 2) > at(sigma, steps));
        assert!(at(sigma * 1.05, steps) < at(sigma, steps));
    }
}

#[test]
fn a_bound_prints_as_the_command_line_promises() {
    let json = serde_json::to_value(bound(r#"[["zcdp",0.1],["gauss",4,3]]"#, 1e-6)).unwrap();
    assert_eq!(json["accountant"], "rdp");
    assert_eq!(json["epsilon"], json["epsilon_rdp"]);
    assert!(json["epsilon_pld"].is_null());
    assert!(json["pld_refused"].as_str().unwrap().contains("zCDP"));
}

/// Renyi at integer orders, where the expectation is a finite sum (Mironov, Talwar and Zhang, 2019, on integer orders).
#[test]
fn fractional_orders_agree_with_the_finite_sum_at_integer_ones() {
    for (q, sigma) in [(0.01f64, 1.0f64), (0.2, 0.5), (0.001, 4.0), (0.7, 2.0)] {
        for alpha in [2u32, 3, 8, 16] {
            let mut choose = 1.0;
            let mut sum = 0.0;
            for k in 0..=alpha {
                let k = f64::from(k);
                let a = f64::from(alpha);
                sum += choose
                    * (1.0 - q).powf(a - k)
                    * q.powf(k)
                    * ((k * k - k) / (2.0 * sigma * sigma)).exp();
                choose *= (a - k) / (k + 1.0);
            }
            let exact = sum.ln() / f64::from(alpha - 1);
            let found = rdp::renyi(
                &Event::SampledGaussian { q, sigma, steps: 1 },
                f64::from(alpha),
            );
            assert!(
                found >= exact - 1e-15 && found <= exact + 1e-11 * (1.0 + exact),
                "{q} {sigma} {alpha}: {found} {exact}"
            );
        }
    }
}

/// Laplace's closed form: Mironov, "Renyi Differential Privacy", 2017, on the Laplace mechanism.
#[test]
fn renyi_of_laplace_agrees_with_its_closed_form() {
    for scale in [0.5f64, 1.0, 20.0] {
        for alpha in [1.5f64, 2.0, 10.0] {
            let exact = (alpha / (2.0 * alpha - 1.0) * ((alpha - 1.0) / scale).exp()
                + (alpha - 1.0) / (2.0 * alpha - 1.0) * (-alpha / scale).exp())
            .ln()
                / (alpha - 1.0);
            let found = rdp::renyi(&Event::Laplace { scale, count: 1 }, alpha);
            assert!(
                (found - exact).abs() < 1e-10,
                "{scale} {alpha}: {found} {exact}"
            );
        }
    }
}

/// Reference values: mpmath `log(1 - q + q * exp(z))`.
#[test]
fn the_log_of_a_mixture_is_accurate_where_it_would_cancel() {
    for (q, z, expected) in [
        (1e-08, -40.0, -1.0000000050000001e-08),
        (1e-08, 3.0, 1.9085535101899302e-07),
        (0.625, -3.0, -0.9011141861329367),
        (0.9375, -50.0, -2.772588722239781),
        (0.9375, -0.5, -0.4602553093211932),
        (0.01, 35.0, 30.39482981401197),
        (0.75, 700.0, 699.7123179275483),
    ] {
        let found = rdp::log_mixture(q, z);
        assert!(
            (found / expected - 1.0).abs() < 4e-15,
            "q {q}, z {z}: {found}"
        );
    }
}
