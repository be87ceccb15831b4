//! Scores against values worked out by hand, and identities that hold for any predictions.

use proptest::prelude::*;

use super::*;

fn labels() -> LabelSet {
    LabelSet::new(["a", "b", "c", "never"]).unwrap()
}

fn predictions(pairs: &[(usize, usize)]) -> Vec<Prediction> {
    pairs
        .iter()
        .map(|&(truth, predicted)| Prediction {
            truth,
            predicted,
            confidence: None,
        })
        .collect()
}

fn close(left: f64, right: f64) -> bool {
    (left - right).abs() < 1e-12
}

/// a: TP 2, FN 1, FP 1; b: TP 1, FN 1, FP 1; c: TP 1, FN 1, FP 1.
const PAIRS: [(usize, usize); 7] = [(0, 0), (0, 0), (0, 1), (1, 1), (1, 2), (2, 2), (2, 0)];

#[test]
fn scores_agree_with_values_worked_out_by_hand() {
    let evaluation = evaluate(&labels(), &predictions(&PAIRS)).unwrap();
    assert!(close(evaluation.accuracy, 4.0 / 7.0));
    assert!(close(evaluation.micro_f1, 4.0 / 7.0));
    assert!(close(evaluation.macro_f1, (2.0 / 3.0 + 0.5 + 0.5) / 3.0));
    assert_eq!(
        evaluation.confusion,
        [[2, 1, 0, 0], [0, 1, 1, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    );
    let a = &evaluation.classes[0];
    assert!(close(a.precision, 2.0 / 3.0) && close(a.recall, 2.0 / 3.0) && a.support == 3);
    let never = &evaluation.classes[3];
    assert_eq!(
        (never.precision, never.recall, never.f1, never.support),
        (0.0, 0.0, 0.0, 0)
    );
    assert_eq!(evaluation.calibration_error, None);
}

#[test]
fn calibration_error_agrees_with_a_value_worked_out_by_hand() {
    let with = |right: bool, confidence: f64| Prediction {
        truth: 0,
        predicted: usize::from(!right),
        confidence: Some(confidence),
    };
    // Bin (14/15, 1]: two rows, one right, mean confidence 0.97: gap 0.47.
    // Bin (8/15, 9/15]: two rows, both right, mean confidence 0.57: gap 0.43.
    let rows = [
        with(true, 0.98),
        with(false, 0.96),
        with(true, 0.56),
        with(true, 0.58),
    ];
    let error = expected_calibration_error(&rows).unwrap();
    assert!(
        (error - (0.47 * 2.0 + 0.43 * 2.0) / 4.0).abs() < 1e-12,
        "{error}"
    );
    assert_eq!(expected_calibration_error(&[with(true, 1.0)]), Some(0.0));
    assert_eq!(expected_calibration_error(&[with(false, 0.0)]), Some(0.0));
}

#[test]
fn predictions_outside_the_labels_are_refused_with_their_place() {
    let refused = |rows: &[Prediction]| evaluate(&labels(), rows).unwrap_err().to_string();
    assert!(refused(&predictions(&[(0, 0), (0, 4)])).contains("prediction 1: the predicted"));
    assert!(refused(&predictions(&[(9, 0)])).contains("prediction 0: the true"));
    let mut rows = predictions(&[(0, 0)]);
    rows[0].confidence = Some(f64::NAN);
    assert!(refused(&rows).contains("confidence"));
    assert!(matches!(
        evaluate(&labels(), &[]),
        Err(Error::Pairing { .. })
    ));
}

#[test]
fn an_accuracy_interval_is_about_as_wide_as_the_normal_one() {
    let pairs: Vec<(usize, usize)> = (0..400).map(|i| (0, usize::from(i % 5 == 0))).collect();
    let options = BootstrapOptions::new(Statistic::Accuracy, 2);
    let interval = bootstrap(&predictions(&pairs), &options).unwrap();
    assert!(close(interval.score, 0.8));
    // Normal: 0.8 +- 1.96 * sqrt(0.8 * 0.2 / 400) = 0.8 +- 0.0392.
    assert!((interval.low - 0.7608).abs() < 0.008, "{interval:?}");
    assert!((interval.high - 0.8392).abs() < 0.008, "{interval:?}");
    assert_eq!(interval, bootstrap(&predictions(&pairs), &options).unwrap());
}

#[test]
fn pairing_sees_a_small_but_constant_gain_that_single_intervals_do_not() {
    // 400 rows; the second model is right wherever the first is, and on ten more.
    let first: Vec<(usize, usize)> = (0..400).map(|i| (0, usize::from(i >= 300))).collect();
    let second: Vec<(usize, usize)> = (0..400).map(|i| (0, usize::from(i >= 310))).collect();
    let (first, second) = (predictions(&first), predictions(&second));
    let options = BootstrapOptions::new(Statistic::Accuracy, 2);
    let difference = paired_bootstrap(&first, &second, &options).unwrap();
    assert!(close(difference.gain.score, 0.025));
    assert!(difference.gain.low > 0.0 && difference.p_value < 0.01);
    let reverse = paired_bootstrap(&second, &first, &options).unwrap();
    assert!(reverse.p_value > 0.99);
    let alone = bootstrap(&first, &options).unwrap();
    assert!(alone.high > 0.775);
}

#[test]
fn models_that_answered_other_rows_are_not_compared() {
    let options = BootstrapOptions::new(Statistic::MacroF1, 3);
    let rows = predictions(&PAIRS);
    assert!(paired_bootstrap(&rows, &rows[1..], &options).is_err());
    let mut others = rows.clone();
    others[0].truth = 1;
    assert!(paired_bootstrap(&rows, &others, &options).is_err());
    let few = BootstrapOptions {
        resamples: 5,
        ..options
    };
    assert!(matches!(bootstrap(&rows, &few), Err(Error::Option { .. })));
}

#[test]
fn an_evaluation_survives_json() {
    let evaluation = evaluate(&labels(), &predictions(&PAIRS)).unwrap();
    let json = serde_json::to_string(&evaluation).unwrap();
    assert_eq!(
        serde_json::from_str::<Evaluation>(&json).unwrap(),
        evaluation
    );
}

proptest! {
    #[test]
    fn identities_hold(pairs in prop::collection::vec((0_usize..4, 0_usize..4), 1..60)) {
        let evaluation = evaluate(&labels(), &predictions(&pairs)).unwrap();
        prop_assert!(close(evaluation.micro_f1, evaluation.accuracy));
        let cells: u64 = evaluation.confusion.iter().flatten().sum();
        prop_assert_eq!(cells as usize, pairs.len());
        let diagonal: u64 = (0..4).map(|i| evaluation.confusion[i][i]).sum();
        prop_assert!(close(evaluation.accuracy, diagonal as f64 / pairs.len() as f64));
        let support: u64 = evaluation.classes.iter().map(|class| class.support).sum();
        prop_assert_eq!(support as usize, pairs.len());
        // Recall weighted by support is accuracy.
        let weighted: f64 = evaluation.classes.iter().map(|c| c.recall * c.support as f64).sum();
        prop_assert!((weighted / pairs.len() as f64 - evaluation.accuracy).abs() < 1e-9);
        for class in &evaluation.classes {
            let sum = class.precision + class.recall;
            let harmonic = if sum > 0.0 { 2.0 * class.precision * class.recall / sum } else { 0.0 };
            prop_assert!((class.f1 - harmonic).abs() < 1e-9);
            prop_assert!(class.f1 <= class.precision.max(class.recall) + 1e-12);
        }
        prop_assert!((0.0..=1.0).contains(&evaluation.macro_f1));
    }
}

#[test]
fn subgroups_are_scored_apart_and_the_largest_comes_first() {
    let groups: Vec<String> = ["x", "x", "y", "x", "y", "x", "x"]
        .map(str::to_owned)
        .to_vec();
    let scored = subgroups(&predictions(&PAIRS), &groups, 4, 1).unwrap();
    let told: Vec<(&str, usize)> = scored.iter().map(|g| (g.name.as_str(), g.rows)).collect();
    assert_eq!(told, [("x", 5), ("y", 2)]);
    // x: (0,0) (0,0) (1,1) (2,2) (2,0); y: (0,1) (1,2).
    assert!(close(scored[0].accuracy.score, 0.8) && close(scored[1].accuracy.score, 0.0));
    assert!(scored[0].accuracy.low < 0.8 && scored[0].accuracy.high <= 1.0);
    assert!(subgroups(&predictions(&PAIRS), &groups[1..], 4, 1).is_err());
}

#[test]
fn reliability_bins_hold_every_row_once() {
    let rows: Vec<Prediction> = (0..100)
        .map(|i| Prediction {
            truth: 0,
            predicted: usize::from(i % 4 == 0),
            confidence: Some(f64::from(i) / 100.0),
        })
        .collect();
    let bins = reliability(&rows);
    assert_eq!(bins.iter().map(|bin| bin.rows).sum::<usize>(), 100);
    assert!(
        bins.iter()
            .all(|bin| bin.confidence > bin.low - 1e-9 && bin.confidence <= bin.high)
    );
    assert!(reliability(&predictions(&PAIRS)).is_empty());
}

#[test]
fn many_labels_agree_with_values_worked_out_by_hand() {
    let row = |truth: [bool; 3], predicted: [bool; 3]| ManyLabels {
        truth: truth.to_vec(),
        predicted: predicted.to_vec(),
    };
    let rows = [
        row([true, false, false], [true, false, false]),
        row([true, true, false], [true, false, false]),
        row([false, false, false], [false, true, false]),
        row([false, false, false], [false, false, false]),
    ];
    let labels = LabelSet::new(["a", "b", "never"]).unwrap();
    let scored = evaluate_many(&labels, &rows, Resampling::new(1)).unwrap();
    assert!(close(scored.exact_match, 0.5) && close(scored.accuracy, 10.0 / 12.0));
    // a: 2 of 2 found; b: one missed, one false. Pooled: TP 2, predicted 3, true 3.
    assert!(close(scored.micro_f1.score, 4.0 / 6.0) && close(scored.macro_f1, 0.5));
    assert_eq!(scored.classes[1].support, 1);
    let ragged = [
        row([true, false, false], [true, false, false]),
        ManyLabels {
            truth: vec![true],
            predicted: vec![true],
        },
    ];
    assert!(evaluate_many(&labels, &ragged, Resampling::new(1)).is_err());
}

#[test]
fn numbers_agree_with_values_worked_out_by_hand() {
    let pairs = [(1.0, 2.0), (2.0, 2.0), (3.0, 1.0)];
    let scored = evaluate_numbers(&pairs, Resampling::new(1)).unwrap();
    assert!(close(scored.mean_absolute_error.score, 1.0));
    assert!(close(scored.root_mean_square_error, (5.0_f64 / 3.0).sqrt()));
    assert!(close(scored.r_squared.unwrap(), 1.0 - 5.0 / 2.0));
    let alike = evaluate_numbers(&[(1.0, 1.5)], Resampling::new(1)).unwrap();
    assert_eq!(alike.r_squared, None);
    assert!(evaluate_numbers(&[(1.0, f64::NAN)], Resampling::new(1)).is_err());
}

#[test]
fn a_report_compares_with_a_baseline_and_survives_its_file() {
    let better: Vec<(usize, usize)> = (0..200)
        .map(|i| (i % 3, if i % 10 == 0 { 0 } else { i % 3 }))
        .collect();
    let worse: Vec<(usize, usize)> = (0..200)
        .map(|i| (i % 3, if i % 2 == 0 { 0 } else { i % 3 }))
        .collect();
    let (better, worse) = (predictions(&better), predictions(&worse));
    let beyond = Beyond {
        baseline: Some(("local-only", &worse)),
        ..Beyond::default()
    };
    let made = report(&labels(), &better, beyond).unwrap();
    let with = made.comparison.as_ref().unwrap();
    assert!(
        with.accuracy.gain.low > 0.0 && with.accuracy.p_value < 0.01,
        "{with:?}"
    );
    assert!(close(
        with.baseline_accuracy + with.accuracy.gain.score,
        made.evaluation.accuracy
    ));
    let text = serde_json::to_string(&made).unwrap();
    let read: EvaluationReport = serde_json::from_str(&text).unwrap();
    // A float read from JSON may differ from the one written in its last bit.
    assert_eq!(read.evaluation.confusion, made.evaluation.confusion);
    assert!(close(read.evaluation.macro_f1, made.evaluation.macro_f1));
    let back = read.comparison.as_ref().unwrap();
    assert_eq!(back.baseline, with.baseline);
    assert!(close(back.macro_f1.gain.low, with.macro_f1.gain.low));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(
        json["accuracy"].is_number() && json.get("subgroups").is_none(),
        "{text}"
    );
    let table = crate::table::render_report(&made);
    assert!(
        table.contains("against local-only") && table.contains("95 % interval"),
        "{table}"
    );
}
