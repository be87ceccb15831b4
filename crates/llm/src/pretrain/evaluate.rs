//! Bits per byte on held-out text: comparable between models with different tokenizers.

use std::sync::atomic::AtomicBool;

use super::step::FusedStep;
use crate::config::LlamaConfig;
use crate::error::{Error, Result};
use crate::progress::{Progress, stop_if_cancelled};
use crate::tokenizer::{END_OF_TEXT, TextTokenizer};
use crate::weights::LlamaWeights;

/// How well a model predicts a text.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Evaluation {
    /// Bits per UTF-8 byte of the text.
    pub bits_per_byte: f64,
    /// Nats per token.
    pub loss: f64,
    /// Tokens predicted.
    pub tokens: u64,
    /// Bytes of text.
    pub bytes: u64,
}

/// Windows computed at once.
const ROWS: usize = 8;

/// Evaluates weights on documents.
///
/// Each document starts after an end-of-text token and is read in windows of the model's context
/// that overlap by half: apart from the first window of a document, every token is predicted from
/// at least half a context. The end of a document is not predicted.
///
/// # Errors
/// [`Error::Tokenizer`], [`Error::Cancelled`].
pub fn bits_per_byte(
    config: &LlamaConfig,
    weights: &LlamaWeights,
    tokenizer: &TextTokenizer,
    documents: &[String],
    progress: &mut dyn FnMut(Progress),
    cancel: &AtomicBool,
) -> Result<Evaluation> {
    let window = config.max_position_embeddings;
    let stride = (window / 2).max(1);
    let step = FusedStep::new(config, window);
    let start = tokenizer
        .token_id(END_OF_TEXT)
        .ok_or_else(|| Error::Tokenizer {
            action: "begin a document",
            problem: format!("it has no `{END_OF_TEXT}` token"),
        })?;
    let (mut nats, mut tokens, mut bytes) = (0f64, 0u64, 0u64);
    // (inputs, targets, span of the targets that count)
    let mut pending: Vec<(Vec<u32>, Vec<u32>, std::ops::Range<usize>)> = Vec::new();
    let mut flush = |pending: &mut Vec<(Vec<u32>, Vec<u32>, std::ops::Range<usize>)>| {
        let inputs: Vec<u32> = pending.iter().flat_map(|p| p.0.iter().copied()).collect();
        let targets: Vec<u32> = pending.iter().flat_map(|p| p.1.iter().copied()).collect();
        let losses = step.losses(weights, &inputs, &targets)?;
        for (row, (_, _, span)) in pending.drain(..).enumerate() {
            let counted = &losses[row * window + span.start..row * window + span.end];
            nats += counted.iter().map(|l| f64::from(*l)).sum::<f64>();
            tokens += counted.len() as u64;
        }
        Ok::<(), Error>(())
    };
    for (index, document) in documents.iter().enumerate() {
        stop_if_cancelled(cancel)?;
        bytes += document.len() as u64;
        let mut ids = vec![start];
        ids.extend(tokenizer.encode(document)?);
        let predicted = ids.len() - 1;
        let mut done = 0;
        while done < predicted {
            let to = if done == 0 { window } else { done + stride }.min(predicted);
            let from = to.saturating_sub(window);
            let mut inputs = ids[from..to].to_vec();
            let mut targets = ids[from + 1..=to].to_vec();
            inputs.resize(window, start);
            targets.resize(window, start);
            pending.push((inputs, targets, done - from..to - from));
            done = to;
            if pending.len() == ROWS {
                flush(&mut pending)?;
            }
        }
        progress(Progress {
            stage: "evaluate",
            done: index as u64 + 1,
            total: Some(documents.len() as u64),
            note: String::new(),
            text: String::new(),
        });
    }
    if !pending.is_empty() {
        flush(&mut pending)?;
    }
    Ok(Evaluation {
        bits_per_byte: nats / std::f64::consts::LN_2 / bytes.max(1) as f64,
        loss: nats / tokens.max(1) as f64,
        tokens,
        bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pretrain::init;
    use crate::testing;

    #[test]
    fn every_token_counts_once_however_long_the_document() {
        let config = LlamaConfig {
            max_position_embeddings: 8,
            ..init::test_config()
        };
        let weights = init::random_weights(&config, 0.1, 1).unwrap();
        let tokenizer = testing::tokenizer();
        for words in [1, 3, 7, 20, 61] {
            let documents = ["the cat sat ".repeat(words), "where".to_owned()];
            let expected: usize = documents
                .iter()
                .map(|d| tokenizer.encode(d).unwrap().len())
                .sum();
            let cancel = AtomicBool::new(false);
            let found = bits_per_byte(
                &config,
                &weights,
                &tokenizer,
                &documents,
                &mut |_| (),
                &cancel,
            )
            .unwrap();
            assert_eq!(found.tokens, expected as u64);
            let bits = found.loss * found.tokens as f64 / std::f64::consts::LN_2;
            assert!((bits / found.bytes as f64 - found.bits_per_byte).abs() < 1e-9);
        }
    }
}
