//! Moves the trained parameters along released gradients.
//!
//! Works on what the gate released, so it may do anything: post-processing costs no
//! privacy. Deliberately absent: weight decay, which at these few steps only shrinks
//! what little was learnt.

use noisegate_guest_sdk::maths::larger;

use crate::config::{Config, Rule};

const MOMENTUM: f32 = 0.9;
const SECOND_MOMENT: f32 = 0.98;
const EPSILON: f32 = 1e-8;

/// The optimiser's state.
pub struct Optimiser {
    rule: Rule,
    rate: f32,
    warm_up: u32,
    final_rate: f32,
    steps: u32,
    average: f32,
    noise_variance: f32,
    step: u32,
    /// The trained parameters.
    pub values: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
    averaged: Vec<f32>,
}

impl Optimiser {
    /// Starts at `values`.
    pub fn new(config: &Config, values: Vec<f32>) -> Self {
        let (with, mechanism) = (&config.with, &config.mechanism);
        let deviation = mechanism.noise_multiplier * mechanism.clip / mechanism.expected_batch;
        let zeros = |wanted: bool| vec![0.0; if wanted { values.len() } else { 0 }];
        Optimiser {
            rule: with.optimiser,
            rate: with.learning_rate,
            warm_up: with.warm_up,
            final_rate: with.final_rate,
            steps: mechanism.steps,
            average: with.average,
            noise_variance: (deviation * deviation) as f32,
            step: 0,
            first: zeros(true),
            second: zeros(with.optimiser != Rule::Sgd),
            averaged: if with.average > 0.0 {
                values.clone()
            } else {
                Vec::new()
            },
            values,
        }
    }

    /// The rate of the step to come: linear warm-up, then linear decay to `final_rate` of the top.
    fn rate(&self) -> f32 {
        let step = self.step as f32;
        let warm = ((step + 1.0) / (self.warm_up as f32 + 1.0)).min(1.0);
        let left = 1.0
            - (step - self.warm_up as f32).max(0.0)
                / (self.steps.saturating_sub(self.warm_up).max(1)) as f32;
        self.rate * warm * (self.final_rate + (1.0 - self.final_rate) * left.clamp(0.0, 1.0))
    }

    /// One step along a released mean gradient.
    pub fn absorb(&mut self, gradient: &[f32]) {
        let rate = self.rate();
        self.step += 1;
        match self.rule {
            Rule::Sgd => self.descend(gradient, rate),
            Rule::Adam => self.adapt(gradient, rate, 0.0),
            Rule::AdamBc => self.adapt(gradient, rate, self.noise_variance),
        }
        if self.average > 0.0 {
            // The first averages forget faster, or the start would weigh too much.
            let keep = self
                .average
                .min((1.0 + self.step as f32) / (10.0 + self.step as f32));
            for (average, value) in self.averaged.iter_mut().zip(&self.values) {
                *average += (1.0 - keep) * (value - *average);
            }
        }
    }

    fn descend(&mut self, gradient: &[f32], rate: f32) {
        for ((value, velocity), g) in self.values.iter_mut().zip(&mut self.first).zip(gradient) {
            *velocity = MOMENTUM * *velocity + g;
            *value -= rate * *velocity;
        }
    }

    /// # Source
    /// Kingma and Ba, "Adam", 2015, Algorithm 1; the noise taken off the second moment as in
    /// Tang et al., "DP-AdamBC", 2024, with the noise's own deviation as the floor.
    fn adapt(&mut self, gradient: &[f32], rate: f32, noise_variance: f32) {
        let first_correction = 1.0 / (1.0 - MOMENTUM.powi(self.step as i32));
        let second_correction = 1.0 / (1.0 - SECOND_MOMENT.powi(self.step as i32));
        // Below a tenth of the noise's variance the difference is chance, not signal.
        let floor = 0.1 * noise_variance;
        let state = self.first.iter_mut().zip(&mut self.second);
        for ((value, (first, second)), g) in self.values.iter_mut().zip(state).zip(gradient) {
            *first += (1.0 - MOMENTUM) * (g - *first);
            *second += (1.0 - SECOND_MOMENT) * (g * g - *second);
            let spread = larger(floor, *second * second_correction - noise_variance);
            *value -= rate * *first * first_correction / (spread.sqrt() + EPSILON);
        }
    }

    /// The parameters to use after training.
    pub fn result(&self) -> &[f32] {
        if self.average > 0.0 {
            &self.averaged
        } else {
            &self.values
        }
    }
}
