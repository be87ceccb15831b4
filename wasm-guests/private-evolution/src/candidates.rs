//! The candidates in an order that the private side can do without labels: those of
//! one label stand together, so that a label is a range.

use std::ops::Range;

use noisegate_guest_sdk::config::Row;
use noisegate_guest_sdk::nearest;
use noisegate_guest_sdk::wire::{Reader, Writer};

/// Public candidates, grouped by label.
pub struct Candidates {
    /// In groups, in the order they came within each.
    pub rows: Vec<Row>,
    /// One range for each label, or a single one if labels do not matter.
    pub groups: Vec<Range<usize>>,
    names: Vec<String>,
}

impl Candidates {
    /// Drops repeated texts, and labels that are not declared.
    ///
    /// # Errors
    /// A sentence, if a label has no candidate.
    pub fn new(rows: Vec<Row>, labels: &[String], same_label: bool) -> Result<Self, String> {
        let mut seen = std::collections::BTreeSet::new();
        let mut distinct: Vec<Row> = rows
            .into_iter()
            .filter(|row| seen.insert((row.label.clone(), row.text.clone())))
            .map(|row| Row {
                cluster: None,
                ..row
            })
            .collect();
        if !same_label || labels.is_empty() {
            let whole = 0..distinct.len();
            return Ok(Candidates {
                rows: distinct,
                groups: vec![whole],
                names: Vec::new(),
            });
        }
        let mut candidates = Candidates {
            rows: Vec::new(),
            groups: Vec::new(),
            names: labels.to_vec(),
        };
        for label in labels {
            let start = candidates.rows.len();
            candidates
                .rows
                .extend(distinct.extract_if(.., |row| row.label == *label));
            if candidates.rows.len() == start {
                return Err(format!(
                    "label `{label}` has no candidate to vote for; make some, or set `same_label = false`"
                ));
            }
            candidates.groups.push(start..candidates.rows.len());
        }
        Ok(candidates)
    }

    /// What every private side is handed: a context, and the index's tensor.
    ///
    /// # Errors
    /// A sentence, if there are too many.
    pub fn ballot(&self, votes: u32) -> Result<(Vec<u8>, Vec<f32>), String> {
        let texts: Vec<Vec<&str>> = self
            .rows
            .iter()
            .map(|row| vec![row.text.as_str()])
            .collect();
        let built = nearest::build(&texts)?;
        let mut writer = Writer::default();
        writer
            .u32(votes)
            .bytes(&built.context)
            .u32(self.names.len() as u32);
        for name in &self.names {
            writer.bytes(name.as_bytes());
        }
        let ends: Vec<u32> = self.groups.iter().map(|group| group.end as u32).collect();
        writer.u32s(&ends);
        Ok((writer.finish(), built.tensor))
    }
}

/// The same on the private side.
pub struct Ballot<'a> {
    /// Votes of a unit.
    pub votes: usize,
    /// The index's context.
    pub index: &'a [u8],
    names: Vec<&'a [u8]>,
    ends: Vec<u32>,
}

impl<'a> Ballot<'a> {
    /// Reads what [`Candidates::ballot`] wrote.
    pub fn read(context: &'a [u8]) -> Self {
        let mut reader = Reader::new(context);
        let (votes, index) = (reader.size(), reader.bytes());
        let names = (0..reader.size()).map(|_| reader.bytes()).collect();
        Ballot {
            votes,
            index,
            names,
            ends: reader.u32s(),
        }
    }

    /// How many candidates there are.
    pub fn candidates(&self) -> usize {
        self.ends.last().map_or(0, |end| *end as usize)
    }

    /// The candidates that a record of this label may vote for.
    pub fn group(&self, label: &str) -> Option<Range<usize>> {
        if self.names.is_empty() {
            return Some(0..self.candidates());
        }
        let at = self
            .names
            .iter()
            .position(|name| *name == label.as_bytes())?;
        let start = at
            .checked_sub(1)
            .map_or(0, |before| self.ends[before] as usize);
        Some(start..self.ends[at] as usize)
    }
}
