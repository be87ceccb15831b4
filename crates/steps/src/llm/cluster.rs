//! `llm:cluster`: embeds samples and groups similar ones by k-means.

use std::path::PathBuf;

use noisegate_engine::{Made, Step, StepContext, StepFailure};
use noisegate_llm::{ClusterOptions, cluster};

use crate::llm::embed::embed;
use crate::llm::{failure, input, report};
use crate::samples;
use crate::with::With;

/// `llm:cluster`
pub struct Cluster {
    /// The ONNX Runtime library, for the embedder.
    pub onnxruntime: PathBuf,
}

impl Step for Cluster {
    fn run(&self, context: &StepContext<'_>) -> Result<Vec<Made>, StepFailure> {
        let mut samples = samples::read(input(context, "samples")?)?;
        let embeddings = embed(context, &self.onnxruntime, &samples)?;
        let with = With(&context.step.with);
        let options = ClusterOptions {
            target_size: with.count("cluster_size")?,
            seed: with.count("seed")? as u64,
            ..ClusterOptions::default()
        };
        let clusters = cluster(&embeddings, &options, &mut report(context), context.cancel)
            .map_err(failure)?;
        for (number, members) in clusters.iter().enumerate() {
            for &member in members {
                samples[member].cluster = Some(number);
            }
        }
        context.note(format!(
            "{} samples in {} clusters",
            samples.len(),
            clusters.len()
        ));
        let path = context.work.join("clusters.jsonl");
        samples::write(&path, &samples)?;
        Ok(vec![Made {
            port: "clusters".to_owned(),
            path,
        }])
    }
}
