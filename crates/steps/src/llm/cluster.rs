//! `llm:cluster`: embeds samples and groups similar ones by k-means.

use std::path::PathBuf;

use noisegate_engine::{Made, Step, StepContext, StepFailure};
use noisegate_llm::{ClusterOptions, cluster};
use noisegate_slm::{Embedder, Model, ServeOptions, runtime};

use crate::llm::{failure, input, report};
use crate::samples::{self, Sample};
use crate::slm;
use crate::with::With;

/// `llm:cluster`
pub struct Cluster {
    /// The ONNX Runtime library, for the embedder.
    pub onnxruntime: PathBuf,
}

impl Step for Cluster {
    fn run(&self, context: &StepContext<'_>) -> Result<Vec<Made>, StepFailure> {
        let mut samples = samples::read(input(context, "samples")?)?;
        let embeddings = self.embed(context, &samples)?;
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

impl Cluster {
    fn embed(
        &self,
        context: &StepContext<'_>,
        samples: &[Sample],
    ) -> Result<Vec<Vec<f32>>, StepFailure> {
        const CHUNK: usize = 256;
        let runtime = runtime::load(&self.onnxruntime).map_err(slm::failure)?;
        let model = Model::read(input(context, "embedder")?.path()).map_err(slm::failure)?;
        let options = ServeOptions {
            threads: context.cores,
            ..ServeOptions::default()
        };
        let mut embedder = Embedder::new(&runtime, &model, &options).map_err(slm::failure)?;
        let mut vectors = Vec::with_capacity(samples.len());
        for chunk in samples.chunks(CHUNK) {
            if context.cancelled() {
                return Err(StepFailure::Cancelled);
            }
            let texts: Vec<&str> = chunk.iter().map(|sample| sample.text.as_str()).collect();
            let embedded = embedder.embed(&texts).map_err(slm::failure)?;
            vectors.extend((0..embedded.rows).map(|row| embedded.row(row).to_vec()));
            context.progress(vectors.len() as u64, samples.len() as u64, "embedding");
        }
        Ok(vectors)
    }
}
