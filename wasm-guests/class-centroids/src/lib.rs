//! The client step `class-centroids`: where each label's private texts lie in an encoder's space.
//!
//! ```text
//!   public side                              gate                  private side, fresh per unit
//!   encoder ── context, tensor of weights ─────────────────────────> embed each record
//!                                                                       │ length 1, in its
//!   centroids.json <── direction of each label <── sum, noise <─────────┘ label's slot
//! ```
//!
//! A contribution is `labels * width` numbers: each record's embedding at its label's slot,
//! over the number of records, so that its L2 norm is one at most and a clip of one never
//! shortens it. The released sums, scaled to length one, are a nearest-centroid classifier
//! (Snell, Swersky and Zemel, "Prototypical Networks for Few-shot Learning", 2017, section 2.2,
//! with the cosine instead of the distance): whoever writes or filters texts downstream can
//! tell by a cosine whether a text is of the label that it claims.
//!
//! One query of the plain Gaussian mechanism is all it takes, because a direction in a few
//! hundred dimensions is far easier to tell through noise than a gradient.
//! `docs/decisions/050-centroids-of-embeddings.md` describes the file.
//!
//! Deliberately absent: noise and clip, which are the gate's; and counts of any kind: a label
//! that no private record has gets the direction of its noise alone, and `norms` hints at it.
#![deny(unsafe_code)]

mod slots;

use noisegate_guest_sdk::config::{self, Config};
use noisegate_guest_sdk::encoder::{Compiled, Encoder};
use noisegate_guest_sdk::maths::dot;
use noisegate_guest_sdk::{Accum, ClientStep, File, Setup, Tensor, Unit};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use slots::Slots;

/// The step's parameters; `plugin.toml` documents each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct With {
    max_tokens: usize,
}

/// The output.
#[derive(Serialize)]
struct Centroids<'a> {
    format: u32,
    labels: &'a [String],
    dim: usize,
    centroids: Vec<Vec<f32>>,
    norms: Vec<f64>,
    noise: f64,
    max_tokens: usize,
    encoder_sha256: &'a str,
}

/// Records of a unit that are looked at; bounds the work of one unit.
const RECORDS_MAX: usize = 8;

/// The public side's state.
pub struct ClassCentroids {
    config: Config<With>,
    width: usize,
    encoder_sha256: String,
    queries: f32,
    means: Vec<f32>,
}

impl ClientStep for ClassCentroids {
    fn start(config: &str, inputs: Vec<File>) -> Result<(Self, Setup), String> {
        let config: Config<With> = config::read(config)?;
        if config.labels.is_empty() {
            return Err("the data set declares no labels; give it `labels`".to_owned());
        }
        let encoder = Compiled::read(&inputs, "encoder", config.with.max_tokens)?;
        let width = encoder.shape.hidden;
        let dim = config.labels.len() * width;
        let setup = Setup {
            dim: u32::try_from(dim).map_err(|_| "there are too many labels for this encoder")?,
            queries: config.mechanism.steps,
            context: slots::write(&config.labels, &encoder.context),
            tensors: vec![encoder.weights],
        };
        let step = ClassCentroids {
            config,
            width,
            encoder_sha256: digest(&inputs),
            queries: 0.0,
            means: vec![0.0; dim],
        };
        Ok((step, setup))
    }

    /// Several queries are several independent looks; their mean is what counts.
    fn absorb(&mut self, released: Vec<f32>) {
        self.queries += 1.0;
        for (mean, more) in self.means.iter_mut().zip(released) {
            *mean += (more - *mean) / self.queries;
        }
    }

    fn outputs(&mut self) -> Result<Vec<File>, String> {
        let Config {
            with,
            labels,
            mechanism,
            ..
        } = &self.config;
        // Sums say more to people than means: a norm of 40 is some 40 units' worth of agreement.
        let units = mechanism.expected_batch;
        let (mut centroids, mut norms) = (Vec::new(), Vec::new());
        for mean in self.means.chunks_exact(self.width) {
            let norm = dot(mean, mean).sqrt();
            let direction: Vec<f32> = mean.iter().map(|value| value / norm.max(1e-30)).collect();
            centroids.push(direction);
            norms.push(f64::from(norm) * units);
        }
        let file = Centroids {
            format: 1,
            labels,
            dim: self.width,
            centroids,
            norms,
            noise: mechanism.noise() * units / f64::from(self.queries.max(1.0)).sqrt(),
            max_tokens: with.max_tokens,
            encoder_sha256: &self.encoder_sha256,
        };
        Ok(vec![File {
            name: "centroids.json".to_owned(),
            data: serde_json::to_vec(&file).map_err(|error| error.to_string())?,
        }])
    }

    /// The mean of the unit's embeddings, each at its label's slot; a record without text or
    /// with an undeclared label is passed over.
    fn contribute(unit: &Unit, setup: &[u8], _query: &[u8], tensors: &[&Tensor], into: &Accum) {
        let slots = Slots::read(setup);
        let encoder = Encoder::open(slots.encoder, tensors[0]);
        let records = unit.records.iter().filter_map(|record| {
            let slot = slots.of(&record.label)?;
            (!record.text.trim().is_empty()).then_some((slot, record.text.as_str()))
        });
        let (at, texts): (Vec<usize>, Vec<&str>) = records.take(RECORDS_MAX).unzip();
        let share = 1.0 / texts.len() as f32;
        for (slot, mut embedding) in at.into_iter().zip(encoder.embed(&texts)) {
            embedding.iter_mut().for_each(|value| *value *= share);
            into.add((slot * embedding.len()) as u64, &embedding);
        }
    }
}

/// Tells whoever classifies by these centroids whether it has the same encoder.
fn digest(inputs: &[File]) -> String {
    let weights = inputs
        .iter()
        .find(|file| file.name == "encoder/model.safetensors");
    let digest = Sha256::digest(weights.map_or(&[][..], |file| &file.data));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(target_arch = "wasm32")]
noisegate_guest_sdk::export_step!(crate::ClassCentroids);
