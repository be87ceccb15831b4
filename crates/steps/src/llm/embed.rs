//! Embeds samples with the encoder at port `embedder`.

use std::path::Path;

use noisegate_engine::{StepContext, StepFailure};
use noisegate_slm::{Embedder, Model, ServeOptions, runtime};

use crate::llm::{input, pinned_folder};
use crate::samples::Sample;
use crate::slm;

/// One vector of length 1 a sample, in their order.
pub(super) fn embed(
    context: &StepContext<'_>,
    onnxruntime: &Path,
    samples: &[Sample],
) -> Result<Vec<Vec<f32>>, StepFailure> {
    const CHUNK: usize = 256;
    let folder = pinned_folder(input(context, "embedder")?)?;
    let runtime = runtime::load(onnxruntime).map_err(slm::failure)?;
    let model = Model::read(folder).map_err(slm::failure)?;
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
