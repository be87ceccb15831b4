//! The client step `private-evolution`: private units vote for public candidates.
//!
//! ```text
//!   public side                                gate                 private side, fresh per unit
//!   candidates ── index (TF-IDF) ──────────────────────────────────> nearest of its own label
//!                                                                       │ at most K votes
//!   select.rs <── noisy share of each candidate <── count, noise <──────┘
//!       └──> samples.jsonl, votes.json
//! ```
//!
//! The voting half of private evolution: candidates come from a language model that has
//! seen no private text, or from released samples; those that private texts resemble most
//! are kept and varied by the next step, and so on (Xie et al., "Differentially Private
//! Synthetic Data via Foundation Model APIs 2: Text", 2024, Algorithm 1). One round is
//! one histogram under the mechanism `votes`.
//!
//! Deliberately absent: noise and the bound on votes, which are the gate's; and making
//! variations, which is the work of a host step with a language model.
#![deny(unsafe_code)]

mod candidates;
mod select;

use noisegate_guest_sdk::config::{self, Config, Row};
use noisegate_guest_sdk::nearest::{Index, best};
use noisegate_guest_sdk::{Accum, ClientStep, File, Setup, Tensor, Unit};
use serde::Deserialize;
use serde_json::json;

use candidates::{Ballot, Candidates};
use select::{Rule, Selection, select};

/// The step's parameters; `plugin.toml` documents each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct With {
    keep_per_label: usize,
    select: Rule,
    threshold: f64,
    same_label: bool,
}

/// Records of a unit that are looked at; bounds the work of one unit.
const RECORDS_MAX: usize = 64;

/// The public side's state.
pub struct PrivateEvolution {
    config: Config<With>,
    candidates: Candidates,
    queries: f32,
    shares: Vec<f32>,
}

impl ClientStep for PrivateEvolution {
    fn start(config: &str, inputs: Vec<File>) -> Result<(Self, Setup), String> {
        let config: Config<With> = config::read(config)?;
        let votes = config
            .mechanism
            .votes_per_unit
            .ok_or("this step needs the mechanism `votes`")?;
        let rows = config::rows(&inputs, "candidates")?;
        let candidates = Candidates::new(rows, &config.labels, config.with.same_label)?;
        let (context, tensor) = candidates.ballot(votes)?;
        let setup = Setup {
            dim: candidates.rows.len() as u32,
            queries: config.mechanism.steps,
            tensors: vec![tensor],
            context,
        };
        let shares = vec![0.0; candidates.rows.len()];
        Ok((
            PrivateEvolution {
                config,
                candidates,
                queries: 0.0,
                shares,
            },
            setup,
        ))
    }

    /// Several queries are several independent polls; their mean is what counts.
    fn absorb(&mut self, released: Vec<f32>) {
        self.queries += 1.0;
        for (share, more) in self.shares.iter_mut().zip(released) {
            *share += (more - *share) / self.queries;
        }
    }

    fn outputs(&mut self) -> Result<Vec<File>, String> {
        let Config {
            with,
            mechanism,
            seed,
            ..
        } = &self.config;
        let noise = mechanism.noise() / f64::from(self.queries).sqrt();
        let selection = Selection {
            keep: with.keep_per_label,
            rule: with.select,
            share_min: (with.threshold * noise) as f32,
            seed: *seed,
        };
        let mut kept: Vec<&Row> = Vec::new();
        for group in &self.candidates.groups {
            let chosen = select(&self.shares[group.clone()], &selection, group.start as u64);
            kept.extend(
                chosen
                    .iter()
                    .map(|at| &self.candidates.rows[group.start + at]),
            );
        }
        if kept.is_empty() {
            return Err(
                "no candidate has enough votes; lower `threshold`, or spend more epsilon"
                    .to_owned(),
            );
        }
        let voted = self.candidates.rows.iter().zip(&self.shares);
        let votes: Vec<_> = voted
            .map(|(row, share)| json!({ "text": row.text, "label": row.label, "share": share }))
            .collect();
        let report = json!({
            "standard_deviation": noise,
            "candidates": self.candidates.rows.len(),
            "kept": kept.len(),
            "votes": votes,
        });
        Ok(vec![
            config::to_file("samples.jsonl", kept),
            File {
                name: "votes.json".to_owned(),
                data: report.to_string().into_bytes(),
            },
        ])
    }

    /// Each record praises the candidates nearest to it; the unit votes for those praised most.
    fn contribute(unit: &Unit, setup: &[u8], _query: &[u8], tensors: &[&Tensor], into: &Accum) {
        let ballot = Ballot::read(setup);
        let index = Index::open(ballot.index, tensors[0]);
        let mut praise = vec![0.0; ballot.candidates()];
        for record in unit.records.iter().take(RECORDS_MAX) {
            let Some(group) = ballot.group(&record.label) else {
                continue;
            };
            let scores = index.scores(&record.text);
            for at in best(&scores[group.clone()], ballot.votes) {
                praise[group.start + at as usize] += scores[group.start + at as usize];
            }
        }
        for at in best(&praise, ballot.votes) {
            into.add(u64::from(at), &[1.0]);
        }
    }
}

#[cfg(target_arch = "wasm32")]
noisegate_guest_sdk::export_step!(crate::PrivateEvolution);
