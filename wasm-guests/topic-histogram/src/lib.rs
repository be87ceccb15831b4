//! The client step `topic-histogram`: how many private units each public topic has.
//!
//! ```text
//!   public side                                gate                 private side, fresh per unit
//!   topics ── index (TF-IDF) ──────────────────────────────────────> each record's nearest topic
//!                                                                       │ at most K topics a unit
//!   share.rs <── noisy share of each topic <── count, noise <───────────┘
//!       └──> histogram.json, samples.jsonl: the topics' texts in those shares
//! ```
//!
//! Topics are public: texts grouped by cluster (`llm:cluster`), or by label. What
//! is learnt is how the private texts are spread over them, which is what a conditional
//! generator needs to know (Tan et al., "Synthesizing Privacy-Preserving Text Data via
//! Finetuning without Finetuning Billion-Scale LLMs" (CTCL), 2025).
//!
//! Deliberately absent: topics found in private text; noise and bounds, the gate's.
#![deny(unsafe_code)]

mod share;
mod topics;

use noisegate_guest_sdk::config::{self, Config};
use noisegate_guest_sdk::nearest::{Index, best};
use noisegate_guest_sdk::wire::{Reader, Writer};
use noisegate_guest_sdk::{Accum, ClientStep, File, Setup, Tensor, Unit};
use serde::Deserialize;
use serde_json::json;

use topics::Topics;

/// The step's parameters; `plugin.toml` documents each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct With {
    samples: usize,
}

/// Records of a unit that are looked at; bounds the work of one unit.
const RECORDS_MAX: usize = 256;

/// The public side's state.
pub struct TopicHistogram {
    config: Config<With>,
    topics: Topics,
    queries: f32,
    /// One number a topic, and a last one for the units that no topic fits.
    shares: Vec<f32>,
}

impl ClientStep for TopicHistogram {
    fn start(config: &str, inputs: Vec<File>) -> Result<(Self, Setup), String> {
        let config: Config<With> = config::read(config)?;
        let votes = config
            .mechanism
            .votes_per_unit
            .ok_or("this step needs the mechanism `votes`")?;
        let topics = Topics::new(config::rows(&inputs, "topics")?);
        let built = topics.index()?;
        let mut context = Writer::default();
        context.u32(votes).bytes(&built.context);
        let dim = topics.names.len() + 1;
        let setup = Setup {
            dim: dim as u32,
            queries: config.mechanism.steps,
            tensors: vec![built.tensor],
            context: context.finish(),
        };
        Ok((
            TopicHistogram {
                config,
                topics,
                queries: 0.0,
                shares: vec![0.0; dim],
            },
            setup,
        ))
    }

    /// Several queries are several independent counts; their mean is what counts.
    fn absorb(&mut self, released: Vec<f32>) {
        self.queries += 1.0;
        for (share, more) in self.shares.iter_mut().zip(released) {
            *share += (more - *share) / self.queries;
        }
    }

    fn outputs(&mut self) -> Result<Vec<File>, String> {
        let (fits, other) = self.shares.split_at(self.topics.names.len());
        let noise = self.config.mechanism.noise() / f64::from(self.queries).sqrt();
        let counts = share::apportion(fits, self.config.with.samples);
        let topics: Vec<_> = (self.topics.names.iter().zip(fits).zip(&counts))
            .map(|((name, share), samples)| json!({ "topic": name, "share": share, "samples": samples }))
            .collect();
        let report = json!({ "standard_deviation": noise, "topics": topics, "other": other[0] });
        Ok(vec![
            File {
                name: "histogram.json".to_owned(),
                data: report.to_string().into_bytes(),
            },
            config::to_file(
                "samples.jsonl",
                self.topics.spread(&counts, self.config.seed),
            ),
        ])
    }

    /// Marks the topics that most of the unit's records are nearest to.
    fn contribute(unit: &Unit, setup: &[u8], _query: &[u8], tensors: &[&Tensor], into: &Accum) {
        let mut reader = Reader::new(setup);
        let (votes, context) = (reader.size(), reader.bytes());
        let index = Index::open(context, tensors[0]);
        let mut records = vec![0.0; into.len() as usize];
        let other = records.len() - 1;
        for record in unit.records.iter().take(RECORDS_MAX) {
            let nearest = best(&index.scores(&record.text), 1);
            records[nearest.first().map_or(other, |topic| *topic as usize)] += 1.0;
        }
        for topic in best(&records, votes) {
            into.add(u64::from(topic), &[1.0]);
        }
    }
}

#[cfg(target_arch = "wasm32")]
noisegate_guest_sdk::export_step!(crate::TopicHistogram);
