//! Rare keys stay hidden at the stated rate; common ones show.

use super::*;

fn spec(keys_per_unit: u32, z: f64, delta: f64) -> KeyDiscoverySpec {
    KeyDiscoverySpec {
        keys_per_unit,
        noise_multiplier: NoiseMultiplier::new(z).unwrap(),
        delta: Delta::new(delta).unwrap(),
    }
}

#[test]
fn common_keys_show_and_a_key_of_one_unit_does_not() {
    let mut discovery = KeyDiscovery::new(&spec(4, 1.0, 1e-9)).unwrap();
    (0..500).for_each(|_| discovery.add(&["billing", "delay", "billing"]));
    discovery.add(&["a secret"]);
    let released = discovery.release(&mut NoiseSource::from_seed_for_tests([2; 32]));
    let keys: Vec<&String> = released.value().keys().collect();
    assert_eq!(keys, ["billing", "delay"]);
    // Standard deviation 2 in counts; 8 of them.
    assert!(
        released
            .value()
            .values()
            .all(|count| (count - 500.0).abs() < 16.0)
    );
    assert_eq!(released.charge().len(), 3);
}

/// At delta 0.1, one of a unit's K = 2 keys shows with probability 1 - (1 - 0.05)^2 = 0.0975: over 1000
/// runs the mean is 97.5, the deviation 9.4; six of them either way is a false alarm of 2e-9.
#[test]
fn the_keys_of_one_unit_show_as_often_as_delta_says() {
    let spec = spec(2, 0.5, 0.1);
    let mut noise = NoiseSource::from_seed_for_tests([8; 32]);
    let shown = (0..1000)
        .filter(|_| {
            let mut discovery = KeyDiscovery::new(&spec).unwrap();
            discovery.add(&["x", "y"]);
            !discovery.release(&mut noise).value().is_empty()
        })
        .count();
    assert!((42..154).contains(&shown), "{shown} of 1000");
}

#[test]
fn a_unit_with_too_many_keys_counts_nothing() {
    let mut discovery = KeyDiscovery::new(&spec(2, 1.0, 1e-6)).unwrap();
    discovery.add(&["a", "b", "c"]);
    assert!(discovery.counts.is_empty());
    discovery.add(&["a", "b", "a"]);
    assert_eq!(discovery.counts.len(), 2);
    let squares: i64 = discovery.counts.values().map(|v| v * v).sum();
    assert!(squares <= 1 << 48);
}

/// The threshold in standard deviations above one mark: mpmath's normal quantiles.
#[test]
fn the_threshold_is_the_normal_quantile() {
    for (keys, delta, quantile) in [
        (1, 1e-6, 4.753_424_308_822_899),
        (10, 1e-6, 5.199_337_582_290_661),
        (1, 0.5, 0.0),
    ] {
        let spec = spec(keys, 1.0, delta);
        let sigmas = (spec.threshold(0) as f64) / (1u64 << NOISE_SCALE_BITS) as f64;
        assert!(
            (sigmas - quantile).abs() < 1e-6 && sigmas >= quantile - 1e-12,
            "{sigmas} for {quantile}"
        );
    }
}
