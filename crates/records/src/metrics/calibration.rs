//! Does a model that says 80 % get 80 % right?

use super::Prediction;

/// Expected calibration error over 15 bins of equal width; `None` if a confidence is absent.
///
/// The mean over bins, weighted by their rows, of |accuracy - mean confidence|. In 0..=1; 0 is best.
///
/// # Source
/// Guo et al., "On Calibration of Modern Neural Networks", 2017, Eq. 3.
pub fn expected_calibration_error(predictions: &[Prediction]) -> Option<f64> {
    const BINS: usize = 15;
    if predictions.is_empty() {
        return None;
    }
    // Per bin: sum of (right - confidence); its absolute value is rows * |accuracy - confidence|.
    let mut gaps = [0.0_f64; BINS];
    for prediction in predictions {
        let confidence = prediction.confidence?;
        // Bins are (low, high], so that a confidence of 1 falls into the last one.
        let bin = (confidence * BINS as f64).ceil() as usize;
        let right = f64::from(u8::from(prediction.truth == prediction.predicted));
        gaps[bin.saturating_sub(1).min(BINS - 1)] += right - confidence;
    }
    Some(gaps.iter().map(|gap| gap.abs()).sum::<f64>() / predictions.len() as f64)
}
