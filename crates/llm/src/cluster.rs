//! Groups similar texts: seeded k-means over their embeddings.
//!
//! # Source
//! Arthur and Vassilvitskii, "k-means++: The Advantages of Careful Seeding", 2007; Lloyd, "Least
//! Squares Quantization in PCM", 1982.

use std::sync::atomic::AtomicBool;

use candle_core::{Device, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::error::{Error, Result};
use crate::pretrain::kernels::dot;
use crate::progress::{Progress, stop_if_cancelled};

/// Options of a clustering.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterOptions {
    /// Texts per cluster, on average.
    pub target_size: usize,
    /// Most rounds of Lloyd's algorithm.
    pub rounds_max: usize,
    /// Decides the first centres.
    pub seed: u64,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            target_size: 4,
            rounds_max: 25,
            seed: 0,
        }
    }
}

/// Clusters as lists of indices into `embeddings`; none is empty, every index is in one.
///
/// - `embeddings`: shape `[texts, dim]`, of any scale; Euclidean distance is used, so unit-length
///   embeddings are grouped by angle.
///
/// # Errors
/// [`Error::Option`] if `target_size` is 0, [`Error::RaggedEmbeddings`], [`Error::Cancelled`].
pub fn cluster(
    embeddings: &[Vec<f32>],
    options: &ClusterOptions,
    progress: &mut dyn FnMut(Progress),
    cancel: &AtomicBool,
) -> Result<Vec<Vec<usize>>> {
    if options.target_size == 0 {
        let (option, remedy) = ("target_size", "it must be at least 1");
        return Err(Error::Option {
            option,
            value: "0".to_owned(),
            remedy,
        });
    }
    let dim = embeddings.first().map_or(0, Vec::len);
    if let Some(index) = embeddings.iter().position(|row| row.len() != dim) {
        let found = embeddings[index].len();
        return Err(Error::RaggedEmbeddings {
            index,
            expected: dim,
            found,
        });
    }
    let count = embeddings.len().div_ceil(options.target_size);
    if count <= 1 || dim == 0 {
        let all: Vec<usize> = (0..embeddings.len()).collect();
        return Ok(if all.is_empty() {
            Vec::new()
        } else {
            vec![all]
        });
    }
    let mut centres = first_centres(embeddings, count, options.seed);
    let points = Tensor::from_vec(embeddings.concat(), (embeddings.len(), dim), &Device::Cpu)?;
    let mut assigned: Vec<usize> = Vec::new();
    for round in 0..options.rounds_max.max(1) {
        stop_if_cancelled(cancel)?;
        let (nearest, distances) = nearest_centres(&points, embeddings, &centres)?;
        let settled = nearest == assigned;
        assigned = nearest;
        if settled {
            break;
        }
        centres = means(embeddings, &assigned, &distances, count);
        progress(Progress {
            stage: "cluster",
            done: round as u64 + 1,
            total: Some(options.rounds_max as u64),
            note: String::new(),
            text: String::new(),
        });
    }
    let mut clusters = vec![Vec::new(); count];
    for (index, centre) in assigned.into_iter().enumerate() {
        clusters[centre].push(index);
    }
    clusters.retain(|members| !members.is_empty());
    clusters.sort_by_key(|members| members[0]);
    Ok(clusters)
}

fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum()
}

/// k-means++: each further centre is a point drawn with probability proportional to its squared
/// distance from the centres so far.
fn first_centres(embeddings: &[Vec<f32>], count: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut uniform = || (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let first = (uniform() * embeddings.len() as f64) as usize;
    let mut centres = vec![embeddings[first].clone()];
    let mut nearest = vec![f64::INFINITY; embeddings.len()];
    while centres.len() < count {
        let newest = &centres[centres.len() - 1];
        for (nearest, point) in nearest.iter_mut().zip(embeddings) {
            *nearest = nearest.min(squared_distance(point, newest));
        }
        let mut left = uniform() * nearest.iter().sum::<f64>();
        let passed = |distance: &f64| {
            left -= distance;
            left < 0.0
        };
        // All distances are zero when only copies are left: any point will do.
        let drawn = nearest.iter().position(passed).unwrap_or(0);
        centres.push(embeddings[drawn].clone());
    }
    centres
}

/// The nearest centre of every point and its squared distance, by one matrix product.
fn nearest_centres(
    points: &Tensor,
    embeddings: &[Vec<f32>],
    centres: &[Vec<f32>],
) -> Result<(Vec<usize>, Vec<f32>)> {
    let dim = points.dim(1)?;
    let norms: Vec<f32> = centres.iter().map(|c| dot(c, c)).collect();
    let matrix = Tensor::from_vec(centres.concat(), (centres.len(), dim), &Device::Cpu)?;
    let products = points.matmul(&matrix.t()?)?.to_vec2::<f32>()?;
    let rows = products.iter().zip(embeddings).map(|(row, point)| {
        // |x - c|^2 = |x|^2 - 2 x.c + |c|^2
        let distances = row
            .iter()
            .zip(&norms)
            .map(|(product, norm)| norm - 2.0 * product);
        let (centre, distance) = distances
            .enumerate()
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .expect("there are at least two centres");
        (centre, (distance + dot(point, point)).max(0.0))
    });
    Ok(rows.unzip())
}

/// Means of the assigned points; a centre without points moves to the point furthest from its own.
fn means(
    embeddings: &[Vec<f32>],
    assigned: &[usize],
    distances: &[f32],
    count: usize,
) -> Vec<Vec<f32>> {
    let mut sums = vec![vec![0f32; embeddings[0].len()]; count];
    let mut sizes = vec![0usize; count];
    for (point, centre) in embeddings.iter().zip(assigned) {
        sizes[*centre] += 1;
        sums[*centre]
            .iter_mut()
            .zip(point)
            .for_each(|(sum, x)| *sum += x);
    }
    let mut furthest: Vec<usize> = (0..embeddings.len()).collect();
    furthest.sort_by(|a, b| distances[*b].total_cmp(&distances[*a]).then(a.cmp(b)));
    let mut furthest = furthest.into_iter();
    for (sum, size) in sums.iter_mut().zip(sizes) {
        match size {
            0 => {
                if let Some(point) = furthest.next() {
                    sum.clone_from(&embeddings[point]);
                }
            }
            _ => sum.iter_mut().for_each(|x| *x /= size as f32),
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(embeddings: &[Vec<f32>], options: &ClusterOptions) -> Vec<Vec<usize>> {
        cluster(embeddings, options, &mut |_| (), &AtomicBool::new(false)).unwrap()
    }

    #[test]
    fn groups_far_apart_are_found() {
        let point = |i: usize| {
            let group = (i % 5) as f32 * 100.0;
            vec![group + (i / 5) as f32, -group, 1.0]
        };
        let embeddings: Vec<_> = (0..20).map(point).collect();
        let clusters = run(&embeddings, &ClusterOptions::default());
        assert_eq!(clusters.len(), 5);
        for members in clusters {
            assert!(
                members.iter().all(|i| i % 5 == members[0] % 5),
                "{members:?}"
            );
        }
    }

    #[test]
    fn a_centre_without_points_moves_to_the_furthest_point() {
        let points = [vec![0.0], vec![1.0], vec![9.0], vec![4.0]];
        let assigned = [0, 0, 0, 0];
        let distances = [0.0, 1.0, 81.0, 16.0];
        let moved = means(&points, &assigned, &distances, 3);
        assert_eq!(moved, [vec![3.5], vec![9.0], vec![4.0]]);
    }

    #[test]
    fn a_row_of_another_length_is_refused() {
        let embeddings = [vec![1.0, 2.0], vec![1.0]];
        let options = ClusterOptions::default();
        let error =
            cluster(&embeddings, &options, &mut |_| (), &AtomicBool::new(false)).unwrap_err();
        assert!(error.to_string().contains("embedding 1 has 1 numbers"));
    }

    proptest! {
        #[test]
        fn every_point_is_in_exactly_one_cluster(
            values in proptest::collection::vec(-3i8..3, 0..80),
            target_size in 1usize..6,
            seed: u64,
        ) {
            let embeddings: Vec<Vec<f32>> =
                values.as_chunks::<2>().0.iter().map(|c| c.map(f32::from).to_vec()).collect();
            let options = ClusterOptions { target_size, seed, ..ClusterOptions::default() };
            let clusters = run(&embeddings, &options);
            let mut all: Vec<usize> = clusters.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..embeddings.len()).collect::<Vec<_>>());
            prop_assert!(clusters.len() <= embeddings.len().div_ceil(target_size));
            prop_assert_eq!(clusters, run(&embeddings, &options));
        }
    }
}
