//! Named f32 arrays: the weights of a model.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::SlmError;

/// One weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Its shape; empty for a scalar.
    pub shape: Vec<usize>,
    /// Its values, row-major.
    pub data: Vec<f32>,
}

impl Array {
    /// An array of one value.
    #[must_use]
    pub fn filled(shape: &[usize], value: f32) -> Self {
        Self {
            shape: shape.to_vec(),
            data: vec![value; shape.iter().product()],
        }
    }
}

/// Weights by name, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters {
    arrays: BTreeMap<String, Array>,
}

impl Parameters {
    /// The weight named `name`.
    ///
    /// # Errors
    /// [`SlmError::WeightMissing`].
    pub fn get(&self, name: &str) -> Result<&Array, SlmError> {
        self.arrays
            .get(name)
            .ok_or_else(|| SlmError::WeightMissing {
                path: Path::new("weights in memory").to_owned(),
                name: name.to_owned(),
            })
    }

    /// Adds or replaces a weight.
    pub fn insert(&mut self, name: impl Into<String>, array: Array) {
        self.arrays.insert(name.into(), array);
    }

    /// Removes a weight.
    pub fn remove(&mut self, name: &str) -> Option<Array> {
        self.arrays.remove(name)
    }

    /// All weights, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Array)> {
        self.arrays
            .iter()
            .map(|(name, array)| (name.as_str(), array))
    }

    /// How many numbers all weights hold together.
    #[must_use]
    pub fn count(&self) -> usize {
        self.arrays.values().map(|array| array.data.len()).sum()
    }
}
