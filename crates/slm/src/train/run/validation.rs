//! Held-out rows: their loss, how many decisions about them are right, and the best weights.

use super::Trainer;
use crate::error::SlmError;
use crate::model::heads::{self, Head};
use crate::random::Stream;
use crate::train::Validation;
use crate::train::batches::{self, Batch};
use crate::train::checkpoint::Best;
use crate::train::rows::{self, Row};
use crate::train::targets::{Known, likeliest};

impl Trainer<'_> {
    /// Validates the weights as they stand, and keeps them if they are the best.
    pub(super) fn validate(
        &mut self,
        epoch: usize,
        best: &mut Option<Best>,
    ) -> Result<Option<Validation>, SlmError> {
        if self.rows.validation.is_empty() {
            return Ok(None);
        }
        let validation = self.score()?;
        let better = best
            .as_ref()
            .is_none_or(|best| validation.loss < best.validation.loss);
        if better {
            *best = Some(Best {
                epoch,
                validation,
                weights: self.snapshot()?,
            });
        }
        Ok(Some(validation))
    }

    fn score(&mut self) -> Result<Validation, SlmError> {
        let held: &[Row] = &self.rows.validation;
        let lengths: Vec<usize> = held.iter().map(|row| row.ids.len()).collect();
        let weight: f64 = held.iter().map(|row| f64::from(row.weight)).sum();
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        order.sort_by_key(|&row| lengths[row]);
        let (outputs, length_max) = (self.model.outputs(), self.model.tokens.length_max());
        let even = vec![1.0; outputs];
        let (mut loss, mut right, mut decisions) = (0.0f64, 0usize, 0usize);
        let longest = lengths.iter().copied().max().unwrap_or(1);
        let size = self.rows_at_once(longest.min(length_max));
        for batch in batches::in_order(&order, &lengths, size, length_max) {
            let filling = self.filling(batch.length, 1.0, 0.0, &even);
            let inputs = rows::fill(&self.rows.validation, &batch, filling);
            let heads = self.model.heads.clone();
            let shape = self.shape(&heads, batch.length, false);
            if let Some(device) = &mut self.device {
                let (part, logits) = device.score(&self.model.config, &shape, &inputs)?;
                loss += f64::from(part);
                let logits = logits.to_vec();
                let found = self.decided(&batch, &logits);
                right += found.0;
                decisions += found.1;
                continue;
            }
            if !self.checks.contains_key(&batch.length) {
                let session = self.open(batch.length, false)?;
                self.checks.insert(batch.length, session);
            }
            let session = self.checks.get_mut(&batch.length).expect("opened above");
            loss += f64::from(session.run(&inputs, 0.0, &mut Stream::new(0, 0))?);
            let logits = session.logits().to_vec();
            let found = self.decided(&batch, &logits);
            right += found.0;
            decisions += found.1;
        }
        Ok(Validation {
            loss: (loss / weight.max(f64::MIN_POSITIVE)) as f32,
            accuracy: (decisions > 0).then(|| right as f32 / decisions as f32),
        })
    }

    /// How many decisions about a validation batch are right, of how many.
    fn decided(&self, batch: &Batch, logits: &[f32]) -> (usize, usize) {
        let ranges = heads::ranges(&self.model.heads);
        let rows = batch
            .rows
            .iter()
            .zip(logits.chunks_exact(self.model.outputs()));
        rows.fold((0, 0), |(right, decisions), (row, logits)| {
            let row = &self.rows.validation[*row];
            let own = ranges[row.head].clone();
            let head = &self.model.heads[row.head];
            let found = judge(head, own.start, &logits[own], &row.known);
            (right + found.0, decisions + found.1)
        })
    }
}

/// How many of a head's decisions about a row are right, of how many.
fn judge(head: &Head, start: usize, logits: &[f32], known: &Known) -> (usize, usize) {
    match known {
        Known::Label(output) => (usize::from(is_best(logits, output - start)), 1),
        Known::Shares(shares) => {
            let right = likeliest(shares).is_some_and(|output| is_best(logits, output - start));
            (usize::from(right), 1)
        }
        Known::Labels(outputs) => {
            let each = logits.iter().enumerate();
            let right = each.filter(|(i, z)| (**z > 0.0) == outputs.contains(&(start + i)));
            (right.count(), head.labels.len())
        }
        Known::Numbers(_) => (0, 0),
    }
}

fn is_best(logits: &[f32], place: usize) -> bool {
    logits.iter().all(|other| logits[place] >= *other)
}
