//! Whole numbers in given shares.

/// Divides `total` in proportion to `shares`, by largest remainders; negative shares get nothing.
///
/// If no share is positive, there is nothing to go by, and all get alike.
///
/// # Source
/// Hamilton's method, as in Balinski and Young, "Fair Representation", 1982.
pub fn apportion(shares: &[f32], total: usize) -> Vec<usize> {
    let mut weights: Vec<f64> = shares
        .iter()
        .map(|share| f64::from(share.max(0.0)))
        .collect();
    let mut sum: f64 = weights.iter().sum();
    if sum <= 0.0 {
        weights.fill(1.0);
        sum = weights.len() as f64;
    }
    let exact: Vec<f64> = weights
        .iter()
        .map(|weight| weight / sum * total as f64)
        .collect();
    let mut counts: Vec<usize> = exact.iter().map(|value| value.floor() as usize).collect();
    let mut order: Vec<usize> = (0..shares.len()).collect();
    let remainder = |at: usize| exact[at] - exact[at].floor();
    order.sort_by(|a, b| remainder(*b).total_cmp(&remainder(*a)));
    let missing = total.saturating_sub(counts.iter().sum());
    for at in order.into_iter().cycle().take(missing) {
        counts[at] += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_add_up_and_follow_the_shares() {
        assert_eq!(apportion(&[0.5, 0.3, 0.2], 10), [5, 3, 2]);
        assert_eq!(apportion(&[0.34, 0.33, 0.33, -0.1], 10), [4, 3, 3, 0]);
        assert_eq!(apportion(&[-1.0, 0.0, -2.0], 7).iter().sum::<usize>(), 7);
        assert_eq!(apportion(&[1.0], 0), [0]);
    }
}
