//! Examples against the heads they claim to train: checked, and turned into numbers of outputs.

use std::collections::HashMap;
use std::ops::Range;

use super::options::{ClassWeights, Example, Target};
use crate::error::SlmError;
use crate::model::heads::{self, Head, Task};

/// What is known of a row, by output of the model.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Known {
    /// The output that should win.
    Label(usize),
    /// Outputs and how probable each is; in all 1.
    Shares(Vec<(usize, f32)>),
    /// The outputs that should say yes.
    Labels(Vec<usize>),
    /// A number for each output of the head.
    Numbers(Vec<f64>),
}

/// The heads, ready to be looked up in.
pub(super) struct Outputs<'h> {
    heads: &'h [Head],
    ranges: Vec<Range<usize>>,
    by_label: Vec<HashMap<&'h str, usize>>,
}

impl<'h> Outputs<'h> {
    /// # Errors
    /// [`SlmError::Labels`] for heads that nothing can be learned for.
    pub(super) fn new(heads: &'h [Head]) -> Result<Self, SlmError> {
        heads::check(heads)?;
        let ranges = heads::ranges(heads);
        let by_label = heads.iter().zip(&ranges).map(|(head, range)| {
            let labels = head.labels.iter().map(String::as_str);
            labels.zip(range.clone()).collect()
        });
        Ok(Self {
            heads,
            by_label: by_label.collect(),
            ranges,
        })
    }

    /// What is known of each example.
    ///
    /// # Errors
    /// [`SlmError::Weight`], [`SlmError::UnknownLabel`], [`SlmError::UnknownHead`],
    /// [`SlmError::WrongTarget`], each with the example's index.
    pub(super) fn known(&self, examples: &[Example]) -> Result<Vec<Known>, SlmError> {
        let all = examples.iter().enumerate();
        all.map(|(index, example)| self.known_of(index, example))
            .collect()
    }

    fn known_of(&self, index: usize, example: &Example) -> Result<Known, SlmError> {
        if !(example.weight >= 0.0 && example.weight.is_finite()) {
            return Err(SlmError::Weight {
                index,
                weight: example.weight,
            });
        }
        let Some(head) = self.heads.get(example.head) else {
            return Err(SlmError::UnknownHead {
                name: format!("number {}", example.head),
                known: heads::list(self.heads),
            });
        };
        let output = |label: &String| {
            let found = self.by_label[example.head].get(label.as_str()).copied();
            found.ok_or_else(|| SlmError::UnknownLabel {
                index,
                label: label.clone(),
                known: head.labels.len(),
            })
        };
        match (&example.target, head.task) {
            (Target::Label(label), Task::SingleLabel) => Ok(Known::Label(output(label)?)),
            (Target::Shares(shares), Task::SingleLabel) if sums_to_one(shares) => {
                let of_output = |(label, share): &(String, f32)| Ok((output(label)?, *share));
                let shares: Result<Vec<_>, SlmError> = shares.iter().map(of_output).collect();
                shares.map(Known::Shares)
            }
            (Target::Labels(labels), Task::MultiLabel) => {
                let outputs: Result<Vec<usize>, SlmError> = labels.iter().map(output).collect();
                outputs.map(Known::Labels)
            }
            (Target::Numbers(numbers), Task::Number)
                if numbers.len() == head.labels.len()
                    && numbers.iter().all(|n| (*n as f32).is_finite()) =>
            {
                Ok(Known::Numbers(numbers.clone()))
            }
            _ => Err(SlmError::WrongTarget {
                index,
                head: head.name.clone(),
                task: head.task.name(),
                expected: match head.task {
                    Task::SingleLabel => "one label, or shares of labels that sum to 1".to_owned(),
                    Task::MultiLabel => "a list of labels".to_owned(),
                    Task::Number => format!("{} finite numbers", head.labels.len()),
                },
            }),
        }
    }

    /// Refuses a training set that teaches a head nothing.
    ///
    /// # Errors
    /// [`SlmError::NoExamples`], [`SlmError::NoExamplesOfHead`], [`SlmError::OneClass`],
    /// [`SlmError::EmptyLabels`] unless they are allowed.
    pub(super) fn check_classes(
        &self,
        examples: &[Example],
        known: &[Known],
        allow_empty: bool,
    ) -> Result<(), SlmError> {
        let counted = examples.iter().filter(|example| example.weight > 0.0);
        if counted.count() == 0 {
            return Err(SlmError::NoExamples);
        }
        let empty = self.empty(examples, known);
        for (index, head) in self.heads.iter().enumerate() {
            let of_head = |example: &&Example| example.head == index && example.weight > 0.0;
            let rows = examples.iter().filter(of_head).count();
            if rows == 0 {
                return Err(SlmError::NoExamplesOfHead {
                    head: head.name.clone(),
                });
            }
            let mut full = self.ranges[index].clone().filter(|output| !empty[*output]);
            if head.task == Task::SingleLabel
                && let (Some(only), None) = (full.next(), full.next())
            {
                return Err(SlmError::OneClass {
                    examples: rows,
                    label: head.labels[only - self.ranges[index].start].clone(),
                });
            }
        }
        let empty = self.empty_labels(examples, known);
        if !allow_empty && !empty.is_empty() {
            return Err(SlmError::EmptyLabels {
                labels: format!("`{}`", empty.join("`, `")),
            });
        }
        Ok(())
    }

    /// Names of the outputs that no example asks for.
    pub(super) fn empty_labels(&self, examples: &[Example], known: &[Known]) -> Vec<String> {
        let names = heads::names(self.heads).into_iter();
        let empty = names.zip(self.empty(examples, known));
        empty
            .filter(|(_, empty)| *empty)
            .map(|(name, _)| name)
            .collect()
    }

    fn empty(&self, examples: &[Example], known: &[Known]) -> Vec<bool> {
        let mut empty = vec![true; heads::outputs(self.heads)];
        for (example, known) in examples.iter().zip(known) {
            if example.weight == 0.0 {
                continue;
            }
            match known {
                Known::Label(output) => empty[*output] = false,
                Known::Shares(shares) => {
                    likeliest(shares)
                        .into_iter()
                        .for_each(|output| empty[output] = false);
                }
                Known::Labels(outputs) => outputs.iter().for_each(|output| empty[*output] = false),
                Known::Numbers(_) => empty[self.ranges[example.head].clone()].fill(false),
            }
        }
        empty
    }

    /// The factor of each output that `weights` gives; `None` where they are to be worked out.
    ///
    /// # Errors
    /// [`SlmError::ClassWeight`] for a label that no head has, or a factor that is no factor.
    pub(super) fn factors(&self, weights: &ClassWeights) -> Result<Option<Vec<f32>>, SlmError> {
        let names = heads::names(self.heads);
        let mut factors = vec![1.0; names.len()];
        let given = match weights {
            ClassWeights::Equal => return Ok(Some(factors)),
            ClassWeights::Balanced => return Ok(None),
            ClassWeights::Given(given) => given,
        };
        for (label, factor) in given {
            let place = names.iter().position(|name| name == label);
            match place {
                Some(place) if factor.is_finite() && *factor > 0.0 => factors[place] = *factor,
                _ => {
                    return Err(SlmError::ClassWeight {
                        label: label.clone(),
                        weight: *factor,
                        known: format!("`{}`", names.join("`, `")),
                    });
                }
            }
        }
        Ok(Some(factors))
    }
}

/// The output with the largest share; a softmax leaves a little to every other.
pub(super) fn likeliest(shares: &[(usize, f32)]) -> Option<usize> {
    let largest = shares.iter().max_by(|a, b| a.1.total_cmp(&b.1));
    largest.map(|(output, _)| *output)
}

/// How far shares may sum to something else than 1: what rounding does to a softmax of many labels.
const SHARES_OFF: f32 = 1e-3;

fn sums_to_one(shares: &[(String, f32)]) -> bool {
    let sum: f32 = shares.iter().map(|(_, share)| share).sum();
    (sum - 1.0).abs() <= SHARES_OFF && shares.iter().all(|(_, share)| *share >= 0.0)
}
