//! tmp
use noisegate_privacy::*;
fn main() {
    let spec = GaussianSumSpec {
        dimension: 1 << 22,
        clip: ClipBound::new(1.0).unwrap(),
        noise_multiplier: NoiseMultiplier::new(1.0).unwrap(),
        sampling_rate: SamplingRate::ONE,
        units_public: 1000,
    };
    let mut sum = GaussianSum::new(&spec).unwrap();
    let c: Vec<f32> = (0..1 << 22).map(|i| (i as f32).sin()).collect();
    for _ in 0..100 {
        sum.add(&c);
    }
    let r = sum.release(&mut NoiseSource::from_os().unwrap());
    println!("{}", r.value()[5]);
}
