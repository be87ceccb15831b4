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
}

/// Where an embedding lies among the centroids.
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

    /// The nearest label by cosine.
    ///
    /// # Panics
    /// Panics if `embedding` is not [`dim`](Self::dim) wide.
    pub fn nearest(&self, embedding: &[f32]) -> Nearest {
        assert_eq!(embedding.len(), self.dim, "width of the embedding");
        let mut best = (f32::NEG_INFINITY, 0);
        let mut second = f32::NEG_INFINITY;
        for (label, centroid) in self.centroids.iter().enumerate() {
            let similarity = cosine(embedding, centroid);
            if similarity > best.0 {
                second = best.0;
                best = (similarity, label);
            } else {
                second = second.max(similarity);
            }
        }
        Nearest {
            label: best.1,
            margin: best.0 - second,
        }
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
                "centroids": [[1, 0], [0, 5], [-1, 0]]}"#,
        )
        .unwrap();
        let nearest = centroids.nearest(&[0.3, 0.4]);
        assert_eq!(centroids.labels()[nearest.label], "b");
        assert!((nearest.margin - 0.2).abs() < 1e-6, "{nearest:?}");
        assert_eq!(centroids.nearest(&[3.0, -0.1]).label, 0);
        assert_eq!(centroids.nearest(&[0.0, 0.0]).margin, 0.0);
    }

    #[test]
    fn a_single_label_is_always_the_nearest() {
        let text = r#"{"format": 1, "labels": ["a"], "dim": 1, "centroids": [[-1]]}"#;
        let nearest = read(text).unwrap().nearest(&[1.0]);
        assert_eq!((nearest.label, nearest.margin), (0, f32::INFINITY));
    }

    #[test]
    fn a_file_of_another_kind_is_refused() {
        for (text, problem) in [
            (
                r#"{"format": 2, "labels": [], "dim": 1, "centroids": []}"#,
                "format 2",
            ),
            (
                r#"{"format": 1, "labels": [], "dim": 1, "centroids": []}"#,
                "0 labels",
            ),
            (
                r#"{"format": 1, "labels": ["a", "b"], "dim": 1, "centroids": [[1]]}"#,
                "2 labels and 1",
            ),
            (
                r#"{"format": 1, "labels": ["a"], "dim": 2, "centroids": [[1]]}"#,
                "of 1 numbers",
            ),
            (
                r#"{"format": 1, "labels": ["a"], "dim": 1, "centroids": [[1e60]]}"#,
                "finite",
            ),
            ("[]", "centroids.json"),
            (r#"{"format": 1"#, "EOF"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
