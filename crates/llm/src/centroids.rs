//! Holds samples against class centroids: the mean embedding of each label's records, as the
//! gate released it.
//!
//! ```text
//!   embedding ──cosine──> every centroid ──> the nearest label, and by how much
//! ```
//!
//! A generator under noise often writes a text of another label than it was asked for. The
//! centroids know the labels from the private records, through a trained encoder, at a small
//! price: so they may say what a text is about better than the generator does.
//!
//! A label of few records has a centroid that is noise. What was released tells that too: noise of
//! standard deviation `s` in `d` dimensions has a squared norm of `d s^2`, give or take
//! `s^2 sqrt(2 d)`, and a sum that [stands out](Centroids::stands_out) has more than three of these
//! beyond. The others say nothing about any text.
//!
//! # Source
//! The nearest-centroid rule: Tibshirani, Hastie, Narasimhan and Chu, "Diagnosis of multiple
//! cancer types by shrunken centroids of gene expression", 2002, without the shrinking.

use std::path::Path;

use serde::Deserialize;

use crate::Error;

/// Released centroids of a label set.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Centroids {
    format: u32,
    labels: Vec<String>,
    dim: usize,
    centroids: Vec<Vec<f32>>,
    /// Of each label's noised sum.
    norms: Vec<f64>,
    /// Standard deviation of each number of a noised sum.
    noise: f64,
}

/// Where an embedding lies among the centroids that stand out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nearest {
    /// Index of the nearest label.
    pub label: usize,
    /// Its cosine less the next label's, from 0 to 2; infinite with a single label.
    pub margin: f32,
}

impl Centroids {
    /// Reads `centroids.json`.
    ///
    /// # Errors
    /// [`Error::Io`] if the file is missing, [`Error::Malformed`] if it holds something else.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        let refuse = |problem: String| Error::Malformed {
            path: path.to_owned(),
            problem,
        };
        let read: Self =
            serde_json::from_slice(&bytes).map_err(|error| refuse(error.to_string()))?;
        read.check().map_err(refuse)?;
        Ok(read)
    }

    fn check(&self) -> Result<(), String> {
        if self.format != 1 {
            return Err(format!("format {} is not known here", self.format));
        }
        if self.labels.is_empty() || self.labels.len() != self.centroids.len() {
            return Err(format!(
                "{} labels and {} centroids",
                self.labels.len(),
                self.centroids.len()
            ));
        }
        let finite = |value: &f64| value.is_finite() && *value >= 0.0;
        if self.norms.len() != self.labels.len() || !self.norms.iter().all(finite) {
            return Err(format!(
                "`norms` needs a finite number for each of {} labels",
                self.labels.len()
            ));
        }
        if !finite(&self.noise) {
            return Err("`noise` is no standard deviation".to_owned());
        }
        let wrong = |centroid: &&Vec<f32>| {
            centroid.len() != self.dim || centroid.iter().any(|value| !value.is_finite())
        };
        match self.centroids.iter().find(wrong) {
            Some(centroid) => Err(format!(
                "a centroid of {} numbers where {} finite ones are due",
                centroid.len(),
                self.dim
            )),
            None => Ok(()),
        }
    }

    /// The labels, in the order of their indices.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Width of the embeddings.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Whether the noised sum of a label is longer than noise alone would be.
    ///
    /// # Panics
    /// Panics if there is no such label.
    pub fn stands_out(&self, label: usize) -> bool {
        let dim = self.dim as f64;
        self.norms[label].powi(2) > self.noise.powi(2) * (dim + 3.0 * (2.0 * dim).sqrt())
    }

    /// The nearest label by cosine, of those that [stand out](Self::stands_out); `None` if none does.
    ///
    /// # Panics
    /// Panics if `embedding` is not [`dim`](Self::dim) wide.
    pub fn nearest(&self, embedding: &[f32]) -> Option<Nearest> {
        assert_eq!(embedding.len(), self.dim, "width of the embedding");
        let mut best = (f32::NEG_INFINITY, None);
        let mut second = f32::NEG_INFINITY;
        for (label, centroid) in self.centroids.iter().enumerate() {
            if !self.stands_out(label) {
                continue;
            }
            let similarity = cosine(embedding, centroid);
            if similarity > best.0 {
                second = best.0;
                best = (similarity, Some(label));
            } else {
                second = second.max(similarity);
            }
        }
        best.1.map(|label| Nearest {
            label,
            margin: best.0 - second,
        })
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(f32::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Centroids, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("centroids.json");
        std::fs::write(&path, text).unwrap();
        Centroids::read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn the_nearest_label_is_found_by_direction_alone() {
        let centroids = read(
            r#"{"format": 1, "labels": ["a", "b", "c"], "dim": 2,
                "centroids": [[1, 0], [0, 5], [-1, 0]],
                "norms": [7, 7, 7], "noise": 1}"#,
        )
        .unwrap();
        let nearest = centroids.nearest(&[0.3, 0.4]).unwrap();
        assert_eq!(centroids.labels()[nearest.label], "b");
        assert!((nearest.margin - 0.2).abs() < 1e-6, "{nearest:?}");
        assert_eq!(centroids.nearest(&[3.0, -0.1]).unwrap().label, 0);
        assert_eq!(centroids.nearest(&[0.0, 0.0]).unwrap().margin, 0.0);
    }

    #[test]
    fn a_centroid_of_noise_says_nothing() {
        // Noise of 2 in 8 dimensions: squared norm 32, give or take 16.
        let of = |norms: &str| {
            let one = |at: usize| {
                let number = |i: usize| if i == at { "1" } else { "0" };
                (0..8).map(number).collect::<Vec<_>>().join(", ")
            };
            read(&format!(
                r#"{{"format": 1, "labels": ["a", "b"], "dim": 8,
                    "centroids": [[{}], [{}]], "norms": {norms}, "noise": 2}}"#,
                one(0),
                one(1)
            ))
            .unwrap()
        };
        let near_a = [1.0, 0.9, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let both = of("[9, 9]");
        assert!(both.stands_out(0) && both.stands_out(1));
        assert_eq!(both.nearest(&near_a).unwrap().label, 0);
        let second = of("[8.9, 9]");
        assert!(!second.stands_out(0) && second.stands_out(1));
        let nearest = second.nearest(&near_a).unwrap();
        assert_eq!((nearest.label, nearest.margin), (1, f32::INFINITY));
        assert_eq!(of("[6, 5]").nearest(&near_a), None);
    }

    #[test]
    fn a_single_label_is_always_the_nearest() {
        let text = r#"{"format": 1, "labels": ["a"], "dim": 1, "centroids": [[-1]],
            "norms": [1], "noise": 0}"#;
        let nearest = read(text).unwrap().nearest(&[1.0]).unwrap();
        assert_eq!((nearest.label, nearest.margin), (0, f32::INFINITY));
    }

    #[test]
    fn a_file_of_another_kind_is_refused() {
        for (text, problem) in [
            (
                r#"{"format": 2, "labels": [], "dim": 1, "centroids": [], "norms": [1], "noise": 1}"#,
                "format 2",
            ),
            (
                r#"{"format": 1, "labels": [], "dim": 1, "centroids": [], "norms": [1], "noise": 1}"#,
                "0 labels",
            ),
            (
                r#"{"format": 1, "labels": ["a", "b"], "dim": 1, "centroids": [[1]], "norms": [1], "noise": 1}"#,
                "2 labels and 1",
            ),
            (
                r#"{"format": 1, "labels": ["a"], "dim": 2, "centroids": [[1]], "norms": [1], "noise": 1}"#,
                "of 1 numbers",
            ),
            (
                r#"{"format": 1, "labels": ["a"], "dim": 1, "centroids": [[1e60]], "norms": [1], "noise": 1}"#,
                "finite",
            ),
            (
                r#"{"format": 1, "labels": ["a"], "dim": 1, "centroids": [[1]], "norms": [], "noise": 1}"#,
                "`norms`",
            ),
            (
                r#"{"format": 1, "labels": ["a"], "dim": 1, "centroids": [[1]], "norms": [1], "noise": -1}"#,
                "`noise`",
            ),
            ("[]", "centroids.json"),
            (r#"{"format": 1"#, "EOF"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
